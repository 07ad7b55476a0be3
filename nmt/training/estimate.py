"""What a training will take, measured on a few of its steps: memory, time and disk."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

from nmt.config.train import TrainConfig
from nmt.models.build import count_parameters
from nmt.runtime.device import peak_memory, reset_peak_memory
from nmt.training import plan
from nmt.training.progress import Progress
from nmt.training.trainer import Trainer

WARMUP = 2  # updates that are not timed
TIMED = 12  # updates, spread over the first epoch


@dataclass(frozen=True)
class Estimate:
    """Figures of a training.

    Attributes:
        memory: bytes at the longest batch: of the process on a CPU, of PyTorch's tensors on CUDA.
        step_seconds: mean time of an update.
        steps: the last step that the limits allow; None if only patience ends the run.
        seconds: training time until then, without validations.
        checkpoint: bytes of a checkpoint: weights, their average and the optimizer's moments.
        disk: bytes of all checkpoints that are kept, and of the final model.
    """

    parameters: int
    memory: int
    step_seconds: float
    steps: int | None
    seconds: float | None
    checkpoint: int
    disk: int


def measure(trainer: Trainer) -> Estimate:
    """Make real updates; the trainer cannot be used afterwards."""
    updater, order, device = trainer.updater, trainer.order, trainer.place.device
    progress, window = Progress(), trainer.window
    trainer.model.train()
    # Memory: the longest batch twice, because the first update allocates the optimizer's moments.
    reset_peak_memory(device)
    if device.type == "cuda":
        updater.prepare(order.longest_batch(), window)
    largest = trainer.reader.largest(order.longest_batch())
    for _ in range(WARMUP):
        updater.update([largest], progress, window)
    memory = peak_memory(device)
    # Time: updates spread over the first epoch.
    epoch = order.updates(0)
    updates = [epoch[int(i)] for i in np.unique(np.linspace(0, len(epoch) - 1, TIMED).astype(int))]
    spent = 0.0
    for update in updates:
        start = time.perf_counter()
        updater.update([trainer.reader.read(rows, 0) for rows in update], progress, window)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        spent += time.perf_counter() - start
    step_seconds = spent / len(updates)
    # Whichever limit ends first
    steps, seconds = _end(trainer.config, plan.Pace(len(epoch)), step_seconds)
    weights = sum(p.numel() * p.element_size() for p in trainer.model.parameters())
    checkpoint = weights * (3 + (updater.ema is not None))
    kept = trainer.config.keep_best + trainer.config.keep_last + 1  # one is written before another is deleted
    parameters, _ = count_parameters(trainer.model)
    return Estimate(parameters, memory, step_seconds, steps, seconds, checkpoint, kept * checkpoint + weights)


def _end(config: TrainConfig, pace: plan.Pace, step_seconds: float) -> tuple[int | None, float | None]:
    steps = plan.planned_steps(config, pace)
    if config.max_minutes:
        in_time = max(1, int(60 * config.max_minutes / step_seconds))
        steps = min(steps or in_time, in_time)
    return steps, None if steps is None else steps * step_seconds
