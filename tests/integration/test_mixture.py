"""Trainings on mixtures of datasets."""

import json
import socket
from collections import Counter

import numpy as np
import pytest
import yaml

import nmt
from nmt import pipeline
from nmt.cli import main
from nmt.cli.commands.serve import _models
from nmt.cli.program import new_parser
from nmt.data.tagged import TaggedLine
from nmt.errors import TokenizerError
from nmt.run.differences import differences
from nmt.serve.limits import Limits
from nmt.serve.metrics import Metrics
from nmt.serve.model import Ask
from nmt.training.trainer import Trainer
from nmt.translation.forced import Scorer
from tests.runs import train_through_kills

EVERYTHING = [{"UpperCase": 0.2}, {"TitleCase": 0.2}, {"Typos": 0.3}, {"Noise": 0.1}, {"Merge": 0.2}, {"Prefix": 0.2}]


def halves(task):
    """The training part of the task as two files: 400 and 200 pairs."""
    found = {}
    for name, lines in (("big", slice(0, 400)), ("small", slice(400, 600))):
        source = {"kind": "text"}
        for side in ("src", "tgt"):
            text = task.paths[f"train.{side}"].read_text(encoding="utf-8").splitlines(keepends=True)[lines]
            path = task.folder / f"{name}.{side}"
            path.write_text("".join(text), encoding="utf-8")
            source[side] = str(path)
        found[name] = source
    return found


def mixed(task, name="run", family="rnn", datasets=({"weight": 3}, {"weight": 1}), data=None, **sections):
    """The configuration of a training on the two files."""
    files = halves(task).items()
    train = [{"name": one, "source": source, **more} for (one, source), more in zip(files, datasets, strict=True)]
    path = task.config_file(family, name, **sections)
    raw = yaml.safe_load(path.read_text())
    raw["data"] = {**raw["data"], "train": train, **(data or {})}
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return path


def config(task, name="run", overrides=(), **fields):
    from nmt.config.load import load_config

    return load_config(mixed(task, name, **fields), overrides)


def recorded_rows(monkeypatch):
    """The batches of each update of the trainings that follow, as (epoch, examples)."""
    seen = []
    update = Trainer.update

    def recording(self, batches):
        seen.append(np.concatenate([batch.rows for batch in batches]))
        update(self, batches)

    monkeypatch.setattr(Trainer, "update", recording)
    return seen


def test_shares_of_an_epoch(task, monkeypatch):
    seen = recorded_rows(monkeypatch)
    one = config(task, train={"max_epochs": 1, "batch_tokens": 64}, overrides=["train.max_steps=null"])
    pipeline.train(one)
    rows = np.concatenate(seen) % 600  # all pairs are kept
    counts = Counter((rows >= 400).tolist())
    assert sum(counts.values()) == 600
    assert counts[False] / 600 == pytest.approx(0.75, abs=0.01)


@pytest.mark.parametrize(("family", "readers", "kills"), [("rnn", 1, [3, 17, 18, 31]), ("transformer", 3, [9, 25])])
def test_kills_and_readers_change_no_bit(task, monkeypatch, family, readers, kills):
    stages = [
        {"name": "first", "weights": {"big": 1, "small": 1}, "epochs": 1},
        {"name": "second", "weights": {"big": 1, "small": 3}, "steps": 5, "modifiers": [{"UpperCase": 0.5}]},
        {"name": "last", "weights": {"big": 1, "small": 1}, "epoch_of": "small"},
    ]
    fields = {
        "family": family,
        "datasets": ({"tag": "<big>"}, {"modifiers": EVERYTHING, "tag": ["<small>", "<x>"]}),
        "data": {"stages": stages},
        "tokenizer": {"vocab_size": 60, "sampling": {"alpha": 0.3}},
        "train": {
            "max_steps": 40, "batch_tokens": 256, "validate_every": 10, "checkpoint_every": 4, "precision": "fp32",
            "device": "cpu", "threads": 1,
        },
    }  # fmt: skip
    whole = pipeline.train(config(task, "whole", **fields)).run
    other = config(task, f"readers-{readers}", [f"train.readers={readers}"], **fields)
    with monkeypatch.context() as patch:
        run = train_through_kills(other, kills, patch)
    assert list(differences(whole, run)) == []


def test_stages_end_the_training_and_its_schedule_and_unequal_ones_resume(task, monkeypatch):
    stages = [
        {"name": "first", "weights": {"big": 1, "small": 1}, "epochs": 1},
        {"name": "second", "weights": {"big": 1, "small": 3}, "steps": 20},
        {"name": "last", "weights": {"big": 1, "small": 1}, "epoch_of": "small", "epochs": 2},
    ]
    fields = {
        "datasets": ({}, {}), "data": {"stages": stages},
        "train": {
            "max_steps": None, "batch_tokens": 512, "validate_every": 50, "checkpoint_every": 4,
            "schedule": {"name": "cosine", "warmup_steps": 2},
        },
    }  # fmt: skip
    whole = pipeline.train(config(task, "whole", **fields))
    killed = config(task, "killed", **fields)
    run = train_through_kills(killed, [3, 12, 18], monkeypatch)
    assert list(differences(whole.run, run)) == []
    assert whole.reason == "max_epochs (4)"
    assert whole.run.schedule_end() == whole.steps


def test_the_corpus_does_not_depend_on_weights_and_the_manifest_counts_the_datasets(task):
    config_file = mixed(task)
    assert main(["prepare", str(config_file)]) == 0
    [corpus] = (task.folder / "store").glob("corpus-*")
    manifest = json.loads((corpus / "manifest.json").read_text())
    assert {name: one["pairs"] for name, one in manifest["datasets"].items()} == {
        "big": {"train": 400}, "small": {"train": 200},
    }  # fmt: skip
    datasets = {"weight": 1, "tag": "<b>"}, {"weight": 9, "modifiers": EVERYTHING}
    other = mixed(task, datasets=datasets, tokenizer={"vocab_size": 60})  # capitals need more pieces
    assert main(["prepare", str(other)]) == 0
    assert list((task.folder / "store").glob("corpus-*")) == [corpus]


# ---------------------------------------------------------------------------------------------------------------- tags


TAGGED = {
    "datasets": ({"tag": "<2de>"}, {"tag": ["<2de>", "<bt>"]}),
    "tokenizer": {"vocab_size": 60},
    "train": {"max_steps": 4, "batch_tokens": 256, "validate_every": 2, "device": "cpu", "threads": 1},
}  # fmt: skip


@pytest.fixture
def tagged_run(task):
    files = {side: str(task.paths[f"valid.{side}"]) for side in ("src", "tgt")}
    valid = {"kind": "text", **files, "tag": "<2de>"}
    held = {"kind": "holdout", "fraction": 0.1}
    return pipeline.train(config(task, data={"valid": valid, "test": {"held": held}}, **TAGGED)).run


def test_tags_stand_before_the_source_and_no_text_contains_them(tagged_run):
    from nmt.translation.loading import load_translator

    translator = load_translator(tagged_run)
    [plain] = translator.encode(["one two"])
    [typed] = translator.encode(["<2de> one two"])
    translator.tags = ["<2de>", "<bt>"]
    [tagged, blank] = translator.encode(["one two", " "])
    tags = translator.tokenizer.tag_ids(["<2de>", "<bt>"])
    assert tagged == tags + plain
    assert blank == []
    assert not set(typed) & set(tags)


def test_training_and_validation_read_the_tags(tagged_run, monkeypatch):
    from nmt.data.tokenizer import Tokenizer
    from nmt.training.validation import Validator

    first, second = Tokenizer.load(tagged_run.tokenizer).tag_ids(["<2de>", "<bt>"])
    seen, validated = [], []
    update, losses = Trainer.update, Validator.losses

    def recording(self, batches):
        seen.extend(zip(self.reader.indices(b.rows), b.src[:, :2].tolist(), strict=True) for b in batches)
        update(self, batches)

    def reading(self, model, plan):
        validated.extend(self.read(rows).src[:, 0] for rows in plan)
        return losses(self, model, plan)

    monkeypatch.setattr(Trainer, "update", recording)
    monkeypatch.setattr(Validator, "losses", reading)
    one = tagged_run.load_config()
    pipeline.train(one.model_copy(update={"name": "again"}))
    counts = json.loads(tagged_run.manifest_path.read_text())["datasets"]
    big = counts["big"]["pairs"]["train"]
    rows = [pair for batch in seen for pair in batch]
    assert {index < big for index, _ in rows} == {True, False}
    assert all(ids[0] == first and (ids[1] == second) == (index >= big) for index, ids in rows)
    assert {int(i) for ids in validated for i in ids} == {first}


def test_scores_of_each_dataset_of_a_holdout(tagged_run, capfd):
    assert main(["evaluate", str(tagged_run.path)]) == 0
    shown = capfd.readouterr().out
    rows = [line.split()[0] for line in shown.splitlines() if line.startswith("held")]
    assert [row for row in rows if not row.endswith(":")] == ["held", "held.big", "held.small"]


def test_translate_with_a_tag(tagged_run, task, capfd, caplog):
    (task.folder / "in").write_text("one two\n")
    command = ["translate", str(tagged_run.path), "-i", str(task.folder / "in")]
    assert main([*command, "--tag", "<2de>", "--tag", "<bt>"]) == 0
    assert main([*command, "--tag", "<2fr>"]) == 2
    assert "has no tag <2fr>; it has: <2de>, <bt>" in capfd.readouterr().err
    assert main(command) == 0
    assert "trained with tags; choose with --tag: <2de>, <bt>" in caplog.text


def test_score_and_python_take_tags(tagged_run, task, capfd):
    tags, line, target = ["<2de>", "<bt>"], "one two", "zwei eins"
    plain = nmt.load(tagged_run.path)
    [expected] = Scorer(plain.translator)([TaggedLine.of(line, tags)], [target])
    tagged = nmt.load(tagged_run.path, tags=tags)
    assert tagged.score([line], [target]) == [expected] != plain.score([line], [target])
    assert tagged.translate([line]) == [plain.translator.translate([TaggedLine.of(line, tags)])[0][0].text]
    with pytest.raises(TokenizerError, match="has no tag <2fr>"):
        nmt.load(tagged_run.path, tags=["<2fr>"])
    # The commands
    for name, text in (("in", line), ("ref", target)):
        (task.folder / name).write_text(f"{text}\n")
    command = ["score", str(tagged_run.path), "--src", str(task.folder / "in"), "--tgt", str(task.folder / "ref")]
    capfd.readouterr()
    assert main([*command, "--tag", tags[0], "--tag", tags[1]]) == 0
    assert float(capfd.readouterr().out) == pytest.approx(expected.log_prob, abs=1e-4)


def test_serve_takes_tags(tagged_run, capfd):
    pytest.importorskip("uvicorn", reason="uvicorn is missing: pip install 'nmt-trainer[serve]'")
    tags, arguments = ["<2de>", "<bt>"], ["serve", str(tagged_run.path), "--port", "0", "--workers", "1", "--tag"]
    given = new_parser().parse_args([*arguments, tags[0], "--tag", tags[1]])
    with socket.socket() as listener:
        [served], _ = _models(given, Limits(), Metrics(), listener)
    assert served.translator.tags == tuple(tags)
    tagged = nmt.load(tagged_run.path, tags=tags)
    assert served.answer(Ask(), ["one two"])[0].texts == tagged.translate(["one two"])
    assert main([*arguments, "<2fr>"]) == 2
    assert "has no tag <2fr>" in capfd.readouterr().err


# ------------------------------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize("family", ["rnn", "transformer"])
def test_weights_of_pairs_change_the_training_and_equal_ones_do_not(task, family):
    texts = [task.paths[f"train.{side}"].read_text().splitlines() for side in ("src", "tgt")]
    settings = {"max_steps": 6, "batch_tokens": 256, "precision": "fp32", "device": "cpu", "threads": 1}
    losses = {}
    for name, weight in (("none", None), ("equal", lambda n: 3.0), ("other", lambda n: 0.1 if n % 2 else 5)):
        table = task.folder / f"{name}.tsv"
        rows = [
            (*pair, *([] if weight is None else [str(weight(n))])) for n, pair in enumerate(zip(*texts, strict=True))
        ]
        table.write_text("".join("\t".join(row) + "\n" for row in rows))
        source = {"kind": "tsv", "path": str(table), **({} if weight is None else {"weight_column": 2})}
        path = task.config_file(family, name, train={**settings, "log_every": 6})
        raw = yaml.safe_load(path.read_text())
        raw["data"]["train"] = source
        path.write_text(yaml.safe_dump(raw))
        assert main(["train", str(path)]) == 0
        lines = (task.folder / "runs" / name / "metrics.jsonl").read_text().splitlines()
        losses[name] = next(row["train/loss"] for row in map(json.loads, lines) if "train/loss" in row)
    assert losses["equal"] == pytest.approx(losses["none"], rel=1e-6)
    assert abs(losses["other"] - losses["none"]) > 1e-5
