"""Packed batches: sentences one after another in buffers of a fixed size, without padding between them.

Each padded batch has another shape. A packed one has the shape of all others, so that one CUDA graph serves them all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nmt.data.batch import TopK, token_weights
from nmt.data.encoded import Lengths
from nmt.sentences import Sentences

Ids = npt.NDArray[Any]

ALIGN = 8  # rows: matrix products are fast where their sizes are multiples of 16 bytes
TILE = 64  # rows that attention works on at a time; lengths are rounded up to it
LONGEST_FILL = 256  # rows of a sentence of padding, or more where sentences are longer
SLACK = 1.25  # sentences of a batch over the mean number


@dataclass(frozen=True)
class Packing:
    """Sizes of a packed batch, constant for a training.

    What the sentences leave free is filled up with sentences of padding, as many on both sides, because attention
    writes only rows that a sentence covers, and each of its queries needs a key. For them, one row for every
    ``longest`` rows of the other side stays free.

    Attributes:
        src, tgt: rows of each side.
        sentences: those of padding included.
        longest: no sentence has more rows, eos counted.
        weighted: whether target tokens have weights in the loss.
        top_k: tokens of a teacher's distribution at each target; 0: no teacher.
    """

    src: int
    tgt: int
    sentences: int
    longest: int
    weighted: bool = False
    top_k: int = 0

    @classmethod
    def measure(cls, lengths: Iterable[Lengths], budget: int, longest: int = 0) -> Packing:
        """The sizes for a corpus.

        The side that is longer on average gets ``budget`` rows, the other side as many in proportion. Either gets more
        where the longest sentence needs more.

        Args:
            lengths: parts [2, pairs] of the corpus, eos not counted.
            longest: a sentence of this number of tokens must fit, eos not counted.
        """
        totals, most, pairs = np.zeros(2, np.int64), longest + 1, 0
        for part in lengths:
            totals += part.sum(axis=1, dtype=np.int64) + part.shape[1]
            most, pairs = max(most, int(part.max(initial=0)) + 1), pairs + part.shape[1]
        rows = max(LONGEST_FILL, _up(most, TILE))
        shares = totals / totals.max()
        src, tgt = (_up(math.ceil(budget * min(1.0, 1.02 * share)), ALIGN) for share in shares.tolist())
        # One sentence and the rows for padding must fit: side ≥ most + other side / longest.
        src, tgt = (max(side, _up(most + 2 + max(src, tgt, 2 * most) // rows, ALIGN)) for side in (src, tgt))
        means = totals / pairs
        mean = min(src / means[0], tgt / means[1])
        real = math.ceil(SLACK * mean) + 32
        return cls(src, tgt, real + -(-max(src, tgt) // rows), rows)

    @property
    def limits(self) -> tuple[int, int]:
        """Rows that sentences may take of each side."""
        return self.src - -(-self.tgt // self.longest), self.tgt - -(-self.src // self.longest)

    @property
    def most(self) -> int:
        """Sentences that a batch may hold beside those of padding."""
        return self.sentences - -(-max(self.src, self.tgt) // self.longest)

    def cut(self, lengths: Lengths) -> list[int]:
        """Where batches begin among pairs of these lengths [2, pairs], taken in order, and where the last one ends."""
        ends = np.concatenate([np.zeros((2, 1), np.int64), np.cumsum(lengths + 1, axis=1, dtype=np.int64)], axis=1)
        starts, pairs = [0], lengths.shape[1]
        while starts[-1] < pairs:
            first = starts[-1]
            fits = [
                int(side.searchsorted(side[first] + limit, side="right")) - 1
                for side, limit in zip(ends, self.limits, strict=True)
            ]
            starts.append(max(first + 1, min(*fits, first + self.most)))
        return starts

    def plan(self, lengths: Lengths, rng: np.random.Generator) -> list[Ids]:
        """Cut pairs of these lengths [2, pairs], in random order, into batches of rows."""
        order = rng.permutation(lengths.shape[1])
        starts = self.cut(lengths[:, order])
        return [order[a:b] for a, b in pairwise(starts)]

    def count(self, lengths: Lengths, rng: np.random.Generator) -> int:
        """The number of batches of :meth:`plan`.

        A permutation is a shuffle of numbers in order, so shuffling the pairs of lengths themselves, 8 bytes each, puts
        them into the same order.
        """
        pairs = np.ascontiguousarray(lengths.T, dtype=np.int32)  # [pairs, 2]
        rng.shuffle(pairs.view(np.int64)[:, 0])
        return len(self.cut(pairs.T)) - 1

    # ----------------------------------------------------------------------------------------------------- the buffer

    @cached_property
    def parts(self) -> dict[str, slice]:
        """Where the parts of a batch stand in its buffer; each begins at a multiple of 16 bytes."""
        sizes = {
            "src": self.src, "src_positions": self.src, "tgt_in": self.tgt, "tgt_positions": self.tgt,
            "tgt_out": self.tgt, "src_starts": self.sentences + 1, "tgt_starts": self.sentences + 1, "tgt_tokens": 1,
        }  # fmt: skip
        if self.weighted:
            sizes = {"weights": self.tgt, **sizes}
        if self.top_k:
            sizes = {"teacher_ids": self.tgt * self.top_k, "teacher_log_probs": self.tgt * self.top_k, **sizes}
        found, start = {}, 0
        for name, size in sizes.items():
            found[name] = slice(start, start + size)
            start += _up(size, 4)
        return found

    @property
    def size(self) -> int:
        """Numbers in a buffer."""
        return _up(self.parts["tgt_tokens"].stop, 4)

    def collate(
        self,
        pairs: Sequence[tuple[Ids, Ids]],
        rows: Ids,
        pad_id: int,
        bos_id: int,
        eos_id: int,
        weights: npt.NDArray[np.float32] | None = None,
        teacher: TopK | None = None,
    ) -> PackedBatch:
        """Pack encoded pairs (without special symbols).

        Args:
            weights: [B] of the pairs in the loss, if :attr:`weighted`.
            teacher: of all targets, if :attr:`top_k`.

        Raises:
            ValueError: they do not fit.
        """
        buffer = np.zeros(self.size, np.int32)
        part = {name: buffer[where] for name, where in self.parts.items()}
        src, tgt = ([pair[side] for pair in pairs] for side in (0, 1))
        src_ends = _write(src, part["src"], pad_id, eos_id)
        tgt_ends = _write(tgt, part["tgt_out"], pad_id, eos_id)
        tgt_tokens = int(tgt_ends[-1])
        part["tgt_in"][1:tgt_tokens] = part["tgt_out"][: tgt_tokens - 1]
        part["tgt_in"][np.concatenate([[0], tgt_ends[:-1]])] = bos_id
        part["tgt_in"][tgt_tokens:] = pad_id
        part["tgt_tokens"][:] = tgt_tokens
        rest = [self.src - int(src_ends[-1]), self.tgt - tgt_tokens]
        fills = -(-max(rest) // self.longest)
        if min(rest) < fills or len(pairs) + fills > self.sentences:
            raise ValueError(f"{len(pairs)} pairs of {src_ends[-1]} and {tgt_tokens} tokens do not fit into {self}")
        for side, ends, free in (("src", src_ends, rest[0]), ("tgt", tgt_ends, rest[1])):
            starts, begins = part[f"{side}_starts"], np.concatenate([[0], ends[:-1]])
            # Rows of padding are all at position 0: learned positions may have no others.
            part[f"{side}_positions"][: ends[-1]] = np.arange(ends[-1]) - np.repeat(begins, ends - begins)
            padding = ends[-1] + np.arange(1, fills + 1) * free // max(1, fills)
            starts[1 : len(pairs) + fills + 1] = np.concatenate([ends, padding])
            starts[len(pairs) + fills + 1 :] = ends[-1] + free
        each, total = token_weights(weights, np.diff(tgt_ends, prepend=0).tolist())
        if each is not None:
            part["weights"][:tgt_tokens] = each.numpy().view(np.int32)
        if teacher is not None:
            part["teacher_ids"][: teacher[0].size] = teacher[0].ravel()
            part["teacher_log_probs"][: teacher[1].size] = teacher[1].ravel().view(np.int32)
        return PackedBatch(torch.from_numpy(buffer), self, rows, int(src_ends[-1]), tgt_tokens, total)


def _write(sentences: Sequence[Ids], out: Ids, pad_id: int, eos_id: int) -> Ids:
    """Write sentences one after another, each closed by eos, and then padding; returns where each ends."""
    ends = np.cumsum(np.fromiter(map(len, sentences), np.int64, len(sentences)) + 1)
    total = int(ends[-1])
    if total > len(out):
        raise ValueError(f"sentences of {total} tokens do not fit into {len(out)}")
    word = np.ones(total, dtype=bool)
    word[ends - 1] = False
    out[:total][word] = np.concatenate(sentences)
    out[ends - 1] = eos_id
    out[total:] = pad_id
    return ends


def _up(n: int, step: int) -> int:
    return -(-n // step) * step


@dataclass(frozen=True)
class PackedBatch:
    """Sentence pairs of a batch one after another.

    Attributes:
        buffer: [packing.size] int32, all of the batch: one copy moves it to a device.
        rows: [B] which examples of the dataset these are.
        src_tokens, tgt_tokens: real tokens, eos counted; 0 targets where none count for the loss.
        weight: the sum of the weights of the targets; None where all weigh 1.
    """

    buffer: Tensor
    packing: Packing
    rows: Ids
    src_tokens: int
    tgt_tokens: int
    weight: float | None = None

    def to(self, device: torch.device) -> PackedBatch:
        """On ``device``; from pinned memory without waiting for the copy."""
        return self if device.type == "cpu" else replace(self, buffer=self.buffer.to(device, non_blocking=True))

    def pinned(self) -> PackedBatch:
        return replace(self, buffer=self.buffer.pin_memory())

    def part(self, name: str) -> Tensor:
        """A view of the buffer; see :attr:`Packing.parts`."""
        return self.buffer[self.packing.parts[name]]

    @property
    def inputs(self) -> tuple[Tensor, Sentences, Tensor, Sentences]:
        """What the model's forward pass takes: ids [N_src] and [N_tgt], each with its sentences."""
        longest = self.packing.longest
        src = Sentences(self.part("src_starts"), self.part("src_positions"), longest)
        tgt = Sentences(self.part("tgt_starts"), self.part("tgt_positions"), longest)
        return self.part("src"), src, self.part("tgt_in"), tgt

    def at_targets(self, x: Tensor) -> Tensor:
        """Select the targets of x [N_tgt, ...]: all of it, because padding has weight 0."""
        return x

    @property
    def targets(self) -> Tensor:
        """[N_tgt] ids, those of padding included."""
        return self.part("tgt_out").long()

    @property
    def weights(self) -> Tensor:
        """[N_tgt] the weight of each real target in the loss, 1 unless they differ; 0 at padding."""
        if self.packing.weighted:
            return self.part("weights").view(torch.float32)
        rows = torch.arange(self.packing.tgt, device=self.buffer.device)
        return (rows < self.part("tgt_tokens")).float()

    @property
    def teacher(self) -> tuple[Tensor, Tensor] | None:
        """[N_tgt, K] ids and log-probabilities of a teacher's most probable tokens, 0 at padding; None without one."""
        if not self.packing.top_k:
            return None
        shape = self.packing.tgt, self.packing.top_k
        log_probs = self.part("teacher_log_probs").view(torch.float32)
        return self.part("teacher_ids").view(shape), log_probs.view(shape)

    @property
    def total_weight(self) -> float:
        """The sum of the weights of the targets: their number where all weigh 1."""
        return self.tgt_tokens if self.weight is None else self.weight

    def without_targets(self) -> PackedBatch:
        """This batch with all targets masked out: the loss and every gradient are 0."""
        buffer = self.buffer.clone()
        buffer[self.packing.parts["tgt_tokens"]] = 0
        weight = None if self.weight is None else 0.0
        if self.packing.weighted:
            buffer[self.packing.parts["weights"]] = 0
        return replace(self, buffer=buffer, rows=self.rows[:0], src_tokens=0, tgt_tokens=0, weight=weight)

    @property
    def padding(self) -> tuple[int, int]:
        """Padded positions and all positions, both sides."""
        positions = self.packing.src + self.packing.tgt
        return positions - self.src_tokens - self.tgt_tokens, positions
