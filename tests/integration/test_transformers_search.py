"""Our searches against ``generate`` of transformers, on an exported model with random weights."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch

from nmt.cli import main
from nmt.config.search import SearchConfig
from nmt.interop import huggingface
from nmt.models.transformer import Transformer
from nmt.run.directory import Run
from nmt.search.sampling import Sampling, gumbel, mixed
from nmt.translation.loading import load_translator
from nmt.translation.pytorch import TorchEngine
from tests.conftest import Task

pytestmark = pytest.mark.interop("transformers")
LIMIT = 14
SEARCHES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "greedy": ({"beam_size": 1}, {}),
    "beam": ({"beam_size": 4, "alpha": 0.0}, {"length_penalty": 0.0}),
    "average": ({"beam_size": 4, "alpha": 0.7}, {"length_penalty": 0.7}),
    "greedy-no-repeat": ({"beam_size": 1, "no_repeat_ngram": 2}, {"no_repeat_ngram_size": 2}),
    "beam-no-repeat": ({"beam_size": 3, "no_repeat_ngram": 1}, {"no_repeat_ngram_size": 1}),
    "greedy-least": ({"beam_size": 1, "min_length": 9}, {"min_new_tokens": 9}),
    "beam-least": ({"beam_size": 3, "min_length": 6, "alpha": 0.5}, {"min_new_tokens": 6, "length_penalty": 0.5}),
    "both": (
        {"beam_size": 3, "min_length": 5, "no_repeat_ngram": 2, "alpha": 0.0},
        {"min_new_tokens": 5, "no_repeat_ngram_size": 2, "length_penalty": 0.0},
    ),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> tuple[Any, Any, Any]:
    """Our model, its tokenizer, and the same model in transformers."""
    import transformers

    task = Task(tmp_path_factory.mktemp("searches"), train=300)
    file = task.config_file("transformer", "run", model={"preset": "marian"}, train={"max_steps": 2})
    assert main(["train", str(file)]) == 0
    folder = task.folder / "hf"
    assert main(["export", str(task.folder / "runs" / "run"), "--to", "huggingface", "-o", str(folder)]) == 0
    own = load_translator(Run.open(str(task.folder / "runs" / "run")))
    theirs = transformers.MarianMTModel.from_pretrained(str(folder)).eval()
    # Random weights of such a size that outputs have many lengths; eos grows likelier with the position.
    model = own.engine.model
    assert isinstance(model, Transformer)
    torch.manual_seed(4)
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter) * 0.3)
    stored = theirs.state_dict()
    layers = model.config.encoder_layers, model.config.decoder_layers
    weights = huggingface.from_ours(huggingface.weights_of(model), "huggingface", *layers, model.config.tie_embeddings)
    theirs.load_state_dict({**stored, **weights}, strict=False)
    theirs.tie_weights()
    return model, own.tokenizer, theirs


def sources(tokenizer, count=40) -> list[list[int]]:
    """Of one length: a call of generate has no mask of its own for the prefix."""
    generator = torch.Generator().manual_seed(7)
    return torch.randint(4, tokenizer.src_vocab_size, (count, 7), generator=generator).tolist()


def generated(model, tokenizer, given, settings, prefix=()) -> list[list[int]]:
    ids = torch.tensor([[*source, tokenizer.eos_id] for source in given])
    width = settings.get("num_beams", 1)
    begin = torch.tensor([[model.config.decoder_start_token_id, *prefix]] * len(given))
    with torch.inference_mode():
        made = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), decoder_input_ids=begin, max_length=LIMIT + 2,
            early_stopping=width > 1, do_sample=False, logits_processor=[partial(huggingface._close, LIMIT + 1)],
            bad_words_ids=[[i] for i in (tokenizer.pad_id, tokenizer.unk_id, tokenizer.bos_id)], **settings,
        )  # fmt: skip
    rows = [row[1:].tolist() for row in made]
    return [row[: row.index(tokenizer.eos_id)] for row in rows]


@pytest.mark.parametrize(
    ("name", "prefix"),
    [
        *((name, []) for name in SEARCHES),
        # transformers counts lengths from the end of the prefix
        *((name, [9, 5, 5, 9]) for name in ("greedy", "beam", "greedy-no-repeat", "beam-no-repeat")),
    ],
)
def test_the_search_finds_what_transformers_generates(models, name, prefix) -> None:
    model, tokenizer, theirs = models
    ours, settings = SEARCHES[name]
    given = sources(tokenizer)
    search = SearchConfig(length_penalty="average", **{"alpha": 0.0, **ours})
    engine = TorchEngine(model, tokenizer, search, torch.device("cpu"))
    found = engine.search(given, [LIMIT] * len(given), 1, [prefix] * len(given) if prefix else ())
    expected = generated(
        theirs, tokenizer, given, {"num_beams": ours["beam_size"], "length_penalty": 0.0} | settings, prefix
    )
    assert [row[0].tokens for row in found] == expected
    assert len({len(row) for row in expected}) > 2  # of several lengths


@pytest.mark.parametrize("alpha", [0.0, 0.7])
def test_the_best_hypotheses_are_those_that_transformers_generates(models, alpha) -> None:
    model, tokenizer, theirs = models
    given, width = sources(tokenizer, 20), 4
    search = SearchConfig(length_penalty="average", alpha=alpha, beam_size=width)
    found = TorchEngine(model, tokenizer, search, torch.device("cpu")).search(given, [LIMIT] * len(given), width)
    settings = {"num_beams": width, "num_return_sequences": width, "length_penalty": alpha}
    expected = generated(theirs, tokenizer, given, settings)
    assert [one.tokens for row in found for one in row] == expected


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
@pytest.mark.parametrize(("top_k", "top_p"), [(None, 1.0), (1, 1.0), (5, 1.0), (None, 0.9), (None, 0.3), (6, 0.8)])
def test_samples_are_drawn_among_the_tokens_of_transformers(temperature, top_k, top_p) -> None:
    """Under the same noise, the draw is the best of the tokens that the filters of transformers leave."""
    from transformers.generation.logits_process import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    rows, vocabulary = 500, 40
    logits = torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(1)) * 2
    left = TemperatureLogitsWarper(temperature)(None, logits.clone())
    left = left if top_k is None else TopKLogitsWarper(top_k)(None, left)
    left = TopPLogitsWarper(top_p)(None, left)
    streams = mixed(torch.arange(rows))
    expected = (left + gumbel(streams.unsqueeze(1), torch.arange(vocabulary))).argmax(-1)
    method = Sampling(SearchConfig(method="sample", temperature=temperature, top_k=top_k, top_p=top_p))
    assert method.draw(logits, streams).tolist() == expected.tolist()
    assert (left > -torch.inf).sum() < rows * vocabulary or (top_k, top_p) == (None, 1.0)
