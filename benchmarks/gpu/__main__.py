"""python -m benchmarks.gpu: run the stages, each a process with a time limit, and write what they found."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .record import Record, markdown

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Stage:
    """A stage of the check.

    Attributes:
        module, function: what runs it.
        limit: seconds that it may take at most.
        shards: processes that share its parts.
        timed: whether it measures speed: then it runs alone.
        in_short: whether ``--short`` runs it.
    """

    module: str
    function: str
    limit: float
    shards: int = 1
    timed: bool = False
    in_short: bool = True


# In order of importance; what is not timed runs first, side by side on CUDA.
STAGES = {
    "updates": Stage("updates", "run", 240, 3),
    "models": Stage("models", "run", 240, 5),
    "compile": Stage("speed", "compiled", 240, 3),
    "exact": Stage("exact", "run", 240),
    "ranks": Stage("ranks", "run", 240),
    "facts": Stage("speed", "facts", 40, timed=True),
    "base": Stage("speed", "base", 110, timed=True, in_short=False),
    "small": Stage("speed", "small", 110, timed=True, in_short=False),
    "decode": Stage("speed", "decode", 70, timed=True, in_short=False),
    "bleu": Stage("bleu", "run", 95, timed=True, in_short=False),
    "big": Stage("speed", "big", 130, timed=True, in_short=False),
}


def shards_of(stage: Stage, tiny: bool) -> int:
    """How many processes share a stage: one where starting a process takes longer than the work."""
    return 1 if tiny else stage.shards


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    found = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    found.add_argument("--out", type=Path, required=True, metavar="DIR", help="results.json, results.md and the logs")
    found.add_argument("--minutes", type=float, default=9.3, metavar="N", help="end within (default: 9.3)")
    found.add_argument("--short", action="store_true", help="correctness alone, within 4.6 minutes by default")
    found.add_argument("--only", nargs="+", choices=list(STAGES), metavar="STAGE", help=", ".join(STAGES))
    found.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    found.add_argument("--tiny", action="store_true", help="shows that the check runs; its figures mean nothing")
    found.add_argument("--multi30k", type=Path, metavar="DIR", help="train, val and test_2016_flickr .en.gz and .de.gz")
    found.add_argument("--jobs", type=int, metavar="N", help="processes at once (default: 14 on cuda, 1 on cpu)")
    found.add_argument("--stage", help=argparse.SUPPRESS)  # one stage, in this process: NAME:SHARD
    found.add_argument("--seconds", type=float, default=600.0, help=argparse.SUPPRESS)
    given = sys.argv[1:] if arguments is None else arguments
    read = found.parse_args(given)
    if read.short and "--minutes" not in given:
        read.minutes = 4.6
    read.jobs = read.jobs or (14 if read.device == "cuda" else 1)
    return read


def main() -> int:
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.stage:
        return run_stage(options)
    return Driver(options).run()


def run_stage(options: argparse.Namespace) -> int:
    """Run one shard of a stage in this process."""
    from importlib import import_module

    from .parts import Setting

    name, _, shard = options.stage.partition(":")
    stage = STAGES[name]
    setting = Setting.of(
        options.device, tiny=options.tiny, out=options.out, seconds=options.seconds, multi30k=options.multi30k,
        named=bool(options.only),
    )  # fmt: skip
    record = Record(options.out / "parts" / f"{options.stage.replace(':', '-')}.json")
    work: Callable[..., None] = getattr(import_module(f".{stage.module}", __package__), stage.function)
    work(setting, record, *((int(shard), shards_of(stage, options.tiny)) if stage.shards > 1 else ()))
    return 0


@dataclass
class Job:
    """A shard of a stage, in a process."""

    name: str  # STAGE:SHARD
    limit: float
    process: subprocess.Popen[bytes] | None = None
    until: float = 0.0


class Driver:
    """Starts the stages, ends those that take too long, and writes the results after each."""

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.started = time.monotonic()
        self.deadline = self.started + 60 * options.minutes - 4
        self.parts, self.logs = options.out / "parts", options.out / "logs"
        for folder in (self.parts, self.logs):
            folder.mkdir(exist_ok=True)
            for old in folder.iterdir():
                old.unlink()
        self.names = [
            n
            for n, s in STAGES.items()
            if n in (options.only or [n]) and (s.in_short or not options.short or options.only)
        ]
        self.ends: dict[str, dict[str, Any]] = {}

    def run(self) -> int:
        """Run all stages; 1 if a part failed, else 0."""
        together = [job for name in self.names if not STAGES[name].timed for job in self._jobs(name)]
        alone = [job for name in self.names if STAGES[name].timed for job in self._jobs(name)]
        self._run(together, self.options.jobs)
        self._run(alone, 1)
        results = self.write()
        bad = [
            f"{s}: {n}: {r['found']}" for s, part in results.items() for n, r in part.items() if r["status"] == "failed"
        ]
        counts = [r["status"] for part in results.values() for r in part.values()]
        print(f"\n{counts.count('ok')} ok, {counts.count('skipped')} skipped, {len(bad)} failed "
              f"in {time.monotonic() - self.started:.0f} s", *bad, sep="\n", flush=True)  # fmt: skip
        return 1 if bad else 0

    def _jobs(self, name: str) -> list[Job]:
        stage = STAGES[name]
        return [Job(f"{name}:{n}", stage.limit) for n in range(1, shards_of(stage, self.options.tiny) + 1)]

    def _run(self, waiting: list[Job], most: int) -> None:
        running: list[Job] = []
        waiting = list(waiting)
        while waiting or running:
            while waiting and len(running) < most:
                job = waiting.pop(0)
                left = self.deadline - time.monotonic()
                if left < 12:
                    self.ends[job.name] = _failed("not started: no time was left")
                    continue
                running.append(self._start(job, min(job.limit, left)))
            time.sleep(0.1)
            for job in [job for job in running if self._has_ended(job)]:
                running.remove(job)
                self.write()

    def _start(self, job: Job, seconds: float) -> Job:
        o = self.options
        command = [sys.executable, "-m", "benchmarks.gpu", "--stage", job.name, "--out", str(o.out.resolve()),
                   "--device", o.device, "--seconds", f"{seconds:.0f}"]  # fmt: skip
        command += ["--tiny"] if o.tiny else []
        command += ["--only", *o.only] if o.only else []
        command += ["--multi30k", str(o.multi30k.resolve())] if o.multi30k else []
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1", "HF_HUB_OFFLINE": "1",
               "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}  # fmt: skip
        if not STAGES[job.name.partition(":")[0]].timed:
            env.setdefault("OMP_NUM_THREADS", "1")
        with (self.logs / f"{job.name.replace(':', '-')}.txt").open("wb") as log:
            job.process = subprocess.Popen(
                command, cwd=ROOT, env=env, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        job.until = time.monotonic() + seconds
        return job

    def _has_ended(self, job: Job) -> bool:
        """Whether the job has ended, or has been ended because its time is over."""
        assert job.process is not None
        code = job.process.poll()
        if code is None and time.monotonic() < job.until:
            return False
        if code is None:
            os.killpg(job.process.pid, signal.SIGKILL)
            job.process.wait()
            self.ends[job.name] = _failed(f"ended at its limit of {job.limit:.0f} s, or at the end of the check")
        elif code != 0:
            log = self.logs / f"{job.name.replace(':', '-')}.txt"
            self.ends[job.name] = _failed(f"exit {code}: {' '.join(log.read_text(errors='replace').split())[-500:]}")
        print(f"--- {time.monotonic() - self.started:5.0f} s  {job.name}", flush=True)
        print((self.logs / f"{job.name.replace(':', '-')}.txt").read_text(errors="replace")[-6000:], flush=True)
        return True

    def write(self) -> dict[str, dict[str, Any]]:
        """Write results.json and results.md of all that is known; return it."""
        found: dict[str, dict[str, Any]] = {name: {} for name in self.names}
        for name in self.names:
            for file in sorted(self.parts.glob(f"{name}-*.json")):
                found[name] |= json.loads(file.read_text(encoding="utf-8"))
        for job, end in self.ends.items():
            found[job.partition(":")[0]][f"process {job}"] = end
        (self.options.out / "results.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
        (self.options.out / "results.md").write_text(markdown(found), encoding="utf-8")
        return found


def _failed(reason: str) -> dict[str, Any]:
    return {"status": "failed", "found": reason, "seconds": 0.0}


if __name__ == "__main__":
    sys.exit(main())
