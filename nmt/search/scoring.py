"""Hypotheses, and the length penalty that makes hypotheses of different lengths comparable."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, overload

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Hypothesis:
    """A finished output.

    Attributes:
        tokens: ids, without bos and eos.
        log_prob: natural logarithm of the model's probability of the tokens and the eos after them.
        score: ``log_prob`` divided by the length penalty of ``len(tokens) + 1``, plus ``coverage``.
        coverage: coverage penalty (:mod:`nmt.search.coverage`), at most 0; 0 without one.
    """

    tokens: list[int]
    log_prob: float
    score: float
    coverage: float = 0.0


@dataclass(frozen=True)
class LengthPenalty:
    """Length penalty, the divisor of the log probability: ``score = log_prob / penalty(length)``.

    ``length`` counts the generated tokens including eos, so it is at least 1. The penalty is positive and never
    decreases with the length; the early stop of :func:`nmt.search.beam.beam_search` requires that.

    Attributes:
        kind: ``gnmt``: ((5 + length) / 6) ** alpha (Wu et al. 2016, eq. 14); ``average``: length ** alpha, so
            that alpha 1 gives the mean log probability per token; ``none``: 1.
        alpha: strength, at least 0; 0 is the same as ``none``.

    Raises:
        ValueError: alpha is negative (the penalty would decrease with the length).
    """

    kind: Literal["gnmt", "average", "none"]
    alpha: float = 1.0

    def __post_init__(self) -> None:
        if self.alpha < 0.0:
            raise ValueError(f"alpha must not be negative, found {self.alpha}")

    @overload
    def __call__(self, length: int) -> float: ...
    @overload
    def __call__(self, length: Tensor) -> Tensor: ...
    def __call__(self, length: int | Tensor) -> float | Tensor:
        """The penalty for one length or, elementwise, for a tensor of lengths."""
        if self.kind == "gnmt":
            return ((5 + length) / 6) ** self.alpha
        return length ** (float(self.alpha) if self.kind == "average" else 0.0)
