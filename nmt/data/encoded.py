"""The encoded corpus, which training reads: subword ids, memory-mapped."""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from nmt.config.compare import digest
from nmt.config.limits import LengthLimits, learn_limits
from nmt.data.arrow import (
    BLOCK,
    ArrowWriter,
    MappedArrow,
    booleans,
    integers,
    lists,
    offsets_of,
    read_batches,
    releasing,
    to_numpy,
)
from nmt.data.corpus import Corpus, TextPart
from nmt.data.file_hashes import read_manifest, verify_entry
from nmt.data.tokenizer import Tokenizer
from nmt.data.unknown import UnknownCount, count_unknown
from nmt.errors import DataError
from nmt.runtime.progress import showing
from nmt.storage.atomic import build_once, sha256, write_json

log = logging.getLogger(__name__)

FORMAT = 1  # of the encoded folder; another number means another key

Lengths = npt.NDArray[np.int32]
Ids = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


class ParallelDataset:
    """Pairs of ids, without bos and eos, memory-mapped: only the pages read are in memory.

    Raises:
        DataError: the file is missing or damaged.
    """

    def __init__(self, path: Path):
        self.path = path
        self._file = MappedArrow(path)
        batches = self._file.batches
        # Views of the mapped file: for each batch, the ids of all rows joined, and their offsets [rows + 1].
        self._src = [_views(batch.column(0)) for batch in batches]
        self._tgt = [_views(batch.column(1)) for batch in batches]
        self._index = [to_numpy(batch.column(2)) for batch in batches]
        self._length: int = sum(batch.num_rows for batch in batches)

    def __len__(self) -> int:
        return self._length

    def lengths(self, start: int = 0, stop: int | None = None) -> Lengths:
        """Source and target subwords of the pairs from ``start`` to before ``stop``, [2, stop - start]."""
        stop = self._length if stop is None else min(stop, self._length)
        found = np.empty((2, stop - start), np.int32)
        done = 0
        while start + done < stop:
            block, row = self._locate(start + done)
            count = min(BLOCK - row, stop - start - done)
            for lengths, side in zip(found, (self._src, self._tgt), strict=True):
                lengths[done : done + count] = np.diff(side[block][1][row : row + count + 1])
            done += count
        return found

    def lengths_of(self, rows: npt.NDArray[np.int64]) -> Lengths:
        """Source and target subwords of the pairs in these rows [N], [2, N]."""
        found = np.empty((2, len(rows)), np.int32)
        blocks, places = rows >> 16, rows & (BLOCK - 1)
        for block in np.unique(blocks).tolist():
            here = blocks == block
            for lengths, side in zip(found, (self._src, self._tgt), strict=True):
                offsets = side[block][1]
                lengths[here] = offsets[places[here] + 1] - offsets[places[here]]
            self.release()
        return found

    def before(self, index: int) -> int:
        """The number of pairs whose row in the part of the corpus is below ``index``."""
        return sum(int(np.searchsorted(block, index)) for block in self._index)

    def src(self, i: int) -> Ids:
        """Source ids of pair ``i``, [S], a read-only view."""
        return self._row(self._src, i)

    def tgt(self, i: int) -> Ids:
        """Target ids of pair ``i``, [T], a read-only view."""
        return self._row(self._tgt, i)

    def index(self, i: int) -> int:
        """The row of pair ``i`` in its part of the corpus."""
        block, row = self._locate(i)
        return int(self._index[block][row])

    def release(self) -> None:
        """See :meth:`nmt.data.arrow.MappedArrow.release`."""
        self._file.release()

    def _row(self, side: list[tuple[Ids, npt.NDArray[np.int64]]], i: int) -> Ids:
        block, row = self._locate(i)
        values, offsets = side[block]
        return values[offsets[row] : offsets[row + 1]]

    def _locate(self, i: int) -> tuple[int, int]:
        if not 0 <= i < self._length:
            raise IndexError(f"pair {i} of {self._length}")
        return i >> 16, i & (BLOCK - 1)


def _views(column: pa.LargeListArray) -> tuple[Ids, npt.NDArray[np.int64]]:
    return to_numpy(column.values), to_numpy(column.offsets)


@dataclass(frozen=True)
class EncodedCorpus:
    """The training and the validation part of a corpus as ids."""

    path: Path
    manifest: dict[str, Any]
    train: ParallelDataset
    valid: ParallelDataset

    @cached_property
    def limits(self) -> LengthLimits:
        """Limits of a search, learned from the lengths of the training pairs; earlier versions did not store them."""
        stored = self.manifest.get("limits")
        return _learn_limits(self.train) if stored is None else LengthLimits.model_validate(stored)

    def summary(self) -> str:
        """A few lines for users."""
        lines = [f"encoded {self.path}"]
        for name, data in [("train", self.train), ("valid", self.valid)]:
            src, tgt = self.manifest[name]["src_tokens"], self.manifest[name]["tgt_tokens"]
            lines.append(f"  {name}  {len(data):>11,} pairs, {src:,} source and {tgt:,} target subwords")
        limit = self.manifest["max_tokens"]
        for name, what in [
            ("too_many_tokens", f"dropped from train: more than {limit} subwords per side"),
            ("no_tokens", "dropped from train: no subwords on one side"),
        ]:
            if count := self.manifest["train"][name]:
                lines.append(f"  {'':5}  {count:>11,} {what}")
        if cut := self.manifest["valid"]["too_many_tokens"]:
            lines.append(f"  {'':5}  {cut:>11,} cut in valid for its loss: more than {limit} subwords per side")
        return "\n".join(lines)

    @property
    def unknown(self) -> dict[str, Any]:
        """Unknown pieces of each part, see :mod:`nmt.data.unknown`; empty if an earlier version encoded the corpus."""
        found: dict[str, Any] = self.manifest.get("unknown", {})
        return found


def _learn_limits(data: ParallelDataset) -> LengthLimits:
    starts = range(0, len(data), BLOCK)
    return learn_limits(lambda: (data.lengths(start, start + BLOCK) for start in releasing(starts, data)))


def encode_corpus(corpus: Corpus, tokenizer: Tokenizer, max_tokens: int, store: Path) -> EncodedCorpus:
    """Encode train and valid into the store, or find them there if they were encoded before.

    A training pair is dropped if a side has more than ``max_tokens`` subwords, or none. A validation pair stays, cut
    to ``max_tokens``.

    Raises:
        DataError: no training pair is left, or the store cannot be written.
    """
    key = digest([corpus.key, tokenizer.fingerprint, max_tokens, FORMAT])
    path = store / f"encoded-{key}"
    if not path.is_dir():
        log.info("encoding the corpus (cached in %s)", path)
        with build_once(path) as folder:
            parts: dict[str, dict[str, int]] = {}
            unknown: dict[str, Any] = {}
            for name, drop in (("train", True), ("valid", False)):
                count = UnknownCount(tokenizer)
                file = folder / f"{name}.arrow"
                parts[name] = _encode_part(corpus.part(name), tokenizer, max_tokens, file, drop, count)
                unknown[name] = count.account()
            for name in corpus.tests:
                unknown[f"test.{name}"] = count_unknown(corpus.part(f"test.{name}"), tokenizer)
            origin = {"corpus": corpus.key, "tokenizer": tokenizer.fingerprint, "max_tokens": max_tokens}
            sums = {file.name: sha256(file) for file in sorted(folder.glob("*.arrow"))}
            limits = _learn_limits(ParallelDataset(folder / "train.arrow")).model_dump()
            derived = {"unknown": unknown, "limits": limits}
            account = {"format": FORMAT, "key": key, **origin, **parts, **derived, "files": sums}
            write_json(folder / "manifest.json", account)
    verify_entry(path, store)
    train, valid = (ParallelDataset(path / f"{name}.arrow") for name in ("train", "valid"))
    return EncodedCorpus(path, read_manifest(path), train, valid)


def _encode_part(
    text: TextPart, tokenizer: Tokenizer, max_tokens: int, path: Path, drop: bool, unknown: UnknownCount
) -> dict[str, int]:
    """Encode one part, block by block; return the counts for the manifest."""
    vocabulary = max(tokenizer.src_vocab_size, tokenizer.tgt_vocab_size)
    dtype = np.uint16 if vocabulary <= 1 << 16 else np.uint32
    ids = pa.large_list(pa.from_numpy_dtype(dtype))
    schema = pa.schema([("src", ids), ("tgt", ids), ("index", pa.int64())])
    counts = dict.fromkeys(("pairs", "src_tokens", "tgt_tokens", "too_many_tokens", "no_tokens"), 0)
    start = 0
    with ArrowWriter(path, schema) as out, showing(f"encoding {path.stem}", len(text), "pairs") as add:
        for batch in read_batches(text.path):
            src = tokenizer.encode_src(batch.column(0).to_pylist())
            tgt = tokenizer.encode_tgt(batch.column(1).to_pylist())
            # Find the pairs to drop, or cut them.
            shorter, longer = np.sort([_count(src), _count(tgt)], axis=0)
            keep, many, none = np.ones(len(src), dtype=bool), longer > max_tokens, shorter == 0
            counts["too_many_tokens"] += int(many.sum())
            if drop:
                counts["no_tokens"] += int((none & ~many).sum())
                keep = ~(many | none)
            elif many.any():
                src, tgt = ([row[:max_tokens] for row in side] for side in (src, tgt))
            unknown.add(batch, src, tgt, keep)
            # Write the pairs that are kept.
            index = np.arange(start, start + len(src))
            start += len(src)
            columns = [_id_lists(src, dtype), _id_lists(tgt, dtype), integers(index)]
            kept = pa.record_batch(columns, schema=schema).filter(booleans(keep))
            out.write(kept)
            counts["pairs"] += kept.num_rows
            counts["src_tokens"] += len(kept.column(0).flatten())
            counts["tgt_tokens"] += len(kept.column(1).flatten())
            add(batch.num_rows)
    if not counts["pairs"]:
        raise DataError(
            f"data.train: none of its {start} pairs has {max_tokens} subwords per side or fewer; "
            "raise data.cleaning.max_tokens"
        )
    return counts


def _count(side: list[list[int]]) -> Lengths:
    return np.fromiter(map(len, side), dtype=np.int32, count=len(side))


def _id_lists(side: list[list[int]], dtype: type[np.unsignedinteger[Any]]) -> pa.LargeListArray:
    offsets = offsets_of(side)
    values = np.fromiter(itertools.chain.from_iterable(side), dtype=dtype, count=int(offsets[-1]))
    return lists(values, offsets)
