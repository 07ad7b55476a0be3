"""Signals that ask a program to stop or to save.

There are two ways to handle them:

- Inside :func:`ending`, a signal to stop raises :class:`Ended` at once. All files are written under temporary names,
  so a program can end anywhere.
- Inside :func:`postponing`, a signal is only recorded in :data:`heard`. The program stops where its state can be saved.

A signal to stop that was ignored when the program was started (``nohup``, a background job of a script) stays ignored.
Process 1 of a container receives only signals that have a handler, so every command installs handlers.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any

from nmt.errors import NmtError
from nmt.runtime import journal

STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAVE = signal.SIGUSR1
PATIENCE = 1.5  # seconds for the main thread to react; it may be inside a long call of a library

Handler = Callable[[int, FrameType | None], Any]


class Interrupted(NmtError):
    """A signal asked the program to stop; its state is saved."""

    def __init__(self, message: str, signal_number: int):
        super().__init__(message)
        self.exit_code = 128 + signal_number


class Ended(KeyboardInterrupt):
    """A signal asked the program to end at once. As with Ctrl-C, no code should catch it and continue."""

    def __init__(self, number: int):
        super().__init__()
        self.number = number


class Paused(Exception):
    """A signal interrupted work that is repeated later."""


@dataclass
class Heard:
    """Requests of the signals received so far."""

    stop: int = 0  # number of the postponed signal to stop
    save: bool = False
    ended: int = 0  # number of the signal for which Ended was raised


heard = Heard()


def number_of(error: KeyboardInterrupt) -> int:
    return error.number if isinstance(error, Ended) else int(signal.SIGINT)


def say(text: str) -> None:
    """Write one line to standard error without a buffer, so that any thread may call this at any moment."""
    with suppress(OSError, ValueError, AttributeError):
        clear = "\r\x1b[K" if sys.stderr.isatty() else ""  # of a progress bar
        os.write(sys.stderr.fileno(), f"{clear}{text}\n".encode())


@contextmanager
def ending() -> Iterator[None]:
    """Raise :class:`Ended` at SIGINT, SIGTERM and SIGHUP inside the block; record SIGUSR1.

    If the main thread does not react because it is inside a library, the process is ended from another thread.
    """
    reacted = threading.Event()
    heard.stop, heard.save, heard.ended = 0, False, 0

    def end(number: int, _: Any) -> None:
        reacted.set()
        heard.ended = number
        raise Ended(number)

    def watch(number: int) -> None:
        if number in STOP and not reacted.wait(PATIENCE):
            say(f"nmt: stopped by {signal.Signals(number).name}")
            os._exit(128 + number)

    with _handling({**dict.fromkeys(STOP, end), SAVE: _note_save}, watch):
        yield


@contextmanager
def postponing(acknowledge: bool = True) -> Iterator[None]:
    """Record the signals inside the block; a second SIGINT raises :class:`Ended`.

    A signal that was not handled by the end of the block is sent again.

    Args:
        acknowledge: print to standard error at once that a signal was received.
    """
    # Handlers
    reacted, told = threading.Event(), set[int]()
    heard.stop = 0

    def note(number: int, _: Any) -> None:
        if heard.stop == number == signal.SIGINT:
            reacted.set()
            raise Ended(number)
        heard.stop = number

    def watch(number: int) -> None:
        if number not in STOP:
            return
        if number not in told:
            told.add(number)
            again = "; press Ctrl-C again to stop at once, without saving" if number == signal.SIGINT else ""
            if acknowledge:
                journal.note(f"{signal.Signals(number).name} received: saving and stopping")
                say(f"{signal.Signals(number).name}: saving and stopping{again}")
        elif number == signal.SIGINT and not reacted.wait(PATIENCE):
            os._exit(128 + number)

    # Block, then unhandled signals
    try:
        with _handling({**dict.fromkeys(STOP, note), SAVE: _note_save}, watch):
            yield
    except BaseException:
        heard.stop = 0
        raise
    if left := heard.stop:
        heard.stop = 0
        signal.raise_signal(left)


def ignore_save() -> None:
    """Ignore SIGUSR1 from now on: the program has nothing left to save."""
    with suppress(ValueError):  # not the main thread
        signal.signal(SAVE, signal.SIG_IGN)


def _note_save(_: int, __: Any) -> None:
    heard.save = True


@contextmanager
def _handling(handlers: Mapping[int, Handler], watch: Callable[[int], None]) -> Iterator[None]:
    """Install handlers, except for ignored signals. A thread calls ``watch`` with each signal at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)

    def listen() -> None:
        while number := os.read(reading, 1):
            watch(number[0])
        os.close(reading)

    threading.Thread(target=listen, name="signals", daemon=True).start()
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    before = {
        number: signal.signal(number, handler)
        for number, handler in handlers.items()
        if number == SAVE or signal.getsignal(number) not in (signal.SIG_IGN, None)
    }
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
        signal.set_wakeup_fd(wakeup)
        os.close(writing)
