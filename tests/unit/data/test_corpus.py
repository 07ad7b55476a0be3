"""Parts of a prepared corpus."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from nmt.data.arrow import BLOCK, ArrowWriter
from nmt.data.corpus import Corpus, TextPart
from nmt.errors import DataError


def test_rows_over_several_blocks(tmp_path: Path) -> None:
    schema = pa.schema([("src", pa.large_string()), ("tgt", pa.large_string())])
    rows = [(f"s{i}", f"t{i}") for i in range(2 * BLOCK + 5)]
    with ArrowWriter(tmp_path / "x.arrow", schema) as out:
        for start, end in [(0, 0), (0, 3), (3, BLOCK + 7), (BLOCK + 7, 2 * BLOCK), (2 * BLOCK, len(rows))]:
            src, tgt = (pa.array([row[side] for row in rows[start:end]], pa.large_string()) for side in (0, 1))
            out.write(pa.record_batch([src, tgt], schema=schema))
    part = TextPart(tmp_path / "x.arrow")
    assert [batch.num_rows for batch in part.batches] == [BLOCK, BLOCK, 5]
    assert len(part) == len(rows)
    for i in (0, BLOCK - 1, BLOCK, 2 * BLOCK + 4, -1):
        assert part[i] == rows[i] == (part.src(i), part.tgt(i))
    assert part[BLOCK - 2 : BLOCK + 2] == rows[BLOCK - 2 : BLOCK + 2]
    assert list(part) == list(part.iter_pairs()) == rows
    assert part.sources()[-1] == "s131076"
    assert part.targets()[BLOCK] == "t65536"
    for i in (len(rows), -len(rows) - 1):
        with pytest.raises(IndexError):
            part[i]


def test_unknown_part(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, {"sizes": {"train": 1, "valid": 1}})
    with pytest.raises(DataError, match=r": no part 'test.x'; it has: train, valid$"):
        corpus.part("test.x")
