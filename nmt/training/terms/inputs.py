"""The inputs of forward passes, padded or packed, in a form that terms of the loss can change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nmt.data.batch import Batch
from nmt.data.packing import PackedBatch
from nmt.data.sentencepiece_model import BOS_ID, EOS_ID, PAD_ID
from nmt.sentences import Sentences


@dataclass(frozen=True)
class Side:
    """The tokens of one side.

    Attributes:
        ids: [B, S], or [N] of a packed batch.
        where: mask [B, S] of the real tokens of a padded source, sentences of a packed side, None of a padded target.
        first_word: position of the first word in its sentence: 1 after bos.
        keep: factors of the embeddings [B, S, D] or [N, D], or of a shape that broadcasts to it; None: all 1.
    """

    ids: Tensor
    where: Tensor | Sentences | None
    first_word: int
    keep: Tensor | None = None

    @property
    def words(self) -> Tensor:
        """True at tokens of the text, False at padding, bos and eos; [B, S] or [N]."""
        return (self.ids != PAD_ID) & (self.ids != BOS_ID) & (self.ids != EOS_ID)

    @property
    def sentence(self) -> Tensor:
        """Number of the sentence of each token, [B, 1] or [N]."""
        if isinstance(self.where, Sentences):
            rows = torch.arange(len(self.ids), device=self.ids.device, dtype=self.where.starts.dtype)
            return torch.bucketize(rows, self.where.starts[1:], right=True)
        return torch.arange(len(self.ids), device=self.ids.device)[:, None]

    @property
    def lengths(self) -> Tensor:
        """Words of each sentence, [B]; of a sentence of padding any number."""
        if isinstance(self.where, Sentences):
            return self.where.starts.diff() - 1
        return self.words.sum(1)

    @property
    def word_positions(self) -> Tensor:
        """Position of each token among the words of its sentence, [S] or [N]."""
        if isinstance(self.where, Sentences):
            return self.where.positions - self.first_word
        return torch.arange(self.ids.size(1), device=self.ids.device) - self.first_word


@dataclass(frozen=True)
class Inputs:
    """The arguments of the model's forward pass."""

    src: Side
    tgt: Side

    @classmethod
    def of(cls, batch: Batch | PackedBatch) -> Inputs:
        src, where, tgt, *rest = batch.inputs
        return cls(Side(src, where, 0), Side(tgt, rest[0] if rest else None, 1))

    @classmethod
    def joined(cls, inputs: Sequence[Inputs]) -> Inputs:
        """The inputs of several passes as those of one, in which each sentence comes once for each of them."""
        if len(inputs) == 1:
            return inputs[0]
        return cls(_joined([one.src for one in inputs]), _joined([one.tgt for one in inputs]))

    @property
    def arguments(self) -> tuple[Any, ...]:
        found = self.src.ids, self.src.where, self.tgt.ids
        return found if self.tgt.where is None else (*found, self.tgt.where)

    @property
    def keywords(self) -> dict[str, Any]:
        if self.src.keep is None and self.tgt.keep is None:
            return {}
        return {"keep": (self.src.keep, self.tgt.keep)}


def _joined(sides: Sequence[Side]) -> Side:
    ids, first_word = torch.cat([side.ids for side in sides]), sides[0].first_word
    keep = _joined_factors([side.keep for side in sides])
    sentences = [side.where for side in sides if isinstance(side.where, Sentences)]
    if sentences:
        return Side(ids, _joined_sentences(sentences), first_word, keep)
    masks = [side.where for side in sides if isinstance(side.where, Tensor)]
    return Side(ids, torch.cat(masks) if masks else None, first_word, keep)


def _joined_factors(factors: Sequence[Tensor | None]) -> Tensor | None:
    given = [one for one in factors if one is not None]
    if not given:
        return None
    shape = torch.broadcast_shapes(*(one.shape for one in given))
    return torch.cat([given[0].new_ones(shape) if one is None else one.expand(shape) for one in factors])


def _joined_sentences(parts: Sequence[Sentences]) -> Sentences:
    rows = len(parts[0].positions)  # equally many in each
    starts = [part.starts[bool(number) :] + number * rows for number, part in enumerate(parts)]
    return Sentences(torch.cat(starts), torch.cat([part.positions for part in parts]), parts[0].longest)
