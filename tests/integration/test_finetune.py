"""Trainings that start from trained weights (``init``)."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from nmt import pipeline
from nmt.cli import main
from nmt.data.tokenizer import Tokenizer
from nmt.run.checkpoint import list_checkpoints
from nmt.run.differences import differences
from nmt.run.directory import Run
from tests.conftest import MODELS, Task
from tests.runs import EVERY_2, train_through_kills

NEW = {"seven": "siebendreier", "zebra": "žebra"}  # words and a letter that the first text lacks


def weights_of(run: Run, step: int | None = None) -> dict[str, torch.Tensor]:
    if step is None:
        return load_file(run.model / "model.safetensors")
    return load_file(run.checkpoints / f"step-{step:08d}" / "model.safetensors")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A finished run of the first text, with its checkpoints."""
    task = Task(tmp_path_factory.mktemp("base"))
    return pipeline.train(task.config("transformer", "base", train=EVERY_2)).run


@pytest.fixture
def base(task, trained):
    """The run ``base`` among the runs of the task."""
    shutil.copytree(trained.path, task.folder / "runs" / "base")
    return Run(task.folder / "runs" / "base")


def new_text(task) -> dict:
    """Change the corpus: ``seven`` has another translation, and there is a new word with a new letter."""
    for side in ("src", "tgt"):
        for part in ("train", "valid", "test"):
            path = task.paths[f"{part}.{side}"]
            text = path.read_text(encoding="utf-8")
            text = text.replace("sieben", NEW["seven"]) if side == "tgt" else text
            word = "zebra" if side == "src" else NEW["zebra"]
            lines = [f"{line} {word}" if n % 3 == 0 else line for n, line in enumerate(text.splitlines())]
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def tuned(task, name="tuned", init=None, **sections):
    """A configuration that starts from the run ``base``, without the sections that the run brings."""
    given = {"model": None, "tokenizer": None, "init": {"from": "base", **(init or {})}, **sections}
    return task.config("transformer", name, **given)


def test_a_training_starts_from_the_weights_and_the_tokenizer_of_a_run(task, base):
    config = tuned(task, train={"max_steps": 1, "schedule": {"name": "constant"}, "optimizer": {"lr": 1e-9}})
    assert config.model.d_model == MODELS["transformer"]["d_model"]
    run = pipeline.train(config).run
    assert Tokenizer(run.tokenizer).fingerprint == Tokenizer(base.tokenizer).fingerprint
    for name, tensor in weights_of(base).items():
        assert torch.allclose(weights_of(run)[name], tensor, atol=1e-6), name
    about = json.loads((run.init / "init.json").read_text())
    assert about["weights"] == {"model.safetensors": base.model_checksum()}
    assert run.load_manifest()["init"]["weights"] == about["weights"]


def test_new_pieces_keep_old_ids_and_begin_as_the_mean_of_the_old_pieces(task, base):
    new_text(task)
    run = pipeline.train(tuned(task, init={"extend_vocabulary": 12}, train={"max_steps": 2})).run
    before, after = Tokenizer(base.tokenizer), Tokenizer(run.tokenizer)
    size = before.tgt_vocab_size
    assert size < after.tgt_vocab_size <= size + 12
    assert after.tgt_pieces(range(size)) == before.tgt_pieces(range(size))
    added = after.tgt_pieces(range(size, after.tgt_vocab_size))
    letters = {letter for letter in "siebendreier žebra" if letter not in before.tgt_pieces(range(size))} - {" "}
    assert {*added[: len(letters)]} == letters >= {"ž"}  # the letters that the vocabulary lacks come first
    text = "siebendreier žebra eins"
    assert after.decode(after.encode_tgt([text])) == [text]
    assert before.decode(before.encode_tgt([text])) != [text]
    assert len(after.encode_tgt([text])[0]) < len(before.encode_tgt([text])[0])
    assert after.encode_src(["one two"]) == before.encode_src(["one two"])
    start = load_file(run.init / "model.safetensors")["tgt_embedding.weight"]
    old = weights_of(base)["tgt_embedding.weight"]
    assert torch.equal(start[:size], old)
    checked = 0
    for number, piece in enumerate(added, size):
        plain = piece.removeprefix("▁")
        ids = before.encode_tgt([plain])[0]
        if piece.startswith("▁") and not letters & {*plain}:
            checked += 1
            assert torch.allclose(start[number], old[ids].mean(0), atol=1e-6), piece
    assert checked
    assert torch.equal(start[size], old[before.unk_id])


@pytest.mark.parametrize("tokenizer", [
    {}, {"case": "inline", "vocab_size": 42}, {"joint": False, "vocab_size": {"src": 36, "tgt": 32}},
    {"normalization": "nmt_nfkc"},
])  # fmt: skip
def test_tags_and_symbols_that_the_vocabulary_lacks_are_new_pieces(task, tokenizer):
    ties = {} if tokenizer.get("joint", True) else {"tie_embeddings": "decoder"}
    model = {**MODELS["transformer"], **ties}
    short = {**EVERY_2, "max_steps": 2}
    base = pipeline.train(task.config("transformer", "base", tokenizer=tokenizer, model=model, train=short)).run
    source = {"kind": "text", "src": str(task.paths["train.src"]), "tgt": str(task.paths["train.tgt"])}
    modifiers = [{"Placeholders": 0.5, "symbols": 2}, {"Prefix": 0.3, "template": "__SAY__ {trg} __end__ "}]
    data = {"train": [{"name": "a", "source": source, "tag": ["<2de>", "<bt>"], "modifiers": modifiers}]}
    run = pipeline.train(tuned(task, init={"extend_vocabulary": 8}, data=data, train={"max_steps": 2})).run
    # Pieces
    before, after = Tokenizer(base.tokenizer), Tokenizer(run.tokenizer)
    size, end = before.src_vocab_size, after.src_vocab_size
    added = after.src_pieces(range(size, end))
    assert added[:6] == ["<2de>", "<bt>", "<ph0>", "<ph1>", "__SAY__", "__end__"]
    assert end <= size + 8
    assert after.tag_ids(["<bt>"]) == [size + 1]
    assert after.placeholders == 2
    assert all(after.reads(word) for word in added[2:6])
    assert not set(after.encode_src(["<2de> <bt> one"])[0]) & {size, size + 1}
    assert after.encode_src(["one two"]) == before.encode_src(["one two"])
    if not after.joint and not tokenizer.get("joint", True):
        assert after.tgt_pieces(range(before.tgt_vocab_size, before.tgt_vocab_size + 2)) == ["<ph0>", "<ph1>"]
    # Rows: the mean of the pieces that the text of the symbol was split into
    start, old = load_file(run.init / "model.safetensors"), weights_of(base)
    table = "src_embedding.weight" if ties else "tgt_embedding.weight"
    for place, text in enumerate(added[:6], size):
        [ids] = before.encode_src([text])
        assert torch.allclose(start[table][place], old[table][ids].mean(0), atol=1e-6)


def test_too_few_new_pieces_for_the_tags_are_refused(task, base, capsys):
    source = {"kind": "text", "src": str(task.paths["train.src"]), "tgt": str(task.paths["train.tgt"])}
    given = {"model": None, "tokenizer": None, "data": {"train": {**source, "tag": ["<2de>", "<bt>"]}}}
    for pieces, message in (
        (0, "data.train: the vocabulary of init.from lacks <2de>, <bt>; add it with init.extend_vocabulary, remove"),
        (1, "init.extend_vocabulary: 1 new pieces, but the vocabulary lacks 2 tags and symbols (<2de>, <bt>); raise"),
    ):
        init = {"from": "base", "extend_vocabulary": pieces}
        assert main(["train", str(task.config_file("transformer", "tuned", init=init, **given))]) == 2
        assert message in capsys.readouterr().err
    letter = next(
        piece for piece in Tokenizer(base.tokenizer).src_pieces(range(4, 30)) if len(piece) == 1 and piece != "▁"
    )
    given["data"]["train"]["tag"] = letter
    init = {"from": "base", "extend_vocabulary": 4}
    assert main(["train", str(task.config_file("transformer", "tuned", init=init, **given))]) == 2
    assert (
        f"data.train: {letter} is a piece of text in the vocabulary; choose another symbol" in capsys.readouterr().err
    )


@pytest.mark.parametrize("batching", ["padded", "packed"])
def test_a_killed_fine_tuning_resumes_with_the_same_bits_without_its_source(task, base, monkeypatch, batching):
    new_text(task)
    settings = {
        "init": {"extend_vocabulary": 8, "freeze": ["encoder", "decoder.0.cross_attention"], "reset": ["norms"]},
        "train": {
            "max_steps": 9, "checkpoint_every": 3, "validate_every": 4, "ema_decay": 0.9, "batching": batching,
            "terms": {"l2_start": 0.01}, "batch_tokens": 128,
        },
    }  # fmt: skip
    expected = pipeline.train(tuned(task, "whole", **settings)).run
    config = tuned(task, "killed", **settings)
    gone = base.path.rename(base.path.with_name("gone"))
    with pytest.raises(Exception, match="no such run"):
        tuned(task, "other", **settings)
    gone.rename(base.path)
    found = train_through_kills(config, [4, 7], monkeypatch)
    assert list(differences(expected, found)) == []
    shutil.rmtree(base.path)
    assert pipeline.train(tuned(task, "killed", **settings)).already


def test_frozen_parameters_keep_their_bits_and_have_no_moments(task, base):
    settings = {**EVERY_2, "max_steps": 4, "ema_decay": 0.5, "keep_last": 1}
    run = pipeline.train(tuned(task, init={"freeze": ["encoder", "embeddings"]}, train=settings)).run
    last = list_checkpoints(run.checkpoints)[-1]
    first, found = weights_of(base), load_file(last / "model.safetensors")
    moments, ema = load_file(last / "optimizer.safetensors"), load_file(last / "ema.safetensors")
    frozen = {name for name in first if name.startswith(("encoder", "src_", "tgt_"))}
    assert 0 < len(frozen) < len(first)
    for name, tensor in first.items():
        assert torch.equal(found[name], tensor) == (name in frozen), name
        assert any(key.startswith(f"{name}/") for key in moments) != (name in frozen), name
        assert torch.equal(ema[name], tensor) == (name in frozen), name


def test_reset_parameters_start_at_random(task, base):
    config = tuned(task, init={"reset": ["decoder.0.feed_forward"]}, train={"max_steps": 1, "optimizer": {"lr": 1e-9}})
    run = pipeline.train(config).run
    first, found = weights_of(base), weights_of(run)
    for name, tensor in first.items():
        if "bias" not in name:  # 0 at first
            same = torch.allclose(found[name], tensor, atol=1e-6)
            assert same == (not name.startswith("decoder.0.feed_forward")), name


def test_a_checkpoint_of_a_run_may_be_the_start(task, base):
    step = int(list_checkpoints(base.checkpoints)[0].name[5:])
    run = pipeline.train(tuned(task, init={"checkpoint": step}, train={"max_steps": 1})).run
    start = load_file(run.init / "model.safetensors")
    assert all(torch.equal(start[name], tensor) for name, tensor in weights_of(base, step).items())


def test_mistakes_are_one_clear_line(task, base, capsys):
    def said(init=None, **sections) -> str:
        given = {"model": None, "tokenizer": None, "init": {"from": "base", **(init or {})}, **sections}
        assert main(["train", str(task.config_file("transformer", "wrong", **given))]) == 2
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("nmt: ")]
        assert len(lines) == 1, lines
        return lines[0]

    assert "did you mean base?" in said({"from": "bose"})
    assert "hf:Helsinki-NLP/opus-mt-en-de" in said({"from": "Helsinki-NLP/opus-mt-en-de"})
    assert "model.d_model is 64 here and 32 there" in said(model={"type": "transformer", "d_model": 64})
    assert "tokenizer.vocab_size is 99 here and 36 there" in said(tokenizer={"vocab_size": 99})
    assert "did you mean encoder?" in said({"freeze": ["encodr"]})
    assert "name embeddings" in said({"reset": ["output"]})
    assert "nothing is left to train" in said({"freeze": ["*"]})
    assert "no such checkpoint; there are steps" in said({"checkpoint": 7})


def test_another_start_is_refused_on_resume(task, base, capsys):
    pipeline.train(tuned(task, train={"max_steps": 2}))
    changed = task.config_file(
        "transformer", "tuned", model=None, tokenizer=None, init={"from": "base", "freeze": ["encoder"]}
    )
    assert main(["train", str(changed)]) == 2
    assert "init.freeze" in capsys.readouterr().err


def test_a_run_of_other_languages_is_named(task, base, caplog):
    files = {part: {"kind": "text", "src": str(task.paths[f"{part}.src"]), "tgt": str(task.paths[f"{part}.tgt"])}
             for part in ("train", "valid")}  # fmt: skip
    pipeline.train(tuned(task, data={**files, "test": {}, "tgt_lang": "nl"}, train={"max_steps": 1}))
    assert "init.from: base translates en to de, and this training en to nl" in caplog.text


def test_dropout_may_differ_and_a_dump_of_the_configuration_can_be_trained(task, base, capsys):
    config = tuned(task, model={"dropout": 0.3}, train={"max_steps": 1})
    assert (config.model.dropout, config.model.d_model) == (0.3, 32)
    path = task.folder / "dump.yaml"
    path.write_text(config.to_yaml(), encoding="utf-8")
    assert main(["train", str(path)]) == 0
