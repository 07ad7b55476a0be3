"""Excel workbooks: two columns of a sheet hold the pairs. The openpyxl library reads them row by row."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, islice, repeat
from typing import Any
from xml.parsers import expat

from nmt.advice import install
from nmt.config.sources import XlsxSource
from nmt.data.lines import DAMAGE
from nmt.data.sources.archives import open_member, open_zip
from nmt.data.sources.base import (
    BadRows,
    Pairs,
    Reading,
    describe_files,
    first_file,
    of_another_kind,
    one_line,
    open_file,
    read_files,
)
from nmt.data.sources.table import SAMPLE, choose_columns, column_numbers, has_header
from nmt.errors import DataError

ROWS = 1_048_576  # of a sheet, the most that Excel has
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # first bytes of old workbooks, and of workbooks with a password
LOOKED_AT = 1 << 22  # bytes in which the entry of a protected workbook is looked for
NO_VALUE = "\0"  # stands for a formula without a stored value; no other cell holds this character
ROOT_AT = 1 << 20  # bytes within which the first element of a part of a workbook is


def read(source: XlsxSource, reading: Reading) -> Pairs:
    return read_files(source, reading, _pairs)


describe, name = describe_files, first_file


def _pairs(path: str, source: XlsxSource, reading: Reading, bad: BadRows) -> Pairs:
    with _workbook(path) as book:
        sheet = _sheet(book, source.sheet, path)
        with _formulas(path, sheet.title) as formulas:
            yield from _sheet_pairs(book, sheet, formulas, source, reading, bad)


def _sheet_pairs(book: Any, sheet: Any, formulas: Any, source: XlsxSource, reading: Reading, bad: BadRows) -> Pairs:
    path = bad.path
    rows = ((number, cells) for number, cells in _rows(sheet, formulas, path, bad) if number > source.skip_rows)
    sample = list(islice(rows, SAMPLE))
    others = ", ".join(one for one in book.sheetnames if one != sheet.title)
    if not sample:
        advice = f"name another one as sheet: {others}" if others else "name a workbook with two columns of text"
        below = f" below row {source.skip_rows} (skip_rows)" if source.skip_rows else ""
        raise DataError(f"{path}: sheet '{sheet.title}' is empty{below}; {advice}")
    # Trailing empty cells are not stored, so that rows differ in length.
    width = max(len(cells) for _, cells in sample)
    first_rows = [(number, cells + [""] * (width - len(cells))) for number, cells in sample]
    where = f"{path}: sheet '{sheet.title}', row {sample[0][0]}"
    advice = f"; or name another sheet: {others}" if others and source.sheet is None else ""
    wanted = choose_columns(first_rows[0][1], source, reading.languages, where)
    src, tgt = column_numbers(first_rows[0][1], wanted, where, "", advice)
    header = has_header(first_rows, source, wanted, (src, tgt), where, reading)
    for number, cells in chain(sample[header:], rows):
        cells += [""] * (1 + max(src, tgt) - len(cells))
        if NO_VALUE in (cells[src], cells[tgt]):
            advice = "open and save the workbook in Excel or LibreOffice, which compute it"
            bad(f"{path}: sheet '{sheet.title}', row {number}: contains a formula without a stored value; {advice}")
            continue
        yield one_line(cells[src]), one_line(cells[tgt])


@contextmanager
def _workbook(path: str, values: bool = True) -> Iterator[Any]:
    """Open a workbook.

    Args:
        values: read the stored values of formulas, not the formulas.

    Raises:
        DataError: openpyxl is missing, or the file is no workbook that it reads.
    """
    try:
        import openpyxl
    except ImportError:
        advice = f"{install('openpyxl')}, or save the sheet as CSV in UTF-8 and read it with kind: csv"
        raise DataError(f"{path}: reading Excel workbooks needs openpyxl, which is not installed; {advice}") from None
    _check_workbook(path)
    with open_file(path) as file:
        try:
            with warnings.catch_warnings():  # about drawings and validations, which do not matter here
                warnings.simplefilter("ignore")
                book = openpyxl.load_workbook(file, read_only=True, data_only=values, keep_links=False)
        except Exception as error:  # of any kind, for parts of a workbook that are missing or damaged
            raise DataError(_damaged(path, error)) from None
        try:
            yield book
        finally:
            book.close()


@contextmanager
def _formulas(path: str, title: str) -> Iterator[Any]:
    """The sheet with formulas in place of their values; None if the workbook has no formulas."""
    with open_zip(path) as archive:
        sheets = [entry for entry in archive.infolist() if entry.filename.startswith("xl/worksheets/")]
        if not any(_has_formula(path, archive, entry) for entry in sheets):
            yield None
            return
    with _workbook(path, values=False) as book:
        yield book[title]


def _has_formula(path: str, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bool:
    """Whether a part of a workbook may hold a formula, an element ``f``."""
    end = b""
    try:
        with open_member(archive, entry, f"{path}: {entry.filename}") as file:
            while block := file.read(1 << 18):
                if re.search(rb"<(\w+:)?f[\s/>]", end + block):
                    return True
                end = block[-32:]
    except DAMAGE as error:
        raise DataError(_damaged(path, error)) from None
    return False


def _check_workbook(path: str) -> None:
    """Refuse what is no workbook, unpacks to more than any would, or declares a document type.

    A document type can declare entities, which expand without bound. No workbook has one.

    Raises:
        DataError: see above.
    """
    with open_file(path) as file:
        head = file.read(LOOKED_AT)
    if head.startswith(OLE):
        if "EncryptedPackage".encode("utf-16-le") in head:
            raise DataError(f"{path}: is a workbook protected by a password; save it without a password")
        raise DataError(f"{path}: is an old Excel workbook (XLS); save it as XLSX or as CSV in UTF-8")
    if not head.startswith(b"PK"):
        raise DataError(of_another_kind(path, head, "an Excel workbook (XLSX)"))
    with open_zip(path) as archive:
        names = {entry.filename for entry in archive.infolist()}
        if "[Content_Types].xml" not in names:
            raise DataError(f"{path}: is a ZIP archive and no Excel workbook (XLSX); kind: zip reads archives")
        for entry in archive.infolist():
            if entry.filename.endswith((".xml", ".rels")):
                _check_part(path, archive, entry)


def _check_part(path: str, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Refuse a part of a workbook that declares a document type, by all that precedes its first element."""
    begun: list[str] = []
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = lambda *_: begun.append("document type")
    parser.StartElementHandler = lambda *_: begun.append("element")
    try:
        with open_member(archive, entry, f"{path}: {entry.filename}") as file:
            while not begun and file.tell() < ROOT_AT and (block := file.read(1 << 12)):
                parser.Parse(block)
    except expat.ExpatError:
        if not begun:
            return  # openpyxl reports it if it reads the part
    except (*DAMAGE, ValueError) as error:
        raise DataError(_damaged(path, error)) from None
    if begun[:1] != ["element"] and entry.file_size:
        raise DataError(
            f"{path}: {entry.filename} declares a document type, as no workbook does; save it again by Excel"
        )


def _sheet(book: Any, name: str | None, path: str) -> Any:
    sheets = {sheet.title: sheet for sheet in book.worksheets}
    if not sheets:
        raise DataError(f"{path}: has no sheets with cells; save the workbook again")
    if name is None:
        return next(iter(sheets.values()))
    if name not in sheets:
        raise DataError(f"{path}: no sheet '{name}'; it has: {', '.join(sheets)}")
    return sheets[name]


def _rows(sheet: Any, formulas: Any, path: str, bad: BadRows) -> Iterator[tuple[int, list[str]]]:
    """The rows of a sheet with their numbers; rows of empty cells are left out.

    Args:
        formulas: the sheet with formulas in place of their values, or None.
    """
    others: Iterator[Any] = repeat(())
    for one in filter(None, (sheet, formulas)):
        one.reset_dimensions()  # which writers state wrongly
    if formulas is not None:
        others = formulas.iter_rows()
    try:
        for number, (row, written) in enumerate(zip(sheet.iter_rows(), others, strict=False), 1):
            if number > ROWS:
                raise DataError(f"{path}: sheet '{sheet.title}' has more than {ROWS:,} rows, the most that Excel has")
            try:
                cells = [_text(cell, f"{path}: sheet '{sheet.title}', row {number}") for cell in row]
            except DataError as error:
                bad(str(error))
                continue
            for place, cell in enumerate(written):
                if cell.data_type == "f" and place < len(row) and row[place].value is None:
                    cells[place] = NO_VALUE
            while cells and not cells[-1]:
                cells.pop()
            if cells:
                yield number, cells
    except DataError:
        raise
    except Exception as error:  # of any kind, see _workbook
        raise DataError(_damaged(path, error)) from None


def _text(cell: Any, where: str) -> str:
    """The text of a cell: a number without trailing zeros, a date as in ISO 8601.

    Raises:
        DataError: the formula of the cell has failed.
    """
    value = cell.value
    if value is None:
        return ""
    if isinstance(value, str):
        if cell.data_type == "e":
            raise DataError(f"{where}: contains the error {value}; correct the formula")
        if "\0" in value:
            raise DataError(f"{where}: contains a NUL character; remove it")
        return value.replace("_x000D_", "\r")  # as Excel writes a carriage return
    if isinstance(value, bool):
        return str(value).upper()
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _damaged(path: str, error: Exception) -> str:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return f"{path}: workbook damaged or cut off ({reason}); save it again"
