"""Trainings on packed batches."""

import json
import logging

import numpy as np
import pytest
import torch

from nmt import pipeline
from nmt.cli import main
from nmt.data.order import TrainingOrder
from nmt.data.reader import Reader
from nmt.errors import ConfigError
from nmt.run import checkpoint as checkpoints
from nmt.run.differences import differences
from nmt.run.directory import Run
from nmt.runtime.device import Place
from tests.runs import train_through_kills

# Everything at once that has a state: dropout, sampling, accumulation, averages.
HARD = {
    "tokenizer": {"vocab_size": 36, "sampling": {"alpha": 0.3}},
    "train": {
        "batching": "packed", "max_steps": 23, "max_epochs": 50, "batch_tokens": 128, "accumulate": 2,
        "ema_decay": 0.9, "validate_every": 10, "checkpoint_every": 3, "keep_last": 3, "log_every": 4,
        "precision": "fp32", "device": "cpu", "threads": 1,
    },
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("terms", [{}, {"word_dropout": {}, "cutoff": {"kind": "span"}}], ids=["plain", "terms"])
def test_a_killed_training_resumes_with_the_same_bits(task, monkeypatch, terms):
    hard = {**HARD, "train": {**HARD["train"], "terms": terms}}
    expected = pipeline.train(task.config("transformer", "whole", **hard)).run
    found = train_through_kills(task.config("transformer", "killed", **hard), [5, 11, 20], monkeypatch)
    assert list(differences(expected, found)) == []


def test_sampled_batches_fit_and_are_whole(task):
    config = task.config("transformer", **HARD)
    prepared = pipeline.prepare(config)
    data, tokenizer, text = prepared.encoded.train, prepared.tokenizer, prepared.corpus.part("train")
    reader = Reader(data, tokenizer, text, config.tokenizer.sampling, 256, 1, 128, packed=True)
    order = TrainingOrder(data, 128, 1, 1, reader.room, reader.packing)
    longer = 0
    for epoch in range(3):
        for (rows,) in order.updates(epoch):
            batch = reader.read(rows, epoch)
            targets = batch.targets[: batch.tgt_tokens]
            sentences = targets.tensor_split((targets == tokenizer.eos_id).nonzero().flatten() + 1)[:-1]
            assert [tokenizer.decode([one.tolist()[:-1]])[0] for one in sentences] == [
                text[data.index(row)][1] for row in rows.tolist()
            ]
            longer += sum(len(one) - 1 > len(data.tgt(row)) for one, row in zip(sentences, rows.tolist(), strict=True))
            assert reader.largest(rows).tgt_tokens >= batch.tgt_tokens - len(rows)
    assert longer > 20


def test_an_update_is_that_of_padded_batches(task):
    """Of the same sentences, with gradients accumulated over two packed batches."""
    moments = []
    for batching in ("padded", "packed"):
        config = task.config("transformer", batching, model={"dropout": 0.0}, train={"batching": batching})
        prepared = pipeline.prepare(config)
        trainer = pipeline.build_trainer(
            config, Run(config.run_dir), prepared, Place(torch.device("cpu"), torch.float32)
        )
        groups = np.split(np.arange(40), [12])
        trainer.update([trainer.reader.read(rows) for rows in groups])
        moments.append(
            {name: trainer.updater.optimizer.state[p]["exp_avg"] for name, p in trainer.model.named_parameters()}
        )
        counted = trainer.window.tolist()
        moments[-1]["sums"] = torch.tensor([*counted[:6]])
    for name, moment in moments[0].items():
        assert torch.allclose(moment, moments[1][name], rtol=1e-4, atol=1e-8), name


def test_auto_pads_on_a_cpu_says_so_and_records_it(task, caplog):
    caplog.set_level(logging.INFO)
    run = pipeline.train(task.config("transformer", train={"max_steps": 2})).run
    assert "batches     padded: packing gains little on cpu" in caplog.text
    assert run.batching() == "padded"
    assert run.load_config().train.batching == "auto"


def test_a_run_keeps_its_batches(task, caplog, capsys):
    caplog.set_level(logging.INFO)
    file = task.config_file("transformer", train={"max_steps": 4})
    assert main(["train", str(file), "--set", "train.batching=packed"]) == 0
    assert "batches     packed, without padding" in caplog.text
    run = Run(task.folder / "runs" / "run")
    assert run.batching() == "packed"
    assert main(["train", str(file), "--set", "train.max_steps=6", "train.batching=padded"]) == 2
    assert (
        "train.batching: padded, but the run was started with packed batches, and other batches would not continue it"
        in caplog.text + capsys.readouterr().err
    )
    caplog.clear()
    assert main(["train", str(file), "--set", "train.max_steps=6"]) == 0  # auto: as before, though this is a CPU
    assert "batches     packed, without padding" in caplog.text
    assert checkpoints.last_good(run.checkpoints, print).step == 6


def test_a_run_of_before_it_was_recorded_is_padded(task):
    run = pipeline.train(task.config("transformer", train={"max_steps": 2})).run
    (last,) = checkpoints.list_checkpoints(run.checkpoints)
    state = json.loads((last / "state.json").read_text())
    del state["identity"]["batching"]
    (last / "state.json").write_text(json.dumps(state))
    assert run.batching() == "padded"
    assert Run(task.folder / "runs" / "none").batching() is None


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"model": {"type": "rnn", "d_model": 8, "d_hidden": 8, "d_attention": 8}}, "model.type is rnn"),
        ({"model": {"encoder_layers": 6, "encoder": {"type": "transformer", "d_model": 32}}}, "model.encoder"),
        ({"model": {"attention_dropout": 0.1}}, "model.attention_dropout"),
        ({"tokenizer": {"sampling": {"method": "line"}}}, "tokenizer.sampling.method: line"),
    ],
)
def test_what_cannot_be_packed_is_refused(task, sections, reason):
    family = "rnn" if "d_hidden" in sections.get("model", {}) else "transformer"
    with pytest.raises(ConfigError, match=f"train.batching: packed is not possible: .*{reason}"):
        task.config(family, train={"batching": "packed"}, **sections)
    assert task.config(family, **sections).train.batching == "auto"
