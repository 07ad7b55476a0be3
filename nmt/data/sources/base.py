"""The interface of a kind of source, and readers that several kinds share."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from nmt.config.data import DataConfig
from nmt.data.file_hashes import Entry, FileHashes
from nmt.data.lines import cannot_open, check_regular, open_text, read_lines
from nmt.errors import DataError

Pairs = Iterator[tuple[str, str]]


@dataclass(frozen=True)
class Reading:
    """How to read a source.

    Attributes:
        languages: codes of the source and the target language, the default names of columns.
        lenient: see ``data.reading``.
        counts: filled with the number of lines of each file read to its end; None if not needed.
    """

    languages: tuple[str, str]
    lenient: bool = False
    counts: dict[str, int] | None = None

    @classmethod
    def of(cls, data: DataConfig, counts: dict[str, int] | None = None) -> Reading:
        return cls((data.src_lang, data.tgt_lang), data.reading == "lenient", counts)


class SourceKind(Protocol):
    """What the module of a kind of source defines. ``source`` is the section of its kind in the configuration."""

    def read(self, source: Any, reading: Reading) -> Pairs:
        """The sentence pairs, in order.

        Raises:
            DataError: something is missing, unreadable or inconsistent; the message names file and line.
        """

    def describe(self, source: Any, hashes: FileHashes, reading: Reading) -> list[Entry]:
        """The content: an entry for each file, after or instead of one for the settings of the source.

        The entries are part of the name of a corpus in the store. Equal entries must mean equal pairs.

        Raises:
            DataError: the content cannot be read.
        """

    def name(self, source: Any) -> str:
        """What messages call the source."""


# ------------------------------------------------------------------------------------------------------- files


def file_lines(path: str, counts: dict[str, int] | None = None) -> Iterator[str]:
    """The lines of a file of text, plain or compressed.

    Args:
        counts: see :class:`Reading`.

    Raises:
        DataError: see :func:`nmt.data.lines.read_lines`; also if the path is no regular file.
    """
    try:
        check_regular(path, os.stat(path).st_mode)
    except OSError as error:
        raise DataError(cannot_open(path, error)) from None
    with open_text(path) as file:
        yield from read_lines(file, path, counts)


# ------------------------------------------------------------------------------------------------------- cells


def one_line(text: str) -> str:
    """The text of a cell with each newline replaced by a space, because a sentence is one line."""
    return text.replace("\r\n", " ").replace("\n", " ") if "\n" in text else text


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
