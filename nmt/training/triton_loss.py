"""A Triton kernel for the inside of the loss; imported on CUDA only.

``TRITON_INTERPRET=1`` runs it on a CPU, element by element, which is how it is tested.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 8192  # words of the vocabulary that a program holds at a time


@triton.jit
def _log_norm_and_gradient(
    logits, stride, targets, weights, log_norms, vocabulary, confidence, z_loss, B: tl.constexpr, Z: tl.constexpr
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    z = logits + row * stride
    top, norm = -float("inf"), 0.0
    for start in range(0, vocabulary, B):
        words = start + tl.arange(0, B)
        x = tl.load(z + words, mask=words < vocabulary, other=-float("inf")).to(tl.float32)
        new = tl.maximum(top, tl.max(x, 0))
        norm = norm * tl.exp(top - new) + tl.sum(tl.exp(x - new), 0)
        top = new
    gold, weight = tl.load(targets + row), tl.load(weights + row)
    log_norm = top + tl.log(norm)
    tl.store(log_norms + row, log_norm * weight)
    for start in range(0, vocabulary, B):
        words = start + tl.arange(0, B)
        x = tl.load(z + words, mask=words < vocabulary, other=-float("inf")).to(tl.float32)
        p = tl.exp(x - log_norm)
        if Z:
            p *= 1 + 2 * z_loss * log_norm
        p -= tl.where(words == gold, confidence, 0.0)
        tl.store(z + words, (p * weight).to(logits.dtype.element_ty), mask=words < vocabulary)


def log_norm_and_gradient_(
    logits: Tensor, targets: Tensor, weights: Tensor, confidence: float, z_loss: float = 0.0
) -> Tensor:
    """See :func:`nmt.training.loss.log_norm_and_gradient_`: two passes over the logits, in fp32, in place."""
    rows, vocabulary = logits.shape
    log_norms = torch.empty(rows, device=logits.device, dtype=torch.float32)
    block = min(BLOCK, triton.next_power_of_2(vocabulary))
    _log_norm_and_gradient[(rows,)](
        logits, logits.stride(0), targets, weights, log_norms, vocabulary, confidence, z_loss,
        B=block, Z=z_loss != 0, num_warps=16,
    )  # fmt: skip
    return log_norms
