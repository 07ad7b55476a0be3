"""An interrupted training ends with the same bits as one that was left alone."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from nmt import pipeline
from nmt.data.batching import Reader
from nmt.run import Run
from nmt.training import checkpoint as checkpoints
from nmt.training.trainer import Interrupted, Trainer

# Everything at once that has a state: dropout, sampling, accumulation, averages, patience, a plateau schedule.
HARD = {
    "tokenizer": {"vocab_size": 36, "sampling": {"alpha": 0.3}},
    "train": {
        "max_steps": 23, "max_epochs": 50, "batch_tokens": 128, "accumulate": 2, "ema_decay": 0.9, "patience": 50,
        "schedule": {"name": "plateau", "warmup_steps": 4, "patience": 0}, "validate_every": 5, "checkpoint_every": 3,
        "keep_last": 3, "keep_best": 2, "average": 2, "log_every": 4,
        "precision": "fp32", "device": "cpu", "threads": 1,
    },
}  # fmt: skip
VOLATILE = ("train/tokens_per_second",)


class Killed(BaseException):
    """Stands for a kill: nothing in the program may catch it and carry on."""


def outcome(run: Run):
    """Everything a training leaves that must not depend on interruptions."""
    tensors = {}
    for path in [*checkpoints.list_checkpoints(run.checkpoints), run.model]:
        for file in sorted(path.glob("*.safetensors")):
            for name, tensor in load_file(file).items():
                tensors[f"{path.name}/{file.name}/{name}"] = tensor
    states = {
        path.name: {
            k: v
            for k, v in json.loads((path / "state.json").read_text())["progress"].items()
            if k not in ("seconds", "window", "files")
        }
        for path in checkpoints.list_checkpoints(run.checkpoints)
    }
    metrics = [
        {k: v for k, v in json.loads(line).items() if k not in VOLATILE}
        for line in run.metrics.read_text().splitlines()
    ]
    return tensors, states, metrics, (run.evaluation / "tiny.hyp").read_text()


def assert_same(one, two):
    assert one[0].keys() == two[0].keys()
    for name, tensor in one[0].items():
        assert torch.equal(tensor, two[0][name]), name
    assert one[1:] == two[1:]


def train(config):
    pipeline.train(config)
    return outcome(Run.of(config))


@pytest.fixture(params=["rnn", "transformer"])
def hard(request, task):
    return lambda name: task.config(request.param, name, **HARD)


def test_signals_inside_epochs(hard, monkeypatch):
    expected = train(hard("whole"))
    update = Trainer._update
    asked = {2: signal.SIGTERM, 5: signal.SIGINT, 12: signal.SIGTERM}

    def interrupted_update(self, batches):
        update(self, batches)
        if number := asked.pop(self.progress.step, None):
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Trainer, "_update", interrupted_update)
    codes = []
    while True:
        try:
            got = train(hard("broken"))
            break
        except Interrupted as stop:
            codes.append(stop.exit_code)
    assert codes == [143, 130, 143]
    assert_same(expected, got)


@pytest.mark.parametrize("moment", ["during validation", "while writing a checkpoint", "after a checkpoint"])
def test_kills_at_the_worst_moments(hard, monkeypatch, moment):
    expected = train(hard("whole"))
    calls = 0

    def killed(original):
        def wrapped(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls in (2, 4, 5):
                raise Killed
            return original(*args, **kwargs)

        return wrapped

    with monkeypatch.context() as patch:
        if moment == "during validation":
            patch.setattr(pipeline.Validator, "__call__", killed(pipeline.Validator.__call__))
        elif moment == "while writing a checkpoint":
            patch.setattr(checkpoints, "write_json", killed(checkpoints.write_json))
        else:
            patch.setattr(checkpoints, "prune", killed(checkpoints.prune))
        for _ in range(10):
            try:
                got = train(hard("broken"))
                break
            except Killed:
                continue
    assert calls > 5
    assert_same(expected, got)


def test_the_same_seed_gives_the_same_run_and_another_seed_another(task):
    one, two = (train(task.config("transformer", name)) for name in ("one", "two"))
    assert_same(one, two)
    other = train(task.config("transformer", "other", seed=2))
    assert not all(torch.equal(t, other[0][n]) for n, t in one[0].items())


@pytest.mark.parametrize("family", ["rnn", "transformer"])
def test_accumulated_equals_one_large_batch(task, family):
    model = {"type": family, "dropout": 0.0}
    config = task.config(family, model={**task.config(family).model.model_dump(), **model})
    prepared = pipeline.prepare(config)
    rows = pipeline.TrainingOrder(prepared.encoded.train, 256, 1, 1).updates(0)
    rows = [rows[0][0], rows[1][0], rows[2][0]]
    moments = []
    for groups in (rows, [np.concatenate(rows)]):
        trainer = pipeline.build_trainer(config, Run.of(config), prepared, torch.device("cpu"), torch.float32)
        trainer._update([Reader(prepared.encoded.train, prepared.tokenizer).read(group) for group in groups])
        # After one step Adam's first moment is the gradient times 1 - beta: unlike the weights, it hides no difference.
        moments.append({name: trainer.optimizer.state[p]["exp_avg"] for name, p in trainer.model.named_parameters()})
    assert moments[0].keys() == moments[1].keys()
    for name, moment in moments[0].items():
        assert torch.allclose(moment, moments[1][name], rtol=1e-4, atol=1e-8), name
