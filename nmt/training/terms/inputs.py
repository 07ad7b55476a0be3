"""The inputs of forward passes, padded or packed, in a form that terms of the loss can change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nmt.data.batch import Batch
from nmt.data.packing import PackedBatch
from nmt.data.tokenizer import BOS_ID, EOS_ID, PAD_ID
from nmt.sentences import Sentences


@dataclass(frozen=True)
class Side:
    """The tokens of one side.

    Attributes:
        ids: [B, S], or [N] of a packed batch.
        where: mask [B, S] of the real tokens of a padded source, sentences of a packed side, None of a padded target.
    """

    ids: Tensor
    where: Tensor | Sentences | None

    @property
    def words(self) -> Tensor:
        """True at tokens of the text, False at padding, bos and eos; [B, S] or [N]."""
        return (self.ids != PAD_ID) & (self.ids != BOS_ID) & (self.ids != EOS_ID)


@dataclass(frozen=True)
class Inputs:
    """The arguments of the model's forward pass."""

    src: Side
    tgt: Side

    @classmethod
    def of(cls, batch: Batch | PackedBatch) -> Inputs:
        src, where, tgt, *rest = batch.inputs
        return cls(Side(src, where), Side(tgt, rest[0] if rest else None))

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


def _joined(sides: Sequence[Side]) -> Side:
    ids = torch.cat([side.ids for side in sides])
    where = [side.where for side in sides]
    if isinstance(where[0], Sentences):
        return Side(ids, _joined_sentences([one for one in where if isinstance(one, Sentences)]))
    if isinstance(where[0], Tensor):
        return Side(ids, torch.cat([one for one in where if isinstance(one, Tensor)]))
    return Side(ids, None)


def _joined_sentences(parts: Sequence[Sentences]) -> Sentences:
    rows = len(parts[0].positions)  # equally many in each
    starts = [part.starts[bool(number) :] + number * rows for number, part in enumerate(parts)]
    return Sentences(torch.cat(starts), torch.cat([part.positions for part in parts]), parts[0].longest)
