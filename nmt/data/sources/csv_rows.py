"""Rows of CSV text, by the strict rules of RFC 4180."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from nmt.data.lines import MAX_LINE, UNREADABLE, filter_command
from nmt.errors import DataError, SettingsError
from nmt.numbers import count_of

SEPARATORS = [",", ";", "\t", "|"]
NAMES = {"\t": "tab", " ": "space"}


def csv_rows(
    lines: Iterable[str],
    path: str,
    sep: str,
    quotes: bool = True,
    bad: Callable[[str], None] | None = None,
    before: int = 0,
    skip_first: bool = False,
) -> Iterator[tuple[int, list[str]]]:
    """The rows of CSV text, each with the number of its first line. Blank lines are left out.

    Lenient readers fill rows with too few cells, shift the cells of files whose rows all have one cell too many, and
    append text after a closing quotation mark to the cell.

    Args:
        quotes: whether a cell may stand in quotation marks; otherwise they are text.
        bad: called with the problem of a row that cannot be read; the row is left out. Default: it is an error.
        before: number of lines above these.
        skip_first: leave out the first line of the file.

    Raises:
        DataError: a row has another number of cells than the first, or ambiguous quotation marks.
    """
    content = _Records(lines, path, sep, bad, before)
    form = {"quoting": csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE, "delimiter": sep, "strict": True}
    width = 0
    rows = csv.reader(content.pieces(), **form)  # type: ignore[arg-type]
    with _long_cells():
        while True:
            content.record.clear()
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                if "expected after" not in str(error):
                    content.bad = None  # what remains cannot be split into rows
                    content.refuse(_OPEN)
                content.refuse(_AFTER)
                continue
            if (skip_first and content.number == 1) or UNREADABLE in content.record:
                continue
            if len(row) < 2 and not (row and row[0].strip()):  # a blank line
                continue
            width = width or len(row)
            if problem := _row_problem(row, content.record, width, sep if quotes else ""):
                content.refuse(problem)
            else:
                yield content.start, row


@contextmanager
def _long_cells() -> Iterator[None]:
    """Let Python's reader take cells as long as a line may be."""
    limit = csv.field_size_limit(MAX_LINE)
    try:
        yield
    finally:
        csv.field_size_limit(limit)


class _Records:
    """The lines of CSV text, which the rows are made of.

    Attributes:
        record: the lines of the current row.
        number: of lines of the file so far.
    """

    def __init__(self, lines: Iterable[str], path: str, sep: str, bad: Callable[[str], None] | None, before: int = 0):
        self.lines, self.path, self.sep, self.bad = lines, path, sep, bad
        self.record: list[str] = []
        self.number = before

    def pieces(self) -> Iterator[str]:
        """The lines in the form that Python's reader takes."""
        for line in self.lines:
            self.number += 1
            self.record.append(line)
            for piece in line.split("\r"):
                yield piece + "\n"

    @property
    def start(self) -> int:
        """The number of the first line of the current row."""
        return max(1, self.number - len(self.record) + 1)

    def refuse(self, problem: str) -> None:
        """Report the problem of the current row."""
        problem = f"{self.path}:{self.start}: {_explained(problem, self.path, self.record, self.sep)}"
        if self.bad is None:
            raise DataError(problem)
        self.bad(problem)


def find_separator(lines: Sequence[tuple[int, str]], names: Sequence[str], where: str) -> str:
    """The character that separates the cells: the one that gives most rows as many cells as the first, at least two.

    Args:
        lines: the first ones, with their numbers in the file.
        names: headings of columns; a separator that makes cells of them is preferred.

    Raises:
        DataError: none does, or several do.
    """
    found: dict[str, int] = {}
    below: dict[str, int] = {}  # separators by which first rows have one cell, others the same number; how many first
    for sep in SEPARATORS:
        rows: list[list[str]] = []
        pieces = [f"{piece}\n" for _, line in lines for piece in line.split("\r")]
        with _long_cells(), suppress(csv.Error):
            rows.extend(row for row in csv.reader(pieces, delimiter=sep) if row)
        if not rows or len(rows[0]) < 2:
            titles = next((place for place, row in enumerate(rows) if len(row) > 1), len(rows))
            if len(rows) > titles + 2 and len({len(row) for row in rows[titles:]}) == 1:
                below[sep] = titles
            continue
        if set(names) & {cell.strip() for cell in rows[0]}:
            return sep
        found[sep] = sum(len(row) == len(rows[0]) for row in rows)
    best = [sep for sep in found if found[sep] == max(found.values())]
    if len(best) == 1:
        return best[0]
    which = ", ".join(f"'{NAMES.get(sep, sep)}'" for sep in best or SEPARATORS)
    if best:
        raise SettingsError(f"{where}: its cells may be separated by {which}; set delimiter to the right one")
    if below:
        sep, titles = next(iter(below.items()))
        raise SettingsError(
            f"{where}: its first row has one cell, and those below have several, separated by '{NAMES.get(sep, sep)}'; "
            f"set skip_rows: {lines[titles][0] - 1} to skip a title or a comment"
        )
    raise SettingsError(
        f"{where}: its first row has one cell, by each delimiter of {which}; a row has a pair: set delimiter to what "
        "separates its cells"
    )


_OPEN = "has a quotation mark that no other one closes; close it, or delete it"
_AFTER = (
    "has text between a closing quotation mark and the end of its cell; double each quotation mark within a cell in "
    'quotation marks ("")'
)


def _explained(problem: str, path: str, record: Sequence[str], sep: str) -> str:
    """The problem of a row, with advice for quotation marks of another form."""
    if any('\\"' in line for line in record):
        command = filter_command(path, 'sed \'s/\\\\"/""/g\'', "doubled.csv")
        return f'has quotation marks escaped by a backslash (\\"), which CSV doubles (""); convert: {command}'
    if sep == "\t" and '"' in "".join(record):
        return f"{problem}; kind: tsv takes quotation marks for text"
    return problem


def _row_problem(row: Sequence[str], record: Sequence[str], width: int, sep: str) -> str | None:
    """What is wrong with a row; ``sep`` is empty where quotation marks are text."""
    if len(row) < width:
        return f"has {count_of(len(row), 'cell')}, the first row {width}; complete or delete the row"
    if len(row) > width:
        if not sep:
            return f"has {count_of(len(row), 'cell')}, the first row {width}; correct or delete the row"
        name = "tab" if sep == "\t" else f"'{sep}'"
        advice = f"put a cell that contains a {name} into quotation marks, or delete the {name} that is too much"
        return f"has {count_of(len(row), 'cell')}, the first row {width}; {advice}"
    text = "\n".join(record)
    if sep and '\\"' in text:  # valid only in a quoted cell, where the quotation mark is doubled, or at its end
        for cell in row:
            if '\\"' in cell and cell.replace('"', '""') not in text:
                return "has a quotation mark escaped by a backslash"
    return None
