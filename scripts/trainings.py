"""A training left alone and a copy of it to disturb: what torture.py and faults.py have in common."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from nmt.cli import main
from nmt.config.load import load_config
from nmt.errors import ConfigError
from nmt.run.checkpoint import list_checkpoints
from nmt.run.differences import differences
from nmt.run.directory import Run

# Disturbed trainings are forks of a process that has imported all they need: they start in milliseconds.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["nmt.pipeline", "nmt.cli", "trainings", "pyarrow.compute"])


@dataclass
class Training:
    """A training to its last step, and a copy of it to disturb; both begin as ``start``, or as nothing.

    Attributes:
        private: whether each of the two prepares its corpus in a store of its own.
        duration: seconds that the training takes.
        tail: seconds that it takes after the last checkpoint.
    """

    config: str
    overrides: list[str]
    run: Run
    last_step: int
    start: "Training | None" = None
    private: bool = False
    duration: float = field(default=0.0, init=False)
    tail: float = field(default=0.0, init=False)

    def arguments(self, run: Run) -> list[str]:
        """Arguments of ``nmt`` that train ``run``."""
        settings = [*self.overrides, f"train.max_steps={self.last_step}", f"name={run.path.name}"]
        if self.private:
            settings.append(f"data.store={store_of(run)}")
        return ["train", self.config, "--set", *settings]

    def reset(self, run: Run) -> None:
        """Put ``run`` where the training begins. Its log stands beside it."""
        log_of(run).unlink(missing_ok=True)
        run.path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(run.path, ignore_errors=True)
        if self.start is not None:
            shutil.copytree(self.start.run.path, run.path, copy_function=shutil.copy2)
        if self.private:
            self._reset_store(run)

    def _reset_store(self, run: Run) -> None:
        """A store that is as it should be stays: a new copy has new times, of which a store keeps account."""
        store, first = store_of(run), store_of(self.start.run) if self.start is not None else None
        if first is not None and not any(store.glob(".*")) and _entries(store) == _entries(first):
            return
        shutil.rmtree(store, ignore_errors=True)
        if first is not None:
            shutil.copytree(first, store, copy_function=shutil.copy2)

    def begin(self, run: Run, stopped: bool = False) -> ForkServerProcess:
        """Start the training in a process.

        Args:
            stopped: let the process send itself SIGSTOP first.
        """
        process = processes.Process(target=_train, args=(self.arguments(run), log_of(run), stopped))
        process.start()
        return process

    def complete(self, run: Run) -> int | None:
        """Train to the end; return the exit code."""
        process = self.begin(run)
        process.join()
        return process.exitcode

    def leave_alone(self) -> None:
        """Train by the command itself, which every disturbed training is compared with, and measure the times."""
        self.reset(self.run)
        with log_of(self.run).open("a") as log:
            command = [sys.executable, "-m", "nmt", *self.arguments(self.run)]
            if subprocess.run(command, stdout=subprocess.DEVNULL, stderr=log, check=False).returncode != 0:
                sys.exit(f"the training failed; see {log_of(self.run)}")
        copy = Run(self.run.path.with_name(f"{self.run.path.name}-disturbed"))
        self.reset(copy)
        started = time.monotonic()
        if self.complete(copy) != 0:
            sys.exit(f"the training failed; see {log_of(copy)}")
        self.duration = time.monotonic() - started
        self.tail = max(0.1, time.time() - list_checkpoints(copy.checkpoints)[-1].stat().st_mtime)
        if different := self.compare(copy):
            sys.exit(f"two undisturbed trainings differ: {different[0]} (and {len(different) - 1} more)")
        print(f"{self.run.path.name}: undisturbed: {self.duration:.1f} s", flush=True)

    def compare(self, run: Run) -> list[str]:
        """Everything in which ``run``, and its store if it has one, differs from the training left alone."""
        found = list(differences(self.run, run))
        if self.private:
            stores = [_entries(store_of(one)) for one in (self.run, run)]
            found += [
                f"store: {name}" for name in stores[0].keys() | stores[1] if stores[0].get(name) != stores[1].get(name)
            ]
        return found


def trainings(config: str, overrides: list[str], part: str | None, private: bool = False) -> list[Training]:
    """The first training, and the one that trains a finished run of half the steps further.

    A limit by the clock (``train.max_minutes``) is lifted: two trainings would end at different steps.

    Args:
        part: ``first`` or ``further``: only that one.
    """
    overrides = [*overrides, "train.max_minutes=null"]
    loaded = load_config(config, overrides)
    steps, schedule = loaded.train.max_steps, loaded.train.schedule
    if steps is None:
        raise ConfigError(f"{config}: train.max_steps is not set; name it with --set")
    if schedule.ends:  # the same rates, whatever the step a training stops at; a short training ends in its warm-up
        overrides.append(f"train.schedule.total_steps={schedule.total_steps or max(steps, schedule.warmup_steps)}")

    def training(kind: str, steps: int, start: Training | None = None) -> Training:
        run = Run(load_config(config, [*overrides, f"name={loaded.name}-torture-{kind}"]).run_dir)
        return Training(config, overrides, run, steps, start, private)

    found = [training("first", steps)] if part != "further" else []
    if part != "first":
        half = training("half", steps // 2)
        half.leave_alone()
        found.append(training("further", steps, half))
    return found


def log_of(run: Run) -> Path:
    return Path(f"{run.path}.log")


def store_of(run: Run) -> Path:
    return Path(f"{run.path}-store")


def _entries(store: Path) -> dict[str, bytes]:
    """Contents of a store by name, but for its account of the times of files and what a kill has left."""
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in store.rglob("*")
        if path.is_file() and path.name != "file-hashes.json" and not path.relative_to(store).parts[0].startswith(".")
    }


def _train(arguments: list[str], log: Path, stopped: bool) -> None:
    """Be a process that trains, with its output in ``log``."""
    multiprocessing.set_start_method("fork", force=True)  # as in a process that was not forked
    written, nowhere = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(written, 2)
    if stopped:
        os.kill(os.getpid(), signal.SIGSTOP)
    sys.exit(main(arguments))
