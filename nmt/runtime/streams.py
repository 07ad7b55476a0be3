"""Standard streams of a program that was started with some of them closed (``2>&-``)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from nmt.errors import DataError

closed: set[str] = set()  # the streams ("input", "output", "error") that were closed at the start


def open_standard_streams() -> None:
    """Open the null device for each closed standard stream; print to standard error if only the output is closed.

    Without this, the next opened file gets the free descriptor, and output for the stream is written into the file.
    """
    for number, (name, stream, mode) in enumerate(
        [("input", "stdin", "r"), ("output", "stdout", "w"), ("error", "stderr", "w")]
    ):
        if getattr(sys, stream) is not None:
            continue
        closed.add(name)
        try:
            os.fstat(number)
        except OSError:  # the lowest free number is this one: those before it are open
            os.open(os.devnull, os.O_RDONLY if mode == "r" else os.O_WRONLY)
        setattr(sys, stream, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115
    if "output" in closed and "error" not in closed:
        sys.stdout = sys.stderr


def require_output(advice: str) -> None:
    """Refuse a command that prints its result, before it starts to work.

    Args:
        advice: the end of the message, with an alternative.

    Raises:
        DataError: standard output was closed at the start.
    """
    if "output" in closed:
        raise DataError(f"standard output is closed{advice}")
