"""Text to translate, line by line as it arrives: from a file, a pipe or a terminal."""

from __future__ import annotations

import codecs
import lzma
import os
import select
import stat
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import IO, Any

from nmt.data.lines import line_problem, read_lines
from nmt.errors import DataError
from nmt.translation.translator import Notice

BLOCK_LINES = 2000  # translated together at most, in batches of sentences of like length
BLOCK_CHARACTERS = 4 << 20
MAX_LINE = 1 << 20  # bytes kept of a line
CHUNK = 1 << 16  # bytes read at once
PAUSE = 0.05  # seconds without input, after which the lines at hand are translated
BAD_LINES, BAD_SHARE = 10, 0.1  # lines and share of a file: with this many invalid lines, the file is not UTF-8
BOM = b"\xef\xbb\xbf"


class LineStream:
    """Lines of UTF-8 text in blocks, each as large as the input allows without waiting for more.

    Lines end as for :func:`nmt.data.lines.read_lines`. What is not UTF-8, or is a NUL character, is replaced by U+FFFD,
    and of a very long line the first :data:`MAX_LINE` bytes are kept, both with a notice: text is translated while
    later text has not been read, so that no line may undo the work on the others.

    Args:
        stream: opened in binary mode.
        name: what error messages call it.
        notice: called for each line that is changed.
        waiting: called before a wait for the first line of a block.
        encoding: of a terminal that is not in UTF-8.
        strict: refuse text that is not UTF-8, or a NUL character, instead of replacing it.
        keep: leave a byte order mark at the start, and "\\r" at the ends of lines.
    """

    def __init__(
        self,
        stream: IO[bytes],
        name: str,
        notice: Callable[[Notice], None],
        waiting: Callable[[], None] | None = None,
        encoding: str = "utf-8",
        strict: bool = False,
        keep: bool = False,
    ) -> None:
        self.name, self.notice, self.waiting, self.encoding = name, notice, waiting, encoding
        self.strict, self.keep = strict, keep
        self._stream: Any = stream
        self._descriptor = _descriptor(stream)
        self._number = 0
        self._lines: deque[tuple[bytes, int]] = deque()  # whole lines, cut, with their full lengths
        self._rest, self._length = bytearray(), 0  # of a line whose end has not been read
        self._ended = False
        self._error: Exception | None = None

    def blocks(self) -> Iterator[list[str]]:
        """
        Raises:
            DataError: the input cannot be read to its end, or ``strict`` refuses a line; the lines before that have
                been given out.
        """
        block: list[str] = []
        characters = 0
        while (line := self._next()) is not None:
            block.append(line)
            characters += len(line)
            if len(block) == BLOCK_LINES or characters >= BLOCK_CHARACTERS or self._pauses():
                yield block
                block, characters = [], 0
        if block:
            yield block
        if isinstance(self._error, DataError):
            raise self._error
        if self._error is not None:
            reason = getattr(self._error, "strerror", None) or self._error
            raise DataError(f"{self.name}: cannot be read after line {self._number}: {reason}")

    def check(self) -> int | None:
        """Read a file once before the work, and return to its start.

        With ``strict``, one line that is not UTF-8 is too many, otherwise :data:`BAD_LINES` that are :data:`BAD_SHARE`
        of the lines.

        Returns:
            The number of its lines; None for what can be read only once.

        Raises:
            DataError: the file is refused.
        """
        if not _is_file(self._stream, self._descriptor):
            return None
        start = self._stream.tell()
        count = bad = 0
        while not self._ended:
            self._fill()
            while self._lines:
                count += 1
                bad += not _is_text(*self._lines.popleft())
        self._ended, self._error = False, None
        self._stream.seek(start)
        if bad and (self.strict or (bad >= BAD_LINES and bad >= BAD_SHARE * count)):
            for _ in read_lines(self._stream, self.name):  # names the first such line
                pass
        return count

    # --------------------------------------------------------------------------------------------------------- reading

    def _next(self) -> str | None:
        while not self._lines and not self._ended:
            if self.waiting is not None and not self._length:  # in the middle of a line, Ctrl-D only flushes it
                self.waiting()
            self._fill()
        if not self._lines:
            return None
        try:
            return self._text(*self._lines.popleft())
        except DataError as error:
            self._lines.clear()
            self._ended, self._error = True, error
            return None

    def _pauses(self) -> bool:
        """Whether no further line arrives at once."""
        while not self._lines and not self._ended:
            if not self._ready():
                return True
            self._fill()
        return False

    def _ready(self) -> bool:
        if self._descriptor is None:
            return True
        try:
            return bool(select.select([self._descriptor], [], [], PAUSE)[0])
        except (OSError, ValueError):  # cannot be waited for
            return True

    def _fill(self) -> None:
        try:
            data = self._stream.read1(CHUNK)
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            self._ended, self._error = True, error
            return
        *complete, rest = data.split(b"\n")
        for part in complete:
            self._extend(part)
            self._complete()
        self._extend(rest)
        if not data:
            self._ended = True
            if self._length and not (self._rest == BOM and not self._number):  # a byte order mark alone is no line
                self._complete()

    def _extend(self, part: bytes) -> None:
        self._length += len(part)
        self._rest += part[: max(0, MAX_LINE - len(self._rest))]

    def _complete(self) -> None:
        self._lines.append((bytes(self._rest), self._length))
        self._rest.clear()
        self._length = 0

    def _text(self, line: bytes, length: int) -> str:
        self._number += 1
        if self._number == 1 and not self.keep:
            line = line.removeprefix(BOM)
        if length > MAX_LINE:
            self.notice(Notice(self._number, "very long line cut", f"{length:,} bytes, {MAX_LINE:,} kept"))
        decoder = codecs.getincrementaldecoder(self.encoding)
        whole = length <= MAX_LINE  # the last character of a line that is cut may be half of one
        try:
            text = decoder().decode(line, final=whole)
        except UnicodeDecodeError as error:
            text = decoder("replace").decode(line, final=whole)
            where = f"byte 0x{line[error.start]:02x} at byte {error.start + 1}"
            self._replaced("not valid UTF-8", where)
        if "\0" in text:
            text = text.replace("\0", "\ufffd")
            self._replaced("NUL characters", "is it a text file?")
        return text if self.keep else text.removesuffix("\r")

    def _replaced(self, what: str, detail: str) -> None:
        if self.strict:
            advice = "correct the line, or replace such text by U+FFFD: leave out --strict"
            raise DataError(f"{self.name}:{self._number}: {what} ({detail}); {advice}")
        self.notice(Notice(self._number, f"{what}, replaced by U+FFFD", detail))


def read_document(stream: IO[bytes], name: str, notice: Callable[[Notice], None], strict: bool = False) -> str:
    """A whole document, decoded so that ``encode("utf-8", "surrogateescape")`` gives its bytes.

    Args:
        notice: called for each line that is not text.

    Raises:
        DataError: it cannot be read, or has as many lines that are not UTF-8 as :meth:`LineStream.check` refuses.
    """
    chunks: list[bytes] = []
    source: Any = stream
    try:
        while chunk := source.read1(CHUNK):
            chunks.append(chunk)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    data = b"".join(chunks)
    bad = [(n, line) for n, line in enumerate(data.split(b"\n"), 1) if not _is_text(line, len(line))]
    if bad and (strict or (len(bad) >= BAD_LINES and len(bad) >= BAD_SHARE * data.count(b"\n"))):
        raise DataError(line_problem(name, *bad[0]))
    for number, line in bad:
        what, detail = "NUL characters", "is it a text file?"
        try:
            line.decode()
        except UnicodeDecodeError as error:
            what, detail = "not valid UTF-8", f"byte 0x{line[error.start]:02x} at byte {error.start + 1}"
        notice(Notice(number, f"{what}, replaced by U+FFFD in text and kept elsewhere", detail))
    return data.decode("utf-8", "surrogateescape")


def _descriptor(stream: IO[bytes]) -> int | None:
    try:
        return stream.fileno()
    except OSError:  # bytes in memory
        return None


def _is_file(stream: IO[bytes], descriptor: int | None) -> bool:
    return stream.seekable() and (descriptor is None or stat.S_ISREG(os.fstat(descriptor).st_mode))


def _is_text(line: bytes, length: int) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(line, final=length <= MAX_LINE)
    except UnicodeDecodeError:
        return False
    return b"\0" not in line
