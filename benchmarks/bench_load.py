"""Measure training on a CPU with and without other work on the cores, for several ways of waiting of OpenMP's threads.

benchmarks/bench_load.py [--quick] [--settings NAME ...] [--out FILE]

Each setting is a process of nmt's trainer with its environment. Every round trains each setting on the same batches,
once on the cores as they are, and once with a busy process pinned to each core.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from harness import (
    BenchmarkError,
    Contestant,
    check,
    command,
    experiment,
    machine,
    parser,
    publish,
    ratios,
    spread,
    table,
)

from nmt.cli.errors import guarded

USUAL, PASSIVE = "libgomp", "passive"

# Environment of each setting: turns of the loop in which a waiting thread of libgomp stays before it sleeps.
SETTINGS: dict[str, dict[str, str]] = {
    USUAL: {"GOMP_SPINCOUNT": "300000"},  # libgomp's default
    PASSIVE: {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"},
    **{f"spin {turns:,}": {"GOMP_SPINCOUNT": str(turns)} for turns in (300, 1000, 2000, 3000, 10_000, 30_000)},
    "one thread": {"OMP_NUM_THREADS": "1"},
}


def main() -> None:
    # Options
    options = parser(__doc__)
    options.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS), metavar="NAME")
    options.add_argument("--family", choices=["transformer", "rnn"], default="transformer")
    options.add_argument("--updates", type=int, default=8, metavar="N", help="updates in each repeat (default: 8)")
    options.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.updates = 1
    check(arguments, "updates")
    if not hasattr(os, "sched_setaffinity"):
        raise BenchmarkError("bench_load: needs Linux, to pin a busy process to each core")
    # Measure
    about = machine()
    found = measure(arguments)
    result = {"command": command(), "machine": about, "precision": arguments.precision, **found}
    publish(section(result), result, arguments.out)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the seconds of each repeat of each setting, alone and beside the busy processes."""
    config = experiment(arguments, arguments.family, f"bench-load-{arguments.family}")
    task = {
        "seed": 1,
        "precision": arguments.precision, "allocator": "tuned", "device": "cpu",
        "count": arguments.updates * (1 + 2 * arguments.repeats),
    }  # fmt: skip
    folder, updates = arguments.work / "load", arguments.updates
    with ExitStack() as stack, busy_cores() as busy:
        # Set up
        everyone = []
        for name in arguments.settings:
            threads = 1 if name == "one thread" else arguments.threads
            one = Contestant(name, sys.executable, "ours.py", threads, folder, "tuned", SETTINGS[name])
            everyone.append(stack.enter_context(one))
            its = {**config, "train": {**config["train"], "threads": threads}}
            one.ask("start", task={**task, "threads": threads, "config": its})
            one.ask("run", updates=updates)  # warm up

        # Each setting alone, then each beside the busy processes, round by round
        times: dict[str, dict[str, list[float]]] = {name: {"alone": [], "beside": []} for name in arguments.settings}
        for repeat in range(arguments.repeats):
            order = everyone if repeat % 2 == 0 else everyone[::-1]
            for number, kind in enumerate(("alone", "beside")):
                for process in busy:
                    process.send_signal(signal.SIGCONT if kind == "beside" else signal.SIGSTOP)
                for one in order:
                    answer = one.ask("run", updates=updates, first=updates * (1 + 2 * repeat + number))
                    times[one.name][kind].append(answer["seconds"])
            print(f"repeat {repeat + 1} of {arguments.repeats}", file=sys.stderr)
        return {"threads": arguments.threads, "updates": updates, "repeats": arguments.repeats, "seconds": times}


@contextmanager
def busy_cores() -> Iterator[list[subprocess.Popen[bytes]]]:
    """For each usable core a process that computes without a pause; all are stopped at first."""
    with ExitStack() as stack:
        processes = []
        for core in sorted(os.sched_getaffinity(0)):
            code = f"import os; os.sched_setaffinity(0, [{core}])\nwhile True: pass"
            process = subprocess.Popen([sys.executable, "-S", "-c", code])
            stack.callback(process.wait)
            stack.callback(process.kill)
            process.send_signal(signal.SIGSTOP)
            processes.append(process)
        yield processes


def section(result: dict[str, Any]) -> str:
    """The measurements as Markdown."""
    seconds, about = result["seconds"], result["machine"]
    header = ["threads wait as in", "s per update alone", "speed alone", "beside busy processes", "speed beside"]
    header[2] += f" / {USUAL}" if USUAL in seconds else ""
    header[3] += " / alone"
    header[4] += f" / {PASSIVE}" if PASSIVE in seconds else ""

    def compared(name: str, to: str, kind: str) -> str:
        return spread(ratios(seconds[name][kind], seconds[to][kind])) if to in seconds else "-"

    rows = [
        [
            name,
            spread([value / result["updates"] for value in times["alone"]]),
            compared(name, USUAL, "alone"),
            spread(ratios(times["beside"], times["alone"])),
            compared(name, PASSIVE, "beside"),
        ]
        for name, times in seconds.items()
    ]
    text = (
        f"{result['command']}. {about['cpu']}, {about['cores']} cores, load average before: "
        f"{about['load_before']:.2f}. {result['threads']} threads, precision {result['precision']}; medians of "
        f"{result['repeats']} alternated repeats of {result['updates']} updates, with the smallest and the largest. "
        "Beside busy processes: one that computes without a pause is pinned to each core."
    )
    return f"## Training beside other work\n\n{text}\n\n{table(header, rows)}"


if __name__ == "__main__":
    sys.exit(guarded("bench_load", main))
