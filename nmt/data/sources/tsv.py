"""Tab-separated files: two columns hold the pairs."""

from __future__ import annotations

import itertools
import logging
import re
import shlex
from collections.abc import Iterable
from itertools import islice

from nmt.config.data import TsvSource
from nmt.data.lines import UNREADABLE
from nmt.data.sources.base import BadRows, Pairs, Reading, describe_files, file_lines, first_file, read_files
from nmt.data.sources.table import SAMPLE, column_numbers, has_header

log = logging.getLogger(__name__)


def read(source: TsvSource, reading: Reading) -> Pairs:
    return read_files(source, reading, _pairs)


describe, name = describe_files, first_file


def _pairs(path: str, source: TsvSource, reading: Reading, bad: BadRows) -> Pairs:
    # Skip blank lines, which editors and concatenation leave. A blank line with a tab has empty cells.
    lines = (
        (number, line)
        for number, line in enumerate(file_lines(path, reading.counts, bad), 1)
        if line and line != UNREADABLE and (not line.isspace() or "\t" in line)
    )
    first = list(islice(lines, SAMPLE))
    if not first:
        return
    rows = [line.split("\t") for _, line in first]
    where = f"{path}:{first[0][0]}"
    columns = source.src_column, source.tgt_column
    numbers = column_numbers(rows[0], columns, where, "tab-separated ", _advice(rows[0]))
    header = has_header(rows, source, columns, numbers, where, reading)
    yield from _cells(itertools.chain(first[header:], lines), numbers, len(rows[0]), reading.lenient, bad)


def _cells(
    lines: Iterable[tuple[int, str]], columns: tuple[int, int], width: int, lenient: bool, bad: BadRows
) -> Pairs:
    """The cells of two columns of numbered lines, which all have ``width`` columns."""
    src, tgt = columns
    quoted = False
    for number, line in lines:
        cells = line.split("\t")
        if len(cells) != width and (not lenient or len(cells) <= max(src, tgt)):
            bad(_other_width(bad.path, number, len(cells), width))
            continue
        if '""' in line and not quoted and any(re.fullmatch('".*"".*"', cell) for cell in (cells[src], cells[tgt])):
            quoted = True
            text = "has quotation marks as a spreadsheet sets them, kept as text; kind: csv removes them"
            log.warning("warning: %s:%d: %s", bad.path, number, text)
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
        f"{path}:{number}: has {found} tab-separated column(s), the lines before it {width}; correct it (a tab in a "
        f"sentence?) or drop such lines: awk -F '\\t' 'NF == {width}' {name} > {shlex.quote(path + '.clean')}"
    )
