"""Log of the sum of exponentials of long rows as a Triton kernel; imported on CUDA only.

It reads a row once, in the precision it is in; PyTorch's ``logsumexp`` passes over it six times, in fp32.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 4096  # numbers of a row at a time


@triton.jit
def _log_norm(x, out, stride, n, N: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    top = -float("inf")
    total = 0.0
    for start in range(0, n, N):
        at = start + tl.arange(0, N)
        values = tl.load(x + row * stride + at, mask=at < n, other=-float("inf")).to(tl.float32)
        above = tl.maximum(top, tl.max(values, 0))
        base = tl.where(above == -float("inf"), 0.0, above)  # -inf alone: exp(-inf - 0), not exp(-inf + inf)
        total = total * tl.exp(top - base) + tl.sum(tl.exp(values - base), 0)
        top = above
    tl.store(out + row, top + tl.log(total))


def log_norm(logits: Tensor) -> Tensor:
    """Of each row of ``logits`` [N, V] the log of the sum of exponentials, [N, 1], in fp32."""
    logits = logits.contiguous()
    out = torch.empty((logits.size(0), 1), dtype=torch.float32, device=logits.device)
    _log_norm[(logits.size(0),)](logits, out, logits.stride(0), logits.size(1), N=TILE, num_warps=8)
    return out
