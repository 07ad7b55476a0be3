"""Coverage penalty: hypotheses that leave source words without attention score lower (Wu et al. 2016, eq. 14).

    cp(X; Y) = beta * sum_i log(min(sum_j p_ij, 1))

p_ij is the attention of target token j to source position i. All source positions count, the eos of the source
included, and all target tokens, the eos included. The attention at j is that of the step that produces token j.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from nmt.models.seq2seq import State

LEAST = torch.finfo(torch.float32).tiny  # attention that a position has at least, so that the penalty stays finite


@dataclass(frozen=True)
class Covered:
    """A state, and how much attention each prefix has given to each source position.

    Attributes:
        coverage: [N, S], fp32, sum_j p_ij; 1 at padding, which costs nothing.
    """

    state: State
    coverage: Tensor

    @classmethod
    def start(cls, state: State, src_mask: Tensor, width: int) -> Covered:
        """The state before the first step; src_mask [B, S] is True at tokens."""
        return cls(state, (~src_mask).float().repeat_interleave(width, dim=0))

    def select(self, rows: Tensor) -> Covered:
        return Covered(self.state.select(rows), self.coverage.index_select(0, rows))


def covering(
    step: Callable[[Tensor, Any], tuple[Tensor, Any, Tensor]],
) -> Callable[[Tensor, Covered], tuple[Tensor, Covered]]:
    """A step function on :class:`Covered`.

    Args:
        step: from tokens [N] and a state to logits [N, V], the new state and the attention of the step [N, S].
    """

    def covered_step(tokens: Tensor, before: Covered) -> tuple[Tensor, Covered]:
        logits, state, attention = step(tokens, before.state)
        return logits, Covered(state, before.coverage + attention.float())

    return covered_step


def coverage_penalty(coverage: Tensor, beta: float) -> Tensor:
    """The penalty [N] of coverage [N, S]; at most 0."""
    return beta * coverage.clamp(LEAST, 1.0).log().sum(-1)
