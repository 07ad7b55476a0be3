"""A residual sum and its layer norm as one Triton kernel; imported on CUDA only."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor, nn


@triton.jit
def _add_norm(y, x, weight, bias, total, out, n, eps, D: tl.constexpr):
    row, d = tl.program_id(0).to(tl.int64), tl.arange(0, D)
    inside = d < n
    at = row * n + d
    one, two = tl.load(x + at, mask=inside, other=0.0), tl.load(y + at, mask=inside, other=0.0)
    both = (one.to(tl.float32) + two.to(tl.float32)).to(total.dtype.element_ty)
    tl.store(total + at, both, mask=inside)
    both = both.to(tl.float32)
    centred = tl.where(inside, both - tl.sum(both, 0) / n, 0.0)
    scaled = centred / tl.sqrt(tl.sum(centred * centred, 0) / n + eps)
    scale = tl.load(weight + d, mask=inside, other=0.0).to(tl.float32)
    shift = tl.load(bias + d, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + at, (scaled * scale + shift).to(out.dtype.element_ty), mask=inside)


def add_norm(y: Tensor, x: Tensor, norm: nn.LayerNorm) -> tuple[Tensor, Tensor]:
    """See :func:`nmt.models.layers.add_norm`; under autocast, the norm is in the type of the product that reads it."""
    x, y = x.contiguous(), y.contiguous()
    total = torch.empty_like(x, dtype=torch.promote_types(x.dtype, y.dtype))
    cast = torch.is_autocast_enabled(x.device.type)
    out = torch.empty_like(total, dtype=torch.get_autocast_dtype(x.device.type) if cast else total.dtype)
    n = x.size(-1)
    grid = (x.numel() // n,)
    _add_norm[grid](y, x, norm.weight, norm.bias, total, out, n, norm.eps, D=triton.next_power_of_2(n), num_warps=4)
    return total, out
