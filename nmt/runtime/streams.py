"""Standard input, output and error of a program that was started with some of them closed (``2>&-``)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from nmt.errors import DataError

closed: set[str] = set()  # of "input", "output" and "error", those that were closed at the start


def open_standard_streams() -> None:
    """Open the null device in place of each closed standard stream; what is printed then appears on standard error.

    Otherwise the next file that is opened takes its descriptor, and receives what is written to that stream.
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
    """Refuse, before the work, a command whose product is what it prints.

    Args:
        advice: what to do instead, as the end of the message.

    Raises:
        DataError: standard output was closed at the start.
    """
    if "output" in closed:
        raise DataError(f"standard output is closed{advice}")
