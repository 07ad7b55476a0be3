"""The order of training: batches by a budget of tokens, as a pure function of (seed, epoch).

Nothing else decides the order, so two numbers are the position of a training: the epoch and the update within it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from nmt.data.arrow import releasing
from nmt.data.bidirectional import Bidirectional
from nmt.data.encoded import Lengths, ParallelDataset
from nmt.data.examples import Examples
from nmt.data.mixture import parts_of
from nmt.data.packing import Packing

Ids = npt.NDArray[Any]

POOL = 1 << 19  # pairs that are shuffled, sorted and cut into batches together
SEGMENT = 1 << 10  # neighbouring pairs that stay in one pool
COUNTED_EPOCHS = 16  # of a stage, whose updates are counted
COUNTED = 64  # pools of an epoch up to which its updates are counted at the start, and not estimated


def plan_batches(src_lengths: Ids, tgt_lengths: Ids, budget: int, rng: np.random.Generator | None) -> list[Ids]:
    """Cut a corpus into batches of rows with sentences of similar length.

    A batch of n sentences whose longest side has m tokens (eos counted) keeps n · m ≤ budget. A sentence over the
    budget is a batch by itself.

    Args:
        src_lengths, tgt_lengths: [N], eos not counted.
        rng: shuffles pairs of equal lengths and the batches; None keeps the order of the lengths.
    """
    src, tgt = src_lengths.astype(np.int32) + 1, tgt_lengths.astype(np.int32) + 1
    order = np.arange(len(src)) if rng is None else rng.permutation(len(src))
    longest = np.maximum(src, tgt)
    # Sort by the longer side, which the budget counts; then by the difference, which decides the padding of the other.
    order = order[np.lexsort((tgt[order] - src[order], longest[order]))]
    batches = [order[a:b] for a, b in pairwise(_cuts(longest[order], budget))]
    if rng is not None:
        batches = [batches[i] for i in rng.permutation(len(batches))]
    return batches


def _cuts(sizes: Ids, budget: int) -> list[int]:
    """Starts of the batches of :func:`plan_batches` among ascending sizes, and the end of the last batch."""
    starts = [0]
    while starts[-1] < len(sizes):
        start = starts[-1]
        window = sizes[start : start + max(1, budget // int(sizes[start]))]  # ascending: the last is the longest
        fits = np.arange(1, len(window) + 1) * window.astype(np.int64) <= budget
        starts.append(start + max(1, int(fits.sum())))
    return starts


class TrainingOrder:
    """Which batches make each update of each epoch: a pure function of (seed, epoch).

    Up to :data:`POOL` pairs are shuffled, sorted by length and cut into batches together. A larger corpus takes no more
    memory: each epoch deals its segments of neighbouring rows into pools, which follow one another.

    Args:
        accumulate: batches per update, of all ranks together; the last update of an epoch may have fewer.
        room: maps stored lengths [2, pairs] to lengths to plan with; see :attr:`nmt.data.reader.Reader.room`.
        packing: of packed batches; see :attr:`nmt.data.reader.Reader.packing`.
        bidirectional: which pairs are read from target to source; None: no pair is.
        examples: the mixture of datasets whose examples make the batches; None: each epoch reads every row once.
    """

    def __init__(
        self,
        dataset: ParallelDataset,
        budget: int,
        accumulate: int,
        seed: int,
        room: Callable[[Lengths], Lengths] | None = None,
        packing: Packing | None = None,
        bidirectional: Bidirectional | None = None,
        examples: Examples | None = None,
    ):
        self.dataset, self.budget, self.accumulate, self.seed, self.room = dataset, budget, accumulate, seed, room
        self.packing, self.bidirectional, self.examples = packing, bidirectional, examples
        self._last: Epoch | None = None
        self._ends: dict[int, list[int]] = {}  # of the last two epochs, see Epoch
        self._lengths: dict[int, tuple[int, bool]] = {}

    def updates(self, epoch: int, taken: int = 0) -> Epoch:
        """The batches of each update of an epoch, without the first ``taken`` batches.

        The batches and their order do not depend on ``accumulate``, so that an epoch can continue with updates of
        another size.
        """
        if self._last is None or (self._last.number, self._last.taken) != (epoch, taken):
            self._ends = {number: self._ends.get(number, []) for number in (epoch - 1, epoch)}
            self._last = self._epoch(epoch, taken, self._ends[epoch])
        return self._last

    def ends(self, epoch: int, taken: int) -> list[int]:
        """The number of batches up to the end of each pool of an epoch that the first ``taken`` batches end with.

        Stored in checkpoints: a run that resumes in the middle of an epoch of a billion pairs need not count them.
        """
        return [end for end in self._ends.get(epoch, []) if end <= taken]

    def resume(self, epoch: int, ends: Sequence[int]) -> None:
        """Restore the result of :meth:`ends`, before the first batch is read."""
        self._ends[epoch] = list(ends)

    def length(self, epoch: int) -> tuple[int, bool]:
        """The number of updates of an epoch, and whether it is exact.

        For more than :data:`COUNTED` pools it is estimated from the first ones: counting those of a billion pairs would
        take minutes at each start.
        """
        if epoch not in self._lengths:
            self._lengths[epoch] = self._epoch(epoch).estimated_length()  # not an epoch that another thread reads
        return self._lengths[epoch]

    def _epoch(self, epoch: int, taken: int = 0, ends: list[int] | None = None) -> Epoch:
        ends = [] if ends is None else ends
        if self.examples is None:
            return Epoch(self, epoch, taken, ends)
        return MixedEpoch(self, self.examples, epoch, taken, ends)

    def stage_begun(self, epoch: int) -> str | None:
        """The name of the stage of a mixture that begins with this epoch; None where none does."""
        if self.examples is None or self.examples.mixture.locate(epoch)[1]:
            return None
        return self.examples.mixture.stage(epoch).name

    def steps(self, epochs: int) -> int:
        """The updates of the first epochs; the first one stands for all where all are alike.

        The first :data:`COUNTED_EPOCHS` of a stage stand for its other ones.
        """
        if self.examples is None or len(self.examples.mixture.stages) == 1:
            return epochs * len(self._epoch(0))
        begins = [first for _, first in self.examples.mixture.begins]
        total = 0
        for first, end in zip(begins, [*begins[1:], epochs], strict=True):
            if count := max(0, min(end, epochs) - first):
                counted = [self.length(epoch)[0] for epoch in range(first, first + min(count, COUNTED_EPOCHS))]
                total += round(count * sum(counted) / len(counted))
        return total

    def longest_batch(self) -> Ids:
        """The rows of the batch with most positions, both sides counted, in the first pool."""
        rows, lengths, batches = self._epoch(0).plan(0)
        return rows[max(batches, key=lambda batch: len(batch) * int(lengths[:, batch].max(axis=1).sum()))]


class Epoch(Sequence[list[Ids]]):
    """The updates of one epoch: for each, the rows of its batches.

    A pool is planned when its first update is read, and its batches are counted no earlier if the updates are read in
    order. :func:`len` counts those of all pools.

    Args:
        ends: gets the number of batches up to the end of each pool counted; those of the first pools may be known.
    """

    def __init__(self, order: TrainingOrder, number: int, taken: int, ends: list[int]):
        self.order, self.number, self.taken, self._ends = order, number, taken, ends
        self._planned = -1
        self._batches: list[Ids] = []  # of the planned pool
        self._divide()

    def _divide(self) -> None:
        """Distribute the rows over pools."""
        order, number = self.order, self.number
        size = len(order.dataset)
        segments, pools = np.arange(0, size, SEGMENT), -(-size // POOL)
        if pools > 1:
            np.random.default_rng([order.seed, number]).shuffle(segments)
        self._segments = np.array_split(segments, pools)  # first rows of the segments of each pool

    @property
    def pools(self) -> int:
        return len(self._segments)

    @property
    def is_counted(self) -> bool:
        """Whether the batches of all pools are counted."""
        return len(self._ends) == self.pools

    def _reaches(self, batches: int) -> bool:
        """Whether the epoch has this number of batches; counts those of further pools where needed."""
        while not self.is_counted and self._counted < batches:
            self._ends.append(self._counted + self._count(len(self._ends)))
        return self._counted >= batches

    @property
    def _counted(self) -> int:
        return self._ends[-1] if self._ends else 0

    def _count(self, pool: int) -> int:
        """The number of batches of a pool, without a plan; for padded ones, the lengths alone decide it."""
        if self.order.packing is None:
            return len(_cuts(np.sort(self._lengths(pool).max(axis=0)) + 1, self.order.budget)) - 1
        return self.order.packing.count(*self._drawn(pool))

    def __len__(self) -> int:
        while not self.is_counted:
            self._reaches(self._counted + 1)
        return max(0, -(-(self._counted - self.taken) // self.order.accumulate))

    def estimated_length(self) -> tuple[int, bool]:
        """As ``len``, and whether it is exact; of more than :data:`COUNTED` pools only the first ones are counted."""
        if self.pools <= COUNTED:
            return len(self), True
        while len(self._ends) < COUNTED // 8:
            self._reaches(self._counted + 1)
        batches = self._counted * self.pools // len(self._ends)
        return max(1, -(-(batches - self.taken) // self.order.accumulate)), False

    def has(self, i: int) -> bool:
        """Whether the epoch has update ``i``; counts no more pools than needed."""
        return i >= 0 and self._reaches(self.taken + i * self.order.accumulate + 1)

    def __getitem__(self, i: int) -> list[Ids]:  # type: ignore[override]  # no slices: they would hold many pools
        if not self.has(i):
            raise IndexError(f"update {i} of {len(self)}")
        first, found = self.taken + i * self.order.accumulate, list[Ids]()
        while len(found) < self.order.accumulate and self._reaches(first + len(found) + 1):
            found.append(self._batch(first + len(found)))
        return found

    def _batch(self, j: int) -> Ids:
        pool = bisect_right(self._ends, j)
        self._read(pool)
        return self._batches[j - self._ends[pool]]  # counted from the end

    def _read(self, pool: int) -> None:
        """Plan the batches of a pool, unless they are those planned last."""
        if pool != self._planned:
            self._planned, self._batches = -1, []  # free the batches of the last pool before planning
            rows, _, batches = self.plan(pool)
            self._batches, self._planned = [rows[batch] for batch in batches], pool

    def plan(self, pool: int) -> tuple[Ids, Ids, list[Ids]]:
        """The rows of a pool, their lengths [2, rows], and its batches as indices into these rows."""
        order, (lengths, rng) = self.order, self._drawn(pool)
        if order.packing is not None:
            return self._rows(pool), lengths, order.packing.plan(lengths, rng)
        return self._rows(pool), lengths, plan_batches(lengths[0], lengths[1], order.budget, rng)

    def _drawn(self, pool: int) -> tuple[Lengths, np.random.Generator]:
        """The lengths [2, rows] that a pool is planned with, and the generator of its order."""
        order, lengths = self.order, self._lengths(pool)
        if order.bidirectional is not None:
            lengths = order.bidirectional.lengths(lengths, self._rows(pool), self.number)
        entropy = [order.seed, self.number, *([pool + 1] if self.pools > 1 or pool else [])]
        return lengths, np.random.default_rng(entropy)

    def _rows(self, pool: int) -> Ids:
        end = len(self.order.dataset)
        return np.concatenate([np.arange(start, min(start + SEGMENT, end)) for start in self._segments[pool]])

    def _lengths(self, pool: int) -> Lengths:
        dataset, room = self.order.dataset, self.order.room
        starts = releasing(self._segments[pool].tolist(), dataset)
        lengths = np.concatenate([dataset.lengths(start, start + SEGMENT) for start in starts], axis=1)
        return lengths if room is None else room(lengths)


class MixedEpoch(Epoch):
    """The updates of one epoch of a mixture, whose batches have examples instead of rows.

    A stage with a number of steps is one epoch, and takes as many pools as it needs.
    """

    def __init__(self, order: TrainingOrder, examples: Examples, number: int, taken: int, ends: list[int]):
        self.examples = examples
        super().__init__(order, number, taken, ends)

    def _divide(self) -> None:
        stage = self.examples.mixture.stage(self.number)
        self._parts = parts_of(stage.size, POOL)
        self._known: tuple[int, Ids, Lengths] | None = None  # the last pool read

    @property
    def is_counted(self) -> bool:
        steps = self.examples.mixture.stage(self.number).steps
        if steps is None:
            return super().is_counted
        return self._counted >= steps * self.order.accumulate

    def has(self, i: int) -> bool:
        return 0 <= i < len(self) if self.examples.mixture.stage(self.number).steps is not None else super().has(i)

    def estimated_length(self) -> tuple[int, bool]:
        if self.examples.mixture.stage(self.number).steps is not None:
            return len(self), True
        return super().estimated_length()

    def __len__(self) -> int:
        steps = self.examples.mixture.stage(self.number).steps
        if steps is None:
            return super().__len__()
        return max(0, steps - -(-self.taken // self.order.accumulate))

    @property
    def pools(self) -> int:
        return self._parts

    def _rows(self, pool: int) -> Ids:
        return self._pool(pool)[0]

    def _lengths(self, pool: int) -> Lengths:
        return self._pool(pool)[1]

    def _pool(self, pool: int) -> tuple[Ids, Lengths]:
        """The examples of a pool and the lengths to plan them with [2, examples]."""
        if self._known is None or self._known[0] != pool:
            examples = self.examples.mixture.examples(self.number, pool, self._parts)
            self._known = pool, examples, self.examples.planned_lengths(examples, self.number, self.order.room)
        return self._known[1:]
