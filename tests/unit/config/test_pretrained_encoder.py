"""The description of a pretrained encoder becomes part of the configuration; no package is needed for that."""

import json
import sys

import pytest

from nmt.config.load import load_config
from nmt.errors import ConfigError
from nmt.models.build import build_model

BERT = {
    "model_type": "bert", "vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 16, "max_position_embeddings": 64, "pad_token_id": 0, "architectures": ["BertModel"],
}  # fmt: skip


def load(folder, *overrides, **changes):
    (folder / "bert").mkdir(exist_ok=True)
    (folder / "bert" / "config.json").write_text(json.dumps({**BERT, **changes}))
    base = [
        f"model={{type: rnn, d_model: 8, d_hidden: 8, encoder: {{type: pretrained, weights: {folder / 'bert'}}}}}",
        "tokenizer.joint=false", "data.cleaning.max_tokens=40",
    ]  # fmt: skip
    return load_config("configs/demo.yaml", [*base, *overrides])


@pytest.mark.parametrize(
    ("changes", "width", "longest"),
    [
        ({}, 8, 63),
        ({"model_type": "roberta", "pad_token_id": 1}, 8, 61),
        ({"model_type": "distilbert", "dim": 6}, 6, 63),
        ({"model_type": "electra", "embedding_size": 4}, 4, 63),
    ],
)
def test_widths_and_positions_are_those_of_the_weights(tmp_path, changes, width, longest):
    encoder = load(tmp_path, **changes).model.encoder
    assert (encoder.d_model, encoder.max_source_tokens) == (width, longest)
    assert encoder.architecture["model_type"] == changes.get("model_type", "bert")
    assert "architectures" not in encoder.architecture


@pytest.mark.parametrize(
    ("overrides", "changes", "message"),
    [
        ([], {"model_type": "gpt2"}, "is of the type gpt2, and not an encoder that can be used; those are: bert, "),
        ([], {"is_decoder": True}, "is a decoder, and not an encoder"),
        ([], {"hidden_size": "8"}, "config.json: has no number named hidden_size"),
        (["data.cleaning.max_tokens=63"], {}, "reads at most 62 subwords of a source, and the longest has 63 (data."),
        (["search.max_source_tokens=80"], {}, "and the longest has 80 (data.cleaning.max_tokens and search.max_source"),
        (["tokenizer.joint=true"], {}, "tokenizer.joint: true: cannot be combined with a pretrained encoder"),
        (["model.encoder.d_model=9"], {}, "model.encoder.d_model: 9: the embeddings of "),
        (["model.encoder.weights=nowhere"], {}, "model.encoder.weights: nowhere: no such folder"),
        (["model.encoder.freeze=true", "model.encoder.lr_factor=0.1"], {}, "lr_factor: 0.1 has no effect: freeze"),
    ],
)
def test_what_does_not_go_with_it_is_one_line(tmp_path, overrides, changes, message):
    with pytest.raises(ConfigError) as error:
        load(tmp_path, *overrides, **changes)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    config = load(tmp_path)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"needs the package transformers, .*pip install 'nmt-trainer\[pretrained\]'"):
        build_model(config.model, 30, 24, 0)
