"""Layers of both model families: fast dropout and linear layers, embeddings, recurrent layers, a residual sum with its
norm.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nmt.runtime.kernels import Kernel


class _ByteMaskDropout(torch.autograd.Function):
    """Dropout whose mask needs one random byte per element.

    PyTorch's CPU dropout draws one 32-bit number and computes one Bernoulli variable per element, sequentially. That is
    the largest single cost of a small Transformer's sublayer. Here one 64-bit draw serves eight elements: a byte below
    round(256 p) drops its element. The rate is thus rounded to a multiple of 1/256. The scale is that of the rounded
    rate, so the expectation is exact.
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


class _FewShapesLinear(torch.autograd.Function):
    """x Wᵀ + b in bf16 on a CPU, with rows zero-padded so that few distinct shapes occur.

    oneDNN generates and caches a megabyte of code for every new shape of a bf16 product. With batches of all shapes the
    cache grows to gigabytes; beyond 1,024 shapes, code is generated repeatedly. The rows are copied to bf16 anyway, so
    padding adds no copy.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        flat, w = _zero_padded(x), weight.to(torch.bfloat16)
        y = flat @ w.t() if bias is None else torch.addmm(bias.to(torch.bfloat16), flat, w.t())
        ctx.save_for_backward(flat, w)
        ctx.x_shape, ctx.x_dtype = x.shape, x.dtype
        return y.resize_(
            *x.shape[:-1], y.size(-1)
        )  # not a view: autograd forbids in-place changes of views that a custom function returns

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (flat, w), grad = ctx.saved_tensors, _zero_padded(grads[0])
        rows = grads[0].numel() // grads[0].size(-1)
        grad_x = (grad @ w)[:rows].view(ctx.x_shape).to(ctx.x_dtype) if ctx.needs_input_grad[0] else None
        grad_weight = (grad.t() @ flat).float() if ctx.needs_input_grad[1] else None
        grad_bias = grad.sum(0).float() if ctx.needs_input_grad[2] else None
        return grad_x, grad_weight, grad_bias


def _zero_padded(x: Tensor) -> Tensor:
    """Flatten x to [rows, D] in bf16 and zero-pad rows to a multiple of 2^k, at most 1/16 more (or to 16)."""
    rows = x.numel() // x.size(-1)
    step = 1 << max(4, rows.bit_length() - 5)
    flat = torch.empty((rows + -rows % step, x.size(-1)), dtype=torch.bfloat16)
    flat[:rows].view(x.shape).copy_(x)
    flat[rows:] = 0
    return flat


class Linear(nn.Linear):
    """``nn.Linear``, with :class:`_FewShapesLinear` for bf16 on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        if (
            x.device.type != "cpu"
            or not torch.is_autocast_enabled("cpu")
            or torch.get_autocast_dtype("cpu") != torch.bfloat16
            or torch.compiler.is_compiling()
        ):
            return super().forward(x)
        result: Tensor = _FewShapesLinear.apply(x, self.weight, self.bias)
        return result


def embedding(vocab_size: int, d_model: int, pad_id: int) -> nn.Embedding:
    """A table [V, D] drawn from N(0, 1/D). Its rows have norm one, so a tied output layer gives logits of order one."""
    table = nn.Embedding(vocab_size, d_model, padding_idx=pad_id)
    nn.init.normal_(table.weight, std=1 / math.sqrt(d_model))
    with torch.no_grad():
        table.weight[pad_id].zero_()
    return table


def keep_zero_row(weight: Tensor, row: int) -> None:
    """Set a row of a matrix [V, D] to 0, where training leaves it: its gradient is 0, and so is every moment of it."""

    def without(grad: Tensor) -> Tensor:
        grad = grad.clone()
        grad[row].zero_()
        return grad

    with torch.no_grad():
        weight[row].zero_()
    weight.register_hook(without)


def kept(x: Tensor, keep: Tensor | None) -> Tensor:
    """Embeddings x times factors that broadcast to them; None: all 1."""
    return x if keep is None else x * keep


def recurrent(cell: str, d_in: int, d_hidden: int, forget_bias: float) -> nn.RNNBase:
    """A recurrent layer of one direction, ``gru`` or ``lstm``; batch first. For ``forget_bias`` see
    :func:`raise_forget_bias`.
    """
    layer = (nn.GRU if cell == "gru" else nn.LSTM)(d_in, d_hidden, batch_first=True)
    if cell == "lstm":
        raise_forget_bias(layer.get_parameter("bias_ih_l0"), forget_bias)
    return layer


@torch.no_grad()
def raise_forget_bias(bias: Tensor, by: float) -> None:
    """Raise the bias of an LSTM's forget gates, so that its cell keeps its content at first (Gers et al. 2000).

    Args:
        bias: [4·Hid] of the gates i, f, g, o. PyTorch's LSTM adds two such vectors; raise one of them.
    """
    bias.chunk(4)[1].add_(by)


def output_layer(d_model: int, vocab_size: int, bias: bool) -> nn.Linear:
    """The layer from hidden states [..., D] to logits [..., V]. The caller sets its weights; its bias is 0 at first."""
    layer = nn.Linear(d_model, vocab_size, bias)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


def add_norm(y: Tensor, x: Tensor, norm: nn.Module) -> tuple[Tensor, Tensor]:
    """x + y and its norm, as inference needs them: a layer norm may be in the type of autocast."""
    added: tuple[Tensor, Tensor] = (_add_norm if isinstance(norm, nn.LayerNorm) else plain_add_norm)(y, x, norm)
    return added


def plain_add_norm(y: Tensor, x: Tensor, norm: nn.Module) -> tuple[Tensor, Tensor]:
    x = x + y
    return x, norm(x)


_add_norm = Kernel("nmt.models.triton_norm", "add_norm", plain_add_norm)
