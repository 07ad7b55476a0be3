"""The journal of a run: a file with every line that a training prints, each with its time.

Lines are appended, also by later starts, and written whole. Progress bars are not part of the journal.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nmt.errors import NmtError

_unprinted = logging.getLogger("nmt.journal")  # for the journal alone
_unprinted.propagate = False
_unprinted.setLevel(logging.INFO)


class Journal(logging.Handler):
    """Appends records to a file. A file that cannot be written is reported once, and never ends the program."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.failed = path, False
        self.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%Y-%m-%d %H:%M:%S"))
        self._file: int | None = None
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            size = os.fstat(self._file).st_size
            if size and os.pread(self._file, 1, size - 1) != b"\n":  # the last line of a killed process is torn
                os.write(self._file, b"\n")
        except OSError as error:
            self._fail(error)

    def emit(self, record: logging.LogRecord) -> None:
        if self._file is None:
            return
        stamp, _, text = self.format(record).partition("  ")
        lines = "".join(f"{stamp}  {line}\n" for line in text.splitlines() if line.strip())
        try:
            os.write(self._file, lines.encode(errors="backslashreplace"))
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        if not self.failed:
            self.failed = True
            with suppress(OSError, ValueError, AttributeError):
                print(f"warning: {self.path}: cannot be written: {error.strerror}", file=sys.stderr)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None
        super().close()


@contextmanager
def keeping(path: Path) -> Iterator[None]:
    """Keep a journal in ``path`` of the messages of ``nmt`` inside the block, and of the error that ends it."""
    handler = Journal(path)
    loggers = (logging.getLogger("nmt"), _unprinted)
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    except KeyboardInterrupt:
        note("interrupted")
        raise
    except NmtError as error:
        note(str(error))
        raise
    except Exception as error:
        note(f"{type(error).__name__}: {error}")
        raise
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()


def note(text: str) -> None:
    """Write lines that are not printed, or printed in another way, to the journal, if one is kept."""
    _unprinted.info("%s", text)
