"""The progress of a translation on a terminal."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm

    from nmt.translation.translator import Engine

log = logging.getLogger(__name__)


class Progress:
    """Progress of a translation on a terminal: a bar if the output goes elsewhere, and a line at the end.

    Attributes:
        done: lines translated.
    """

    def __init__(self, shown: bool, bar: bool) -> None:
        self.shown, self.wants_bar, self.done = shown, bar, 0
        self.bar: tqdm[Any] | None = None
        self.end: int | None = None  # lines translated at the end of the block
        self.started = time.monotonic()

    def start(self, count: int | None, engine: Engine) -> None:
        """Begin with the translation of ``count`` lines; None if the number is unknown."""
        self.started = time.monotonic()
        if self.wants_bar:
            from tqdm import tqdm

            self.bar = tqdm(total=count, unit="line", dynamic_ncols=True, leave=False, file=sys.stderr)
            engine.progress = self._searched

    def expect(self, count: int) -> None:
        """Begin a block of lines: however many sentences are searched for them, the bar stays below."""
        self.end = self.done + count

    def _searched(self, sentences: int) -> None:
        if self.bar is not None:
            most = sentences if self.end is None else max(0, self.end - self.bar.n)
            self.bar.update(min(sentences, most))

    def add(self, count: int) -> None:
        self.done += count
        if self.bar is not None:
            self.bar.update(self.done - self.bar.n)

    def tell(self, text: str) -> None:
        """Print a line above the bar."""
        if self.bar is not None:
            self.bar.clear()
        log.warning("%s", text)

    def close(self, whole: bool) -> None:
        if self.bar is not None:
            self.bar.close()
        if self.shown and whole:
            seconds = time.monotonic() - self.started
            log.info("%s lines in %s", f"{self.done:,}", f"{seconds:.1f} s" if seconds < 10 else f"{seconds:,.0f} s")


@contextmanager
def showing_progress(input: str | None, output: str | None) -> Iterator[Progress]:
    talking = input is None and sys.stdin.isatty()
    shown = sys.stderr is not None and sys.stderr.isatty() and not talking
    progress = Progress(shown, shown and (output is not None or not sys.stdout.isatty()))
    try:
        yield progress
    except BaseException:
        progress.close(whole=False)
        raise
    progress.close(whole=True)
