"""Sums over tokens of functions of the predicted distributions, such as divergences between two passes.

Logits are computed piece by piece, as in :mod:`nmt.training.loss`, so that those of a whole batch are never in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nmt.training.loss import add_product_, operands, piece_rows

OfLogits = Callable[..., Tensor]


def symmetric_kl(p: Tensor, q: Tensor) -> Tensor:
    """½ (KL(p‖q) + KL(q‖p)) for each row of the logits of p and q [R, V]; [R] in nats."""
    log_p, log_q = p.log_softmax(-1), q.log_softmax(-1)
    return 0.5 * ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1)


def summed_over_vocabulary(
    function: OfLogits, hidden: Sequence[Tensor], weight: Tensor, weights: Tensor | None
) -> Tensor:
    """Σ_m weights_m · function(logits of row m), with its gradient.

    Args:
        function: maps the logits [R, V] of each of ``hidden``, in fp32, to values [R]; made of PyTorch's operations.
        hidden: each [M, D], of the same targets in several passes.
        weight: of the output layer, [V, D].
        weights: [M]; None: all 1.
    """
    found: Tensor = _SummedOverVocabulary.apply(function, torch.is_grad_enabled(), weight, weights, *hidden)
    return found


class _SummedOverVocabulary(torch.autograd.Function):
    """As in the cross entropy, the gradient of each piece is computed in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any, function: OfLogits, differentiate: bool, weight: Tensor, weights: Tensor | None, *hidden: Tensor
    ) -> Tensor:
        # Operands
        w, states = operands(hidden[0], weight)[1], [operands(h, weight)[0] for h in hidden]
        count, device = len(states[0]), weight.device
        counted = torch.ones(count, device=device) if weights is None else weights
        grads = [torch.empty_like(h) for h in states] if differentiate else []
        grad_weight = torch.zeros_like(weight) if differentiate else None
        total = torch.zeros((), device=device)
        # Zero-pad to few distinct shapes, as the cross entropy does.
        rows = max(1, min(piece_rows(weight.size(0), device.type), count + -count % 128))
        with torch.autocast(device.type, enabled=False):
            for start in range(0, count, rows):
                piece = slice(start, min(start + rows, count))
                padding = rows - (piece.stop - start)
                parts = [F.pad(h[piece], (0, 0, 0, padding)) for h in states]
                logits = [(part @ w.t()).requires_grad_(differentiate) for part in parts]  # [R, V]
                with torch.set_grad_enabled(differentiate):
                    values = function(*(one.float() for one in logits))
                    value = (values * F.pad(counted[piece], (0, padding))).sum()
                total += value.detach()
                if grad_weight is None:
                    continue
                for grad, part, of_logits in zip(grads, parts, torch.autograd.grad(value, logits), strict=True):
                    grad[piece] = (of_logits @ w)[: piece.stop - start]
                    add_product_(grad_weight, of_logits, part)
        ctx.grads = (grad_weight, grads)
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        grad_weight, grads = ctx.grads
        ctx.grads = None  # scaled in place, so a second backward pass must fail
        return None, None, grad_weight.mul_(upstream[0]), None, *(grad.mul_(upstream[0]) for grad in grads)
