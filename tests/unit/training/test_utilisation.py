"""The share of the peak that a training uses."""

import json
import logging

import numpy as np
import pytest
import torch

from nmt import pipeline
from nmt.cli import main
from nmt.config.load import load_config
from nmt.models import flops
from nmt.models.build import build_model
from nmt.run.differences import differences
from nmt.run.directory import Run
from nmt.runtime.device import Place
from nmt.training import trainer
from nmt.training.utilisation import Utilisation, lengths_of

PEAK = 1e9


@pytest.mark.parametrize("batching", ["padded", "packed"])
def test_lengths_are_those_of_the_sentences(task, batching):
    config = task.config("transformer", train={"batching": batching})
    prepared = pipeline.prepare(config)
    made = pipeline.build_trainer(config, Run(config.run_dir), prepared, Place(torch.device("cpu"), torch.float32))
    data, rows = prepared.encoded.train, np.array([5, 0, 17, 3])
    batch = made.reader.read(rows)
    src, tgt = lengths_of(batch)
    assert src.tolist() == [len(data.src(row)) + 1 for row in rows.tolist()]
    assert tgt.tolist() == [len(data.tgt(row)) + 1 for row in rows.tolist()]
    assert [len(x) for x in lengths_of(batch.without_targets())] == [0, 0]


def test_the_share_is_work_over_what_the_peak_allows(task):
    config = task.config("transformer")
    prepared = pipeline.prepare(config)
    made = pipeline.build_trainer(config, Run(config.run_dir), prepared, Place(torch.device("cpu"), torch.float32))
    batches = [made.reader.read(rows) for (rows,) in list(made.order.updates(0))[:2]]
    used = Utilisation(config.model, 36, PEAK)
    assert used.take() is None
    for batch in batches:
        used.add([batch], 0.25)
    expected = sum(flops.training_flops(config.model, 36, *lengths_of(batch)) for batch in batches) / 0.5 / PEAK
    assert used.take() == pytest.approx(expected)
    assert used.take() is None


def test_nothing_is_measured_on_a_cpu(task):
    config = task.config("transformer")
    model = build_model(config.model, 36, 36, 0)
    assert Utilisation.of_training(Place(torch.device("cpu"), torch.float32), model) is None


@pytest.mark.parametrize("batching", ["padded", "packed"])
def test_it_is_logged_and_changes_no_bits(task, monkeypatch, caplog, batching):
    caplog.set_level(logging.INFO)
    runs = []
    for name in ("without", "measured"):
        file = task.config_file("transformer", name, train={"max_steps": 6, "log_every": 3, "batching": batching})
        if name == "measured":
            # As on CUDA, with a device that makes so many operations a second.
            fake = classmethod(lambda cls, place, model: cls(model.config, model.output.out_features, PEAK))
            monkeypatch.setattr(trainer.Utilisation, "of_training", fake)
        assert main(["train", str(file)]) == 0
        runs.append(Run(load_config(file).run_dir))
    assert list(differences(*runs)) == []
    assert caplog.text.count("% MFU") == 2
    logged = [json.loads(line) for line in runs[1].metrics.read_text().splitlines()]
    shares = [line["train/mfu"] for line in logged if "train/loss" in line]
    assert len(shares) == 2
    assert all(share > 0 for share in shares)
