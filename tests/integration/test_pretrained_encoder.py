"""Encoders of Hugging Face, with random weights, as the encoder of our decoders."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import nmt
from nmt.cli import main
from nmt.config.load import load_config
from nmt.data.source_tokenizer import SHIFT
from nmt.errors import ConfigError
from nmt.models.build import build_model
from nmt.pretrained import encoder
from nmt.run.directory import Run
from tests.conftest import MODELS, Task
from tests.pretrained_encoders import KINDS, write_encoder
from tests.runs import same, train_through_kills, validations

pytestmark = pytest.mark.interop("transformers")
TRAIN = {"max_steps": 60, "validate_every": 20, "optimizer": {"lr": 5e-3}, "schedule": {"warmup_steps": 5}}
SECTIONS = {
    "tokenizer": {"joint": False, "vocab_size": 24},
    "data": {"cleaning": {"max_tokens": 40}},
}


def sections(folder: Path, family: str = "rnn", train=None, **options) -> dict:
    model = {**MODELS[family], "encoder": {"type": "pretrained", "weights": str(folder), **options}}
    if family == "transformer":
        del model["encoder_layers"]
        model["tie_embeddings"] = "decoder"
    return {"model": model, **SECTIONS, "train": {**TRAIN, **(train or {})}}


@pytest.fixture
def task(tmp_path) -> Task:
    task = Task(tmp_path, train=300)
    data = task.config("rnn").data.model_dump(mode="json")
    assert data  # the configuration of the task is valid
    return task


def config_of(task, family="rnn", name="run", train=None, **options):
    """A configuration, of which only the section ``data.cleaning`` is added to that of the task."""
    file = task.config_file(family, name)
    raw = yaml.safe_load(file.read_text())
    folder = task.folder / "bert"
    given = sections(folder, family, train, **options)
    raw["model"], raw["tokenizer"] = given["model"], given["tokenizer"]
    raw["data"]["cleaning"] = {"max_tokens": 40}
    raw["train"] |= given["train"]
    file.write_text(yaml.safe_dump(raw, allow_unicode=True))
    return file


# ------------------------------------------------------------------------------------------------------------ the model


@pytest.mark.parametrize("family", ["rnn", "transformer"])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_states_are_those_of_transformers(task, kind, family):
    import transformers

    folder = write_encoder(task.folder / "bert", kind)
    config = load_config(config_of(task, family))
    section = encoder.section_of(config)
    special = encoder.source_tokenizer(section)["special"]
    model = build_model(config.model, 40 + SHIFT, 24, 0).eval()
    encoder.load(model, section, special)
    theirs = transformers.AutoModel.from_pretrained(str(folder)).eval()
    tokens = transformers.AutoTokenizer.from_pretrained(str(folder))
    lines = ["one two seven three", "four", "seven sieben"]
    given = tokens(lines, padding=True, return_tensors="pt")
    expected = theirs(input_ids=given.input_ids, attention_mask=given.attention_mask).last_hidden_state
    # Ours: without the first token, and with our ids of the end and of the padding.
    ids, mask = given.input_ids[:, 1:], given.attention_mask[:, 1:].bool()
    src = (ids + SHIFT).masked_fill(ids == special[3], 3).masked_fill(~mask, 0).masked_fill(ids == special[1], 1)
    memory = model.encode(src, mask)
    assert torch.equal(memory.mask, mask)
    assert torch.allclose(memory.states[mask], expected[:, 1:][mask], atol=1e-5)
    assert torch.allclose(memory.summary, expected[:, 0], atol=1e-5)


def test_the_tokenizer_reads_as_that_of_the_encoder(task):
    import transformers

    from nmt.data.source_tokenizer import FILE, SourceTokenizer

    folder = write_encoder(task.folder / "bert", "roberta")
    section = encoder.section_of(load_config(config_of(task)))
    (task.folder / FILE).write_text(json.dumps(encoder.source_tokenizer(section)))
    ours, theirs = SourceTokenizer(task.folder / FILE), transformers.AutoTokenizer.from_pretrained(str(folder))
    lines = ["One two  seven", "Sevenone ßx", "", "one [SEP] two"]
    for line, ids in zip(lines, ours.encode(lines), strict=True):
        expected = theirs(line, add_special_tokens=False).input_ids
        assert ids == [1 if i == theirs.unk_token_id else i + SHIFT for i in expected]
        assert [ours.id_to_piece(i) for i in ids if i != 1] == [
            piece for piece in theirs.convert_ids_to_tokens(expected) if piece != "[UNK]"
        ]
    assert [ours.encode(line) for line in lines] == ours.encode(lines)
    assert ours.words("One two  seven") == [0, 1, 2, 2]
    assert ours.words(" ") == []
    assert ours.unknown(["one ßx two"]) == ["ßx"]


# ------------------------------------------------------------------------------------------------------------- training


@pytest.mark.parametrize(("family", "kind"), [("rnn", "bert"), ("transformer", "roberta")])
def test_it_trains_resumes_exactly_and_needs_its_folder_no_more(task, monkeypatch, capsys, family, kind):
    write_encoder(task.folder / "bert", kind)
    whole = nmt.train(config_of(task, family, "whole", lr_factor=0.5)).run
    losses = [row["valid/loss"] for row in validations(whole)]
    assert losses[-1] < 0.9 * losses[0]
    start = build_model(load_config(config_of(task, family)).model, 44, 24, 0)
    weights = load_file(whole.model / "model.safetensors")
    assert {name for name, _ in start.named_parameters()} == {*weights}
    # Killed, and resumed without the folder of the encoder.
    file, kills = config_of(task, family, "killed", lr_factor=0.5), [15, 33]
    resumed = train_through_kills(load_config(file), kills, monkeypatch)
    assert same(load_file(resumed.model / "model.safetensors"), weights)
    shutil.rmtree(task.folder / "bert")
    assert main(["train", str(config_of(task, family, "whole", lr_factor=0.5))]) == 0
    model = nmt.load(whole.path)
    assert model.translate(["one two", "", "seven"])[1] == ""
    assert model.attention("one seven").source == ["one", "sev", "##en", "</s>"]
    capsys.readouterr()
    assert main(["export", str(whole.path), "--to", "ctranslate2"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_frozen_encoder_has_no_gradient_and_no_optimizer_state(task):
    folder = write_encoder(task.folder / "bert")
    run: Run = nmt.train(config_of(task, "rnn", "frozen", {"max_steps": 20}, freeze=True)).run
    theirs, ours = load_file(folder / "model.safetensors"), load_file(run.model / "model.safetensors")
    kept = [name for name in ours if name.startswith("encoder.model.")]
    assert len(kept) > 20
    assert all(torch.equal(ours[name], theirs[name.removeprefix("encoder.model.")]) for name in kept)
    table = theirs["embeddings.word_embeddings.weight"]
    assert torch.equal(ours["src_embedding.weight"][SHIFT : SHIFT + 30], table[:30])
    [*_, last] = sorted(run.checkpoints.glob("step-*"))
    states = {name.rpartition("/")[0] for name in load_file(last / "optimizer.safetensors")}
    assert not {name for name in states if name.startswith(("encoder.", "src_embedding"))}
    assert "readout.weight" in states


def test_the_encoder_has_its_own_learning_rate(task):
    write_encoder(task.folder / "bert")
    config = load_config(config_of(task, lr_factor=0.25))
    from nmt.training.optim import build_optimizer, set_learning_rate

    model = build_model(config.model, 44, 24, 0)
    optimizer = build_optimizer(model, config.train.optimizer, torch.device("cpu"), slower=model.lr_factors())
    set_learning_rate(optimizer, 0.1)
    rates = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    names = {name: rates[p] for name, p in model.named_parameters()}
    assert names["src_embedding.weight"] == names["encoder.begin"] == 0.025
    assert names["encoder.model.encoder.layer.0.output.dense.weight"] == 0.025
    assert names["readout.weight"] == names["tgt_embedding.weight"] == 0.1
    assert len(rates) == len(list(model.parameters()))


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.encoder.weights": "nowhere"}, "model.encoder.weights: nowhere: no such folder"),
        ({"model.encoder.weights": "a/b"}, "no such folder; a model of the Hugging Face hub is hf:a/b"),
        ({"tokenizer.joint": True}, "tokenizer.joint: true: cannot be combined with a pretrained encoder"),
        (
            {"tokenizer.sampling": {"method": "batch"}},
            "tokenizer.sampling: cannot be combined with a pretrained encoder",
        ),
        (
            {"data.cleaning.max_tokens": 100},
            "the encoder reads at most 62 subwords of a source, and the longest has 100",
        ),
        ({"model.encoder.d_model": 8}, "model.encoder.d_model: 8: the embeddings of "),
        ({"model.encoder.freeze": True, "model.encoder.lr_factor": 0.5}, "lr_factor: 0.5 has no effect: freeze: true"),
    ],
)
def test_a_setting_that_does_not_go_with_the_encoder_is_refused(task, change, message):
    write_encoder(task.folder / "bert", max_position_embeddings=64)
    file = config_of(task)
    with pytest.raises(ConfigError) as error:
        load_config(file, [f"{key}={json.dumps(value)}" for key, value in change.items()])
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda f: (f / "config.json").unlink(), "has no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "config.json: cannot be read"),
        (lambda f: (f / "config.json").write_text('{"model_type": "gpt2"}'), "is of the type gpt2, and not an encoder"),
        (lambda f: edit(f, is_decoder=True), "is a decoder, and not an encoder"),
        (lambda f: (f / "model.safetensors").unlink(), "has no weights (model.safetensors or pytorch_model.bin)"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x" * 40), "its weights cannot be read"),
        (lambda f: edit(f, num_hidden_layers=3), "its weights lack encoder.layer.2."),
        (lambda f: [(f / n).unlink() for n in ("tokenizer.json", "tokenizer_config.json")], "has no tokenizer ("),
        (lambda f: edit(f, vocab_size=20), "its tokenizer has "),
    ],
)
def test_a_folder_that_cannot_be_used_is_one_line(task, capsys, harm, message):
    harm(write_encoder(task.folder / "bert"))
    capsys.readouterr()
    assert main(["train", str(config_of(task))]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("nmt: model.encoder.weights: ")
    assert message in error


def edit(folder: Path, **changes) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_a_folder_with_a_list_of_pieces_alone_has_a_tokenizer(task):
    folder = write_encoder(task.folder / "bert")
    pieces = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in sorted(pieces, key=pieces.__getitem__)))
    stored = encoder.source_tokenizer(encoder.section_of(load_config(config_of(task))))
    assert stored["special"] == [pieces[name] for name in ("[PAD]", "[UNK]", "[CLS]", "[SEP]")]
    (task.folder / "source.json").write_text(json.dumps(stored))
    from nmt.data.source_tokenizer import SourceTokenizer

    tokenizer = SourceTokenizer(task.folder / "source.json")
    assert [tokenizer.id_to_piece(i) for i in tokenizer.encode(["One seven"])[0]] == ["one", "sev", "##en"]
