"""Trainings on mixtures of datasets."""

import json
from collections import Counter

import numpy as np
import pytest
import yaml

from nmt import pipeline
from nmt.cli import main
from nmt.run.differences import differences
from nmt.training.trainer import Trainer
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


@pytest.mark.parametrize("family", ["rnn", "transformer"])
def test_kills_and_readers_change_no_bit(task, monkeypatch, family):
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
    for readers, kills in ((1, [3, 17, 18, 31]), (2, [9, 25]), (4, [])):
        other = config(task, f"readers-{readers}", [f"train.readers={readers}"], **fields)
        with monkeypatch.context() as patch:
            run = train_through_kills(other, kills, patch)
        assert list(differences(whole, run)) == []


def test_the_corpus_does_not_depend_on_weights_and_the_manifest_counts_the_datasets(task):
    config_file = mixed(task)
    assert main(["prepare", str(config_file)]) == 0
    [corpus] = (task.folder / "store").glob("corpus-*")
    manifest = json.loads((corpus / "manifest.json").read_text())
    assert {name: one["pairs"] for name, one in manifest["datasets"].items()} == {
        "big": {"train": 400}, "small": {"train": 200},
    }  # fmt: skip
    other = mixed(task, datasets=({"weight": 1, "tag": "<b>"}, {"weight": 9, "modifiers": EVERYTHING}))
    assert main(["prepare", str(other)]) == 0
    assert list((task.folder / "store").glob("corpus-*")) == [corpus]
