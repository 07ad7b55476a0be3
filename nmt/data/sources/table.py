"""The columns of a table that hold the pairs, and a first row that names the columns."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from itertools import zip_longest

from nmt.config.sources import Table
from nmt.data.sources.base import Reading
from nmt.data.sources.headings import are_names, like_names, names_one_language
from nmt.data.sources.headings import columns as columns_named
from nmt.errors import DataError, SettingsError
from nmt.numbers import count_of

log = logging.getLogger(__name__)

SAMPLE = 20  # rows at the start of a table that tell whether it has a header
TITLE_ROWS = 2  # rows above a column of numbers that are titles
_NUMBER = re.compile(r"\s*[-+]?[0-9.,]*[0-9][0-9.,]*(?:[eE][-+]?[0-9]+)?%?\s*")
_MISSING = {"n/a", "na", "nan", "none", "null", "nil", "inf", "unknown", "missing"}
Columns = tuple[int | str, int | str]


def choose_columns(row: Sequence[str], source: Table, languages: tuple[str, str], where: str) -> Columns:
    """The columns of a table, by the first row where the configuration names none.

    A column that is not given is the one whose heading means its side (:func:`nmt.data.sources.headings.columns`), or
    else the first for the source and the second for the target.

    Raises:
        DataError: two columns have the same heading.
    """
    given = (source.src_column, source.tgt_column)
    codes = columns_named(row, languages)
    by_name = source.header is not False and (
        any(isinstance(column, str) for column in given)
        or all(column is not None or code is not None for column, code in zip(given, codes, strict=True))
    )
    found: list[int | str] = []
    for place, (column, code) in enumerate(zip(given, codes, strict=True)):
        if column is not None:
            found.append(column)
        else:
            found.append((code or languages[place]) if by_name else place)
        if isinstance(found[-1], str) and (count := list(row).count(found[-1])) > 1:
            raise DataError(f"{where}: names column '{found[-1]}' {count} times; rename all but one")
    if by_name and source.src_column is None and source.tgt_column is None:
        tell_columns(where, codes, languages)
    return found[0], found[1]


def tell_columns(where: str, found: Sequence[str | None], languages: tuple[str, str]) -> None:
    """Log which columns were found by their names, unless the names are the language codes."""
    if [str(name).strip().lower() for name in found] != [language.lower() for language in languages]:
        names = (" ".join(str(name).split()) for name in found)
        log.info("%s: source column '%s', target column '%s'", where, *names)


def column_numbers(row: Sequence[str], columns: Columns, where: str, form: str, advice: str = "") -> tuple[int, int]:
    """The numbers of the source and the target column in a row.

    Args:
        form: of the columns, for messages, such as ``tab-separated``.
        advice: for a row with too few columns.

    Raises:
        DataError: the row has no such column.
    """
    numbers = []
    for column in columns:
        if isinstance(column, int):
            numbers.append(column)
        elif column in row:
            numbers.append(row.index(column))
        else:
            raise SettingsError(f"{where}: no column '{column}'; the header names: {', '.join(row)}")
    if len(row) <= max(numbers):
        raise SettingsError(
            f"{where}: has {count_of(len(row), f'{form}column')}, but src_column is {columns[0]} and tgt_column "
            f"{columns[1]}, counted from 0{advice}"
        )
    return numbers[0], numbers[1]


def column_number(row: Sequence[str], column: int | str, where: str) -> int:
    """The number of one more column in a row.

    Raises:
        DataError: the row has no such column.
    """
    if isinstance(column, str) and column not in row:
        raise DataError(f"{where}: no column '{column}'; the header names: {', '.join(row)}")
    number = column if isinstance(column, int) else list(row).index(column)
    if number >= len(row):
        raise DataError(f"{where}: has {count_of(len(row), 'column')}, but no column {column}, counted from 0")
    return number


def has_header(
    rows: Sequence[tuple[int, Sequence[str]]],
    source: Table,
    columns: Sequence[int | str],
    numbers: tuple[int, int],
    where: str,
    read: Reading,
) -> bool:
    """Whether the first of the rows is a header; the rows below it are checked as well.

    Args:
        rows: the first ones, with their numbers in the file.

    Raises:
        DataError: the row, or one below it, looks like a header, and ``header`` does not say whether it is one; or a
            column has no text, see :func:`_check_numbers`.
    """
    header = _is_header(rows, source, columns, numbers, where, read)
    _check_numbers([cells for _, cells in rows[header:]], source, numbers, where, read)
    return header


def _is_header(
    rows: Sequence[tuple[int, Sequence[str]]],
    source: Table,
    columns: Sequence[int | str],
    numbers: tuple[int, int],
    where: str,
    read: Reading,
) -> bool:
    if source.header is not None:
        return source.header
    if any(isinstance(column, str) for column in columns):
        return True
    if not read.lenient:
        _check_header([cells for _, cells in rows], numbers, read.languages, where)
        named = [(number, row) for number, row in rows[1:] if None not in columns_named(row, read.languages)]
        if named and not _are_given(source):
            number, row = named[0]
            shown = ", ".join(cell[:40] for cell in row if cell)
            raise SettingsError(
                f"{where}: a row below looks like a header ({shown}); set skip_rows: {number - 1} to skip the rows "
                "above it, or header: false if it is a pair of sentences"
            )
    return False


def _are_given(source: Table) -> bool:
    """Whether the configuration names a column; a run that was started names those that it reads."""
    names = {"src_column", "tgt_column"} & source.model_fields_set
    return any(getattr(source, name) is not None for name in names)


def _check_numbers(
    rows: Sequence[Sequence[str]], source: Table, numbers: tuple[int, int], where: str, read: Reading
) -> None:
    """Refuse a column without text that is read as sentences by default, where another column contains text.

    Args:
        rows: the first ones, without the header.
        numbers: of the columns of source and target.

    Raises:
        DataError: see above.
    """
    if read.lenient or _are_given(source) or len(rows) < 3:
        return
    columns = list(zip_longest(*rows, fillvalue=""))
    worded = [sum(any(map(str.isalpha, cell)) for cell in column) > len(rows) / 2 for column in columns]
    text = [place for place, is_text in enumerate(worded) if is_text]
    for place in numbers:
        filled = [cell for cell in columns[place] if cell.strip()] if place < len(columns) else []
        numbered = sum(bool(_NUMBER.fullmatch(cell)) for cell in filled)
        if set(text) - {*numbers} and numbered >= max(len(filled) - TITLE_ROWS, len(filled) / 2):
            found = "contains numbers, not sentences" if filled else "is empty"
            titled = " and header: true, if the first row is a header" if numbered < len(filled) else ""
            raise SettingsError(
                f"{where}: column {place} {found}; set src_column and tgt_column, counted from 0 "
                f"(columns of text: {', '.join(map(str, text))}){titled}"
            )


def _check_header(
    rows: Sequence[Sequence[str]], columns: tuple[int, int], languages: tuple[str, str], where: str
) -> None:
    """Detect a header row: by its words, or as the only row without a number in some columns.

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
    if are_names(cells, languages) or names_one_language(cells, languages) or above_numbers > 1:
        raise SettingsError(
            f"{where}: looks like a header ({named}); set header: true to skip it, or header: false if it is a "
            "pair of sentences"
        )
    if above_numbers or like_names(cells, languages):
        log.warning(
            "warning: %s: may be a header (%s) and is read as a pair; set header: true if it is one", where, named
        )
