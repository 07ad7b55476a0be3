"""Train the points of a sweep, each run in a separate process, and read their results."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from subprocess import DEVNULL, Popen
from typing import Any

from nmt.config.compare import digest
from nmt.errors import DataError, NmtError
from nmt.evaluation.evaluated import EvaluatedRun, Stored, check_same
from nmt.evaluation.results import Results
from nmt.experiments.points import Point, Sweep, Training
from nmt.numbers import count_of
from nmt.run.directory import Run, load_experiment
from nmt.runtime.progress import duration, showing
from nmt.runtime.signals import Interrupted, number_of
from nmt.runtime.threads import default_threads
from nmt.storage.atomic import write_json
from nmt.storage.locks import in_use

log = logging.getLogger(__name__)

SHOWN = 3  # lines of a failed training's messages
WAIT = 1.0  # seconds between two looks at a run that another process trains


@dataclass
class Progress:
    """What a sweep has done, stored beside its runs.

    Attributes:
        finished: digest of the settings that each finished run was trained with.
        seconds: time of an update of each point, with the digest of the settings that it was measured for.
    """

    path: Path
    finished: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, tuple[str, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, sweep: Sweep) -> Progress:
        path = sweep.folder / f"{sweep.name}-sweep.json"
        found = cls(path)
        with suppress(OSError, LookupError, AttributeError, TypeError, ValueError, RecursionError):
            stored = json.loads(path.read_text(encoding="utf-8"))
            found.finished = {str(k): str(v) for k, v in stored["finished"].items()}
            found.seconds = {str(k): (str(v[0]), float(v[1])) for k, v in stored["seconds"].items()}
        return found

    def is_finished(self, one: Training) -> bool:
        """Whether the run was trained to its end with exactly these settings, and scored."""
        run, scored = one.run, next(iter(one.resolved.data.test), "valid")
        return (
            self.finished.get(one.name) == settings_of(one)
            and run.has_model
            and run.unfinished() is None
            and not in_use(run.path)
            and Results(run).record(scored) is not None
        )

    def note(self, one: Training) -> None:
        self.finished[one.name] = settings_of(one)
        self.write()

    def write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, {"finished": self.finished, "seconds": {k: list(v) for k, v in self.seconds.items()}})


def settings_of(one: Training) -> str:
    """A digest of what a training depends on; the number of threads is a matter of the machine."""
    return digest(one.resolved.model_dump(mode="json", exclude={"runs": True, "train": {"threads"}}))


def with_equal_time(sweep: Sweep, progress: Progress) -> Sweep:
    """The sweep with as many steps of each point as fit into the time of the point that sets it."""
    if sweep.timed is None:
        return sweep
    # Measure what is not known
    first, steps = sweep.timed
    needed = {point.label: point.trainings[0] for point in (*sweep.points, first)}
    known = {label: settings_of(one) for label, one in needed.items()}
    if any(progress.seconds.get(label, ("", 0.0))[0] != of for label, of in known.items()):
        from nmt.experiments.pace import measure

        found = measure({label: one.resolved for label, one in needed.items()})
        progress.seconds |= {label: (known[label], seconds) for label, seconds in found.items()}
        progress.write()
    paces = {label: progress.seconds[label][1] for label in needed}
    # Change the steps
    points = []
    for point in sweep.points:
        count = max(1, round(steps * paces[first.label] / paces[point.label]))
        points.append(with_settings(point, f"train.max_steps={count}", "train.max_minutes=null"))
        log.info("%s: %s steps of %.4g s", point.label, f"{count:,}", paces[point.label])
    return replace(sweep, points=tuple(points))


def with_settings(point: Point, *more: str) -> Point:
    """The point with further settings of its trainings."""
    changed = tuple((one.config, (*one.settings, *more)) for one in point.trainings)
    trainings = tuple(Training(file, settings, load_experiment(file, settings)) for file, settings in changed)
    return replace(point, trainings=trainings)


# ---------------------------------------------------------------------------------------------------------------- train


class Trainer:
    """Trains runs as processes, ``jobs`` at a time; a training that fails does not end the others."""

    def __init__(self, sweep: Sweep, progress: Progress, jobs: int):
        self.sweep, self.progress, self.jobs = sweep, progress, jobs
        self.processes: set[Popen[bytes]] = set()
        self.stopping = False
        self.failed: dict[Path, str] = {}

    def train(self) -> dict[Path, str]:
        """Train what is not finished; return the reason of each run that failed, by its path.

        Raises:
            Interrupted: a signal came; the trainings have saved their state.
        """
        # Find
        if self.sweep.is_trained:
            return {}
        every = self.sweep.trainings
        left = [one for one in every if not self.progress.is_finished(one)]
        log.info("%s in %s, %d finished", count_of(len(every), "run"), self.sweep.folder, len(every) - len(left))
        begun, count = time.monotonic(), len(every) - len(left)
        # Train
        with showing(f"training {count_of(len(left), 'run')}", unit=""), ThreadPoolExecutor(self.jobs) as pool:
            futures: dict[Future[str | None], Training] = {pool.submit(self._train, one): one for one in left}
            try:
                for number, future in enumerate(as_completed(futures), 1):
                    one, count = futures[future], count + 1
                    self._tell(one, future.result(), f"[{count}/{len(every)}]")
                    if number < len(left):
                        rest = (time.monotonic() - begun) / number * (len(left) - number)
                        log.info("about %s left", duration(rest))
            except KeyboardInterrupt as error:
                self._stop(pool)
                reason = f"stopped by {signal.Signals(number_of(error)).name}; run the same command to resume the sweep"
                raise Interrupted(reason, number_of(error)) from None
        return self.failed

    def _tell(self, one: Training, problem: str | None, place: str) -> None:
        if problem is not None:
            self.failed[one.run.path] = problem
            log.error("%s %s: failed; its messages are in %s:\n%s", place, one.name, log_of(one), problem)
            return
        self.progress.note(one)
        record = Results(one.run).record(self.sweep.test) or {}
        score = record.get("bleu")
        minutes = one.run.training_seconds() / 60
        told = f"{self.sweep.test} BLEU {score:.2f}, " if isinstance(score, float) else ""
        log.info("%s %s: %s%.1f minutes of training", place, one.name, told, minutes)

    def _train(self, one: Training) -> str | None:
        """Train, or resume, with the output in a file beside the run; return the last messages of a failure."""
        told = False
        while not self.stopping and in_use(one.run.path):
            if not told:
                log.info("%s: another process trains it; waiting", one.name)
            told = True
            time.sleep(WAIT)
        if self.stopping:
            return "not started"
        path = log_of(one)
        log.info("%s: training; messages in %s", one.name, path)
        path.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "nmt", "train", str(one.config), "--set", *one.settings, *self._threads(one)]
        with path.open("ab") as file:
            begin = file.tell()
            # A separate session: Ctrl-C reaches the training through this process alone
            process = Popen(command, stdin=DEVNULL, stdout=file, stderr=file, start_new_session=True)
            self.processes.add(process)
            if self.stopping:
                process.terminate()
            code = process.wait()
            self.processes.discard(process)
        if code == 0:
            return None
        lines = path.read_bytes()[begin:].decode("utf-8", "replace").splitlines()
        return "\n".join(f"  {line}" for line in [*lines[-SHOWN:], f"exit code {code}"])

    def _threads(self, one: Training) -> list[str]:
        """Share the cores among trainings that run at a time, unless the settings say how many threads to use."""
        if self.jobs == 1 or one.resolved.train.threads is not None:
            return []
        return [f"train.threads={max(1, default_threads() // self.jobs)}"]

    def _stop(self, pool: ThreadPoolExecutor) -> None:
        """Let the trainings save their state, and start no other."""
        self.stopping = True
        for process in [*self.processes]:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)
        pool.shutdown(cancel_futures=True)


def log_of(one: Training) -> Path:
    """The output of a training, beside its run."""
    return one.run.path.with_name(f"{one.name}.log")


# -------------------------------------------------------------------------------------------------------------- results


def results(sweep: Sweep, failed: dict[Path, str]) -> tuple[dict[str, list[EvaluatedRun]], dict[Path, str]]:
    """The translations of the test set by label of the point, and what could not be scored beside ``failed``.

    A set that the training has not scored, or another search, is scored now, unless it was before.

    A point without any result is left out.
    """
    groups: dict[str, list[EvaluatedRun]] = {}
    problems = dict(failed)
    searches = any(point.search for point in sweep.points)
    for point in sweep.points:
        found = []
        for one in point.trainings:
            if one.run.path in failed:
                continue
            try:
                scored = not point.search and Results(one.run).record(sweep.test) is not None
                name = sweep.test if scored else _searched(one.run, sweep.test, point.search)
                shown = f"{one.name}@{','.join(f'{k}={v}' for k, v in point.search.items())}" if searches else one.name
                found.append(_with_search(Stored(shown, one.run).read(name), point.search))
            except (NmtError, OSError, RuntimeError) as error:
                problems[one.run.path] = str(error)
                log.error("%s: %s", one.name, error)
        if found:
            groups[point.label] = found
    everything = [run for group in groups.values() for run in group]
    if not everything:
        raise DataError("no training of the sweep has results; its messages are above")
    check_same(sweep.test, everything)
    return groups, problems


def _with_search(run: EvaluatedRun, search: dict[str, Any]) -> EvaluatedRun:
    """The run with the search that its translations were made with."""
    if not search:
        return run
    changed = run.config.search.model_copy(update=search)
    return replace(run, config=run.config.model_copy(update={"search": changed}))


def _searched(run: Run, test: str, search: dict[str, Any]) -> str:
    """Score a run with this search, unless it was scored so before; return the name of the results."""
    from nmt.pipeline import evaluate

    found = evaluate(run, test, search, reuse=True)[test]
    if found.stored is None:
        raise DataError(f"{run.path}: cannot be written to, so that its results on {test} are not stored")
    return found.stored.stem
