"""Kill a training at random moments, restart it by the same command, and compare it with one that was left alone.

scripts/torture.py CONFIG --kills 50 --seed 1 [--set KEY=VALUE ...]

Half of the kills fall at random moments, half inside a checkpoint's writing. In the end every tensor of every
checkpoint and of the final model, the optimizer, the progress and every line of metrics must be equal, bit for bit;
the first difference ends the program with exit code 1. A limit by the clock (train.max_minutes) is lifted: it would end
the two at different steps.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from safetensors.torch import load_file

from nmt.cli import guarded
from nmt.config import load_config
from nmt.reproduction import differences, folders
from nmt.run import Run
from nmt.training.checkpoint import list_checkpoints


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("config")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", dest="overrides", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    overrides = [*arguments.overrides, "train.max_minutes=null"]
    name = load_config(arguments.config, overrides).name
    rng = random.Random(arguments.seed)
    runs = []
    for kind in ("whole", "killed"):
        named = [*overrides, f"name={name}-torture-{kind}"]
        run = Run.of(load_config(arguments.config, named))
        shutil.rmtree(run.path, ignore_errors=True)
        run.path.parent.mkdir(parents=True, exist_ok=True)  # the log stands beside the run
        command = [sys.executable, "-m", "nmt", "train", arguments.config, "--set", *named]
        started = time.monotonic()
        if kind == "whole":
            with Path(f"{run.path}.log").open("w") as log:
                if subprocess.run(command, stdout=subprocess.DEVNULL, stderr=log, check=False).returncode != 0:
                    sys.exit(f"the training left alone failed; see {run.path}.log")
            duration = time.monotonic() - started
            print(f"left alone: {duration:.0f} s", flush=True)
        else:
            torment(command, run, arguments.kills, duration, rng)
        runs.append(run)
    if different := list(differences(*runs)):
        print(f"DIFFERENT: {different[0]} (and {len(different) - 1} more)")
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


if __name__ == "__main__":
    sys.exit(guarded("torture", main))
