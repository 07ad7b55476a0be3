"""Two text files: line n of one is the translation of line n of the other."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from nmt.config.languages import code_named
from nmt.config.sources import TextSource, as_list
from nmt.data.file_hashes import Entry, FileHashes
from nmt.data.formats import not_sentences
from nmt.data.lines import UNREADABLE
from nmt.data.modifiers import parse_links
from nmt.data.sources.base import BadRows, Pairs, Reading, file_lines
from nmt.data.sources.headings import TITLES, like_names
from nmt.errors import DataError
from nmt.numbers import count_of

log = logging.getLogger(__name__)

_LINE_BY_LINE = "line n of the alignments must be that of pair n"
SAMPLE = 20  # lines at the start of a file that tell what it holds


def read(source: TextSource, reading: Reading) -> Pairs:
    paths = [as_list(side) for side in (source.src, source.tgt, source.alignments) if side is not None]
    for files in zip(*paths, strict=True):
        sides = [Side.of_file(path, source, reading) for path in files]
        src, tgt, *links = sides
        yield from pairs(src, tgt, reading, links[0] if links else None)
        for side in sides:
            side.bad.close()


def describe(source: TextSource, hashes: FileHashes, reading: Reading) -> list[Entry]:
    files = [*as_list(source.src), *as_list(source.tgt), *as_list(source.alignments or [])]
    return [hashes.entry(path) for path in files]


def name(source: TextSource) -> str:
    return f"{as_list(source.src)[0]} and {as_list(source.tgt)[0]}"


@dataclass(frozen=True)
class Side:
    """The lines of one language: the name of their file, the lines, and what to do with those that cannot be read."""

    name: str
    lines: Iterator[str]
    bad: BadRows

    @classmethod
    def of_file(cls, path: str, source: TextSource, reading: Reading) -> Side:
        bad = BadRows(path, source.on_bad_row, reading)
        return cls(path, file_lines(path, reading.counts, bad), bad)


def pairs(src_side: Side, tgt_side: Side, reading: Reading, links: Side | None = None) -> Pairs:
    """The pairs of two sequences of lines.

    Args:
        links: the lines of their word alignments, which ``reading.beside`` has of each pair that is yielded.

    Raises:
        DataError: they have different numbers of lines, hold no sentences, or links to words that a line lacks.
    """
    src_path, tgt_path = src_side.name, tgt_side.name
    src_lines, tgt_lines = (_checked(side, reading) for side in (src_side, tgt_side))
    number = -1
    for number, (src, tgt) in enumerate(itertools.zip_longest(src_lines, tgt_lines)):
        if src is None or tgt is None:
            rest, blank = 1, not (src or tgt)
            for line in tgt_lines if src is None else src_lines:
                rest, blank = rest + 1, blank and not line.strip()
            src_count, tgt_count = (number, number + rest) if src is None else (number + rest, number)
            advice = f"; delete the blank lines at the end of {tgt_path if src is None else src_path}"
            raise DataError(
                f"{src_path} has {count_of(src_count, 'line')} but {tgt_path} has {tgt_count:,}; "
                f"line n of one must translate line n of the other{advice if blank else ''}"
            )
        if number == 0 and like_names((src, tgt), reading.languages):
            log.warning(
                "warning: %s:1 and %s:1 look like headings (%s, %s) and are read as a pair; delete both lines if so",
                src_path,
                tgt_path,
                src,
                tgt,
            )
        linked = links is None or _read_links(links, number + 1, src, tgt, src_path, reading)
        if src != UNREADABLE and tgt != UNREADABLE and linked:
            yield src, tgt
    if links is not None and (rest := sum(1 for _ in links.lines)):
        raise DataError(
            f"{links.name} has {count_of(number + 1 + rest, 'line')} but {src_path} has {number + 1:,}; {_LINE_BY_LINE}"
        )


def _read_links(links: Side, number: int, src: str, tgt: str, src_path: str, reading: Reading) -> bool:
    """Keep the word alignments of line ``number`` beside its pair; return whether they can be read.

    Raises:
        DataError: the file ends before the sentences, or the line has another form and such lines are not skipped.
    """
    line = next(links.lines, None)
    if line is None:
        raise DataError(f"{links.name} has {count_of(number - 1, 'line')}, fewer than {src_path}; {_LINE_BY_LINE}")
    if line == UNREADABLE:
        return False
    where, counts = f"{links.name}:{number}", (len(src.split()), len(tgt.split()))
    try:
        reading.beside.set(where, links=line)
        for link in parse_links(line):
            for side, word, count in zip(("source", "target"), link, counts, strict=True):
                if word >= count:
                    shown = f"{link[0]}-{link[1]}"
                    raise DataError(f"{where}: {shown}: the {side} line has {count_of(count, 'word')}, counted from 0")
    except DataError as error:
        links.bad(str(error))
        return False
    return True


def _checked(side: Side, reading: Reading) -> Iterator[str]:
    """The lines of a file, with a warning if they look like records of another kind of source.

    Raises:
        DataError: they are certainly no sentences, and ``lenient`` is not set.
    """
    path, lines = side.name, side.lines
    first = list(islice(lines, SAMPLE))
    if problem := not_sentences(path, first, {*TITLES, *code_named(), *map(str.lower, reading.languages)}):
        if not reading.lenient:
            raise DataError(f"{path}: {problem}")
        log.warning("warning: %s: %s", path, problem)
        return itertools.chain(first, lines)
    if first and first[0].startswith("{") and isinstance(_json_or_none(first[0]), dict):
        log.warning("warning: %s:1: is a JSON object, read as a sentence; kind: jsonl reads JSON lines", path)
    tabs = {line.count("\t") for line in first if line.strip()}
    if len(first) > 1 and len(tabs) == 1 and tabs != {0}:
        log.warning("warning: %s: has a tab in every line, read as white space; kind: tsv reads columns", path)
    return itertools.chain(first, lines)


def _json_or_none(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
