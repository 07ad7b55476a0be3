"""Sentence pairs from every kind of source.

To add a kind, write its section, a subclass of :class:`~nmt.config.sources.SourceSection`, in the configuration, and a
module here that is named like the kind and has the functions of :class:`~nmt.data.sources.base.SourceKind`.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import cast

from nmt.config.sources import HoldoutSource, Source
from nmt.data.file_hashes import Entry, FileHashes
from nmt.data.provenance import key_settings
from nmt.data.sources.base import Pairs, Reading, SourceKind

log = logging.getLogger(__name__)


def reader(source: Source) -> SourceKind:
    """The module that reads a source."""
    return cast(SourceKind, import_module(f"{__name__}.{source.kind}"))


def read_pairs(source: Source, reading: Reading) -> Pairs:
    """The sentence pairs of a source, in order.

    A sentence is one line: a newline inside a sentence (JSON and parquet allow it) becomes a space.

    Raises:
        DataError: something is missing, unreadable or inconsistent; the message names file and line.
    """
    kind = reader(source)
    pairs = equal = 0
    for pair in kind.read(source, reading):
        pairs += 1
        if pair[0] == pair[1]:
            equal += 1
        yield pair
    if pairs > 1 and equal > pairs / 2:
        log.warning(
            "warning: %s: source and target are equal in %s of %s pairs; check the files or columns that it names",
            kind.name(source),
            f"{equal:,}",
            f"{pairs:,}",
        )


def describe(source: Source | HoldoutSource, hashes: FileHashes, reading: Reading) -> list[Entry]:
    """The content of a source: an entry for each file, after or instead of one for the settings of the source.

    Raises:
        DataError: the content cannot be read.
    """
    if isinstance(source, HoldoutSource):
        return [key_settings(source)]
    return reader(source).describe(source, hashes, reading)
