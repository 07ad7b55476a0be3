"""Parts that both model families use: dropout with cheap masks, and embeddings."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _ByteMaskDropout(torch.autograd.Function):
    """Dropout whose mask costs one random byte an element.

    PyTorch's CPU dropout draws one 32-bit number and computes one Bernoulli variable an element, one after the other,
    which is the largest single cost of a small Transformer's sublayer. Here one 64-bit draw serves eight elements: a
    byte below round(256 p) drops its element. The rate is so quantised to 1/256, and the scale is that of the quantised
    rate, which keeps the expectation exact.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, dropped: int) -> Tensor:
        bits = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
        keep = (bits.view(torch.uint8)[: x.numel()] >= dropped).view(x.shape)
        ctx.save_for_backward(keep)
        ctx.scale = 256 / (256 - dropped)
        return (x * keep).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (keep,) = ctx.saved_tensors
        return (grads[0] * keep).mul_(ctx.scale), None


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Dropout (Srivastava et al. 2014); on CPU its rate is rounded to a multiple of 1/256."""
    dropped = round(256 * p)
    if not training or dropped == 0:
        return x
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(x, p, True)
    result: Tensor = _ByteMaskDropout.apply(x, min(dropped, 255))
    return result


class Dropout(nn.Module):
    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}"


def embedding(vocab_size: int, d_model: int, pad_id: int) -> nn.Embedding:
    """A table [V, D], N(0, 1/D): unit-norm rows, so that tied to the output layer it gives logits of order one."""
    table = nn.Embedding(vocab_size, d_model, padding_idx=pad_id)
    nn.init.normal_(table.weight, std=1 / math.sqrt(d_model))
    with torch.no_grad():
        table.weight[pad_id].zero_()
    return table
