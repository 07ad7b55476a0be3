"""Attention of the recurrent model: alignment scores between a query and the source, and the context vector.

Each score is a pure function of a query [..., A] and keys [..., A]. :class:`Attention` projects the queries and keys,
lets an alignment (:mod:`nmt.models.alignment`) make weights of the scores, and computes the weighted sum. To add a
score, write its function and class, and add its name to ``SCORES`` and to ``model.attention`` of the configuration.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nmt.config.model import RNNConfig
from nmt.models.alignment import ALIGNMENTS, Alignment, Chance, SoftAlignment


def additive_score(query: Tensor, keys: Tensor, v: Tensor) -> Tensor:
    """v · tanh(query + key) (Bahdanau et al. 2015, section A.1.2).

    Args:
        query: [..., 1, A], already multiplied by W.
        keys: [..., S, A], already multiplied by U.
        v: [A].

    Returns:
        [..., S]
    """
    return torch.tanh(query + keys) @ v


def dot_score(query: Tensor, keys: Tensor) -> Tensor:
    """query · key (Luong et al. 2015, eq. 8, "dot"; "general" when the keys were multiplied by W). Shapes as above."""
    return (query @ keys.transpose(-1, -2)).squeeze(-2)


def scaled_dot_score(query: Tensor, keys: Tensor) -> Tensor:
    """query · key / √A (Vaswani et al. 2017, eq. 1)."""
    return dot_score(query, keys) / math.sqrt(query.size(-1))


def euclidean_score(query: Tensor, keys: Tensor) -> Tensor:
    """-‖query - key‖² / √A: the nearer, the higher; scaled like the scaled dot product."""
    return -(query - keys).square().sum(-1) / math.sqrt(query.size(-1))


@dataclass(frozen=True)
class Source:
    """Keys and values of the source for attention, computed once per sentence."""

    keys: Tensor  # [B, S, A]
    values: Tensor  # [B, S, D_enc]
    mask: Tensor  # [B, S]

    def select(self, sentences: Tensor) -> Source:
        return Source(*(t.index_select(0, sentences) for t in (self.keys, self.values, self.mask)))


class Read(NamedTuple):
    """One look at the source."""

    context: Tensor  # [B, W, D_enc]
    weights: Tensor  # [B, W, S]
    scores: Tensor  # [B, W, S], -inf at padding


class Attention(nn.Module):
    """context = Σ_j α_j value_j, the values being the encoder states, and α = softmax_j(score(query, key_j)).

    Each subclass is one score. Queries and encoder states have different widths (the encoder is bidirectional), so most
    scores compare projections of both to ``d_attention``. Another ``alignment`` than the softmax can be set.

    Args:
        d_query: width of the decoder state.
        d_memory: width of the encoder states.
        d_attention: width A of the projections.
    """

    def __init__(self, d_query: int, d_memory: int, d_attention: int):
        super().__init__()
        self.key: nn.Module = nn.Linear(d_memory, d_attention, bias=False)
        self.query: nn.Module = nn.Linear(d_query, d_attention, bias=False)
        self.alignment: Alignment = SoftAlignment()

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        """Scores [B, W, S] of projected queries [B, W, 1, A] and keys [B, 1, S, A]."""
        raise NotImplementedError

    def read(self, values: Tensor, mask: Tensor) -> Source:
        """Keys for encoder states [B, S, D_enc] and mask [B, S]."""
        return Source(self.key(values), values, mask)

    def forward(self, query: Tensor, source: Source, time: Tensor | None = None, chance: Chance | None = None) -> Read:
        """Attend with W queries [B, W, D_query] for each sentence; for the others see :meth:`Alignment.weights`."""
        scores = self.score(self.query(query).unsqueeze(2), source.keys.unsqueeze(1))  # [B, W, S]
        scores = scores.masked_fill(~source.mask.unsqueeze(1), -torch.inf)
        weights = self.alignment.weights(scores, query, source.mask, time, chance)
        return Read(weights @ source.values, weights, scores)


class AdditiveAttention(Attention):
    """Scores with a feed-forward network of one hidden layer, see :func:`additive_score`."""

    def __init__(self, d_query: int, d_memory: int, d_attention: int):
        nn.Module.__init__(self)
        self.key = nn.Linear(d_memory, d_attention)  # its bias is that of the hidden layer
        self.query = nn.Linear(d_query, d_attention, bias=False)
        self.v = nn.Parameter(torch.empty(d_attention).uniform_(-1, 1) / math.sqrt(d_attention))
        self.alignment = SoftAlignment()

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        return additive_score(query, keys, self.v)


class GeneralAttention(Attention):
    """Projects the encoder states to the width of the queries; the queries are not projected."""

    def __init__(self, d_query: int, d_memory: int, d_attention: int):
        nn.Module.__init__(self)
        self.key, self.query = nn.Linear(d_memory, d_query, bias=False), nn.Identity()
        self.alignment = SoftAlignment()

    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        return dot_score(query, keys)


class DotAttention(Attention):
    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        return dot_score(query, keys)


class ScaledDotAttention(Attention):
    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        return scaled_dot_score(query, keys)


class EuclideanAttention(Attention):
    def score(self, query: Tensor, keys: Tensor) -> Tensor:
        return euclidean_score(query, keys)


# Keys: the values of ``model.attention`` other than ``none``.
SCORES: dict[str, type[Attention]] = {
    "additive": AdditiveAttention,
    "general": GeneralAttention,
    "dot": DotAttention,
    "scaled_dot": ScaledDotAttention,
    "euclidean": EuclideanAttention,
}


def build_attention(config: RNNConfig, d_memory: int) -> Attention | None:
    """The attention that ``config`` asks for; None for ``attention: none``."""
    score = SCORES.get(config.attention)
    if score is None:
        return None
    attention = score(config.d_hidden, d_memory, config.d_attention)
    attention.alignment = ALIGNMENTS[config.alignment](config)
    return attention
