"""Alignment of the recurrent model: how scores over the source become weights.

With scores e_tj of target step t and source position j, masked at padding:

    soft               α_t = softmax_j(e_tj)                                        (Bahdanau et al. 2015, eq. 6)
    hard               one position a step, drawn from α_t in training and its maximum otherwise    (Xu et al. 2015)
    local_monotonic    softmax over |j - p_t| ≤ D, with p_t = t                     (Luong et al. 2015, section 3.2)
    local_predictive   the same with p_t = S · sigmoid(v · tanh(W s)), times exp(-(j - p_t)² / (2σ²)), σ = D / 2

To add an alignment, write its class, and add its name to ``ALIGNMENTS`` and to ``model.alignment`` of the
configuration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nmt.config.model import RNNConfig


class Chance(NamedTuple):
    """Random numbers of one training step of hard attention."""

    noise: Tensor  # [B, 1, S] from the standard Gumbel distribution
    expected: Tensor | None  # [B, 1, 1] True at sentences that get the expected context; None: no sentence


class Alignment(nn.Module):
    """Weights of the source positions, see the module.

    Attributes:
        timed: whether the weights depend on the number of the target step.
    """

    timed = False

    def weights(
        self, scores: Tensor, query: Tensor, mask: Tensor, time: Tensor | None = None, chance: Chance | None = None
    ) -> Tensor:
        """
        Args:
            scores: [B, W, S], -inf at padding.
            query: decoder states [B, W, D_query].
            mask: [B, S].
            time: [1] number of the target step, from 0, for an alignment that is ``timed``.
            chance: random numbers of :meth:`chances`; None outside of training.

        Returns:
            [B, W, S]
        """
        raise NotImplementedError

    def chances(self, mask: Tensor, steps: int) -> Sequence[Chance] | None:
        """Draw the random numbers of ``steps`` training steps at once; None for an alignment without chance."""
        return None


class SoftAlignment(Alignment):
    """All positions, by the softmax of the scores."""

    def weights(
        self, scores: Tensor, query: Tensor, mask: Tensor, time: Tensor | None = None, chance: Chance | None = None
    ) -> Tensor:
        return torch.softmax(scores, dim=-1)


class HardAlignment(Alignment):
    """One position (Xu et al. 2015, section 4.1): drawn from the softmax in training, its maximum otherwise.

    The draw is argmax(scores + Gumbel noise). ``model.hard.estimator`` chooses how the gradient passes the draw:

    - ``gumbel`` is straight-through (Jang et al. 2017, section 2.2): the gradient is that of
      softmax((scores + noise) / temperature).
    - ``reinforce`` gives the scores no gradient here; :class:`Draws` has what the loss needs for it. With probability
      ``expected_context`` a sentence uses softmax(scores) instead of draws, which reduces the variance.
    """

    def __init__(self, config: RNNConfig):
        super().__init__()
        self.config = config.hard

    def weights(
        self, scores: Tensor, query: Tensor, mask: Tensor, time: Tensor | None = None, chance: Chance | None = None
    ) -> Tensor:
        if chance is None:
            return _one_hot(scores)
        noisy = scores + chance.noise
        drawn = _one_hot(noisy)
        if self.config.estimator == "gumbel":
            relaxed = torch.softmax(noisy / self.config.temperature, dim=-1)
            return drawn + (relaxed - relaxed.detach())  # the difference is exactly 0
        return drawn if chance.expected is None else torch.where(chance.expected, torch.softmax(scores, -1), drawn)

    def chances(self, mask: Tensor, steps: int) -> Sequence[Chance]:
        sentences, positions = mask.shape
        # The smallest draw is above 0, so that the noise is finite.
        noise = torch.empty(steps, sentences, 1, positions, device=mask.device).exponential_()
        noise = noise.clamp_min_(torch.finfo(noise.dtype).tiny).log_().neg_()
        expected = None
        if self.config.estimator == "reinforce" and self.config.expected_context:
            expected = torch.rand(sentences, 1, 1, device=mask.device) < self.config.expected_context
        return [Chance(each, expected) for each in noise.unbind()]


def _one_hot(scores: Tensor) -> Tensor:
    """1 at the first maximum of each row of scores [..., S], else 0."""
    return torch.zeros_like(scores).scatter_(-1, scores.argmax(-1, keepdim=True), 1.0)


class LocalAlignment(Alignment):
    """The positions at most ``model.window`` from a centre p_t, by the softmax of their scores."""

    def __init__(self, config: RNNConfig):
        super().__init__()
        self.window = config.window

    def weights(
        self, scores: Tensor, query: Tensor, mask: Tensor, time: Tensor | None = None, chance: Chance | None = None
    ) -> Tensor:
        lengths = mask.sum(-1)[:, None, None]  # [B, 1, 1]
        offset = torch.arange(mask.size(1), device=mask.device) - self.centre(query, lengths, time)  # [B, W or 1, S]
        return self.favoured(torch.softmax(scores.masked_fill(offset.abs() > self.window, -torch.inf), -1), offset)

    def centre(self, query: Tensor, lengths: Tensor, time: Tensor | None) -> Tensor:
        """p_t [B, W or 1, 1], from 0 to the length: so the window always has a position of the sentence."""
        raise NotImplementedError

    def favoured(self, weights: Tensor, offset: Tensor) -> Tensor:
        return weights


class MonotonicAlignment(LocalAlignment):
    """p_t = t; after the end of a source, its last position (Luong et al. 2015, "local-m")."""

    timed = True

    def centre(self, query: Tensor, lengths: Tensor, time: Tensor | None) -> Tensor:
        assert time is not None
        return torch.minimum(time, lengths - 1)


class PredictiveAlignment(LocalAlignment):
    """p_t = S · sigmoid(v · tanh(W s)), and a Gaussian around p_t (Luong et al. 2015, "local-p", eq. 9 and 10).

    The weights of a step sum to less than 1, as in the paper.
    """

    def __init__(self, config: RNNConfig):
        super().__init__(config)
        self.hidden = nn.Linear(config.d_hidden, config.d_hidden, bias=False)
        self.position = nn.Linear(config.d_hidden, 1, bias=False)

    def centre(self, query: Tensor, lengths: Tensor, time: Tensor | None) -> Tensor:
        # In fp32: bf16 has steps of half a position at the end of a long sentence.
        return lengths * torch.sigmoid(self.position(torch.tanh(self.hidden(query))).float())

    def favoured(self, weights: Tensor, offset: Tensor) -> Tensor:
        sigma = self.window / 2
        return weights * torch.exp(-offset.square() / (2 * sigma**2))


# Keys: the values of ``model.alignment``.
ALIGNMENTS = {
    "soft": lambda config: SoftAlignment(),
    "hard": HardAlignment,
    "local_monotonic": MonotonicAlignment,
    "local_predictive": PredictiveAlignment,
}


@dataclass(frozen=True)
class Draws:
    """The random choices of hard attention in one forward pass of training, for the REINFORCE term of the loss.

    Attributes:
        log_probs: log probability of the positions drawn at each target step, with gradient.
        entropy: of the distribution that they were drawn from, in nats, with gradient.
        drawn: False in sentences that used the expected context instead.
    """

    log_probs: Tensor  # [B, T]
    entropy: Tensor  # [B, T]
    drawn: Tensor  # [B, T]

    @classmethod
    def of(cls, scores: Tensor, weights: Tensor, mask: Tensor, expected: Tensor | None) -> Draws:
        """
        Args:
            scores: [B, T, n, S] of n draws a step, -inf at padding.
            weights: of the same shape, what the draws selected.
            mask: [B, S].
            expected: as in :class:`Chance`.
        """
        log_probs = torch.log_softmax(scores.float(), dim=-1)
        chosen = log_probs.gather(-1, weights.argmax(-1, keepdim=True)).squeeze(-1)  # [B, T, n]
        finite = log_probs.masked_fill(~mask[:, None, None], 0.0)  # 0 log 0 = 0
        entropy = -(finite.exp().masked_fill(~mask[:, None, None], 0.0) * finite).sum(-1)
        drawn = torch.ones_like(chosen[..., 0], dtype=torch.bool)
        return cls(chosen.sum(-1), entropy.sum(-1), drawn if expected is None else drawn & ~expected[:, 0])
