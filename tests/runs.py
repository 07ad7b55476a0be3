"""Short trainings of the tiny task, and what they leave."""

import json

import torch

from nmt.cli import main
from nmt.run.directory import Run

# The weights themselves are validated, and each step counts as much as the next.
EVERY_2 = {
    "max_steps": 10, "validate_every": 2, "batch_tokens": 128, "schedule": {"name": "constant"}, "ema_decay": None,
}  # fmt: skip


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
