"""Kill a training at many moments, restart it by the same command, and compare it with one that was left alone.

scripts/torture.py CONFIG --kills 50 [--part first|further] [--set KEY=VALUE ...]

A first training and one that trains a finished run further are killed, each ``--kills`` times: two thirds at random
moments and inside a checkpoint's writing, a third after the last checkpoint, which includes the final evaluation. A
kill counts when it ended the process. A training that ends before all kills have hit is compared, and another one is
begun. Every tensor of every checkpoint and of the final model, the optimizer, the progress, metrics, TensorBoard and
scores must be equal, bit for bit; the first difference ends the program with exit code 1.
"""

import argparse
import random
import signal
import sys
import time
from collections import Counter
from multiprocessing.context import ForkServerProcess

from safetensors.torch import load_file
from trainings import Training, log_of, trainings

from nmt.cli.errors import guarded
from nmt.run.checkpoint import list_checkpoints
from nmt.run.differences import folders
from nmt.run.directory import Run

PLACES = ("at a random moment", "inside a checkpoint write", "after the last checkpoint")
ATTEMPTS = 20  # trainings in a row that end before a kill hits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("config")
    parser.add_argument("--part", choices=["first", "further"], help="only a first training, or one trained further")
    parser.add_argument("--kills", type=int, default=50, help="that must hit, of each training")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", dest="overrides", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    for training in trainings(arguments.config, arguments.overrides, arguments.part):
        training.leave_alone()
        hits, count = torment(training, arguments.kills, rng)
        tensors = sum(len(load_file(f)) for p in folders(training.run) for f in p.glob("*.safetensors"))
        where = ", ".join(f"{hits[place]} {place}" for place in PLACES)
        print(
            f"{training.run.path.name}: {hits.total()} kills ({where}) in {count} training(s), each with 0 differences "
            f"in {tensors} tensors, progress, metrics, TensorBoard and scores",
            flush=True,
        )


def torment(training: Training, kills: int, rng: random.Random) -> tuple[Counter[str], int]:
    """Kill trainings until ``kills`` kills have hit; compare each with the one left alone.

    Returns:
        How many kills hit at each of :data:`PLACES`, and in how many trainings.
    """
    run = Run(training.run.path.with_name(f"{training.run.path.name}-disturbed"))
    hits, count, missed = Counter[str](), 0, 0
    ends = {True: training.duration / 2, False: training.tail}
    while hits.total() < kills:
        training.reset(run)
        before, count = hits.total(), count + 1
        kill_until_it_ends(training, run, kills, hits, ends, rng)
        if different := training.compare(run):
            sys.exit(f"DIFFERENT after {hits.total()} kills: {different[0]} (and {len(different) - 1} more)")
        missed = 0 if hits.total() > before else missed + 1
        if missed == ATTEMPTS:
            sys.exit(f"{missed} trainings ended before a kill; only {hits.total()} kills hit; give it more steps")
    return hits, count


def kill_until_it_ends(
    training: Training, run: Run, kills: int, hits: Counter[str], ends: dict[bool, float], rng: random.Random
) -> None:
    """Start one training again and again, and kill it each time, until it ends by itself or all kills have hit.

    Args:
        ends: seconds to the end of a process, from its start where the last checkpoint was there, else from that
            checkpoint; corrected when a process ends before its kill.
    """
    late = kills // 3
    while True:
        early = min(kills - hits.total(), kills - late - hits[PLACES[0]] - hits[PLACES[1]])
        process = training.begin(run)
        if early > 0 and not is_late(training, run):
            place = wait(process, training, run, early, rng)
        elif hits[PLACES[2]] < late:
            place = wait_late(process, training, run, ends, rng)
        else:
            place = None
            process.join()
        process.kill()
        process.join()
        if process.exitcode != -signal.SIGKILL:
            if process.exitcode != 0:
                sys.exit(f"the training failed by itself; see {log_of(run)}")
            return
        assert place is not None
        hits[place] += 1
        last = list_checkpoints(run.checkpoints)
        print(f"kill {hits.total()}: {place}, last checkpoint {last[-1].name if last else 'none'}", flush=True)


def is_late(training: Training, run: Run) -> bool:
    """Whether the last checkpoint is there."""
    return (run.checkpoints / f"step-{training.last_step:08d}").is_dir()


def wait(process: ForkServerProcess, training: Training, run: Run, kills: int, rng: random.Random) -> str:
    """Until a moment to kill: random, or inside a checkpoint's writing; returns which."""
    wait_for_progress(process, run)
    # Spread the kills over a training, a little faster than it progresses.
    deadline = time.monotonic() + rng.uniform(0.0, 2 * training.duration / (kills + 1))
    in_write = rng.random() < 0.5
    while process.is_alive():
        if in_write and any(run.checkpoints.glob(".*.tmp")):
            time.sleep(rng.uniform(0.0, 0.03))
            return PLACES[1]
        if not in_write and time.monotonic() > deadline:
            break
        time.sleep(0.001)
    return PLACES[2 if is_late(training, run) else 0]


def wait_late(
    process: ForkServerProcess, training: Training, run: Run, ends: dict[bool, float], rng: random.Random
) -> str:
    """Until a moment after the last checkpoint: in the final model, the evaluation, or the end."""
    was_late = is_late(training, run)
    while process.is_alive() and not is_late(training, run):
        time.sleep(0.001)
    started = time.monotonic()
    process.join(rng.uniform(0.0, ends[was_late]))
    if not process.is_alive():
        ends[was_late] = time.monotonic() - started
    return PLACES[2]


def wait_for_progress(process: ForkServerProcess, run: Run) -> None:
    """Until this start has opened its event file, so that kills fall into the training and not before it."""
    before = set(run.tensorboard.glob("events.*"))
    while process.is_alive() and not set(run.tensorboard.glob("events.*")) - before:
        time.sleep(0.001)


if __name__ == "__main__":
    sys.exit(guarded("torture", main))
