"""Tab-separated files: two columns hold the pairs."""

from __future__ import annotations

import itertools
import logging
import re
import shlex
from collections.abc import Iterable, Sequence
from itertools import islice

from nmt.config.sources import TsvSource
from nmt.data.lines import UNREADABLE
from nmt.data.sources.base import BadRows, Pairs, Reading, describe_files, file_lines, first_file, read_files
from nmt.data.sources.table import SAMPLE, column_number, column_numbers, has_header
from nmt.errors import DataError
from nmt.numbers import count_of

log = logging.getLogger(__name__)


def read(source: TsvSource, reading: Reading) -> Pairs:
    return read_files(source, reading, _pairs)


describe, name = describe_files, first_file


def _pairs(path: str, source: TsvSource, reading: Reading, bad: BadRows) -> Pairs:
    # Skip blank lines, which editors and concatenation leave. A blank line with a tab has empty cells.
    lines = (
        (number, line)
        for number, line in enumerate(file_lines(path, reading.counts, bad), 1)
        if number > source.skip_rows and line and line != UNREADABLE and (not line.isspace() or "\t" in line)
    )
    first = list(islice(lines, SAMPLE))
    if not first:
        return
    rows = [(number, line.split("\t")) for number, line in first]
    top = rows[0][1]
    where = f"{path}:{first[0][0]}"
    columns = source.src_column, source.tgt_column
    numbers = column_numbers(top, columns, where, "tab-separated ", _advice(top))
    more = source.weight_column, source.alignment_column
    beside = [None if column is None else column_number(top, column, where) for column in more]
    named = (*columns, *(column for column in more if column is not None))
    header = has_header(rows, source, named, numbers, where, reading)
    yield from _cells(itertools.chain(first[header:], lines), numbers, beside, len(top), reading, bad)


def _cells(
    lines: Iterable[tuple[int, str]],
    columns: tuple[int, int],
    beside: Sequence[int | None],
    width: int,
    reading: Reading,
    bad: BadRows,
) -> Pairs:
    """The cells of two columns of numbered lines, which all have ``width`` columns.

    Args:
        beside: columns of weights and word alignments; None where there is none.
    """
    src, tgt = columns
    quoted, needed = False, max(*columns, *(column or 0 for column in beside))
    for number, line in lines:
        cells = line.split("\t")
        if len(cells) != width and (not reading.lenient or len(cells) <= needed):
            bad(_other_width(bad.path, number, len(cells), width))
            continue
        if '""' in line and not quoted and any(re.fullmatch('".*"".*"', cell) for cell in (cells[src], cells[tgt])):
            quoted = True
            text = "has quotation marks as a spreadsheet sets them, kept as text; kind: csv removes them"
            log.warning("warning: %s:%d: %s", bad.path, number, text)
        if beside != [None, None]:
            values = (None if column is None else cells[column] for column in beside)
            try:
                reading.beside.set(f"{bad.path}:{number}", *values)
            except DataError as error:
                bad(str(error))
                continue
        yield cells[src], cells[tgt]


def _advice(row: list[str]) -> str:
    """Advice for a first row with too few columns."""
    if len(row) == 1 and row[0].startswith("{"):
        return "; JSON lines are kind: jsonl"
    if len(row) == 1 and re.search("[,;]", row[0]):
        return "; comma-separated files (CSV) are kind: csv"
    return ""


def _other_width(path: str, number: int, found: int, width: int) -> str:
    name = shlex.quote(path)
    return (
        f"{path}:{number}: has {count_of(found, 'tab-separated column')}, the lines before it {width}; correct it (a "
        f"tab in a sentence?) or drop such lines: awk -F '\\t' 'NF == {width}' {name} > {shlex.quote(path + '.clean')}"
    )
