"""Outputs that begin with given tokens, as a step function around another one.

At a position of its prefix a row may produce the token there and no other. The token keeps the log-probability of the
model: the probability of all other tokens moves to an id that a search never produces. So a search needs no rule for
prefixes, the scores of outputs are those of the model, and a beam begins to branch after the prefix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from nmt.models.seq2seq import FixedState, State

ROOM = 8  # prefixes are padded to a multiple of this number of tokens, so that few shapes occur
FREE = -1  # in place of a token where any may follow


@dataclass(frozen=True)
class Prefixed:
    """A state, and the tokens that its outputs begin with.

    Attributes:
        tokens: [N, P], :data:`FREE` after the end of a prefix; P is at least one longer than the longest.
        position: [1], number of tokens that have been produced.
    """

    state: Any
    tokens: Tensor
    position: Tensor

    @classmethod
    def start(
        cls, state: State | FixedState, prefixes: Sequence[Sequence[int]], width: int, device: torch.device
    ) -> Prefixed:
        """The state before the first step, with ``width`` rows for each prefix."""
        longest = max(map(len, prefixes), default=0)
        tokens = torch.full((len(prefixes), (longest // ROOM + 1) * ROOM), FREE)
        for row, prefix in zip(tokens, prefixes, strict=True):
            row[: len(prefix)] = torch.tensor(prefix, dtype=torch.long)
        tokens = tokens.repeat_interleave(width, dim=0).to(device)
        return cls(state, tokens, torch.zeros(1, dtype=torch.long, device=device))

    def select(self, rows: Tensor) -> Prefixed:
        return replace(self, state=self.state.select(rows), tokens=self.tokens.index_select(0, rows))

    def grown(self, room: int) -> Prefixed:
        return replace(self, state=self.state.grown(room))


@dataclass(frozen=True)
class Prefixing:
    """A step function on :class:`Prefixed`.

    Args:
        step: from tokens [N] and a state to logits [N, V], the new state, and maybe more, which is passed on.
        spare: an id that the search never produces.
    """

    step: Callable[[Tensor, Any], tuple[Any, ...]]
    spare: int

    def __call__(self, tokens: Tensor, before: Prefixed) -> tuple[Any, ...]:
        logits, state, *more = self.step(tokens, before.state)
        last = before.tokens.size(1) - 1
        wanted = before.tokens.index_select(1, before.position.clamp(max=last))  # [N, 1]
        logits = logits.float()
        logits = torch.where(wanted == FREE, logits, self._forced(logits, wanted.clamp_min(0)))
        return logits, replace(before, state=state, position=before.position + 1), *more

    def _forced(self, logits: Tensor, wanted: Tensor) -> Tensor:
        """Logits [N, V] with the same norm, of which all but ``wanted`` [N, 1] is at the spare id."""
        others = logits.scatter(1, wanted, -torch.inf).logsumexp(-1, keepdim=True)  # [N, 1]
        forced = torch.full_like(logits, -torch.inf)
        forced[:, self.spare : self.spare + 1] = others
        return forced.scatter(1, wanted, logits.gather(1, wanted))
