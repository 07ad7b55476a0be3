"""The interface of a kind of source, and readers that several kinds share."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, Any, Literal, Protocol, Self, TypeVar

from nmt.config.data import DataConfig
from nmt.config.sources import Paths, as_list
from nmt.data.file_hashes import Entry, FileHashes
from nmt.data.formats import foreign
from nmt.data.lines import cannot_open, check_regular, filter_command, open_text, packed_by, read_lines
from nmt.data.modifiers import parse_links
from nmt.errors import BadRowError, DataError
from nmt.numbers import count_of

log = logging.getLogger(__name__)

Pairs = Iterator[tuple[str, str]]
SHOWN = 3  # skipped rows of a file that are shown

# Bounds of the weight of a pair: ratios of weights are normal numbers in float32, so that no update weighs 0.
LIGHTEST, HEAVIEST = 1e-12, 1e12


@dataclass
class Beside:
    """What a source has beside the pair that it yielded last; a source without such columns never changes it.

    Attributes:
        weight: of the pair in the loss.
        links: word alignments, as they are written.
    """

    weight: float = 1.0
    links: str = ""

    def clear(self) -> None:
        self.weight, self.links = 1.0, ""

    def set(self, where: str, weight: Any = None, links: str | None = None) -> None:
        """Keep the values of a pair that is about to be yielded; None is left as it is.

        Raises:
            DataError: a value has another form.
        """
        if weight is not None:
            try:
                self.weight = float(weight) if not isinstance(weight, bool) else math.nan
            except (TypeError, ValueError):
                self.weight = math.nan
            if not LIGHTEST <= self.weight <= HEAVIEST:
                found = 0.0 < self.weight < math.inf
                rule = f"from {LIGHTEST:g} to {HEAVIEST:g}, as only ratios of weights count" if found else "above 0"
                raise DataError(f"{where}: the weight is {str(weight)[:40]!r}; it must be a number {rule}")
        if links is not None:
            try:
                parse_links(links)
            except ValueError:
                raise DataError(f"{where}: the word alignments are {links[:40]!r}; write them as 0-0 1-2") from None
            self.links = links


@dataclass(frozen=True)
class Reading:
    """How to read a source.

    Attributes:
        languages: codes of the source and the target language, the default names of columns.
        lenient: see ``data.reading``.
        counts: filled with the number of lines of each file read to its end; None if not needed.
        skipped: filled with the number of rows of each file that were skipped; None if not needed.
        beside: what the source has beside the last pair.
    """

    languages: tuple[str, str]
    lenient: bool = False
    counts: dict[str, int] | None = None
    skipped: dict[str, int] | None = None
    beside: Beside = field(default_factory=Beside)

    @classmethod
    def of(cls, data: DataConfig, counts: dict[str, int] | None = None, skipped: dict[str, int] | None = None) -> Self:
        return cls((data.src_lang, data.tgt_lang), data.reading == "lenient", counts, skipped)


class SourceKind(Protocol):
    """What the module of a kind of source defines. ``source`` is the section of its kind in the configuration."""

    def read(self, source: Any, reading: Reading) -> Pairs:
        """The sentence pairs, in order.

        Raises:
            DataError: something is missing, unreadable or inconsistent; the message names file and line.
        """

    def describe(self, source: Any, hashes: FileHashes, reading: Reading) -> list[Entry]:
        """The content: an entry for each file, after or instead of one for the settings of the source.

        The entries are part of the name of a corpus in the store. Equal entries must mean equal pairs: a change of how
        a kind is read raises its number in :data:`nmt.data.provenance.READING`.

        Raises:
            DataError: the content cannot be read.
        """

    def name(self, source: Any) -> str:
        """What messages call the source."""


# ------------------------------------------------------------------------------------------------------- files


@contextmanager
def open_file(path: str) -> Iterator[IO[bytes]]:
    """Open a file of a corpus.

    Raises:
        DataError: the file cannot be opened, or is no regular file.
    """
    try:
        check_regular(path, os.stat(path).st_mode)
    except OSError as error:
        raise DataError(cannot_open(path, error)) from None
    with open_text(path) as file:
        yield file


def of_another_kind(path: str, head: bytes, wanted: str) -> str:
    """The message for a file that is not ``wanted``, such as "a Parquet file", by its first bytes."""
    if packed := packed_by(head):
        what, ending = packed
        return (
            f"{path}: is packed by {what}, and is not {wanted}; end its name in that of its content, as in .tsv{ending}"
        )
    known = foreign(head, lambda encoding: filter_command(path, f"iconv -f {encoding} -t UTF-8", "utf8"))
    return f"{path}: {known or f'is not {wanted}; name one, or set the kind to that of the file'}"


def file_lines(path: str, counts: dict[str, int] | None = None, bad: BadRows | None = None) -> Iterator[str]:
    """The lines of a file of text, plain or compressed.

    Args:
        counts: see :class:`Reading`.
        bad: what to do with lines that cannot be read, see :func:`nmt.data.lines.read_lines`.

    Raises:
        DataError: see :func:`nmt.data.lines.read_lines`; also if the path is no regular file.
    """
    with open_file(path) as file:
        yield from read_lines(file, path, counts, bad if bad and bad.skip else None)


class BadRows:
    """The rows of one file that cannot be read: the first is an error, or all are counted and skipped.

    Args:
        path: of the file.
        mode: see ``on_bad_row``.
    """

    def __init__(self, path: str, mode: Literal["error", "skip"], reading: Reading):
        self.path, self.skip, self.reading = path, mode == "skip", reading
        self.count = 0

    def __call__(self, problem: str) -> None:
        """Report one row.

        Raises:
            BadRowError: such rows are not skipped.
        """
        if not self.skip:
            raise BadRowError(problem)
        self.count += 1
        if self.count <= SHOWN:
            log.warning("warning: skipped: %s", problem)

    def close(self) -> None:
        """Log the number of skipped rows, at the end of the file."""
        if self.count:
            log.warning("warning: %s: skipped %s that cannot be read", self.path, count_of(self.count, "row"))
            if self.reading.skipped is not None:
                self.reading.skipped[self.path] = self.count


class FilesSection(Protocol):
    """The keys that sections of files share."""

    @property
    def path(self) -> Paths: ...
    @property
    def on_bad_row(self) -> Literal["error", "skip"]: ...


FilesT = TypeVar("FilesT", bound=FilesSection)


def read_files(source: FilesT, reading: Reading, pairs: Callable[[str, FilesT, Reading, BadRows], Pairs]) -> Pairs:
    """The pairs of the files of a source, one after the other; ``pairs`` reads one of them."""
    for path in as_list(source.path):
        bad = BadRows(path, source.on_bad_row, reading)
        yield from pairs(path, source, reading, bad)
        bad.close()


def describe_files(source: FilesSection, hashes: FileHashes, reading: Reading) -> list[Entry]:
    """:meth:`SourceKind.describe` of a kind whose files are all that its pairs depend on."""
    return [hashes.entry(path) for path in as_list(source.path)]


def first_file(source: FilesSection) -> str:
    """:meth:`SourceKind.name` of a kind that reads files."""
    return as_list(source.path)[0]


# ------------------------------------------------------------------------------------------------------- cells


def one_line(text: str) -> str:
    """The text of a cell with each end of a line replaced by a space, because a sentence is one line."""
    if "\n" not in text and "\r" not in text:
        return text
    return text.replace("\r\n", " ").replace("\n", " ").replace("\r", " ")


def lookup(value: Any, key: str) -> Any:
    """The value of a dotted key in nested mappings. A key that contains dots itself is found before it is split.

    Raises:
        KeyError: no such key.
    """
    if not isinstance(value, Mapping):
        raise KeyError(key)
    if key in value:
        return value[key]
    for place, char in enumerate(key):
        if char == "." and key[:place] in value:
            with suppress(KeyError):
                return lookup(value[key[:place]], key[place + 1 :])
    raise KeyError(key)
