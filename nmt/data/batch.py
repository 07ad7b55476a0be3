"""A batch of padded sentence pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Ids = npt.NDArray[Any]
TopK = tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]  # [M, K] token ids and log-probabilities


@dataclass(frozen=True)
class Guide:
    """Word alignments of a batch as a distribution over the source of each aligned target token.

    Attributes:
        target: [K] which of the M real target tokens a link belongs to.
        source: [K] the position of the source token.
        weight: [K] its probability; the links of a target token sum to 1.
    """

    target: Tensor
    source: Tensor
    weight: Tensor

    def each(self, change: Callable[[Tensor], Tensor]) -> Guide:
        return Guide(change(self.target), change(self.source), change(self.weight))


@dataclass(frozen=True)
class Batch:
    """Padded sentence pairs; the legend in :mod:`nmt.models.seq2seq` explains the letters."""

    src: Tensor  # [B, S] ids, each sentence closed by eos
    src_mask: Tensor  # [B, S] True at real tokens
    tgt_in: Tensor  # [B, T] bos and the sentence
    tgt_out: Tensor  # [B, T] the sentence and eos
    target_positions: Tensor  # [M] indices of the real target tokens among the B·T positions, row by row
    rows: Ids  # [B] rows of the dataset
    src_tokens: int  # real tokens, eos counted
    tgt_tokens: int
    weights: Tensor | None = None  # [M] weight of the sentence of each target token in the loss; None: all weigh 1
    weight: float | None = None  # the sum of the weights
    teacher: tuple[Tensor, Tensor] | None = None  # [M, K] ids and log-probabilities of a teacher's most probable tokens
    guide: Guide | None = None  # word alignments, for a training that attention learns them in

    def to(self, device: torch.device) -> Batch:
        """Copy to ``device``; from pinned memory the copy is asynchronous."""
        return self if device.type == "cpu" else self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> Batch:
        """Copy to pinned memory, from which CUDA copies asynchronously. Pinning is slow: do it while prefetching."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return replace(
            self, src=change(self.src), src_mask=change(self.src_mask), tgt_in=change(self.tgt_in),
            tgt_out=change(self.tgt_out), target_positions=change(self.target_positions),
            weights=None if self.weights is None else change(self.weights),
            teacher=None if self.teacher is None else (change(self.teacher[0]), change(self.teacher[1])),
            guide=None if self.guide is None else self.guide.each(change),
        )  # fmt: skip

    # The attributes that a packed batch has too.

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """The arguments of the model's forward pass."""
        return self.src, self.src_mask, self.tgt_in

    def at_targets(self, x: Tensor) -> Tensor:
        """Select the real target tokens of x [B, T, ...]: [M, ...]. A boolean mask would wait for the GPU."""
        return x.flatten(0, 1).index_select(0, self.target_positions)

    @property
    def targets(self) -> Tensor:
        """[M] ids."""
        return self.at_targets(self.tgt_out)

    @property
    def total_weight(self) -> float:
        """The sum of the weights of the target tokens: their number where all weigh 1."""
        return self.tgt_tokens if self.weight is None else self.weight

    def without_targets(self) -> Batch:
        """This batch with all targets masked out: the loss and every gradient are 0.

        For ranks that have no batch left.
        """
        weights, weight = (None, None) if self.weights is None else (self.weights[:0], 0.0)
        teacher = None if self.teacher is None else (self.teacher[0][:0], self.teacher[1][:0])
        return replace(
            self, target_positions=self.target_positions[:0], rows=self.rows[:0], src_tokens=0, tgt_tokens=0,
            weights=weights, weight=weight, teacher=teacher,
            guide=None if self.guide is None else self.guide.each(lambda x: x[:0]),
        )  # fmt: skip

    @property
    def padding(self) -> tuple[int, int]:
        """Padded positions and all positions, both sides."""
        positions = self.src.numel() + self.tgt_in.numel()
        return positions - self.src_tokens - self.tgt_tokens, positions


def collate(
    pairs: Sequence[tuple[Ids, Ids]],
    rows: Ids,
    pad_id: int,
    bos_id: int,
    eos_id: int,
    weights: npt.NDArray[np.float32] | None = None,
    teacher: TopK | None = None,
) -> Batch:
    """Pad encoded pairs (without special symbols) into a :class:`Batch`.

    Args:
        weights: [B] of the pairs in the loss; None: all weigh 1.
        teacher: of all targets, see :attr:`Batch.teacher`.
    """
    s = max(len(src) for src, _ in pairs) + 1
    t = max(len(tgt) for _, tgt in pairs) + 1
    src = np.full((len(pairs), s), pad_id, dtype=np.int64)
    tgt = np.full((len(pairs), t + 1), pad_id, dtype=np.int64)  # bos, the sentence, eos
    for row, (x, y) in enumerate(pairs):
        src[row, : len(x)], src[row, len(x)] = x, eos_id
        tgt[row, 0], tgt[row, 1 : len(y) + 1], tgt[row, len(y) + 1] = bos_id, y, eos_id
    src_mask = np.arange(s) <= np.array([[len(x)] for x, _ in pairs])
    tgt_mask = np.arange(t) <= np.array([[len(y)] for _, y in pairs])
    each, total = token_weights(weights, [len(y) + 1 for _, y in pairs])
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
        each,
        total,
        None if teacher is None else (torch.from_numpy(teacher[0]), torch.from_numpy(teacher[1])),
    )


def token_weights(
    weights: npt.NDArray[np.float32] | None, lengths: Sequence[int]
) -> tuple[Tensor, float] | tuple[None, None]:
    """The weight of each target token [M] of sentences with these weights [B] and lengths [B], and their sum."""
    if weights is None:
        return None, None
    each = np.repeat(weights, lengths)
    return torch.from_numpy(each), float(each.sum(dtype=np.float64))
