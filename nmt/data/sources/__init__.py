"""Sentence pairs from every kind of source.

To add a kind, write its section in the configuration and name it in ``nmt.config.Source``; then write a module here
that defines the functions of :class:`~nmt.data.sources.base.SourceKind`, and add the module to :data:`KINDS`.
"""

from __future__ import annotations

import logging

from nmt.config.data import HoldoutSource, Source
from nmt.data.file_hashes import Entry, FileHashes
from nmt.data.provenance import key_settings
from nmt.data.sources import demo, hub, jsonl, text, tsv
from nmt.data.sources.base import Pairs, Reading, SourceKind

log = logging.getLogger(__name__)

KINDS: dict[str, SourceKind] = {"text": text, "tsv": tsv, "jsonl": jsonl, "hub": hub, "demo": demo}


def read_pairs(
    source: Source, src_lang: str, tgt_lang: str, counts: dict[str, int] | None = None, lenient: bool = False
) -> Pairs:
    """The sentence pairs of a source, in order.

    A sentence is one line: a newline inside a sentence (JSON and parquet allow it) becomes a space.

    Args:
        counts: filled with the number of lines of each file read to its end.
        lenient: see ``data.reading``.

    Raises:
        DataError: something is missing, unreadable or inconsistent; the message names file and line.
    """
    kind = KINDS[source.kind]
    pairs = equal = 0
    for pair in kind.read(source, Reading((src_lang, tgt_lang), lenient, counts)):
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


def describe(source: Source | HoldoutSource, hashes: FileHashes, lenient: bool = False) -> list[Entry]:
    """The content of a source: an entry for each file, after or instead of one for the settings of the source.

    Args:
        lenient: see ``data.reading``.

    Raises:
        DataError: the content cannot be read.
    """
    if isinstance(source, HoldoutSource):
        return [key_settings(source)]
    return KINDS[source.kind].describe(source, hashes, lenient)
