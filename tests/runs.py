"""Short trainings of the tiny task, and what they leave."""

import json
from collections.abc import Sequence

import torch

from nmt import pipeline
from nmt.cli import main
from nmt.config.experiment import Config
from nmt.run.directory import Run
from nmt.training.trainer import Trainer

# The weights themselves are validated, and each step counts as much as the next.
EVERY_2 = {
    "max_steps": 10, "validate_every": 2, "batch_tokens": 128, "schedule": {"name": "constant"}, "ema_decay": None,
}  # fmt: skip


class Killed(BaseException):
    """Stands for a kill: nothing in the program may catch it and carry on."""


def train_through_kills(config: Config, steps: Sequence[int], monkeypatch) -> Run:
    """Train, killed after an update at each of these steps or later, and resumed each time; the run."""
    update, kills = Trainer.update, [*steps]

    def killed(self, batches):
        update(self, batches)
        if kills and self.progress.step >= kills[0]:
            kills.pop(0)
            raise Killed

    monkeypatch.setattr(Trainer, "update", killed)
    while True:
        try:
            run = pipeline.train(config).run
            break
        except Killed:
            continue
    assert not kills
    return run


def train(task, name="run", overrides=(), **sections) -> Run:
    """Train by the command line; the run."""
    command = ["train", str(task.config_file("rnn", name, **sections))]
    assert main([*command, "--set", *overrides] if overrides else command) == 0
    return Run(task.folder / "runs" / name)


def origin(run: Run) -> dict:
    return json.loads((run.model / "model.json").read_text())


def validations(run: Run) -> list[dict]:
    return [row for line in run.metrics.read_text().splitlines() if "valid/loss" in (row := json.loads(line))]


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
