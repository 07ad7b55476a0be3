"""Seconds per update of several trainings, measured in turns, so that all can train for the same time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping

from nmt.config.experiment import Config
from nmt.pipeline import build_trainer, prepare
from nmt.run.directory import Run
from nmt.runtime.device import Place, resolve_device, resolve_precision, set_threads
from nmt.runtime.progress import showing
from nmt.runtime.ranks import ALONE

TURNS, UPDATES = 5, 8


def measure(configs: Mapping[str, Config]) -> dict[str, float]:
    """Processor seconds per update of each configuration on one thread; on CUDA: elapsed seconds.

    The configurations take turns, so that a machine that becomes slower or faster treats them alike.
    """
    # Build
    trainers = {}
    for label, config in configs.items():
        device = resolve_device(config.train.device)
        place = Place(device, resolve_precision(config.train.precision, device), ALONE)
        trainers[label] = build_trainer(config, Run(config.run_dir), prepare(config), place)
    set_threads(1)
    on_gpu = any(one.place.device.type == "cuda" for one in trainers.values())
    clock = time.perf_counter if on_gpu else time.process_time
    seconds: dict[str, list[float]] = {label: [] for label in trainers}
    # Measure
    with showing("measuring the time of an update", (1 + TURNS) * len(trainers), "turns") as done:
        for turn in range(1 + TURNS):
            for label, trainer in trainers.items():
                updates = trainer.order.updates(0)
                chosen = [updates[(UPDATES * turn + number) % len(updates)] for number in range(UPDATES)]
                read = [[trainer.reader.read(rows, 0) for rows in update] for update in chosen]
                begun = clock()
                for batches in read:
                    trainer.update(batches)
                float(trainer.window.sums.sum())  # waits for the device
                seconds[label].append((clock() - begun) / len(read))
                done(1)
    return {label: statistics.median(found[1:]) for label, found in seconds.items()}  # the first turn warms up
