"""Parquet files: two columns hold the pairs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from nmt.config.sources import ParquetSource
from nmt.data.formats import LOOKED_AT
from nmt.data.sources.arrow_columns import cells, choose_columns, find_column, table_pairs
from nmt.data.sources.base import (
    BadRows,
    Pairs,
    Reading,
    describe_files,
    first_file,
    of_another_kind,
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

    with open_file(path) as file:
        head = file.read(LOOKED_AT)
        if not head.startswith((b"PAR1", b"PARE")):
            raise DataError(of_another_kind(path, head, "a Parquet file"))
        file.seek(0)
        first = 0  # rows before the table
        try:
            content = pq.ParquetFile(file)
            given = source.src_column, source.tgt_column
            columns = choose_columns(content.schema_arrow, given, reading.languages, path)
            read = columns if source.weight_column is None else (*columns, source.weight_column)
            tops = [find_column(content.schema_arrow, column, path, ADVICE)[0] for column in read]
            for batch in content.iter_batches(ROWS, columns=tops):
                table = pa.Table.from_batches([batch])
                beside = None
                if source.weight_column is not None:
                    weights = cells(table, source.weight_column, path, ADVICE)
                    beside = partial(_keep_weight, weights, path, first, reading)
                yield from table_pairs(table, columns, path, "", first, ADVICE, bad, beside)
                first += table.num_rows
        except (pa.ArrowException, OSError, ValueError) as error:
            reason = " ".join(str(error).split()).rstrip(".")[:200]
            raise DataError(f"{path}: Parquet file damaged or cut off ({reason}); copy it again") from None


def _keep_weight(weights: Sequence[Any], path: str, first: int, reading: Reading, place: int) -> None:
    """Keep the weight of the pair at ``place`` of a table, which ``first`` rows precede."""
    weight = weights[place]
    reading.beside.set(f"{path}: row {first + place + 1}", "" if weight is None else weight)
