"""Batches by a budget of tokens, in an order that is a pure function of (seed, epoch).

Because nothing else decides the order, two numbers say where a training stands: the epoch and the update within it.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nmt.config import SamplingConfig
from nmt.data.corpus import BLOCK, TextPart
from nmt.data.dataset import Lengths, ParallelDataset
from nmt.data.packing import PackedBatch, Packing
from nmt.data.sampling import BatchSampler
from nmt.data.tokenizer import Tokenizer

Ids = npt.NDArray[Any]

POOL = 1 << 19  # pairs that are mixed, sorted and cut into batches at a time
SEGMENT = 1 << 10  # neighbouring pairs of a larger corpus that come into one pool
ROOM_SAMPLE = 2000  # pairs that are sampled to see how long samples are
ATTEMPTS = 4  # at a sample that is not too long
AT_ONCE = 32  # places read before their pages are given back: the system maps what lies around each, hundreds of KiB


@dataclass(frozen=True)
class Batch:
    """Padded sentence pairs; see the legend in :mod:`nmt.models.seq2seq`."""

    src: Tensor  # [B, S] ids, each sentence closed by eos
    src_mask: Tensor  # [B, S] True at real tokens
    tgt_in: Tensor  # [B, T] bos and the sentence
    tgt_out: Tensor  # [B, T] the sentence and eos
    real: Tensor  # [M] the real target tokens among the B·T positions, counted row by row
    rows: Ids  # [B] which examples of the dataset these are
    src_tokens: int  # real tokens, eos counted
    tgt_tokens: int

    def to(self, device: torch.device) -> Batch:
        """On ``device``; from pinned memory without waiting for the copy."""
        return self if device.type == "cpu" else self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> Batch:
        """In memory that CUDA copies from by itself; pinning takes time, which a thread that reads ahead has."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return replace(
            self, src=change(self.src), src_mask=change(self.src_mask), tgt_in=change(self.tgt_in),
            tgt_out=change(self.tgt_out), real=change(self.real),
        )  # fmt: skip

    def at_real(self, x: Tensor) -> Tensor:
        """What x [B, T, ...] holds at the real target tokens, [M, ...]: no padding, and no mask to wait for."""
        return x.flatten(0, 1).index_select(0, self.real)

    # The same attributes as of a packed batch.

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """What the model's forward pass takes."""
        return self.src, self.src_mask, self.tgt_in

    at_targets = at_real

    @property
    def targets(self) -> Tensor:
        """[M] ids."""
        return self.at_real(self.tgt_out)

    @property
    def weights(self) -> None:
        """All targets count the same."""

    def without_targets(self) -> Batch:
        """The same to a model, of which nothing remains for a loss: a gradient of 0 for every weight."""
        return replace(self, real=self.real[:0], rows=self.rows[:0], src_tokens=0, tgt_tokens=0)

    @property
    def padding(self) -> tuple[int, int]:
        """Padded positions and all positions, both sides."""
        positions = self.src.numel() + self.tgt_in.numel()
        return positions - self.src_tokens - self.tgt_tokens, positions


def plan_batches(src_lengths: Ids, tgt_lengths: Ids, budget: int, rng: np.random.Generator | None) -> list[Ids]:
    """Cut a corpus into batches of rows, sentences of like length together.

    A batch of n sentences whose longest side has m tokens (eos counted) keeps n · m ≤ budget; a sentence over the
    budget stands alone. With a generator, equal lengths mix anew at each call and the batches come in random order;
    without one the order is that of the lengths.
    """
    src, tgt = src_lengths.astype(np.int32) + 1, tgt_lengths.astype(np.int32) + 1
    order = np.arange(len(src)) if rng is None else rng.permutation(len(src))
    longest = np.maximum(src, tgt)
    # By the longest side, which the budget counts; then by the difference, which decides the other side's padding.
    order = order[np.lexsort((tgt[order] - src[order], longest[order]))]
    batches = [order[a:b] for a, b in pairwise(_cuts(longest[order], budget))]
    if rng is not None:
        batches = [batches[i] for i in rng.permutation(len(batches))]
    return batches


def _cuts(sizes: Ids, budget: int) -> list[int]:
    """Where the batches of :func:`plan_batches` begin among ascending sizes, and where the last one ends."""
    starts = [0]
    while starts[-1] < len(sizes):
        start = starts[-1]
        window = sizes[start : start + max(1, budget // int(sizes[start]))]  # ascending: the last is the longest
        fits = np.arange(1, len(window) + 1) * window.astype(np.int64) <= budget
        starts.append(start + max(1, int(fits.sum())))
    return starts


def collate(pairs: Sequence[tuple[Ids, Ids]], rows: Ids, pad_id: int, bos_id: int, eos_id: int) -> Batch:
    """Pad encoded pairs (without special symbols) into a :class:`Batch`."""
    s = max(len(src) for src, _ in pairs) + 1
    t = max(len(tgt) for _, tgt in pairs) + 1
    src = np.full((len(pairs), s), pad_id, dtype=np.int64)
    tgt = np.full((len(pairs), t + 1), pad_id, dtype=np.int64)  # bos, the sentence, eos
    for row, (x, y) in enumerate(pairs):
        src[row, : len(x)], src[row, len(x)] = x, eos_id
        tgt[row, 0], tgt[row, 1 : len(y) + 1], tgt[row, len(y) + 1] = bos_id, y, eos_id
    src_mask = np.arange(s) <= np.array([[len(x)] for x, _ in pairs])
    tgt_mask = np.arange(t) <= np.array([[len(y)] for _, y in pairs])
    tgt_in = np.where(tgt_mask, tgt[:, :-1], pad_id)  # a shorter sentence's eos is no input
    return Batch(
        torch.from_numpy(src),
        torch.from_numpy(src_mask),
        torch.from_numpy(tgt_in),
        torch.from_numpy(np.ascontiguousarray(tgt[:, 1:])),
        torch.from_numpy(np.flatnonzero(tgt_mask)),
        rows,
        int(src_mask.sum()),
        int(tgt_mask.sum()),
    )


def _releasing(places: Sequence[int], *mapped: ParallelDataset | TextPart) -> Iterator[int]:
    """Each of the places, to be read now; what is read of the mapped files is given back as it goes, and at the end."""
    for start in range(0, len(places), AT_ONCE):
        yield from places[start : start + AT_ONCE]
        for file in mapped:
            file.release()


@dataclass(frozen=True)
class Room:
    """The longest segmentations that sampling may draw, as a function of the lengths of the best ones.

    A text of n subwords takes ratio · n on average, with a variance that grows with n: where its words are drawn one by
    one, the variances add up. Two standard deviations leave out one draw in forty.

    Attributes:
        ratio: mean length of a sample over that of the best segmentation; source, target.
        spread: standard deviation of a sample's length over the root of that of the best segmentation.
        most: no sample is longer, unless the best segmentation is.
    """

    ratio: tuple[float, float]
    spread: tuple[float, float]
    most: int

    @classmethod
    def measure(cls, best: Lengths, sampled: Lengths, most: int) -> Room:
        """From the lengths [2, pairs] of the best segmentations, none of 0, and of one sample of each."""
        ratio = sampled.sum(axis=1) / best.sum(axis=1)
        spread = np.sqrt(((sampled - ratio[:, None] * best) ** 2 / best).mean(axis=1))
        return cls((float(ratio[0]), float(ratio[1])), (float(spread[0]), float(spread[1])), most)

    def __call__(self, best: Lengths) -> Lengths:
        """Lengths [2, pairs] to plan batches with, of the best segmentations' [2, pairs]."""
        ratio, spread = np.array(self.ratio)[:, None], np.array(self.spread)[:, None]
        wanted = np.ceil(ratio * best + 2 * spread * np.sqrt(best)).astype(best.dtype)
        return np.maximum(best, np.minimum(wanted, self.most))


class Reader:
    """Turns rows of a dataset into batches: stored ids, or with ``sampling`` another segmentation at each reading.

    Args:
        packed: make packed batches instead of padded ones; see :attr:`packing`.
        max_tokens: no sampled side is longer.
        budget: of the batches in which the pairs are read (see :func:`plan_batches`). Planned with the lengths of
            :attr:`room`, they keep it whatever is drawn.
    """

    def __init__(
        self,
        dataset: ParallelDataset,
        tokenizer: Tokenizer,
        text: TextPart | None = None,
        sampling: SamplingConfig | None = None,
        max_tokens: int = 256,
        seed: int = 1,
        budget: int = 4096,
        packed: bool = False,
    ):
        self.dataset, self.tokenizer, self.text = dataset, tokenizer, text
        self.sampling, self.max_tokens, self.seed, self.budget = sampling, max_tokens, seed, budget
        self.packed = packed

    def read(self, rows: Ids, epoch: int = 0) -> Batch | PackedBatch:
        if self.sampling is None or self.text is None:
            pairs = self._stored(rows)
        elif self.sampling.method == "line":
            pairs = [self._sample_line(i, epoch) for i in _releasing(rows.tolist(), self.dataset, self.text)]
        else:
            pairs = self._sample(rows, epoch)
        return self._collate(pairs, rows)

    def largest(self, rows: Ids) -> Batch | PackedBatch:
        """The rows as long as they were planned to become: no reading of them takes much more memory."""
        if self.room is None:
            return self.read(rows)
        best = self._stored(rows)
        pairs = [
            (np.resize(src, src_length), np.resize(tgt, tgt_length))
            for (src, tgt), (src_length, tgt_length) in zip(
                best, self.room(_pair_lengths(best)).T.tolist(), strict=True
            )
        ]
        return self._collate(pairs, rows)

    def _collate(self, pairs: Sequence[tuple[Ids, Ids]], rows: Ids) -> Batch | PackedBatch:
        t = self.tokenizer
        if self.packing is not None:
            return self.packing.collate(pairs, rows, t.pad_id, t.bos_id, t.eos_id)
        return collate(pairs, rows, t.pad_id, t.bos_id, t.eos_id)

    @cached_property
    def packing(self) -> Packing | None:
        """The sizes of packed batches, by the lengths of the whole corpus; None for padded ones."""
        if not self.packed:
            return None
        return Packing.measure(self._planned_lengths(), self.budget)

    def _planned_lengths(self) -> Iterator[Lengths]:
        for start in range(0, len(self.dataset), BLOCK):
            lengths = self.dataset.lengths(start, start + BLOCK)
            self.dataset.release()
            yield lengths if self.room is None else self.room(lengths)

    @cached_property
    def room(self) -> Room | None:
        """What samples take, by a first reading of pairs from all over the corpus; None without sampling."""
        if self.sampling is None or self.text is None or self.sampling.method == "line":
            return None
        count = min(len(self.dataset), ROOM_SAMPLE)
        rows = np.arange(count) * len(self.dataset) // count
        best = self._stored(rows)
        sampled = zip(*self._draw(self._texts(rows), self._names(rows, 0)), strict=True)
        return Room.measure(_pair_lengths(best), _pair_lengths(sampled), min(self.max_tokens, self.budget - 1))

    def _stored(self, rows: Ids) -> list[tuple[Ids, Ids]]:
        return [
            (self.dataset.src(i).copy(), self.dataset.tgt(i).copy()) for i in _releasing(rows.tolist(), self.dataset)
        ]

    def _sample(self, rows: Ids, epoch: int) -> list[tuple[Ids, Ids]]:
        """Sampled segmentations, each a function of (seed, epoch, example) alone, so that a resume needs no state.

        A sample that is too long is drawn again, and at last the best segmentation stands in for it.
        """
        assert self.room is not None
        best = self._stored(rows)
        limits = self.room(_pair_lengths(best))  # [2, rows]
        if not self.packed:
            limits[:] = limits.max(axis=0)  # the longer side decides the size of a batch
        texts, names = self._texts(rows), self._names(rows, epoch)
        sides = self._draw(texts, names)
        for side, drawn in enumerate(sides):
            for attempt in range(1, ATTEMPTS + 1):
                again = [i for i, ids in enumerate(drawn) if len(ids) > limits[side, i]]
                if not again:
                    break
                if attempt == ATTEMPTS:
                    found = [best[i][side] for i in again]
                else:
                    found = self._draw_side(side, [texts[side][i] for i in again], [names[i] for i in again], attempt)
                for i, ids in zip(again, found, strict=True):
                    drawn[i] = ids
        return list(zip(*sides, strict=True))

    def _texts(self, rows: Ids) -> tuple[list[str], list[str]]:
        assert self.text is not None
        src, tgt = [], []
        for i in _releasing(rows.tolist(), self.dataset, self.text):
            where = self.dataset.index(i)
            src.append(self.text.src(where))
            tgt.append(self.text.tgt(where))
        return src, tgt

    def _names(self, rows: Ids, epoch: int) -> list[str]:
        return [f"{self.seed} {epoch} {self.dataset.index(i)}" for i in rows.tolist()]

    def _draw(self, texts: tuple[list[str], list[str]], names: list[str]) -> tuple[list[Ids], list[Ids]]:
        return self._draw_side(0, texts[0], names, 0), self._draw_side(1, texts[1], names, 0)

    def _draw_side(self, side: int, texts: list[str], names: list[str], attempt: int) -> list[Ids]:
        keys = [hashlib.blake2b(f"{name} {side} {attempt}".encode(), digest_size=8).digest() for name in names]
        return list(self._samplers[side].sample(texts, np.frombuffer(b"".join(keys), "<u8")))

    @cached_property
    def _samplers(self) -> tuple[BatchSampler, BatchSampler]:
        assert self.sampling is not None
        return self.tokenizer.batch_samplers(self.sampling)

    def _sample_line(self, row: int, epoch: int) -> tuple[Ids, Ids]:
        """As earlier versions did: beyond ``max_tokens`` a side is cut."""
        assert self.text is not None
        assert self.sampling is not None
        where = self.dataset.index(row)
        name = hashlib.blake2b(f"{self.seed} {epoch} {where}".encode(), digest_size=4).digest()
        seed = int.from_bytes(name, "little") >> 1
        src = self.tokenizer.sample_src(self.text.src(where), self.sampling, seed)
        tgt = self.tokenizer.sample_tgt(self.text.tgt(where), self.sampling, seed + 1)
        return np.array(src[: self.max_tokens]), np.array(tgt[: self.max_tokens])


def _pair_lengths(pairs: Iterable[tuple[Ids, Ids]]) -> Lengths:
    """[2, pairs]"""
    return np.array([(len(src), len(tgt)) for src, tgt in pairs], np.int32).T


class TrainingOrder:
    """Which batches make each update of each epoch: a pure function of (seed, epoch).

    Up to :data:`POOL` pairs are mixed, sorted by length and cut into batches together. A larger corpus takes no more
    memory: each epoch deals it, in segments of neighbouring rows, into pools that come one after the other.

    Args:
        accumulate: batches per update, those of all ranks together; the last update of an epoch may have fewer.
        room: lengths to plan with where they are not those stored; see :attr:`Reader.room`.
        packing: of packed batches; see :attr:`Reader.packing`.
    """

    def __init__(
        self,
        dataset: ParallelDataset,
        budget: int,
        accumulate: int,
        seed: int,
        room: Room | None = None,
        packing: Packing | None = None,
    ):
        self.dataset, self.budget, self.accumulate, self.seed, self.room = dataset, budget, accumulate, seed, room
        self.packing = packing
        self._last: Epoch | None = None

    def updates(self, epoch: int, taken: int = 0) -> Epoch:
        """The batches of each update of an epoch, of which the first ``taken`` batches are left out.

        The batches and their order do not depend on ``accumulate``, so that an epoch can be gone on with in updates of
        another size.
        """
        if self._last is None or (self._last.number, self._last.taken) != (epoch, taken):
            self._last = Epoch(self, epoch, taken)
        return self._last

    def longest_batch(self) -> Ids:
        """The rows of a batch with most positions, both sides counted, among those of the first pool."""
        rows, lengths, batches = Epoch(self, 0).plan(0)
        return rows[max(batches, key=lambda batch: len(batch) * int(lengths[:, batch].max(axis=1).sum()))]


class Epoch(Sequence[list[Ids]]):
    """The updates of one epoch: for each, the rows of its batches. Planned pool by pool, as they are asked for."""

    def __init__(self, order: TrainingOrder, number: int, taken: int = 0):
        self.order, self.number, self.taken = order, number, taken
        size = len(order.dataset)
        segments, pools = np.arange(0, size, SEGMENT), -(-size // POOL)
        if pools > 1:
            np.random.default_rng([order.seed, number]).shuffle(segments)
        self._segments = np.array_split(segments, pools)  # first rows of the segments of each pool
        self._planned = -1
        self._batches: list[Ids] = []  # of the planned pool

    @cached_property
    def _ends(self) -> Ids:
        """Batches up to the end of each pool. Lengths alone decide how many padded ones there are, without a plan."""
        if self.order.packing is not None:
            return np.cumsum([len(self.plan(pool)[2]) for pool in range(len(self._segments))])
        sizes = (np.sort(lengths.max(axis=0)) + 1 for lengths in map(self._lengths, range(len(self._segments))))
        return np.cumsum([len(_cuts(of_pool, self.order.budget)) - 1 for of_pool in sizes])

    def __len__(self) -> int:
        return max(0, -(-(int(self._ends[-1]) - self.taken) // self.order.accumulate))

    def __getitem__(self, i: int) -> list[Ids]:  # type: ignore[override]  # no slices: they would hold many pools
        if not 0 <= i < len(self):
            raise IndexError(f"update {i} of {len(self)}")
        first = self.taken + i * self.order.accumulate
        return [self._batch(j) for j in range(first, min(first + self.order.accumulate, int(self._ends[-1])))]

    def _batch(self, j: int) -> Ids:
        pool = int(np.searchsorted(self._ends, j, side="right"))
        if pool != self._planned:
            self._planned, self._batches = -1, []  # given back before the next ones are made
            rows, _, batches = self.plan(pool)
            self._batches, self._planned = [rows[batch] for batch in batches], pool
        return self._batches[j - int(self._ends[pool])]  # counted from the end

    def plan(self, pool: int) -> tuple[Ids, Ids, list[Ids]]:
        """The rows of a pool, their lengths [2, rows], and its batches, which count within the pool."""
        order = self.order
        starts = self._segments[pool]
        rows = np.concatenate([np.arange(start, min(start + SEGMENT, len(order.dataset))) for start in starts])
        lengths = self._lengths(pool)
        entropy = [order.seed, self.number, *([pool + 1] if len(self._segments) > 1 else [])]
        rng = np.random.default_rng(entropy)
        if order.packing is not None:
            return rows, lengths, order.packing.plan(lengths, rng)
        return rows, lengths, plan_batches(lengths[0], lengths[1], order.budget, rng)

    def _lengths(self, pool: int) -> Lengths:
        dataset, room = self.order.dataset, self.order.room
        starts = _releasing(self._segments[pool].tolist(), dataset)
        lengths = np.concatenate([dataset.lengths(start, start + SEGMENT) for start in starts], axis=1)
        return lengths if room is None else room(lengths)


def prefetch(make: Callable[[], Iterator[Any]], depth: int = 4) -> Generator[Any, None, None]:
    """Run an iterator in a thread of its own, ``depth`` items ahead. Its exceptions arrive here; closing stops it."""
    items: queue.Queue[tuple[bool, Any]] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: tuple[bool, Any]) -> bool:
        while not stop.is_set():
            try:
                items.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in make():
                if not put((True, item)):
                    return
            put((False, None))
        except BaseException as error:
            put((False, error))

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            more, item = items.get()
            if not more:
                if item is not None:
                    raise item
                return
            yield item
    finally:
        stop.set()
        thread.join()
