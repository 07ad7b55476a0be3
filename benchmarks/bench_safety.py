"""Measure the cost of a run's safety: checks at every step, checkpoints, deterministic algorithms.

benchmarks/bench_safety.py CONFIG [--updates 20] [--rounds 9] [--set KEY=VALUE ...]

The trainer's loop and a bare loop (forward, backward, clipping, optimizer, without checks) make the same updates in
turn. Checkpoints are written as in training, once per interval of the configuration.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import count, islice
from pathlib import Path

import torch
from harness import command, machine, ratios, spread

from nmt import pipeline
from nmt.cli.errors import guarded
from nmt.config.experiment import Config
from nmt.config.load import load_config
from nmt.data.batch import Batch
from nmt.data.packing import PackedBatch
from nmt.run.directory import Run
from nmt.runtime.device import Place, resolve_device, resolve_precision, set_deterministic, set_threads
from nmt.runtime.memory import keep_freed_memory
from nmt.training.trainer import Trainer


def guarded_updates(trainer: Trainer, batches: Sequence[Batch | PackedBatch]) -> None:
    """The trainer's loop between two validations."""
    for batch in batches:
        trainer.heed_signals()
        trainer.step([batch])


def bare_updates(trainer: Trainer, batches: Sequence[Batch | PackedBatch]) -> None:
    """The same updates, with only the arithmetic."""
    updater = trainer.updater
    for batch in batches:
        batch = batch.to(updater.device)
        loss, _ = updater.loss(batch)
        (loss / batch.tgt_tokens).backward()
        torch.nn.utils.clip_grad_norm_(updater.parameters, updater.config.clip_norm or float("inf"))
        updater.optimizer.step()
        updater.optimizer.zero_grad(set_to_none=True)


def seconds(work: Callable[[], None], device: torch.device) -> float:
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("config")
    parser.add_argument("--updates", type=int, default=20, help="updates per block")
    parser.add_argument("--rounds", type=int, default=9, help="rounds, with one block of each kind")
    parser.add_argument("--set", dest="overrides", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    # Build a trainer
    with tempfile.TemporaryDirectory() as folder:
        config = load_config(arguments.config, [*arguments.overrides, f"runs={folder}"])
        keep_freed_memory()
        set_threads(config.train.threads)
        device = resolve_device(config.train.device)
        run = Run(config.run_dir)
        trainer = pipeline.build_trainer(
            config, run, pipeline.prepare(config), Place(device, resolve_precision(config.train.precision, device))
        )
        trainer.model.train()
        plan = (rows for epoch in count() for update in trainer.order.updates(epoch) for rows in update)
        batches = [trainer.reader.read(rows, 0) for rows in islice(plan, arguments.updates)]

        def deterministic() -> None:
            set_deterministic(True)
            guarded_updates(trainer, batches)
            set_deterministic(False)

        kinds: dict[str, Callable[[], None]] = {
            "bare": lambda: bare_updates(trainer, batches),
            "guarded": lambda: guarded_updates(trainer, batches),
            "deterministic": deterministic,
        }
        # Time updates, then checkpoints
        times: dict[str, list[float]] = {name: [] for name in kinds}
        for number in range(-1, arguments.rounds):  # the first round warms up
            for name in kinds if number % 2 == 0 else reversed(kinds):
                taken = seconds(kinds[name], device)
                if number >= 0:
                    times[name].append(taken)
        saves = []
        for _ in range(arguments.rounds):
            guarded_updates(trainer, batches[:1])
            saves.append(seconds(trainer.save, device))
        size = sum(file.stat().st_size for file in Path(run.checkpoints).rglob("*") if file.is_file())
        kept = sum(1 for _ in run.checkpoints.glob("step-*"))
    report(config.name, arguments, times, saves, size / max(1, kept), intervals(config, trainer))


def intervals(config: Config, trainer: Trainer) -> list[int]:
    """The intervals, in updates, at which checkpoints are written."""
    every, also = config.train.validate_every, config.train.checkpoint_every
    found = [len(trainer.order.updates(0)) if every == "epoch" else every]
    return [*found, *([also] if also else [])]


def report(
    name: str,
    arguments: argparse.Namespace,
    times: dict[str, list[float]],
    saves: list[float],
    size: float,
    every: list[int],
) -> None:
    update = statistics.median(times["bare"]) / arguments.updates
    guards = statistics.median(ratios(times["bare"], times["guarded"])) - 1
    saving = statistics.median(saves) * sum(1 / steps for steps in every) / update
    about = machine()
    print(
        f"{name}: {command()}, {about['cpu']}, {about['cores']} cores\n"
        f"an update, bare           {update * 1e3:.0f} ms\n"
        f"guarded / bare            {spread(ratios(times['bare'], times['guarded']), 4)}\n"
        f"deterministic / guarded   {spread(ratios(times['guarded'], times['deterministic']), 4)}\n"
        f"a checkpoint              {spread(saves)} s, {size / 2**20:.0f} MiB, "
        f"one in every {' and '.join(map(str, every))} updates\n"
        f"cost of safety            {guards:+.2%} at the steps, {saving:+.2%} for checkpoints: {guards + saving:.2%}"
    )


if __name__ == "__main__":
    sys.exit(guarded("bench_safety", main))
