"""Tab-separated files: two columns hold the pairs."""

from __future__ import annotations

import itertools
import logging
import re
import shlex
from collections.abc import Iterable
from itertools import islice

from nmt.config.data import TsvSource, as_list
from nmt.data.file_hashes import Entry, FileHashes
from nmt.data.sources.base import Pairs, Reading, file_lines
from nmt.data.sources.headings import are_names, like_names
from nmt.errors import DataError

log = logging.getLogger(__name__)

SAMPLE = 20  # lines at the start of a file that tell whether it has a header
_NUMBER = re.compile(r"\s*[-+]?[0-9.,]*[0-9][0-9.,]*(?:[eE][-+]?[0-9]+)?%?\s*")
_MISSING = {"n/a", "na", "nan", "none", "null", "nil", "inf", "unknown", "missing"}


def read(source: TsvSource, reading: Reading) -> Pairs:
    for path in as_list(source.path):
        yield from _pairs(path, source, reading)


def describe(source: TsvSource, hashes: FileHashes, reading: Reading) -> list[Entry]:
    return [hashes.entry(path) for path in as_list(source.path)]


def name(source: TsvSource) -> str:
    return as_list(source.path)[0]


def _pairs(path: str, source: TsvSource, reading: Reading) -> Pairs:
    # Skip blank lines, which editors and concatenation leave. A blank line with a tab has empty cells.
    lines = (
        (number, line)
        for number, line in enumerate(file_lines(path, reading.counts), 1)
        if line and (not line.isspace() or "\t" in line)
    )
    first = list(islice(lines, SAMPLE))
    if not first:
        return
    rows = [line.split("\t") for _, line in first]
    where = f"{path}:{first[0][0]}"
    columns = _column_numbers(rows[0], source, where)
    header = source.header
    if header is None:
        header = isinstance(source.src_column, str) or isinstance(source.tgt_column, str)
        if not header and not reading.lenient:
            _check_header(rows, columns, reading.languages, where)
    yield from _cells(path, itertools.chain(first[header:], lines), columns, len(rows[0]), reading.lenient)


def _cells(path: str, lines: Iterable[tuple[int, str]], columns: tuple[int, int], width: int, lenient: bool) -> Pairs:
    """The cells of two columns of numbered lines, which all have ``width`` columns."""
    src, tgt = columns
    quoted = False
    for number, line in lines:
        cells = line.split("\t")
        if len(cells) != width and (not lenient or len(cells) <= max(src, tgt)):
            raise DataError(_other_width(path, number, len(cells), width))
        if '""' in line and not quoted and any(re.fullmatch('".*"".*"', cell) for cell in (cells[src], cells[tgt])):
            quoted = True
            log.warning("warning: %s:%d: has quotation marks as a spreadsheet sets them, kept as text", path, number)
        yield cells[src], cells[tgt]


def _column_numbers(row: list[str], source: TsvSource, where: str) -> tuple[int, int]:
    """The numbers of the source and the target column in a row."""
    numbers = []
    for column in (source.src_column, source.tgt_column):
        if isinstance(column, int):
            numbers.append(column)
        elif column in row:
            numbers.append(row.index(column))
        else:
            raise DataError(f"{where}: no column '{column}'; the header names: {', '.join(row)}")
    if len(row) <= max(numbers):
        advice = ""
        if len(row) == 1 and row[0].startswith("{"):
            advice = "; JSON lines are kind: jsonl"
        elif len(row) == 1 and re.search("[,;]", row[0]):
            advice = "; comma-separated files (CSV) are kind: hub"
        raise DataError(
            f"{where}: has {len(row)} tab-separated column(s), but src_column is {source.src_column} "
            f"and tgt_column {source.tgt_column}, counted from 0{advice}"
        )
    return numbers[0], numbers[1]


def _other_width(path: str, number: int, found: int, width: int) -> str:
    name = shlex.quote(path)
    return (
        f"{path}:{number}: has {found} tab-separated column(s), the lines before it {width}; correct it (a tab in a "
        f"sentence?) or drop such lines: awk -F '\\t' 'NF == {width}' {name} > {shlex.quote(path + '.clean')}"
    )


def _check_header(rows: list[list[str]], columns: tuple[int, int], languages: tuple[str, str], where: str) -> None:
    """Find a first row that names the columns: by its words, or as the only row without a number in some columns.

    Raises:
        DataError: the names are those of two columns, or several columns hold numbers below the first row.
    """
    cells = [rows[0][column] for column in columns]
    others = [row for row in rows[1:] if len(row) == len(rows[0])]
    above_numbers = 0
    for place, cell in enumerate(rows[0]):
        if place in columns or len(others) < 3 or not all(_NUMBER.fullmatch(row[place]) for row in others):
            continue
        if _NUMBER.fullmatch(cell) or cell.strip().lower() in _MISSING or not any(map(str.isalpha, cell)):
            above_numbers = 0  # a row of numbers is no header, whatever its other cells say
            break
        above_numbers += 1
    named = ", ".join(cell[:40] for cell in rows[0])
    if are_names(cells, languages) or above_numbers > 1:
        raise DataError(
            f"{where}: looks like a header ({named}); set header: true to leave it out, or header: false if it is a "
            "pair of sentences"
        )
    if above_numbers or like_names(cells, languages):
        log.warning(
            "warning: %s: may be a header (%s) and is read as a pair; set header: true if it is one", where, named
        )
