"""Report an error as one line on standard error, and an exit code."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from nmt.errors import NmtError
from nmt.runtime import signals
from nmt.runtime.streams import open_standard_streams


def guarded(name: str, program: Callable[[], None], debug: bool | None = None) -> int:
    """Run ``program``; report an error as one line on standard error, and return the exit code.

    Args:
        debug: let exceptions through, with their tracebacks; None where the program has no such switch.
    """
    open_standard_streams()
    try:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # show the number of a character that a terminal lacks
                stream.reconfigure(errors="backslashreplace")
        program()
        try:
            sys.stdout.flush()
        except OSError as error:
            error.filename = "standard output"
            raise
        return 0
    except KeyboardInterrupt as error:
        return stopped(name, signals.number_of(error))
    except Exception as error:
        if signals.heard.ended and str(error) and not isinstance(error, signals.Interrupted):
            # A library has replaced our exception by another one.
            return stopped(name, signals.heard.ended)
        if isinstance(error, BrokenPipeError):  # the reader of our output has seen enough
            return 141
        if debug:
            raise
        lines, code = _explain(error, debug)
        _say(name, *lines)
        return code
    finally:
        _discard_unwritable()


def _explain(error: Exception, debug: bool | None) -> tuple[list[str], int]:
    """The lines for people and the exit code of an error."""
    if isinstance(error, NmtError):
        return str(error).splitlines(), error.exit_code
    if isinstance(error, OSError):  # of a file or folder, not handled closer to it
        where = f"{error.filename}: " if error.filename else ""
        if error.errno == errno.ENAMETOOLONG:
            return [f"{where}{error.strerror}; name another file or folder"], 2
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return [f"{where}{error.strerror}; free disk space, and run the same command again"], 1
        code = 2 if isinstance(error, PermissionError) or error.errno == errno.EROFS else 1
        return [f"{where}{error.strerror or error}; check space, owner and mode"], code
    text = " ".join(str(error).split()) or "no message"
    advice = "" if debug is None else " (run again with --debug for the traceback)"
    return [f"{type(error).__name__}: {text}{advice}"], 1


def stopped(name: str, number: int) -> int:
    """Say which signal ended the program; return the exit code."""
    _say(name, "interrupted" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}")
    return 128 + number


def _say(name: str, *lines: str) -> None:
    """Print lines on standard error, if that is possible."""
    with suppress(OSError, ValueError):
        for line in lines:
            print(f"{name}: {line}", file=sys.stderr)
        sys.stderr.flush()


def _discard_unwritable() -> None:
    """Discard what the standard streams hold and cannot write: Python would fail again at the exit, with code 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        except ValueError:  # it is closed
            pass
