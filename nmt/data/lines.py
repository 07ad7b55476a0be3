"""The lines of a text file: of a corpus, or of text to translate.

:func:`open_text` opens a file, :func:`read_lines` unpacks, checks and decodes it. Memory is bounded for any content: a
line has at most :data:`MAX_LINE` bytes, and a compressed file may not unpack to more than plausible text.
"""

from __future__ import annotations

import bz2
import gzip
import io
import logging
import lzma
import os
import shlex
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

from nmt.data.formats import foreign
from nmt.errors import DataError

log = logging.getLogger(__name__)

MAX_LINE = 4 << 20  # bytes, before decoding
CHUNK = 1 << 18  # bytes read at once
MAX_RATIO = 250  # unpacked to packed size; text reaches 4 to 20, a file made to exhaust a disk 1,000 and more
FREE_BYTES = 1 << 24  # unpacked bytes up to which any ratio is allowed
BOM = b"\xef\xbb\xbf"  # byte order mark of UTF-8
CR_TO_LF = r"tr '\r' '\n'"
UNREADABLE = "\0"  # stands for a line that cannot be read, in the lines of a reader that skips such lines


# ------------------------------------------------------------------------------------------------------ opening


@contextmanager
def open_text(path: str) -> Iterator[IO[bytes]]:
    """Open a file for :func:`read_lines`.

    Raises:
        DataError: the file cannot be opened.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115  (closed below; an error while reading is another one)
    except OSError as error:
        raise DataError(cannot_open(path, error)) from None
    with file:
        yield file


def cannot_open(path: str, error: OSError) -> str:
    """The message for a file that cannot be opened."""
    match error:
        case FileNotFoundError():
            stem, ending = os.path.splitext(path)
            others = [stem] if ending in _ENDINGS else [path + ending for ending in _ENDINGS]
            found = [other for other in others if Path(other).is_file()]
            found += [home for home in [os.path.expanduser(path)] if home != path and os.path.exists(home)]
            if found:
                return f"{path}: no such file; did you mean {found[0]}?"
            if os.path.islink(path):
                return f"{path}: is a link to {os.readlink(path)}, which does not exist; correct the link"
            return f"{path}: no such file; check the path"
        case IsADirectoryError():
            return f"{path}: is a folder; name a file in it"
        case PermissionError():
            return f"{path}: no permission to read it; check its owner and mode"
        case _:
            return f"{path}: cannot be read: {error.strerror or error}"


def check_regular(path: str, mode: int) -> None:
    """Refuse a pipe or device as a file of a corpus, because a corpus is read more than once.

    Args:
        mode: ``st_mode`` of the file.

    Raises:
        DataError: the file is a pipe, a socket or a device.
    """
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        kind = "a pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
        raise DataError(f"{path}: is {kind}; a corpus is read more than once: write it to a file and name that")


# --------------------------------------------------------------------------------------------------- unpacking

_PACKED: list[tuple[str, str, bytes, str]] = [  # name, ending, first bytes, command that unpacks
    ("gzip", ".gz", b"\x1f\x8b", "gzip -dc"),
    ("bzip2", ".bz2", b"BZh", "bzip2 -dc"),
    ("xz", ".xz", b"\xfd7zXZ\0", "xz -dc"),
    ("Zstandard", ".zst", b"\x28\xb5\x2f\xfd", "zstd -dc"),
]
_ENDINGS = [ending for _, ending, _, _ in _PACKED]
_BZIP2_BLOCKS = (b"1AY&SY", b"\x17rE8P\x90")  # "BZh" alone may begin a text


def packed_by(head: bytes) -> tuple[str, str] | None:
    """The compression of a file and the usual ending of its name, by its first bytes; None for other files."""
    return next(((kind, ending) for kind, ending, magic, _ in _PACKED if head.startswith(magic)), None)


class _Unpacked:
    """Blocks of the content of a file, unpacked if its first bytes say that it is compressed.

    Attributes:
        packed: the name of the compression, or None.
    """

    def __init__(self, file: IO[bytes], name: str, size: int | None = None):
        self.name = name
        self.original = isinstance(file, io.BufferedReader | io.BytesIO)
        buffered = file if hasattr(file, "peek") else io.BufferedReader(cast(io.RawIOBase, file))
        head: bytes = buffered.peek(16)[:16]
        self.empty = not head
        self.packed = next((kind for kind, _, magic, _ in _PACKED if head.startswith(magic)), None)
        if self.packed == "bzip2" and head[4:10] not in _BZIP2_BLOCKS:
            self.packed = None
        self.stream: Any = buffered if self.packed is None else _decompressor(buffered, self.packed)
        self.limit = None if self.packed is None else _size_limit(file, size)
        self.total = 0

    def blocks(self) -> Iterator[bytes]:
        while block := self.stream.read1(CHUNK):
            self.total += len(block)
            if self.limit is not None and self.total > self.limit:
                raise DataError(
                    f"{self.name}: unpacks to more than {MAX_RATIO} times its size, which text does not; if it is "
                    "what you want, unpack it and name the unpacked file"
                )
            yield block

    @property
    def misnamed(self) -> str | None:
        """The compression that the name promises and the content lacks; None if another stream unpacks the file."""
        if self.packed is not None or self.empty or not self.original:
            return None
        return next((kind for kind, ending, _, _ in _PACKED if self.name.endswith(ending)), None)


def _decompressor(file: Any, kind: str) -> Any:
    if kind == "gzip":
        return gzip.GzipFile(fileobj=file)
    if kind == "bzip2":
        return bz2.BZ2File(file)
    if kind == "xz":
        return lzma.LZMAFile(file)
    import pyarrow as pa

    return pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd")


def _size_limit(file: IO[bytes], size: int | None = None) -> int | None:
    """The most bytes that a compressed file of ``size`` bytes, by default its own size, may unpack to; None: any."""
    if size is not None:
        return max(FREE_BYTES, MAX_RATIO * size)
    try:
        status = os.fstat(file.fileno())
    except OSError:  # io.UnsupportedOperation: bytes in memory
        return None
    return max(FREE_BYTES, MAX_RATIO * status.st_size) if stat.S_ISREG(status.st_mode) else None


def check_unpacked_size(path: str) -> None:
    """Unpack a file and discard the content.

    Raises:
        DataError: the file unpacks to more than any text would.
    """
    with open_text(path) as file:
        try:
            content = _Unpacked(file, path)
            if content.packed is not None:
                for _ in content.blocks():
                    pass
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            raise DataError(f"{path}: damaged: {error}; copy it again") from None


def filter_command(path: str, command: str, ending: str) -> str:
    """The shell command that filters the content of a file into a file with ``ending`` appended to its name."""
    with open_text(path) as file:
        return _Lines(path, _Unpacked(file, path).packed).command(command, ending)


def unpacked(file: IO[bytes], name: str, document: bool = False) -> IO[bytes]:
    """The content of a file as a stream, for readers that do not use :func:`read_lines`.

    Args:
        name: of the file in error messages.
        document: text in any format is expected, and not lines alone.

    Raises:
        DataError: the content is certainly not lines of text.
    """
    content = _Unpacked(file, name)
    with suppress(EOFError, OSError, AttributeError, zlib.error, lzma.LZMAError):  # the reader reports damage
        lines = _Lines(name, content.packed)
        head = lines.begin(content.stream.peek(CHUNK), content.misnamed, document, corpus=False)
        if _size_limit(file) is not None and b"\n" not in head and b"\r" in head[:-1]:
            lines.refuse_carriage_returns()
    return cast(IO[bytes], content.stream)


# ----------------------------------------------------------------------------------------------------- reading


def read_lines(
    file: IO[bytes],
    name: str,
    counts: dict[str, int] | None = None,
    bad: Callable[[str], None] | None = None,
    size: int | None = None,
) -> Iterator[str]:
    r"""The lines of a UTF-8 file opened in binary mode, without their ends.

    A file compressed by gzip, bzip2, xz or Zstandard is unpacked; its content decides, not its name. A line ends only
    at "\n": U+2028, U+0085, "\f" and "\v" are characters of the line. One "\r" before the end is dropped, and so is a
    byte order mark at the start of the file. The last line needs no "\n".

    Args:
        name: of the file in error messages.
        counts: filled with the number of lines of ``name`` at the end of the file.
        bad: called with the problem of each line that cannot be read; :data:`UNREADABLE` then takes the place of the
            line. Default: such a line is an error.
        size: bytes of the file, if it is a member of an archive.

    Raises:
        DataError: the file is not lines of UTF-8 text, a line is longer than :data:`MAX_LINE` bytes, or the file cannot
            be read to its end (damaged compression, failing disk).
    """
    lines = _Lines(name, bad=bad)
    try:
        content = _Unpacked(file, name, size)
        lines.packed = content.packed
        for block in content.blocks():
            if lines.first:
                block = lines.begin(block, content.misnamed)
            yield from lines.take(block)
        yield from lines.end()
        if counts is not None:
            counts[name] = lines.number
    except DAMAGE as error:
        raise DataError(damaged(error, name, lines.packed, f"after line {lines.number}")) from None


def read_blocks(file: IO[bytes], name: str, size: int | None = None) -> Iterator[bytes]:
    """The content of a file opened in binary mode, unpacked like that of :func:`read_lines`, but not looked at.

    Raises:
        DataError: the content cannot be read to its end.
    """
    packed, total = None, 0
    try:
        content = _Unpacked(file, name, size)
        packed = content.packed
        for block in content.blocks():
            total += len(block)
            yield block
    except DAMAGE as error:
        raise DataError(damaged(error, name, packed, f"after byte {total}")) from None


# What Python's modules raise for a compressed file that is damaged, and for a disk that fails.
DAMAGE = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, OSError)


def damaged(error: Exception, name: str, packed: str | None, where: str) -> str:
    """The message for a file that cannot be read to its end, because of one of :data:`DAMAGE`."""
    if isinstance(error, EOFError):
        return f"{name}: {packed or 'ZIP'} file cut off {where}; copy it again"
    if isinstance(error, OSError) and error.errno is not None:
        return f"{name}: cannot be read {where}: {error.strerror or error}"
    return f"{name}: damaged {packed or 'ZIP'} file {where} ({' '.join(str(error).split())}); copy it again"


_TOO_LONG = f"is longer than {MAX_LINE >> 20} MiB; a line has one sentence: break it into lines or delete it"


def line_problem(name: str, number: int, raw: bytes) -> str | None:
    """Why a line of a file is not text, with advice; None if it is."""
    lines = _Lines(name)
    lines.number = number
    return lines.problem(raw)


class _Lines:
    """Split and decode the blocks of one file. A block at a time is several times faster than a line at a time.

    Attributes:
        number: number of lines so far.
        packed: the compression of the file, or None.
        first: whether no block has been read yet.
        long: whether one of the lines to decode is longer than :data:`MAX_LINE`.
    """

    def __init__(self, name: str, packed: str | None = None, bad: Callable[[str], None] | None = None):
        self.name = name
        self.bad = bad
        self.long = False
        self.number = 0
        self.packed = packed
        self.first = True
        self.rest = b""  # start of a line whose end has not been read
        self.warned = False
        self.utf8 = False  # whether a line so far has a character of several bytes

    def begin(self, block: bytes, misnamed: str | None, document: bool = False, corpus: bool = True) -> bytes:
        """Check the first block, see :func:`nmt.data.formats.foreign`; return it without its byte order mark."""
        self.first = False
        if problem := foreign(block, self.convert, document, corpus):
            raise DataError(f"{self.name}: {problem}")
        if misnamed is not None:
            raise DataError(f"{self.name}: is not {misnamed}-compressed, despite its name; rename or compress it")
        return block.removeprefix(BOM)

    def take(self, block: bytes) -> Iterator[str]:
        """The lines that end in a block."""
        end = block.rfind(b"\n")
        if end < 0:
            self.rest += block
            if len(self.rest) > MAX_LINE:
                self._too_long()
            return
        if self.rest and len(self.rest) + block.find(b"\n") > MAX_LINE:
            self._too_long()
        complete, self.rest = self.rest + block[:end], block[end + 1 :]
        yield from self._decode(complete)

    def end(self) -> Iterator[str]:
        """The last line, if no newline ends it."""
        if self.rest:
            if not self.number and b"\r" in self.rest[:-1]:
                self.refuse_carriage_returns()
            yield from self._decode(self.rest)

    def _decode(self, data: bytes) -> Iterator[str]:
        try:
            if b"\0" in data or self.long:
                raise ValueError
            text = data.decode()
        except ValueError:
            yield from self._up_to_mistake(data)
            return
        if "\r" in text:
            text = text.replace("\r\n", "\n").removesuffix("\r")
            if not self.warned and "\r" in text:
                self.warned = True
                line = self.number + 1 + text.count("\n", 0, text.index("\r"))
                log.warning(
                    "warning: %s:%d: contains a carriage return within the line, kept as a character of it; if it ends "
                    "a line, convert the line ends: %s",
                    self.name,
                    line,
                    self.command(CR_TO_LF, "lf"),
                )
        self.utf8 = self.utf8 or not text.isascii()
        lines = text.split("\n")
        self.number += len(lines)
        yield from lines

    def _up_to_mistake(self, data: bytes) -> Iterator[str]:
        """Yield the lines up to the first that is not text, which is an error unless such lines are skipped."""
        self.long = False
        for raw in data.split(b"\n"):
            self.number += 1
            problem = self.problem(raw)
            if problem is None:
                self.utf8 = self.utf8 or not raw.isascii()
                yield raw.removesuffix(b"\r").decode()
            elif self.bad is None:
                raise DataError(problem)
            else:
                self.bad(problem)
                yield UNREADABLE

    def problem(self, raw: bytes) -> str | None:
        """Why a line is not text; None if it is."""
        where = f"{self.name}:{self.number}"
        if len(raw) > MAX_LINE:
            return f"{where}: {_TOO_LONG}"
        if b"\0" in raw:
            command = self.command(r"tr -d '\000'", "clean")
            return f"{where}: contains a NUL character; is it a text file, in UTF-8? if so, remove them: {command}"
        try:
            raw.decode()
        except UnicodeDecodeError as error:
            return f"{where}: not valid UTF-8 ({_position(error)}); {self._encoding(raw)}"
        return None

    def _encoding(self, raw: bytes) -> str:
        """Advice for a line in another encoding, or with damaged characters."""
        if self.utf8 or any(char >= "\x80" for char in raw.decode(errors="ignore")):
            before = "lines before it are UTF-8; " if self.utf8 else ""
            drop = self.command("iconv -c -f UTF-8 -t UTF-8", "utf8")
            return f"{before}correct that line, or drop all such bytes: {drop}"
        high = sum(byte >= 0x80 for byte in raw)
        letters = sum(byte < 0x80 and chr(byte).isalpha() for byte in raw)
        if high <= letters and not any(byte in b"\x81\x8d\x8f\x90\x9d" for byte in raw):
            hint, encoding = "if it is Windows-1252 (Western European)", "WINDOWS-1252"
        else:
            hint, encoding = "find its encoding (iconv -l lists them all)", "ENCODING"
        return f"convert the file to UTF-8; {hint}: {self.convert(encoding)}"

    def convert(self, encoding: str) -> str:
        """The command that converts the file to UTF-8."""
        return self.command(f"iconv -f {encoding} -t UTF-8", "utf8")

    def command(self, command: str, ending: str) -> str:
        """The command that applies a filter to the file, unpacking it if it is compressed."""
        if not os.path.exists(self.name):  # standard input
            return command
        unpack = next((unpack for kind, _, _, unpack in _PACKED if kind == self.packed), None)
        path = shlex.quote(self.name)
        target = shlex.quote(f"{self.name}.{ending}")
        return f"{unpack} {path} | {command} > {target}" if unpack else f"{command} < {path} > {target}"

    def _too_long(self) -> None:
        if not self.number and b"\r" in self.rest:
            self.refuse_carriage_returns()
        if self.bad is None:
            raise DataError(f"{self.name}:{self.number + 1}: {_TOO_LONG}")
        self.long = True
        self.rest = self.rest[: MAX_LINE + 1]  # the rest of the line is skipped with it

    def refuse_carriage_returns(self) -> None:
        command = self.command(CR_TO_LF, "lf")
        raise DataError(
            f"{self.name}: its lines end in a carriage return (CR, old Mac OS), not in a newline; convert: {command}"
        )


def _position(error: UnicodeDecodeError) -> str:
    column = len(error.object[: error.start].decode()) + 1
    return f"byte 0x{error.object[error.start]:02x} at column {column}"
