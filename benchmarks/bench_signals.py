"""Measure how soon ``nmt train`` answers a signal, at moments spread over a whole small training.

    python benchmarks/bench_signals.py configs/demo.yaml --moments 20 --set train.max_steps=30

Each training starts without a store and a run, gets SIGINT, SIGTERM or SIGHUP at its moment, is resumed by the same
command, and is compared to the bit with a training that was left alone. Prints for each moment the phase, the seconds
to the first line about the signal, the seconds to the exit, and the differences.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from nmt.run.differences import differences
from nmt.run.directory import Run

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ANSWERS = ("saving and stopping", "interrupted", "stopped by")


class Training:
    """``nmt train`` in a folder of its own, with the time of each line that it writes to standard error."""

    def __init__(self, folder: Path, config: str, overrides: list[str]) -> None:
        places = [f"runs={folder / 'runs'}", f"data.store={folder / 'store'}", "name=run", "train.threads=1"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nmt", "train", config, "--set", *overrides, *places],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.begun = time.monotonic()
        self.lines: list[tuple[float, str]] = []
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append((time.monotonic(), line.rstrip()))

    def end(self) -> float:
        """Wait for the end; seconds from the start to it."""
        self.process.wait()
        ended = time.monotonic()
        self.reader.join()
        return ended - self.begun

    def signalled(self, number: signal.Signals, after: float) -> tuple[str, float, float]:
        """Send a signal ``after`` seconds from the start; return the phase, and the seconds to answer and exit."""
        time.sleep(max(0.0, self.begun + after - time.monotonic()))
        phase = self.lines[-1][1] if self.lines else "loading"
        sent = time.monotonic()
        self.process.send_signal(number)
        whole = self.end()
        answers = [at - sent for at, line in self.lines if at >= sent and any(text in line for text in ANSWERS)]
        exited = self.begun + whole - sent
        return phase, min([*answers, exited]), exited


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--moments", type=int, default=20)
    parser.add_argument("--set", nargs="*", default=[], dest="overrides")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits that SIGINT is ignored
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    slowest, different = 0.0, 0
    with tempfile.TemporaryDirectory(prefix="signals-") as name:
        folder = Path(name)
        alone = Training(folder / "alone", arguments.config, arguments.overrides)
        seconds = alone.end()
        print(f"left alone: {seconds:.1f} s, exit code {alone.process.returncode}", flush=True)
        for moment in range(arguments.moments):
            here, number = folder / "signalled", SIGNALS[moment % len(SIGNALS)]
            training = Training(here, arguments.config, arguments.overrides)
            at = seconds * (moment + 0.5) / arguments.moments
            phase, answer, exited = training.signalled(number, at)
            code = training.process.returncode
            again = Training(here, arguments.config, arguments.overrides)
            again.end()
            found = list(differences(Run(folder / "alone/runs/run"), Run(here / "runs/run")))
            slowest, different = max(slowest, answer), different + bool(found)
            print(
                f"{at:5.1f} s  {number.name:7}  answer {answer:.2f} s  exit {exited:.2f} s  code {code:3}  "
                f"differences {len(found)}  after: {phase[:60]}", *found[:3], sep="\n    ", flush=True,
            )  # fmt: skip
            shutil.rmtree(here)
    print(f"slowest answer {slowest:.2f} s; {different} of {arguments.moments} trainings differ")


if __name__ == "__main__":
    main()
