"""Compare what ``nmt check`` predicts with a short training: time of an update and of a validation, memory, disk.

benchmarks/bench_check.py demo demo-rnn --steps 300 --threads 1

Every check and every training is a new process. A configuration is checked directly before and after its training, so
that the load of the machine is about the same. Processor time is compared beside wall time.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness import BenchmarkError, command, environment, machine, mebibytes, publish, table

from nmt.cli import main as nmt_main
from nmt.cli.errors import guarded
from nmt.runtime.memory import keep_freed_memory
from nmt.runtime.threads import usable_cores

LIMITS = {"step": 0.3, "memory": 0.2}  # largest relative errors that are promised


# ------------------------------------------------------------------------------------------------------ one measurement


def measured(what: str, config: str, threads: int, overrides: Sequence[str]) -> dict[str, Any]:
    """Run ``what`` (check or train) in a new process; return its figures, and its peak memory in bytes.

    Raises:
        BenchmarkError: it failed.
    """
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        line = [sys.executable, __file__, "--child", what, file.name, config, "--set", *overrides]
        variables = {**environment(threads, ours=True, allocator="tuned"), "OMP_WAIT_POLICY": "PASSIVE"}
        process = subprocess.Popen(line, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        content = Path(file.name).read_text(encoding="utf-8")
    if process.returncode or not content:
        raise BenchmarkError(f"{what} {config}: {said.strip().splitlines()[-1] if said else 'no message'}")
    return {**json.loads(content), "peak": used.ru_maxrss * 1024}


def child(what: str, out: str, config: str, overrides: Sequence[str]) -> int:
    """Run the command in this process, and write what its parts took."""
    found: dict[str, Any] = {}
    if what == "check":
        from nmt.training import estimate

        measure = estimate.measure

        def measuring(trainer: Any) -> Any:
            cost = measure(trainer)
            found.update(asdict(cost))
            return cost

        estimate.measure = measuring
    else:
        from nmt.training.trainer import Trainer

        found |= {"step": [], "_validate": []}
        for name in ("step", "_validate"):
            setattr(Trainer, name, _timed(getattr(Trainer, name), found[name]))
    code = nmt_main([what, config, "--set", *overrides])
    if what == "train":
        [folder] = [each.split("=", 1)[1] for each in overrides if each.startswith("runs=")]
        [last] = sorted(Path(folder).glob("*/checkpoints/step-*"))[-1:]
        found["checkpoint"] = sum(path.stat().st_size for path in last.iterdir())
    Path(out).write_text(json.dumps(found), encoding="utf-8")
    return 0 if what == "check" and code == 1 else code  # problems of the data


def _timed(method: Callable[..., Any], into: list[tuple[float, float]]) -> Callable[..., Any]:
    """The method, which also notes the wall time and the processor time of each call."""

    def call(*arguments: Any) -> Any:
        begun = time.monotonic(), time.process_time()
        try:
            return method(*arguments)
        finally:
            into.append((time.monotonic() - begun[0], time.process_time() - begun[1]))

    return call


# ------------------------------------------------------------------------------------------------------- one comparison


def compared(config: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Check, train, and check again."""
    with tempfile.TemporaryDirectory() as folder:
        steps = arguments.steps
        limits = ["max_minutes=null", f"max_steps={steps}", f"validate_every={max(1, steps // 2)}"]
        limits.append(f"threads={arguments.threads}")
        settings = [*arguments.set, f"data.store={folder}/store", *(f"train.{limit}" for limit in limits)]
        before = measured("check", config, arguments.threads, settings)
        load = os.getloadavg()[0]
        training = measured("train", config, arguments.threads, [*settings, f"runs={folder}/runs"])
        load = max(load, os.getloadavg()[0])
        after = measured("check", config, arguments.threads, settings)
    return {"config": config, "before": before, "after": after, "training": training, "load": load}


def rows(found: dict[str, Any], threads: int) -> list[list[str]]:
    """The rows of the table: predicted before and after, measured, and the ratio of their mean to the measured."""
    checks, training = (found["before"], found["after"]), found["training"]
    steps, validations = training["step"][1:], training["_validate"]  # the first update allocates
    wall, worked = (sum(each[i] for each in steps) / len(steps) for i in (0, 1))
    validated = sum(each[0] for each in validations) / len(validations)
    figures: dict[str, tuple[list[float], float, Callable[[float], str]]] = {
        "step, s": ([each["step_seconds"] for each in checks], wall, _digits),
        "step, s of processor": (
            [each["step_seconds"] * each["share"] * threads for each in checks], worked, _digits
        ),
        "validation, s": ([each["validation_seconds"] for each in checks], validated, _digits),
        "memory, MiB": ([each["memory"] for each in checks], training["peak"], mebibytes),
        "checkpoint, MiB": ([each["checkpoint"] for each in checks], training["checkpoint"], _mebibytes),
    }  # fmt: skip
    made: list[list[str]] = []
    for name, (predicted, real, shown) in figures.items():
        ratio = sum(predicted) / len(predicted) / real
        made.append([found["config"], name, *map(shown, predicted), shown(real), f"{ratio:.2f}"])
    return made


def _digits(value: float) -> str:
    return f"{value:.3g}"


def _mebibytes(value: float) -> str:
    return f"{value / 2**20:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("configs", nargs="+", metavar="CONFIG", help="names or files of configurations")
    parser.add_argument("--steps", type=int, default=300, metavar="N", help="updates of a training (default: 300)")
    parser.add_argument("--threads", type=int, default=usable_cores(), metavar="N", help="default: all cores")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings for all configurations")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the section to FILE, all numbers to .json")
    arguments = parser.parse_args()
    about = machine()
    results = [compared(config, arguments) for config in arguments.configs]
    lines = table(
        ["configuration", "figure", "check before", "check after", "training", "predicted / measured"],
        [row for each in results for row in rows(each, arguments.threads)],
    )
    loads = ", ".join(f"{each['load']:.1f}" for each in results)
    text = (
        f"## nmt check\n\n{command()}; {about['cpu']}, {about['cores']} cores, load averages of the trainings: {loads}."
        f" Each training made {arguments.steps} updates and two validations.\n\n{lines}\n"
    )
    publish(text, {"machine": about, "results": results}, arguments.out)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        keep_freed_memory()
        sys.exit(child(sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[6:]))
    sys.exit(guarded("bench_check", main, debug=False))
