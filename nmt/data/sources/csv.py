"""CSV files: two columns hold the pairs, cells may stand in quotation marks."""

from __future__ import annotations

import re
from itertools import chain, islice

from nmt.config.sources import CsvSource
from nmt.data.sources.base import BadRows, Pairs, Reading, describe_files, file_lines, first_file, one_line, read_files
from nmt.data.sources.csv_rows import csv_rows, find_separator
from nmt.data.sources.table import SAMPLE, choose_columns, column_number, column_numbers, has_header
from nmt.errors import DataError, SettingsError


def read(source: CsvSource, reading: Reading) -> Pairs:
    return read_files(source, reading, _pairs)


describe, name = describe_files, first_file


def _pairs(path: str, source: CsvSource, reading: Reading, bad: BadRows) -> Pairs:
    # The separator, by the first lines.
    lines = file_lines(path, reading.counts, bad)
    first, skipped = list(islice(lines, source.skip_rows + SAMPLE)), source.skip_rows
    separator = source.delimiter
    stated = re.fullmatch(r'"?sep=([^"])"?', first[0]) if first else None  # Excel's, at the start of a file
    first = first[skipped:]
    if separator is None and stated:
        separator = stated[1]
    elif separator is None:
        columns = [source.src_column, source.tgt_column]
        names = [c if isinstance(c, str) else code for c, code in zip(columns, reading.languages, strict=True)]
        filled = [(number, line) for number, line in enumerate(first, skipped + 1) if line.strip()]
        if not filled:
            return
        separator = find_separator(filled, names, path)
        if (
            source.quotes
            and len(filled) > 2
            and all(map(re.compile(rf"'.*'{re.escape(separator)}'.*'").fullmatch, (line for _, line in filled)))
        ):
            advice = 'save it again with quotation marks ("), or take them for text by quotes: false'
            raise SettingsError(f"{path}: its cells stand in apostrophes, which CSV does not know; {advice}")
    rows = csv_rows(
        chain(first, lines), path, separator, source.quotes, bad if bad.skip else None, skipped, bool(stated)
    )

    # The columns, by the first rows.
    sample = list(islice(rows, SAMPLE))
    if not sample:
        return
    number, row = sample[0]
    where = f"{path}:{number}"
    wanted = choose_columns(row, source, reading.languages, where)
    src, tgt = column_numbers(row, wanted, where, "")
    weight = None if source.weight_column is None else column_number(row, source.weight_column, where)
    named = wanted if source.weight_column is None else (*wanted, source.weight_column)
    header = has_header(sample, source, named, (src, tgt), where, reading)
    for number, cells in chain(sample[header:], rows):
        if weight is not None:
            try:
                reading.beside.set(f"{path}:{number}", cells[weight])
            except DataError as error:
                bad(str(error))
                continue
        yield one_line(cells[src]), one_line(cells[tgt])
