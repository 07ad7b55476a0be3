"""Batches read from the encoded corpus, with stored or sampled segmentations, ahead of time in a thread."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from nmt.config.tokenizer import SamplingConfig
from nmt.data.arrow import BLOCK, releasing
from nmt.data.batch import Batch, TopK, collate
from nmt.data.bidirectional import Bidirectional
from nmt.data.corpus import TextPart
from nmt.data.encoded import Lengths, ParallelDataset
from nmt.data.examples import Examples
from nmt.data.guide import NO_LINKS, Subwords, guide, subword_links
from nmt.data.mixture import parts_of
from nmt.data.modifiers import parse_links
from nmt.data.packing import PackedBatch, Packing
from nmt.data.subword_sampling import BatchSampler
from nmt.data.teacher import Teacher
from nmt.data.tokenizer import Tokenizer
from nmt.errors import DataError

Ids = npt.NDArray[Any]
T = TypeVar("T")
R = TypeVar("R")

ROOM_SAMPLE = 2000  # pairs that are sampled to estimate the lengths of samples
ATTEMPTS = 4  # draws of a sample before the best segmentation replaces it


@dataclass(frozen=True)
class Room:
    """The longest segmentations that sampling may draw, as a function of the lengths of the best ones.

    A text of n subwords has ratio · n subwords on average when sampled. The variance grows with n, because words are
    drawn independently. Two standard deviations exclude one draw in forty.

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
        """Estimate from the lengths [2, pairs] of the best segmentations, all above 0, and of one sample of each."""
        ratio = sampled.sum(axis=1) / best.sum(axis=1)
        spread = np.sqrt(((sampled - ratio[:, None] * best) ** 2 / best).mean(axis=1))
        return cls((float(ratio[0]), float(ratio[1])), (float(spread[0]), float(spread[1])), most)

    def __call__(self, best: Lengths) -> Lengths:
        """Lengths [2, pairs] to plan batches with, for best segmentations of lengths [2, pairs]."""
        lengths = np.arange(best.max(initial=0) + 1, dtype=best.dtype)  # far fewer than pairs
        return np.stack([of.take(side) for of, side in zip(self._each(np.stack([lengths] * 2)), best, strict=True)])

    def _each(self, best: Lengths) -> Lengths:
        """See :meth:`__call__`."""
        ratio, spread = np.array(self.ratio)[:, None], np.array(self.spread)[:, None]
        wanted = np.ceil(ratio * best + 2 * spread * np.sqrt(best)).astype(best.dtype)
        return np.maximum(best, np.minimum(wanted, self.most))


class Reader:
    """Turn rows of a dataset into batches: stored ids, or with ``sampling`` a new segmentation in each epoch.

    Args:
        packed: make packed batches instead of padded ones; see :attr:`packing`.
        max_tokens: the most subwords of a sampled side.
        budget: of the batches (see :func:`nmt.data.order.plan_batches`). Batches planned with the lengths of
            :attr:`room` keep it whatever is drawn.
        bidirectional: which pairs are read from target to source; None: no pair is.
        examples: the mixture whose examples are read; None: rows of the dataset are.
        teacher: whose distributions the batches have; None: they have none.
        guided: whether batches have the word alignments of their pairs.
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
        bidirectional: Bidirectional | None = None,
        examples: Examples | None = None,
        teacher: Teacher | None = None,
        guided: bool = False,
    ):
        self.dataset, self.tokenizer, self.text, self.teacher = dataset, tokenizer, text, teacher
        self.sampling, self.max_tokens, self.seed, self.budget = sampling, max_tokens, seed, budget
        self.packed, self.bidirectional, self.examples, self.guided = packed, bidirectional, examples, guided

    def read(self, rows: Ids, epoch: int = 0) -> Batch | PackedBatch:
        """The batch of these rows [B], or of these examples of a mixture."""
        pairs = self._pairs(rows, epoch)
        links = self._links(pairs, rows, epoch) if self.guided else None
        if self.examples is not None:
            pairs = self.examples.tagged(pairs, rows)
        if self.bidirectional is not None:
            backwards = self.bidirectional.backwards(rows, epoch)
            pairs = _turned(pairs, backwards)
            if links is not None:
                links = [each[:, ::-1] if turn else each for each, turn in zip(links, backwards.tolist(), strict=True)]
        return self._collate(pairs, rows, links)

    def largest(self, rows: Ids) -> Batch | PackedBatch:
        """A batch of these rows with the lengths planned for them, to test that the memory suffices for any draw.

        Args:
            rows: of a batch of the first epoch.
        """
        if self.room is None:
            pairs = self._pairs(rows, 0)
        else:
            best = self._best(rows, 0)
            pairs = [
                (np.resize(src, src_length), np.resize(tgt, tgt_length))
                for (src, tgt), (src_length, tgt_length) in zip(
                    best, self.room(_pair_lengths(best)).T.tolist(), strict=True
                )
            ]
        if self.examples is not None:
            pairs = self.examples.tagged(pairs, rows)
        if self.bidirectional is not None:
            # Padded, the longer side may be any target, which takes more memory; packed, all batches take the same.
            longer_src = np.array([len(src) > len(tgt) for src, tgt in pairs])
            pairs = _turned(pairs, self.bidirectional.backwards(rows, 0) if self.packed else longer_src)
        return self._collate(pairs, rows)

    def indices(self, rows: Ids) -> list[int]:
        """The rows of the corpus part that these rows of the dataset, or examples, are from."""
        rows = rows if self.examples is None else self.examples.mixture.rows(rows)
        return [self.dataset.index(int(row)) for row in rows]

    def _pairs(self, rows: Ids, epoch: int) -> list[tuple[Ids, Ids]]:
        """Source and target ids of these rows, stored or sampled."""
        if self.sampling is None or self.text is None:
            return self._best(rows, epoch)
        if self.sampling.method == "line":
            return [self._sample_line(i, epoch) for i in releasing(rows.tolist(), self.dataset, self.text)]
        return self._sample(rows, epoch)

    def check_links(self) -> None:
        """Look for word alignments in pairs spread over the corpus.

        Raises:
            DataError: there are none.
        """
        count = min(len(self.dataset), ROOM_SAMPLE)
        rows = np.arange(count) * len(self.dataset) // count
        if not any(map(len, self._links(self._stored(rows), rows, 0))):
            raise DataError(
                f"train.terms.guided_alignment: none of {count:,} training pairs has word alignments that fit its "
                "subwords; look at the alignments of data.train, or write null"
            )

    def _links(self, pairs: Sequence[tuple[Ids, Ids]], rows: Ids, epoch: int) -> list[Subwords]:
        """The word alignments of these pairs, whose ids have no tags yet, on their subwords."""
        assert self.text is not None
        texts, found = self._texts(rows), [parse_links(self.text.links(index)) for index in self.indices(rows)]
        tags = np.zeros(len(rows), np.int32) if self.examples is None else self.examples.tag_counts(rows)
        for place, pair in (self.examples.changed(rows, epoch) if self.examples is not None else {}).items():
            texts[0][place], texts[1][place], found[place] = pair.src, pair.tgt, pair.links or ()
        return [
            subword_links(self.tokenizer, text, ids, links, tag)
            for text, ids, links, tag in zip(zip(*texts, strict=True), pairs, found, tags.tolist(), strict=True)
        ]

    def _collate(
        self, pairs: Sequence[tuple[Ids, Ids]], rows: Ids, links: Sequence[Subwords] | None = None
    ) -> Batch | PackedBatch:
        t = self.tokenizer
        weights, teacher = self._weights(rows), self._distributions(rows)
        if self.packing is not None:
            return self.packing.collate(pairs, rows, t.pad_id, t.bos_id, t.eos_id, weights, teacher)
        batch = collate(pairs, rows, t.pad_id, t.bos_id, t.eos_id, weights, teacher)
        if not self.guided:
            return batch
        return replace(batch, guide=guide(links or [NO_LINKS] * len(pairs), [len(tgt) + 1 for _, tgt in pairs]))

    def _distributions(self, rows: Ids) -> TopK | None:
        """The teacher's distributions at the targets of these rows, one row after another."""
        if self.teacher is None:
            return None
        return self.teacher.read(rows if self.examples is None else self.examples.mixture.rows(rows))

    def _weights(self, rows: Ids) -> npt.NDArray[np.float32] | None:
        """The weights of these rows in the loss, over their mean in the corpus; None where pairs have no weights."""
        if self._mean_weight is None:
            return None
        assert self.text is not None
        found = np.array([self.text.weight(index) for index in self.indices(rows)], np.float64)
        return (found / self._mean_weight).astype(np.float32)

    @cached_property
    def _mean_weight(self) -> float | None:
        """The mean weight, so that a weighted loss has about the size of another; None where pairs have no weights."""
        if self.text is None or not self.text.has("weight"):
            return None
        return sum(float(block.sum(dtype=np.float64)) for block in self.text.weights()) / len(self.text)

    @cached_property
    def packing(self) -> Packing | None:
        """The sizes of packed batches, from the lengths of the whole corpus; None for padded batches."""
        if not self.packed:
            return None
        found = Packing.measure(self._planned_lengths(), self.budget, self._longest())
        weighted, top_k = self._mean_weight is not None, self.teacher.top_k if self.teacher else 0
        return replace(found, weighted=weighted, top_k=top_k)

    def _planned_lengths(self) -> Iterator[Lengths]:
        if self.examples is not None:
            yield from self._examples_lengths(self.examples)
            return
        for start in range(0, len(self.dataset), BLOCK):
            lengths = self.dataset.lengths(start, start + BLOCK)
            self.dataset.release()
            lengths = lengths if self.room is None else self.room(lengths)
            yield lengths if self.bidirectional is None else np.concatenate([lengths, lengths[::-1]], axis=1)

    def _examples_lengths(self, examples: Examples) -> Iterator[Lengths]:
        """The lengths that the first epoch of each stage is planned with."""
        first, mixture = 0, examples.mixture
        for stage in mixture.stages:
            parts = parts_of(stage.size, BLOCK)
            for part in range(parts):
                chosen = mixture.examples(first, part, parts)
                lengths = examples.planned_lengths(chosen, first, self.room)
                yield lengths if self.bidirectional is None else np.concatenate([lengths, lengths[::-1]], axis=1)
            first += stage.epochs or 1

    def _longest(self) -> int:
        """No example of a mixture is longer: some may not be read in any first epoch, and changes may lengthen it."""
        if self.examples is None:
            return 0
        starts = range(0, len(self.dataset), BLOCK)
        longest = max(int(self.dataset.lengths(start, start + BLOCK).max()) for start in starts)
        self.dataset.release()
        if self.examples.modifies or self.room is not None:
            longest = max(longest, self.max_tokens)
        return longest + self.examples.most_tags

    @cached_property
    def room(self) -> Room | None:
        """Lengths of samples, estimated from pairs spread over the corpus; None without sampling."""
        if self.sampling is None or self.text is None or self.sampling.method == "line":
            return None
        count = min(len(self.dataset), ROOM_SAMPLE)
        rows = np.arange(count) * len(self.dataset) // count
        best = self._stored(rows)  # rows are also the first examples of their pairs
        sampled = zip(*self._draw(self._texts(rows), self._names(rows, 0)), strict=True)
        return Room.measure(_pair_lengths(best), _pair_lengths(sampled), min(self.max_tokens, self.budget - 1))

    def _best(self, rows: Ids, epoch: int) -> list[tuple[Ids, Ids]]:
        """The best segmentations of these rows, as modifiers changed them."""
        found = self._stored(rows)
        if self.examples is not None:
            for place, pair in self.examples.changed(rows, epoch).items():
                found[place] = pair.src_ids, pair.tgt_ids
        return found

    def _stored(self, rows: Ids) -> list[tuple[Ids, Ids]]:
        if self.examples is not None:
            return self.examples.stored(rows)
        return [
            (self.dataset.src(i).copy(), self.dataset.tgt(i).copy()) for i in releasing(rows.tolist(), self.dataset)
        ]

    def _sample(self, rows: Ids, epoch: int) -> list[tuple[Ids, Ids]]:
        """Sampled segmentations, each a function of (seed, epoch, example) alone, so that a resume needs no state.

        A sample that is too long is drawn again. The best segmentation replaces it after :data:`ATTEMPTS` attempts.
        """
        assert self.room is not None
        best = self._stored(rows)
        texts, names = self._texts(rows), self._names(rows, epoch)
        for place, pair in (self.examples.changed(rows, epoch) if self.examples is not None else {}).items():
            best[place] = pair.src_ids, pair.tgt_ids
            texts[0][place], texts[1][place] = pair.src, pair.tgt
        limits = self.room(_pair_lengths(best))  # [2, rows]
        if not self.packed:  # the longer side, with the tags before the source, decides the size of a batch
            tags = np.zeros(len(rows), np.int32) if self.examples is None else self.examples.tag_counts(rows)
            limits[1] = np.maximum(limits[0] + tags, limits[1])
            limits[0] = limits[1] - tags
        sides = self._draw(texts, names)
        # Replace samples that are too long.
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
        rows = rows if self.examples is None else self.examples.mixture.rows(rows)
        for i in releasing(rows.tolist(), self.dataset, self.text):
            where = self.dataset.index(i)
            src.append(self.text.src(where))
            tgt.append(self.text.tgt(where))
        return src, tgt

    def _names(self, rows: Ids, epoch: int) -> list[str]:
        if self.examples is not None:  # an epoch may read a pair several times
            return [f"{self.seed} {epoch} example {i}" for i in rows.tolist()]
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
        """The method of version 0.1, which cuts a side to ``max_tokens``."""
        assert self.text is not None
        assert self.sampling is not None
        where = self.dataset.index(row)
        name = hashlib.blake2b(f"{self.seed} {epoch} {where}".encode(), digest_size=4).digest()
        seed = int.from_bytes(name, "little") >> 1
        src = self.tokenizer.sample_src(self.text.src(where), self.sampling, seed)
        tgt = self.tokenizer.sample_tgt(self.text.tgt(where), self.sampling, seed + 1)
        return np.array(src[: self.max_tokens]), np.array(tgt[: self.max_tokens])


def _turned(pairs: Sequence[tuple[Ids, Ids]], backwards: npt.NDArray[np.bool_]) -> list[tuple[Ids, Ids]]:
    """The pairs, with the sides of some exchanged."""
    return [(tgt, src) if turn else (src, tgt) for (src, tgt), turn in zip(pairs, backwards.tolist(), strict=True)]


def _pair_lengths(pairs: Iterable[tuple[Ids, Ids]]) -> Lengths:
    """Lengths of both sides, [2, pairs]."""
    return np.array([(len(src), len(tgt)) for src, tgt in pairs], np.int32).T


def prefetch(make: Callable[[], Iterator[Any]], depth: int = 4) -> Generator[Any, None, None]:
    """Run an iterator in a thread, ``depth`` items ahead. Raise its exceptions here; stop the thread when closed."""
    # The thread: pairs of "more follows" and an item, or at the end None or an exception
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

    # The caller
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


def in_order(work: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Yield ``work(item)`` of each item, in order, computed by ``threads`` threads, ``2 * threads`` items ahead."""
    if threads == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(threads, "reader") as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) == 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
