"""Several models that share the vocabularies, as one model.

A step gives the mean of the members' next-token probabilities, or of their log-probabilities:

    probability          log p(y | x) = log (1/M · Σ_m p_m(y | x))
    log_probability      log p(y | x) = 1/M · Σ_m log p_m(y | x) - log Z

The second is the geometric mean, which Z normalises over the vocabulary: a token that one member finds improbable is
improbable. The members may be of different families. A search sees one step function.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nmt.config.search import Average
from nmt.models.seq2seq import Memory, Seq2Seq


@dataclass(frozen=True)
class Memories(Memory):
    """What each member encoded.

    Attributes:
        states: [B, S, 0]: no member reads them.
    """

    each: tuple[Memory, ...] = ()

    def filled_up(self, positions: int) -> Memories:
        filled = super().filled_up(positions)
        return Memories(filled.states, filled.mask, each=tuple(own.filled_up(positions) for own in self.each))


@dataclass(frozen=True)
class MemberStates:
    """The state of each member between two steps."""

    each: tuple[Any, ...]

    def select(self, rows: Tensor) -> MemberStates:
        return MemberStates(tuple(state.select(rows) for state in self.each))

    def grown(self, room: int) -> MemberStates:
        return MemberStates(tuple(state.grown(room) for state in self.each))


class Ensemble(Seq2Seq[MemberStates]):
    """Its hidden states are those of the members side by side, [..., ΣD]; :meth:`project` makes one distribution.

    ``output`` and the embeddings are those of the first member: what reads their sizes finds the vocabularies.

    Args:
        members: models with the same vocabularies.
        average: what is averaged, see the module.
    """

    def __init__(self, members: Sequence[Seq2Seq[Any]], average: Average = "probability"):
        super().__init__()
        self.members: Sequence[Seq2Seq[Any]] = nn.ModuleList(members)  # type: ignore[assignment]
        self.average = average
        self.output, self.src_embedding = members[0].output, members[0].src_embedding
        self.tgt_embedding = members[0].tgt_embedding
        self.widths = [member.output.in_features for member in members]

    def encode(self, src: Tensor, src_mask: Tensor, keep: Tensor | None = None) -> Memories:
        each = tuple(member.encode(src, src_mask, keep) for member in self.members)
        return Memories(each[0].states[..., :0], src_mask, each=each)

    def decode(self, memory: Memory, tgt_in: Tensor, keep: Tensor | None = None) -> Tensor:
        return torch.cat(self._each(memory, lambda member, own: member.decode(own, tgt_in, keep)), dim=-1)

    def project(self, hidden: Tensor) -> Tensor:
        """Log-probabilities [..., V] of hidden states [..., ΣD]."""
        parts = hidden.split(self.widths, dim=-1)
        return self._averaged([member.project(part) for member, part in zip(self.members, parts, strict=True)])

    def init_state(self, memory: Memory, beam_size: int = 1, room: int | None = None) -> MemberStates:
        return MemberStates(tuple(self._each(memory, lambda member, own: member.init_state(own, beam_size, room))))

    def step(self, tokens: Tensor, state: MemberStates) -> tuple[Tensor, MemberStates]:
        pairs = zip(self.members, state.each, strict=True)
        logits, states = zip(*(member.step(tokens, own) for member, own in pairs), strict=True)
        return self._averaged(logits), MemberStates(states)

    def attending_step(self, tokens: Tensor, state: MemberStates) -> tuple[Tensor, MemberStates, Tensor]:
        """See :meth:`Seq2Seq.attending_step`: the mean of the members' weights.

        Raises:
            ConfigError: a member has no attention.
        """
        pairs = zip(self.members, state.each, strict=True)
        found = [member.attending_step(tokens, own) for member, own in pairs]
        logits, states, weights = zip(*found, strict=True)
        return self._averaged(logits), MemberStates(states), torch.stack(weights).mean(0)

    def attention_maps(self, src: Tensor, src_mask: Tensor, tgt_in: Tensor) -> Tensor | None:
        """The mean of the members' last layers, each averaged over its heads, [1, B, 1, T, S]; None if one has none."""
        found = []
        for member in self.members:
            maps = member.attention_maps(src, src_mask, tgt_in)
            if maps is None:
                return None
            found.append(maps[-1].mean(1))  # [B, T, S]
        return torch.stack(found).mean(0)[None, :, None]

    def _each(self, memory: Memory, work: Callable[[Seq2Seq[Any], Memory], Any]) -> list[Any]:
        """What each member makes of its memory."""
        assert isinstance(memory, Memories)
        return [work(member, own) for member, own in zip(self.members, memory.each, strict=True)]

    def _averaged(self, logits: Sequence[Tensor]) -> Tensor:
        """The log-probabilities [..., V] in fp32 that the members' logits [..., V] average to."""
        log_probs = torch.stack([each.float().log_softmax(-1) for each in logits])  # [M, ..., V]
        if self.average == "probability":
            return log_probs.logsumexp(0) - math.log(len(logits))
        return log_probs.mean(0).log_softmax(-1)
