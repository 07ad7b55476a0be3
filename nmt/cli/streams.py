"""Input and output of commands: standard streams, pipes, and atomic files."""

from __future__ import annotations

import logging
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from nmt.errors import DataError
from nmt.runtime.streams import closed, require_output
from nmt.storage.atomic import replacing

log = logging.getLogger(__name__)


@contextmanager
def reading_bytes(path: str | None, document: bool = False) -> Iterator[IO[bytes]]:
    """The bytes of a file, or of standard input, decompressed.

    Args:
        document: text in any format is expected, and not lines alone.

    Raises:
        DataError: the file cannot be read, or standard input was closed at the start.
    """
    from nmt.data.lines import open_text, unpacked

    if path is None:
        if "input" in closed:
            raise DataError("standard input is closed; name a file with -i")
        yield sys.stdin.buffer if sys.stdin.isatty() else unpacked(sys.stdin.buffer, "standard input", document)
        return
    with open_text(path) as file:
        yield unpacked(file, path, document)


@contextmanager
def reading_lines(path: str) -> Iterator[Iterable[str]]:
    """The lines of a text file, see :func:`nmt.data.lines.read_lines`."""
    from nmt.data.lines import open_text, read_lines

    with open_text(path) as file:
        yield read_lines(file, path)


@contextmanager
def writing(path: str | None) -> Iterator[IO[str]]:
    """Standard output, or a file that appears under its name only when it is whole.

    If an error comes, what was written so far is kept next to the file, as FILE.partial. The file is opened before the
    work, so that a file that cannot be written is found at once. Files are in UTF-8; a terminal has its own encoding.

    Raises:
        DataError: the file cannot be written.
    """
    if path is None:
        require_output("; name a file with -o")
        if not sys.stdout.isatty():
            sys.stdout.reconfigure(encoding="utf-8", newline="\n")  # type: ignore[union-attr]
        yield sys.stdout
        return
    target = _target(path)
    if target is None:
        with _open_end(path) as file:
            yield file
        return
    opened = False
    try:
        with (
            replacing(target, _keep_partial) as descriptor,
            open(descriptor, "w", encoding="utf-8", newline="\n") as file,
        ):
            opened = True
            yield file
    except OSError as error:
        if error.filename != str(target):
            raise
        if not opened:
            raise DataError(_cannot_open(path, error)) from None
        raise OSError(error.errno, error.strerror, path) from None


def _target(path: str) -> Path | None:
    """The file to replace; None for a pipe, a device, /dev/stdout and /dev/fd/N, which no file may replace.

    Raises:
        DataError: the path is a folder, or cannot be a file's name.
    """
    if not path:
        raise DataError("-o: the name is empty; name a file")
    given = Path(path)
    try:
        kind = given.stat().st_mode
    except FileNotFoundError:
        kind = stat.S_IFREG
    except OSError as error:
        raise DataError(_cannot_open(path, error)) from None
    if stat.S_ISDIR(kind):
        raise DataError(f"{path}: is a folder; name a file")
    if os.path.abspath(path).startswith(("/dev/", "/proc/")) or not stat.S_ISREG(kind):
        return None
    return Path(os.path.realpath(path))  # of a link, the file that it names


def _keep_partial(temporary: Path, target: Path) -> None:
    """Rename the file of the translations made before an error to a name that no file has yet."""
    if not temporary.stat().st_size:
        temporary.unlink()
        return
    name = target.name.encode()[:200].decode(errors="ignore")
    names = (target.with_name(f"{name}.partial{number}") for number in ("", *range(2, 1000)))
    partial = next((each for each in names if not each.exists()), None)
    if partial is not None:
        temporary.rename(partial)
        log.warning("not finished; the translations made so far are in %s", partial)


def _open_end(path: str) -> IO[str]:
    """Open a pipe or a device to write to its end."""
    try:
        return open(path, "a", encoding="utf-8", newline="\n")
    except OSError as error:
        raise DataError(_cannot_open(path, error)) from None


def _cannot_open(path: str, error: OSError) -> str:
    folder = os.path.dirname(path)
    missing = isinstance(error, FileNotFoundError) and folder and not os.path.exists(folder)
    advice = f"make the folder {folder}, or name another file" if missing else "name another file"
    return f"{path}: cannot be opened: {error.strerror}; {advice}"


def check_outputs(inputs: Iterable[str | None], outputs: Mapping[str, str | None]) -> None:
    """Refuse to write a file that is read.

    Args:
        inputs: files that are read; None for standard input.
        outputs: files that are written, by the option that names them.

    Raises:
        DataError: an output is one of the inputs.
    """
    read = {os.path.realpath(path) for path in inputs if path is not None}
    for option, path in outputs.items():
        if path and os.path.isfile(path) and os.path.realpath(path) in read:
            raise DataError(f"{option} {path}: is the file that is read; name another file")
