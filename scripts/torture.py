"""Disturb a training at many moments, restart it by the same command, and compare it with one that was left alone.

scripts/torture.py CONFIG --kills 50 [--calls 40] [--errors EIO ENOSPC] [--part first|further] [--set KEY=VALUE ...]

A first training and one that takes a finished run further are killed, each ``--kills`` times: at random moments, inside
a checkpoint's writing, and after the last checkpoint, which includes the final evaluation. With ``--calls``, that many
calls that change a file of the run are drawn (rename, mkdir, unlink, fsync, ftruncate, write, ...); at each, strace
kills a training of its own or lets the call fail. In the end every tensor of every checkpoint and of the final model,
the optimizer, the progress, metrics, TensorBoard and scores must be equal, bit for bit; the first difference ends the
program with exit code 1. A limit by the clock (train.max_minutes) is lifted: it would end the two at different steps.
"""

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file

from nmt.cli.errors import guarded
from nmt.config.load import load_config
from nmt.errors import ConfigError
from nmt.run.checkpoint import list_checkpoints
from nmt.run.differences import differences, folders
from nmt.run.directory import Run

CALLS = (
    "rename", "renameat", "renameat2", "mkdir", "mkdirat", "unlink", "unlinkat", "rmdir", "fsync", "fdatasync",
    "ftruncate", "write",
)  # fmt: skip


@dataclass
class Training:
    """A training to its last step, and a copy of it to disturb; both begin as ``start``, or as nothing."""

    config: str
    overrides: list[str]
    run: Run
    last_step: int
    start: Run | None = None
    duration: float = 0.0
    tail: float = 0.0  # seconds after the last checkpoint

    def command(self, run: Run) -> list[str]:
        settings = [*self.overrides, f"train.max_steps={self.last_step}", f"name={run.path.name}"]
        return [sys.executable, "-m", "nmt", "train", self.config, "--set", *settings]

    def reset(self, run: Run) -> None:
        """Put ``run`` where the training begins. Its log stands beside it."""
        shutil.rmtree(run.path, ignore_errors=True)
        run.path.parent.mkdir(parents=True, exist_ok=True)
        log_of(run).unlink(missing_ok=True)
        if self.start is not None:
            shutil.copytree(self.start.path, run.path, copy_function=shutil.copy2)

    def complete(self, run: Run) -> None:
        """Run it to its end."""
        with log_of(run).open("a") as log:
            if subprocess.run(self.command(run), stdout=subprocess.DEVNULL, stderr=log, check=False).returncode != 0:
                sys.exit(f"the training failed; see {log_of(run)}")

    def leave_alone(self) -> None:
        self.reset(self.run)
        started = time.monotonic()
        self.complete(self.run)
        self.duration = time.monotonic() - started
        last = list_checkpoints(self.run.checkpoints)[-1]
        self.tail = max(0.1, time.time() - last.stat().st_mtime)
        print(f"{self.run.path.name}: left alone: {self.duration:.0f} s", flush=True)

    def compare(self, run: Run, what: str) -> None:
        if different := list(differences(self.run, run)):
            sys.exit(f"DIFFERENT after {what}: {different[0]} (and {len(different) - 1} more)")


def log_of(run: Run) -> Path:
    return Path(f"{run.path}.log")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("config")
    parser.add_argument("--part", choices=["first", "further"], help="only a first training, or one taken further")
    parser.add_argument("--kills", type=int, default=50, help="of a training that is killed again and again")
    parser.add_argument("--calls", type=int, default=0, help="trainings disturbed once, at a call (needs strace)")
    parser.add_argument("--errors", nargs="*", default=["EIO", "ENOSPC", "ESTALE"], help="of calls that fail")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--set", dest="overrides", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    for training in trainings(arguments.config, arguments.overrides, arguments.part):
        training.leave_alone()
        disturbed = Run(training.run.path.with_name(f"{training.run.path.name}-disturbed"))
        training.reset(disturbed)
        kills = torment(training, disturbed, arguments.kills, rng)
        training.compare(disturbed, f"{kills} kills")
        if arguments.calls:
            inject(training, disturbed, arguments.calls, arguments.errors, rng)
        tensors = sum(len(load_file(f)) for p in folders(training.run) for f in p.glob("*.safetensors"))
        print(
            f"{training.run.path.name}: {kills} kills, {arguments.calls} disturbed calls, 0 differences in "
            f"{tensors} tensors, progress, metrics, TensorBoard and scores"
        )


def trainings(config: str, overrides: list[str], part: str | None) -> list[Training]:
    """The first training, and the one that takes a run of half the steps further."""
    overrides = [*overrides, "train.max_minutes=null"]
    loaded = load_config(config, overrides)
    steps, schedule = loaded.train.max_steps, loaded.train.schedule
    if steps is None:
        raise ConfigError(f"{config}: train.max_steps is not set; name it with --set")
    if schedule.ends:  # the same rates, whatever the step a training stops at
        overrides.append(f"train.schedule.total_steps={schedule.total_steps or steps}")

    def run(kind: str) -> Run:
        return Run.of(load_config(config, [*overrides, f"name={loaded.name}-torture-{kind}"]))

    found = [Training(config, overrides, run("first"), steps)] if part != "further" else []
    if part != "first":
        half = Training(config, overrides, run("half"), steps // 2)
        half.leave_alone()
        found.append(Training(config, overrides, run("further"), steps, half.run))
    return found


# --------------------------------------------------------------------------------------------------- kills by the clock


def torment(training: Training, run: Run, kills: int, rng: random.Random) -> int:
    """Run a training until it ends by itself, killing it ``kills`` times, a third of them after the last checkpoint.

    Returns:
        How often it was killed: it may end before the last of the late kills.
    """
    for number in range(1, kills + 1):
        late = number > kills - kills // 3
        with log_of(run).open("a") as log:
            process = subprocess.Popen(training.command(run), stdout=subprocess.DEVNULL, stderr=log)
        where = wait_late(process, training, run, rng) if late else wait(process, training, run, kills, rng)
        if process.poll() is not None:
            if process.returncode != 0:
                sys.exit(f"the training failed by itself; see {log_of(run)}")
            if late:
                return number - 1
            sys.exit(f"the training ended after {number - 1} kills; give it more steps or fewer kills")
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        last = list_checkpoints(run.checkpoints)
        print(f"kill {number}: {where}, last checkpoint {last[-1].name if last else 'none'}", flush=True)
    training.complete(run)
    return kills


def wait(process: subprocess.Popen[bytes], training: Training, run: Run, kills: int, rng: random.Random) -> str:
    """Until a moment to kill: random, or inside a checkpoint's writing; returns which."""
    wait_for_progress(process, run)
    # Each start costs its start-up again: spread the kills over the work, a little faster than it progresses.
    deadline = time.monotonic() + rng.uniform(0.0, 2 * max(0.5, training.duration / (kills + 1)))
    in_write = rng.random() < 0.5
    while process.poll() is None:
        if in_write and any(run.checkpoints.glob(".*.tmp")):
            time.sleep(rng.uniform(0.0, 0.03))
            return "inside a checkpoint write"
        if not in_write and time.monotonic() > deadline:
            break
        time.sleep(0.0005)
    return "at a random moment"


def wait_late(process: subprocess.Popen[bytes], training: Training, run: Run, rng: random.Random) -> str:
    """Until a moment after the last checkpoint: in the final model, the evaluation, or the end."""
    last = run.checkpoints / f"step-{training.last_step:08d}"
    longest = training.duration / 2 if last.is_dir() else training.tail  # from the start, or from the checkpoint
    while process.poll() is None and not last.is_dir():
        time.sleep(0.0005)
    with suppress(subprocess.TimeoutExpired):
        process.wait(rng.uniform(0.0, longest))
    return "after the last checkpoint"


def wait_for_progress(process: subprocess.Popen[bytes], run: Run) -> None:
    """Until this start has opened its event file, so that kills fall into training and not into imports."""
    before = set(run.tensorboard.glob("events.*"))
    while process.poll() is None and not set(run.tensorboard.glob("events.*")) - before:
        time.sleep(0.01)


# --------------------------------------------------------------------------------------------------- kills by the call


def inject(training: Training, run: Run, count: int, errors: list[str], rng: random.Random) -> None:
    """Disturb a training of its own at each of ``count`` calls, complete it, and compare."""
    if shutil.which("strace") is None:
        raise ConfigError("--calls needs strace, which is not installed (apt-get install strace)")
    training.reset(run)
    calls = calls_of(training, run)
    print(f"{len(calls)} calls change files of the run", flush=True)
    for number, (name, index, text) in enumerate(rng.sample(calls, min(count, len(calls))), 1):
        action = rng.choice(["signal=SIGKILL", *(f"error={error}" for error in errors)])
        training.reset(run)
        traced = ["strace", "-f", "-qq", "-o", os.devnull, "-e", f"trace={name}"]
        traced += ["-e", f"inject={name}:{action}:when={index}", *training.command(run)]
        with log_of(run).open("a") as log:
            code = subprocess.run(traced, stdout=subprocess.DEVNULL, stderr=log, check=False).returncode
        what = f"{action} at {name} {index} (exit code {code}; {text})"
        print(f"call {number}: {what}", flush=True)
        if "Traceback" in log_of(run).read_text(encoding="utf-8", errors="replace"):
            kept = shutil.copy(log_of(run), f"{log_of(run)}.{number}")
            print(f"warning: a traceback was shown, see {kept}", flush=True)
        training.complete(run)
        training.compare(run, what)


def calls_of(training: Training, run: Run) -> list[tuple[str, int, str]]:
    """The calls of the main thread that change a file of the run: name, number among its kind, and arguments."""
    log = Path(f"{run.path}.strace")
    names = ",".join(f"?{name}" for name in CALLS)  # ?: some processors lack some
    command = ["strace", "-f", "-qq", "-y", "-s", "200", "-o", str(log), "-e", f"trace={names}", *training.command(run)]
    with log_of(run).open("a") as output:
        if subprocess.run(command, stdout=subprocess.DEVNULL, stderr=output, check=False).returncode != 0:
            sys.exit(f"the traced training failed; see {log_of(run)}")
    found, seen, main_thread = [], Counter[str](), None
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        match = re.match(r"(\d+) +(\w+)\((.*)", line)
        if match is None:
            continue
        main_thread = main_thread or match[1]
        if match[1] == main_thread:
            seen[match[2]] += 1
            if f"{run.path}/" in match[3]:
                found.append((match[2], seen[match[2]], match[3][:120]))
    log.unlink()
    return found


if __name__ == "__main__":
    sys.exit(guarded("torture", main))
