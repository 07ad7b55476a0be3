"""Normalization of the Transformer: of its residuals, of its embeddings, and of queries and keys."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-5  # as in nn.LayerNorm
FIRST_SCALE = 10.0  # of `UnitQueryKey`: log2(L² - L) for sequences of L = 32 positions


class ScaleNorm(nn.Module):
    """g x / ‖x‖ with one learned number g, at first √D (Nguyen and Salazar 2019)."""

    def __init__(self, width: int):
        super().__init__()
        self.width = width
        self.scale = nn.Parameter(torch.tensor(math.sqrt(width)))

    def forward(self, x: Tensor) -> Tensor:
        return unit(x) * self.scale

    def extra_repr(self) -> str:
        return str(self.width)


# Each normalises vectors [..., D] of width D. RMSNorm: g ⊙ x / √(mean(x²) + ε) (Zhang and Sennrich 2019, eq. 4).
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "layer": nn.LayerNorm,
    "rms": lambda width: nn.RMSNorm(width, eps=EPS),
    "scale": ScaleNorm,
}


def unit(x: Tensor) -> Tensor:
    """x [..., D] as vectors of length one; a vector shorter than ε = 1e-5 is divided by ε."""
    return F.normalize(x, dim=-1, eps=EPS)


class UnitRows(nn.Module):
    """FixNorm: the rows of a matrix [V, D] as vectors of length one (Nguyen and Salazar 2019).

    A parametrization (:mod:`torch.nn.utils.parametrize`) of an output layer: its ``weight`` is computed when read.
    """

    def forward(self, weight: Tensor) -> Tensor:
        return unit(weight)


class UnitEmbedding(nn.Embedding):
    """FixNorm: each row as a vector of length one when it is looked up; the parameter itself has any length."""

    def forward(self, ids: Tensor) -> Tensor:
        return unit(super().forward(ids))

    @property
    def rows(self) -> Tensor:
        """All rows [V, D] as they are looked up."""
        return unit(self.weight)


def fixed_embedding(vocab_size: int, d_model: int, pad_id: int) -> nn.Embedding:
    """As :func:`nmt.models.layers.embedding`, for FixNorm. The row of padding is not 0, which has no direction."""
    table = UnitEmbedding(vocab_size, d_model, padding_idx=pad_id)
    nn.init.normal_(table.weight, std=1 / math.sqrt(d_model))
    return table


class UnitQueryKey(nn.Module):
    """Queries and keys of length one: scores g cos(q, k) with one learned g (Henry et al. 2020).

    Attention multiplies products by 1/√K: the queries get the factor g √K.
    """

    def __init__(self, width: int):
        super().__init__()
        self.root = math.sqrt(width)
        self.scale = nn.Parameter(torch.tensor(FIRST_SCALE))

    def query(self, x: Tensor) -> Tensor:
        """x [..., K]"""
        return unit(x) * (self.scale * self.root)

    def key(self, x: Tensor) -> Tensor:
        """x [..., K]"""
        return unit(x)


class LayerNormQueryKey(nn.Module):
    """Layer norms without bias of the queries and keys of each head (Dehghani et al. 2023)."""

    def __init__(self, width: int):
        super().__init__()
        self.query = nn.LayerNorm(width, bias=False)
        self.key = nn.LayerNorm(width, bias=False)


QUERY_KEY_NORMS: dict[str, type[UnitQueryKey | LayerNormQueryKey]] = {"l2": UnitQueryKey, "layer": LayerNormQueryKey}
