"""Progress of long steps: a bar on a terminal, elsewhere a line every 30 seconds.

A step shows nothing in its first two seconds, and nothing where the messages of ``nmt`` are not shown: in a program
that uses the package, and on ranks other than 0. A thread redraws the bar and prints the lines, so that a step shows
that it is alive even while one unit of it takes minutes.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from nmt.numbers import plain

if TYPE_CHECKING:
    from tqdm import tqdm

log = logging.getLogger(__name__)

T = TypeVar("T")

QUIET = 2.0  # seconds before a bar appears
EVERY = 30.0  # seconds between two lines
BEAT = 1.0  # seconds between two looks at the clock

_bars: list[tqdm[Any]] = []  # on the terminal


class Step:
    """The progress of a step of known or unknown size.

    Args:
        label: what is done, such as ``encoding the corpus``.
        total: how many units the step has; None if that is not known.
        unit: plural of what is counted; empty for a step that counts nothing.
    """

    def __init__(self, label: str, total: int | None, unit: str) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = 0
        self.begun = self.last = time.monotonic()
        self.shown = log.isEnabledFor(logging.INFO)
        self.bar: tqdm[Any] | None = None
        if self.shown and sys.stderr is not None and sys.stderr.isatty():
            self.shown = not _bars  # a step within another one, whose bar shows that it is alive
        if self.shown and sys.stderr is not None and sys.stderr.isatty():
            from tqdm import tqdm

            self.bar = tqdm(
                desc=label, total=total, unit=f" {unit}", bar_format=None if unit else "{desc}: {elapsed}",
                delay=QUIET, miniters=0, dynamic_ncols=True, leave=False, file=sys.stderr,
            )  # fmt: skip
            _bars.append(self.bar)
        self.ended = threading.Event()
        self.telling = threading.Lock()
        self.beat: threading.Thread | None = None

    def start(self) -> None:
        """Show the elapsed time until the step is closed."""
        if self.shown:
            self.beat = threading.Thread(target=self._beat, daemon=True, name=f"progress of {self.label}")
            self.beat.start()

    def _beat(self) -> None:
        wait = QUIET
        while not self.ended.wait(wait):
            wait = BEAT
            if self.bar is not None:
                self.bar.refresh()
            else:
                self._tell()

    def add(self, count: int = 1) -> None:
        """Count units that are done."""
        self.done += count
        if self.bar is not None:
            self.bar.update(count)
        elif self.shown:
            self._tell()

    def _tell(self) -> None:
        """Print a line if the last one is old."""
        if time.monotonic() - self.last < EVERY:
            return
        with self.telling:
            if (now := time.monotonic()) - self.last >= EVERY:
                self.last = now
                log.info("%s", self.line(now))

    def line(self, now: float) -> str:
        """The state in words: what is done of how much, the rate, and the time that is left."""
        seconds = now - self.begun
        if not self.unit:
            return f"{self.label}: {duration(seconds)}"
        rate = self.done / seconds if seconds > 0 else 0.0
        speed = f"{rate:,.0f}" if rate >= 1 else plain(rate, 2)
        if self.total is None:
            return f"{self.label}: {self.done:,} {self.unit}, {speed} {self.unit}/s"
        left = f", {duration((self.total - self.done) / rate)} left" if rate and self.done < self.total else ""
        share = f"{self.done / self.total:.0%}" if self.total else "100%"
        return f"{self.label}: {self.done:,} of {self.total:,} {self.unit} ({share}), {speed} {self.unit}/s{left}"

    def close(self) -> None:
        self.ended.set()
        if self.beat is not None:
            self.beat.join()
        if self.bar is not None:
            self.bar.close()
            if self.bar in _bars:
                _bars.remove(self.bar)


def duration(seconds: float) -> str:
    """Seconds in words, such as ``45 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


def clock(seconds: float) -> str:
    """Seconds as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


@contextmanager
def showing(label: str, total: int | None = None, unit: str = "lines") -> Iterator[Callable[[int], object]]:
    """Show a step while it runs; yields the function to call with the number of units that were done."""
    step = Step(label, total, unit)
    try:
        step.start()
        yield step.add
    finally:
        step.close()


def counted(items: Iterable[T], label: str, unit: str, block: int = 4096) -> Iterator[T]:
    """Yield the items, and show the step that consumes them, ``block`` of them at a time."""
    with showing(label, unit=unit) as add:
        for number, item in enumerate(items, 1):
            yield item
            if number % block == 0:
                add(block)


_left: list[threading.Event] = []  # set when a function that was interrupted has returned


def leave(code: int) -> None:
    """End the process at once if a function of :func:`waiting` still runs after a signal.

    At the usual end of a process, destructors of a C++ library whose threads run abort the process.
    """
    if not all(returned.is_set() for returned in _left):
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, OSError, ValueError):
                stream.flush()
        os._exit(code)


def waiting(label: str, work: Callable[[], T]) -> T:
    """Run a function that reports nothing while it works, such as one call of a C++ library, and show the time.

    The function runs in a separate thread, so that the main thread can answer a signal at once. A signal that ends
    the program then also ends the function.
    """
    result: list[T] = []
    error: list[BaseException] = []
    returned = threading.Event()  # up to Python 3.12, a join that a signal ends calls a running thread dead

    def run() -> None:
        try:
            result.append(work())
        except BaseException as raised:
            error.append(raised)
        finally:
            returned.set()

    with showing(label, unit=""):
        try:
            threading.Thread(target=run, daemon=True, name=label).start()
            while not returned.wait(0.5):
                pass
        except BaseException:
            _left.append(returned)
            raise
    if error:
        raise error[0]
    return result[0]
