"""Kill a training at random moments, restart it by the same command, and compare it with one that was left alone.

scripts/torture.py CONFIG --kills 50 --seed 1 [--set KEY=VALUE ...]

Half of the kills fall at random moments, half inside a checkpoint's writing. In the end every tensor of every
checkpoint and of the final model, the optimizer, the progress and every line of metrics must be equal, bit for bit;
the first difference ends the program with exit code 1.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nmt.config import load_config
from nmt.errors import NmtError
from nmt.run import Run
from nmt.training.checkpoint import list_checkpoints

# Measures of time and length: of the process, not of the training.
VOLATILE = ("seconds", "window", "files", "train/tokens_per_second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("config")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", dest="overrides", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    name = load_config(arguments.config, arguments.overrides).name
    rng = random.Random(arguments.seed)
    runs = []
    for kind in ("whole", "killed"):
        overrides = [*arguments.overrides, f"name={name}-torture-{kind}"]
        run = Run.of(load_config(arguments.config, overrides))
        shutil.rmtree(run.path, ignore_errors=True)
        command = [sys.executable, "-m", "nmt", "train", arguments.config, "--set", *overrides]
        started = time.monotonic()
        if kind == "whole":
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            duration = time.monotonic() - started
            print(f"left alone: {duration:.0f} s", flush=True)
        else:
            torment(command, run, arguments.kills, duration, rng)
        runs.append(run)
    differences = list(compare(*runs))
    if differences:
        print(f"DIFFERENT: {differences[0]} (and {len(differences) - 1} more)")
        sys.exit(1)
    tensors = sum(len(load_file(f)) for p in folders(runs[0]) for f in p.glob("*.safetensors"))
    print(f"{arguments.kills} kills, 0 differences in {tensors} tensors, progress, metrics, TensorBoard and hypotheses")


def torment(command: list[str], run: Run, kills: int, duration: float, rng: random.Random) -> None:
    """Run ``command`` until it ends by itself, killing it ``kills`` times; a start that gets nowhere is not counted."""
    done = 0
    # Each start costs its start-up again: spread the kills over the work, a little faster than it progresses.
    pause = max(0.5, duration / (kills + 1))
    while True:
        with Path(f"{run.path}.log").open("a") as log:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        if done >= kills:
            if process.wait() != 0:
                sys.exit(f"the restarted training failed; see {run.path}.log")
            return
        wait_for_progress(process, run)
        in_write = rng.random() < 0.5
        deadline = time.monotonic() + rng.uniform(0.0, 2 * pause)
        where = "at a random moment"
        while process.poll() is None:
            if in_write and any(run.checkpoints.glob(".*.tmp")):
                time.sleep(rng.uniform(0.0, 0.03))
                where = "inside a checkpoint write"
                break
            if not in_write and time.monotonic() > deadline:
                break
            time.sleep(0.0005)
        if process.poll() is not None:
            if process.returncode != 0:
                sys.exit(f"the training failed by itself; see {run.path}.log")
            sys.exit(f"the training ended after {done} kills; give it more steps or fewer kills")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        done += 1
        last = list_checkpoints(run.checkpoints)
        print(f"kill {done}: {where}, last checkpoint {last[-1].name if last else 'none'}", flush=True)


def wait_for_progress(process: subprocess.Popen[bytes], run: Run) -> None:
    """Until this start has opened its event file, so that kills fall into training and not into imports."""
    before = set(run.tensorboard.glob("events.*"))
    while process.poll() is None and not set(run.tensorboard.glob("events.*")) - before:
        time.sleep(0.01)


def folders(run: Run) -> list[Path]:
    return [*list_checkpoints(run.checkpoints), run.model]


def compare(one: Run, other: Run) -> Iterator[str]:
    """Everything that differs between two runs."""
    names = [[p.name for p in folders(run)] for run in (one, other)]
    if names[0] != names[1]:
        yield f"checkpoints {names[0]} against {names[1]}"
        return
    for mine, theirs in zip(folders(one), folders(other), strict=True):
        for file in sorted(mine.glob("*.safetensors")):
            a, b = load_file(file), load_file(theirs / file.name)
            yield from (f"{mine.name}/{file.name}: {k}" for k in a.keys() | b.keys() if not same(a.get(k), b.get(k)))
        if (mine / "state.json").is_file():
            a, b = (json.loads((p / "state.json").read_text()) for p in (mine, theirs))
            for key in ("score", "scheduled", "python_random", "numpy_random"):
                if a[key] != b[key]:
                    yield f"{mine.name}: {key}"
            if stable(a["progress"]) != stable(b["progress"]):
                yield f"{mine.name}: progress"
    if metrics(one) != metrics(other):
        yield "metrics.jsonl"
    if board(one) != board(other):
        yield "TensorBoard scalars"
    for file in sorted(one.evaluation.glob("*.hyp")):
        if file.read_bytes() != (other.evaluation / file.name).read_bytes():
            yield f"evaluation/{file.name}"


def same(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    return a is not None and b is not None and torch.equal(a, b)


def stable(values: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in values.items() if k not in VOLATILE}


def metrics(run: Run) -> list[dict[str, Any]]:
    return [stable(json.loads(line)) for line in run.metrics.read_text().splitlines()]


def board(run: Run) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(run.tensorboard), size_guidance={"scalars": 0}).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)]
            for tag in events.Tags()["scalars"] if tag not in VOLATILE}  # fmt: skip


if __name__ == "__main__":
    try:
        main()
    except NmtError as error:
        print(f"torture: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
