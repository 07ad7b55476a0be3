"""Arrow files of the store: written in record batches of one size, read whole or memory-mapped.

Arrays are made from buffers and read as views of buffers. ``pa.array`` and ``to_numpy`` would import pandas, which
takes a quarter of a second and 40 MB.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from nmt.errors import DataError

BLOCK = 1 << 16  # rows of a record batch: row i is in batch i >> 16
SMALL_FILE = 16 << 20  # bytes of a mapped file that may stay in memory
RELEASE_EVERY = 32  # rows: the system maps the neighbourhood of each row read, hundreds of KiB


# ---------------------------------------------------------------------------------------------------- reading


class MappedArrow:
    """The record batches of an Arrow file, memory-mapped.

    Raises:
        DataError: the file is missing or damaged.
    """

    def __init__(self, path: Path):
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            reader = pa.ipc.open_file(pa.py_buffer(self._map))
            self.batches: list[pa.RecordBatch] = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        except (pa.ArrowInvalid, OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
            reason = "is missing" if isinstance(error, FileNotFoundError) else "is damaged"
            raise DataError(f"{path}: {reason}; delete the folder {path.parent} and run again") from None
        self.release()

    def release(self) -> None:
        """Remove the pages read so far from the memory of this process; the system's file cache keeps them.

        Otherwise every page touched stays resident, with its neighbours: after a few hundred batches of scattered rows
        the whole file is. Small files (:data:`SMALL_FILE`) stay. Views of the file remain valid.
        """
        if len(self._map) > SMALL_FILE:
            self._map.madvise(mmap.MADV_DONTNEED)


class Mapped(Protocol):
    """A reader of a memory-mapped file."""

    def release(self) -> None:
        """Remove the pages read so far from the memory of this process."""


def releasing(rows: Sequence[int], *files: Mapped) -> Iterator[int]:
    """Yield ``rows`` in order; after every :data:`RELEASE_EVERY` rows and at the end, release ``files``."""
    for start in range(0, len(rows), RELEASE_EVERY):
        yield from rows[start : start + RELEASE_EVERY]
        for file in files:
            file.release()


def read_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Read an Arrow file that was just written or verified, with one record batch in memory at a time.

    For a pass over a large file. The pages of a mapped file would stay in memory until the system needs them.
    """
    with pa.OSFile(str(path)) as file:
        reader = pa.ipc.open_file(file)
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)


def to_numpy(array: pa.Array) -> npt.NDArray[Any]:
    """View an array of numbers without nulls, [N]. The view is read-only where the buffer is."""
    dtype = np.dtype({"float": "float32"}.get(str(array.type), str(array.type)))
    values = array.buffers()[1]
    return np.frombuffer(values, dtype, len(array), array.offset * dtype.itemsize)


# ---------------------------------------------------------------------------------------------------- writing


class ArrowWriter:
    """Write an Arrow file in record batches of :data:`BLOCK` rows, whatever the size of the batches given."""

    def __init__(self, path: Path, schema: pa.Schema):
        self.writer, self.schema = pa.ipc.new_file(str(path), schema), schema
        self.waiting: list[pa.RecordBatch] = []
        self.rows = 0  # waiting

    def write(self, batch: pa.RecordBatch) -> None:
        self.waiting.append(batch)
        self.rows += batch.num_rows
        while self.rows >= BLOCK:
            self._flush(BLOCK)

    def _flush(self, count: int) -> None:
        table = pa.Table.from_batches(self.waiting, self.schema)
        for batch in table.slice(0, count).combine_chunks().to_batches():
            self.writer.write_batch(batch)
        self.waiting = table.slice(count).to_batches()
        self.rows -= count

    def __enter__(self) -> ArrowWriter:
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is None and self.rows:
            self._flush(self.rows)
        self.writer.close()


def integers(values: npt.NDArray[Any]) -> pa.Array:
    """An Arrow array over the memory of integers [N]."""
    values = np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])


def numbers(values: Sequence[float]) -> pa.FloatArray:
    """An Arrow array of single-precision numbers [N]."""
    return pa.Array.from_buffers(pa.float32(), len(values), [None, pa.py_buffer(np.array(values, np.float32))])


def booleans(values: npt.NDArray[np.bool_]) -> pa.BooleanArray:
    """An Arrow array of truth values [N]."""
    bits = np.packbits(values, bitorder="little")
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, pa.py_buffer(bits)])


def strings(texts: Sequence[str]) -> pa.LargeStringArray:
    """An Arrow array of texts [N]."""
    encoded = [text.encode() for text in texts]
    offsets = offsets_of(encoded)
    return pa.Array.from_buffers(
        pa.large_string(), len(encoded), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    )


def lists(values: npt.NDArray[Any], offsets: npt.NDArray[np.int64]) -> pa.LargeListArray:
    """An Arrow array of lists: list i is ``values[offsets[i]:offsets[i + 1]]``."""
    return pa.LargeListArray.from_arrays(integers(offsets), integers(values))


def offsets_of(items: Sequence[Any]) -> npt.NDArray[np.int64]:
    """Where each of the items begins when they are joined, and where the last one ends, [N + 1]."""
    offsets = np.zeros(len(items) + 1, dtype=np.int64)
    np.cumsum(np.fromiter(map(len, items), np.int64, len(items)), out=offsets[1:])
    return offsets
