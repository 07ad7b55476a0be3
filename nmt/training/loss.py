"""Label-smoothed cross entropy without storing the logits of a whole batch."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nmt.models.packed import HAS_TRITON


def piece_rows(vocab_size: int, device: str) -> int:
    """Number of hidden states whose logits are in memory at once.

    On a CPU the logits of a piece fit into the cache. A piece has at least 128 rows; with fewer, reading and writing
    the gradient of the output layer for every piece would cost more than the products. On a GPU a piece is large enough
    to use all of its units.
    """
    return max(128, (1 << 20) // vocab_size) if device == "cpu" else max(2048, (1 << 26) // vocab_size)


class Loss(NamedTuple):
    """Sums over tokens, so that micro-batches, ranks and validation sets of any size add up exactly."""

    smoothed: Tensor  # scalar with gradient: what training minimises, in nats; z-loss included
    nll: Tensor  # scalar: negative log likelihood, in nats
    correct: Tensor  # scalar: tokens whose most probable word is correct; 0 if not counted
    squared_log_norm: Tensor | None = None  # scalar: log² Σ exp z; None without z-loss


class _ProjectedCrossEntropy(torch.autograd.Function):
    """Cross entropy of ``softmax(hidden Wᵀ + b)``, piece by piece; b is optional.

    With logits z, softmax p and smoothed target distribution q = (1 - ε) [gold] + ε / V, the loss of a token is
    Σ_v q_v (log Σ exp z - z_v) and its gradient p - q. The gradient of each piece is computed in the forward pass, so
    its logits are neither stored nor computed twice. The backward pass only scales it.

    The uniform part of q needs no pass over the logits: Σ_v z_v = h · Σ_v W_v + Σ_v b_v, and its gradient is the same
    for every word. Z-loss c log² Z, with Z = Σ exp z, adds 2 c log Z · p to the gradient.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        smoothing: float,
        z_loss: float,
        differentiate: bool,
        count: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        # Gold logits, uniform part
        device, spread = hidden.device.type, smoothing / weight.size(0)
        h, w = operands(hidden, weight)
        dtype = w.dtype
        with torch.autocast(device, enabled=False):
            weight_sum = weight.sum(0)  # [D]
            gold = (hidden.float() * weight[targets]).sum()
            if bias is not None:
                gold = gold + bias[targets].sum()
            log_norm = torch.zeros((), device=hidden.device)
            squared = torch.zeros((), device=hidden.device) if z_loss else None
            correct = torch.zeros((), dtype=torch.long, device=hidden.device)
            # Zero-pad to few distinct shapes: oneDNN generates and caches a megabyte of code for each.
            rows = max(1, min(piece_rows(weight.size(0), device), h.size(0) + -h.size(0) % 128))
            h = F.pad(h, (0, 0, 0, -h.size(0) % rows))
            needed = ctx.needs_input_grad  # ignores torch.no_grad()
            grad_hidden = torch.empty_like(h) if differentiate and needed[0] else None
            grad_weight = torch.zeros_like(weight) if differentiate and needed[1] else None
            grad_bias = torch.zeros_like(bias) if bias is not None and differentiate and needed[2] else None
            # Pieces: loss and gradient
            for start in range(0, h.size(0), rows):
                piece, target = h[start : start + rows], targets[start : start + rows, None]  # [R, D], [M, 1]
                logits = logits_of(piece, w, bias)  # [R, V]
                p = torch.softmax(logits, -1)
                # log Σ exp z = z - log p, for the most probable word, whose p cannot underflow
                each = logits.amax(-1).float() - p.amax(-1).float().log()  # [R]
                log_norm += each[: target.size(0)].sum()
                if squared is not None:
                    squared += each[: target.size(0)].square().sum()
                if count:
                    correct += (logits[: target.size(0)].argmax(-1) == target[:, 0]).sum()
                del logits
                if grad_hidden is None and grad_weight is None and grad_bias is None:
                    continue
                if z_loss:
                    p *= 1 + 2 * z_loss * each[:, None]
                p[target.size(0) :] = 0  # the padding of the last piece
                p[: target.size(0)].scatter_(1, target, p[: target.size(0)].gather(1, target) - (1 - smoothing))
                if grad_hidden is not None:
                    torch.mm(p, w, out=grad_hidden[start : start + rows])
                if grad_weight is not None and dtype == grad_weight.dtype:
                    grad_weight.addmm_(p.t(), piece)
                elif grad_weight is not None:
                    grad_weight += p.t() @ piece
                if grad_bias is not None:
                    grad_bias += p.sum(0, dtype=grad_bias.dtype)
            # Sums
            grad_hidden = None if grad_hidden is None else grad_hidden[: hidden.size(0)]
            smoothed = log_norm - (1 - smoothing) * gold - spread * (hidden.float().sum(0) @ weight_sum)
            if bias is not None:
                smoothed = smoothed - spread * hidden.size(0) * bias.sum()
            if squared is not None:
                smoothed += z_loss * squared
            if smoothing and grad_hidden is not None:
                grad_hidden -= (spread * weight_sum).to(dtype)
            if smoothing and grad_weight is not None:
                grad_weight -= spread * hidden.float().sum(0)
            if grad_bias is not None:
                grad_bias -= spread * hidden.size(0)
        ctx.grads = (grad_hidden, grad_weight, grad_bias)
        nll = log_norm - gold
        ctx.mark_non_differentiable(nll, correct, *([] if squared is None else [squared]))
        return smoothed, nll, correct, squared

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        found, ctx.grads = ctx.grads, None  # scaled in place, so a second backward pass must fail
        return *(None if g is None else g.mul_(grads[0]) for g in found), None, None, None, None, None


def operands(hidden: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden states and output weights in the type in which products are computed: that of autocast, if it is on."""
    device = hidden.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    return hidden.to(dtype), weight.to(dtype)


class _WeightedCrossEntropy(torch.autograd.Function):
    """The same over rows that count 1 or 0, in pieces whose shapes depend on the number of rows alone."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        weights: Tensor,
        smoothing: float,
        z_loss: float,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        # Sums that need no logits
        device, spread = hidden.device.type, smoothing / weight.size(0)
        h, w = operands(hidden, weight)
        with torch.autocast(device, enabled=False):
            weight_sum = weight.sum(0)  # [D]
            counted = hidden.float() * weights[:, None]
            gold = (counted * weight[targets]).sum()
            if bias is not None:
                gold = gold + (weights * bias[targets]).sum()
            hidden_sum = counted.sum(0)  # [D]
            # Logits and gradients, piece by piece
            each = torch.empty(h.size(0), device=h.device)  # log Σ exp z of each row, 0 where it does not count
            grad_hidden, grad_weight = torch.empty_like(h), torch.zeros_like(weight)
            grad_bias = None if bias is None else torch.zeros_like(bias)
            rows = _weighted_rows(h.size(0), weight.size(0), device)
            for start in range(0, h.size(0), rows):
                piece = slice(start, start + rows)
                p = logits_of(h[piece], w, bias)  # [R, V] logits, and then their gradient
                each[piece] = log_norm_and_gradient_(p, targets[piece], weights[piece], 1 - smoothing, z_loss)
                torch.mm(p, w, out=grad_hidden[piece])
                add_product_(grad_weight, p, h[piece])
                if grad_bias is not None:
                    grad_bias += p.sum(0, dtype=grad_bias.dtype)
            # Loss, and the part of the gradient from smoothing
            log_norm = each.sum()
            smoothed = log_norm - (1 - smoothing) * gold - spread * (hidden_sum @ weight_sum)
            squared = None
            if z_loss:  # each = w log Z, so that each² / w = w log² Z; 0 where w is 0
                squared = (each.square() / weights.clamp(min=torch.finfo(weights.dtype).tiny)).sum()
                smoothed += z_loss * squared
            grad_hidden -= (spread * weight_sum * weights[:, None]).to(h.dtype)
            grad_weight -= spread * hidden_sum
            if bias is not None and grad_bias is not None:
                smoothed = smoothed - spread * weights.sum() * bias.sum()
                grad_bias -= spread * weights.sum()
        ctx.grads = (grad_hidden, grad_weight, grad_bias)
        nll = log_norm - gold
        ctx.mark_non_differentiable(nll, *([] if squared is None else [squared]))
        return smoothed, nll, squared

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        found, ctx.grads = ctx.grads, None  # the scaling is in place: a second backward must fail, not scale again
        return *(None if g is None else g.mul_(grads[0]) for g in found), None, None, None, None


def log_norm_and_gradient_(
    logits: Tensor, targets: Tensor, weights: Tensor, confidence: float, z_loss: float = 0.0
) -> Tensor:
    """Replace logits z [R, V] by weight · ((1 + 2 z_loss log Σ exp z) softmax(z) - confidence [gold]).

    Returns:
        weight · log Σ exp z, [R] in fp32.
    """
    if logits.is_cuda and HAS_TRITON:
        from nmt.training.triton_loss import log_norm_and_gradient_ as fused

        return fused(logits, targets, weights, confidence, z_loss)
    z = logits.float()
    log_norm = z.logsumexp(-1)
    p, gold = (z - log_norm[:, None]).exp_(), targets[:, None]
    if z_loss:
        p *= 1 + 2 * z_loss * log_norm[:, None]
    p.scatter_(1, gold, p.gather(1, gold) - confidence)
    logits.copy_(p.mul_(weights[:, None]))
    return log_norm * weights


def logits_of(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """hidden Wᵀ + b, in the type of W."""
    return hidden @ weight.t() if bias is None else torch.addmm(bias.to(weight.dtype), hidden, weight.t())


def add_product_(total: Tensor, p: Tensor, h: Tensor) -> None:
    """total [V, D] += pᵀ h, summed in fp32 within the product on CUDA."""
    if p.dtype == total.dtype:
        total.addmm_(p.t(), h)
    elif p.is_cuda and _adds_in_fp32(p.dtype, p.device):
        torch.addmm(total, p.t(), h, out_dtype=torch.float32, out=total)
    else:
        total += p.t() @ h


@cache
def _adds_in_fp32(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether PyTorch adds a product of this dtype to a matrix in fp32."""
    total, p = torch.zeros(16, 16, device=device), torch.zeros(16, 16, dtype=dtype, device=device)
    try:
        torch.addmm(total, p, p, out_dtype=torch.float32, out=total)
    except (TypeError, RuntimeError):
        return False
    return True


def _weighted_rows(rows: int, vocab_size: int, device: str) -> int:
    """As :func:`piece_rows`, in pieces of about one size; larger on a GPU, as the gradient overwrites the logits."""
    most = piece_rows(vocab_size, device) if device == "cpu" else max(2048, (1 << 28) // vocab_size)
    pieces = -(-rows // most)
    return -(-rows // pieces // 64) * 64


def projected_cross_entropy(
    hidden: Tensor,
    output: nn.Linear,
    targets: Tensor,
    smoothing: float,
    count_correct: bool = False,
    weights: Tensor | None = None,
    z_loss: float = 0.0,
) -> Loss:
    """Cross entropy from hidden states, through the output layer.

    With smoothing ε the target distribution is 1 - ε on the correct word plus ε / V on every word
    (Szegedy et al. 2016, section 7).

    Args:
        hidden: [M, D] at the M target positions; without padding, unless ``weights`` are given.
        output: the output layer [V, D].
        targets: [M] ids.
        count_correct: count the tokens whose most probable word is correct, from the same logits.
        weights: [M] 1 for target positions and 0 for padding, so that M can be the same for all batches. For training
            only: gradients are computed, and correct tokens are not counted.
        z_loss: coefficient of log² Σ exp z, where z are the logits (Chowdhery et al. 2022, section 5).
    """
    if weights is not None:
        smoothed, nll, squared = _WeightedCrossEntropy.apply(
            hidden, output.weight, output.bias, targets, weights, smoothing, z_loss
        )
        return Loss(smoothed, nll, nll.new_zeros((), dtype=torch.long), squared)
    # Inside an autograd function gradients are always disabled, so the mode is read here.
    differentiate = torch.is_grad_enabled()
    arguments = hidden, output.weight, output.bias, targets, smoothing, z_loss, differentiate, count_correct
    return Loss(*_ProjectedCrossEntropy.apply(*arguments))


@torch.no_grad()
def token_log_probs(hidden: Tensor, output: nn.Linear, targets: Tensor) -> Tensor:
    """log p of each of ``targets`` [M] under softmax(hidden Wᵀ + b), [M] in fp32, without gradient.

    Args:
        hidden: [M, D]
    """
    h, w = operands(hidden, output.weight)
    found = torch.empty(len(h), device=h.device)
    with torch.autocast(h.device.type, enabled=False):
        rows = piece_rows(w.size(0), h.device.type)
        for start in range(0, len(h), rows):
            piece = slice(start, start + rows)
            logits = logits_of(h[piece], w, output.bias)
            found[piece] = -F.cross_entropy(logits.float(), targets[piece], reduction="none")
    return found
