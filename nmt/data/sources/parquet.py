"""Parquet files: two columns hold the pairs."""

from __future__ import annotations

from typing import Any

from nmt.config.data import ParquetSource
from nmt.data.formats import LOOKED_AT
from nmt.data.sources.arrow_columns import cells, find_column, texts
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
from nmt.errors import DataError

ROWS = 8192  # read at once
ADVICE = "set src_column and tgt_column"


def read(source: ParquetSource, reading: Reading) -> Pairs:
    """The pairs of all files. An empty (null) cell is an empty sentence."""
    return read_files(source, reading, _pairs)


describe, name = describe_files, first_file


def _pairs(path: str, source: ParquetSource, reading: Reading, bad: BadRows) -> Pairs:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = (source.src_column or reading.languages[0], source.tgt_column or reading.languages[1])
    with open_file(path) as file:
        head = file.read(LOOKED_AT)
        if not head.startswith((b"PAR1", b"PARE")):
            raise DataError(of_another_kind(path, head, "Parquet file"))
        file.seek(0)
        first = 0  # rows before the table
        try:
            content = pq.ParquetFile(file)
            read = columns if source.weight_column is None else (*columns, source.weight_column)
            tops = [find_column(content.schema_arrow, column, path, ADVICE)[0] for column in read]
            for batch in content.iter_batches(ROWS, columns=tops):
                table = pa.Table.from_batches([batch])
                yield from _rows(table, columns, source.weight_column, path, first, reading, bad)
                first += table.num_rows
        except (pa.ArrowException, OSError, ValueError) as error:
            reason = " ".join(str(error).split()).rstrip(".")[:200]
            raise DataError(f"{path}: Parquet file damaged or cut off ({reason}); copy it again") from None


def _rows(
    table: Any, columns: tuple[str, str], weight: str | None, path: str, first: int, reading: Reading, bad: BadRows
) -> Pairs:
    """The pairs of a table, which ``first`` rows precede."""
    unreadable: set[int] = set()

    def note(place: int, problem: str) -> None:
        bad(problem)
        unreadable.add(place)

    sides = [texts(table, column, path, "", first, ADVICE, note if bad.skip else None) for column in columns]
    weights = None if weight is None else cells(table, weight, path, ADVICE)
    for place, (src, tgt) in enumerate(zip(*sides, strict=True)):
        if place in unreadable:
            continue
        src, tgt = src or "", tgt or ""
        if weights is not None:
            try:
                reading.beside.set(f"{path}: row {first + place + 1}", "" if weights[place] is None else weights[place])
            except DataError as error:
                bad(str(error))
                continue
        if "\0" in src or "\0" in tgt:
            bad(f"{path}: row {first + place + 1} holds a NUL character; remove it")
        else:
            yield one_line(src), one_line(tgt)
