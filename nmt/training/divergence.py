"""Sums over tokens of functions of the predicted distributions, such as divergences between two passes.

Logits are computed piece by piece, as in :mod:`nmt.training.loss`, so that those of a whole batch are never in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nmt.training.loss import add_product_, logits_of, operands, piece_rows

OfLogits = Callable[..., Tensor]


def symmetric_kl(p: Tensor, q: Tensor) -> Tensor:
    """½ (KL(p‖q) + KL(q‖p)) for each row of the logits of p and q [R, V]; [R] in nats."""
    log_p, log_q = p.log_softmax(-1), q.log_softmax(-1)
    return 0.5 * ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(-1)


def kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p‖q) for each row of the logits of p and q [R, V]; [R] in nats."""
    log_p, log_q = p.log_softmax(-1), q.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """½ KL(p‖m) + ½ KL(q‖m), m = ½ (p + q), for each row of the logits of p and q [R, V]; [R] in nats."""
    log_p, log_q = p.log_softmax(-1), q.log_softmax(-1)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return 0.5 * (log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)).sum(-1)


def top_k_kl(logits: Tensor, ids: Tensor, log_probs: Tensor, temperature: float, tail: str) -> Tensor:
    """KL(p‖q) of the softmax q of each row of logits [R, V] from a distribution p over a few tokens; [R] in nats.

    Args:
        ids: [R, K] the tokens of p.
        log_probs: [R, K] their log-probabilities at temperature 1.
        temperature: of both distributions.
        tail: see :attr:`nmt.config.terms.DistillationConfig.tail`.
    """
    log_q = (logits / temperature).log_softmax(-1)
    chosen = log_q.gather(-1, ids)  # [R, K]
    if tail == "renormalise" or ids.size(-1) == logits.size(-1):
        log_p = (log_probs / temperature).log_softmax(-1)
        return (log_p.exp() * (log_p - chosen)).sum(-1)
    # One more class: what p and q leave to the other tokens
    p = log_probs.exp()
    p = p / p.sum(-1, keepdim=True).clamp(min=1.0)  # rounded to half precision, the sum may be a little over 1
    rest = (1 - p.sum(-1)).clamp(min=0.0)
    others = log_q.scatter(-1, ids, -torch.inf).logsumexp(-1)
    return (torch.xlogy(p, p) - p * chosen).sum(-1) + torch.xlogy(rest, rest) - rest * others


def summed_over_vocabulary(
    function: OfLogits,
    hidden: Sequence[Tensor],
    output: nn.Linear,
    weights: Tensor | None,
    beside: Sequence[Tensor] = (),
) -> Tensor:
    """Σ_m weights_m · function(logits of row m), with its gradient.

    Args:
        function: maps the logits [R, V] of each of ``hidden``, in fp32, and the rows of ``beside`` to values [R]; made
            of PyTorch's operations.
        hidden: each [M, D], of the same targets in several passes.
        output: the output layer [V, D].
        weights: [M]; None: all 1.
        beside: each [M, ...], without gradient; rows of zeros are added to them.
    """
    arguments = function, torch.is_grad_enabled(), output.weight, output.bias, weights, tuple(beside)
    found: Tensor = _SummedOverVocabulary.apply(*arguments, *hidden)
    return found


def _rows(vocab_size: int, device: str) -> int:
    """Rows of a piece; on a GPU fewer than of the cross entropy: the gradient needs ten matrices [R, V] in fp32."""
    rows = piece_rows(vocab_size, device)
    return rows if device == "cpu" else rows // 4


class _SummedOverVocabulary(torch.autograd.Function):
    """As in the cross entropy, the gradient of each piece is computed in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        function: OfLogits,
        differentiate: bool,
        weight: Tensor,
        bias: Tensor | None,
        weights: Tensor | None,
        beside: tuple[Tensor, ...],
        *hidden: Tensor,
    ) -> Tensor:
        # Operands
        w, states = operands(hidden[0], weight)[1], [operands(h, weight)[0] for h in hidden]
        count, device = len(states[0]), weight.device
        counted = torch.ones(count, device=device) if weights is None else weights
        grads = [torch.empty_like(h) for h in states] if differentiate else []
        grad_weight = torch.zeros_like(weight) if differentiate else None
        grad_bias = torch.zeros_like(bias) if differentiate and bias is not None else None
        total = torch.zeros((), device=device)
        # Zero-pad to few distinct shapes, as the cross entropy does.
        rows = max(1, min(_rows(weight.size(0), device.type), count + -count % 128))
        with torch.autocast(device.type, enabled=False):
            for start in range(0, count, rows):
                piece = slice(start, min(start + rows, count))
                padding = rows - (piece.stop - start)
                parts = [F.pad(h[piece], (0, 0, 0, padding)) for h in states]
                logits = [logits_of(part, w, bias).requires_grad_(differentiate) for part in parts]  # [R, V]
                more = [F.pad(one[piece], (0, 0) * (one.dim() - 1) + (0, padding)) for one in beside]
                with torch.set_grad_enabled(differentiate):
                    values = function(*(one.float() for one in logits), *more)
                    value = (values * F.pad(counted[piece], (0, padding))).sum()
                total += value.detach()
                if grad_weight is None:
                    continue
                for grad, part, of_logits in zip(grads, parts, torch.autograd.grad(value, logits), strict=True):
                    grad[piece] = (of_logits @ w)[: piece.stop - start]
                    add_product_(grad_weight, of_logits, part)
                    if grad_bias is not None:
                        grad_bias += of_logits.sum(0, dtype=grad_bias.dtype)
        ctx.grads = (grad_weight, grad_bias, grads)
        return total

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        of_weight, of_bias, grads = ctx.grads
        ctx.grads = None  # scaled in place, so a second backward pass must fail
        of_bias = None if of_bias is None else of_bias.mul_(upstream[0])
        return None, None, of_weight.mul_(upstream[0]), of_bias, None, None, *(grad.mul_(upstream[0]) for grad in grads)
