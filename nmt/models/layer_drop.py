"""LayerDrop: whole layers of a stack are dropped in training (Fan et al. 2020).

A dropped layer is not computed: its input is its output. The choice is a number on the host, drawn once per stack and
batch from PyTorch's CPU generator, whose state is in every checkpoint. The parameters of a dropped layer get a gradient
of zeros instead of none, for two reasons: DistributedDataParallel waits for the gradient of every parameter, and the
ranks may drop different layers; and the optimizer then makes the same update for any number of ranks and of
accumulated batches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class _ZeroGradient(torch.autograd.Function):
    """x, which now depends on further tensors with a gradient of 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *others: Tensor) -> Tensor:
        ctx.save_for_backward(*others)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        return grads[0], *(torch.zeros_like(other) for other in ctx.saved_tensors)


def apply_layers(
    layers: Iterable[nn.Module],
    x: Tensor,
    rate: float,
    training: bool,
    apply: Callable[[Any, Tensor], Tensor],
    *others: Tensor,
) -> Tensor:
    """Apply the layers of a stack to x, one after another.

    Args:
        rate: probability that a layer is dropped in training.
        apply: the output of a layer for an input.
        others: what every layer reads beside its input. If all layers are dropped, the parameters behind these tensors
            still get a gradient of zeros.
    """
    stack = list(layers)
    dropped = (torch.rand(len(stack)) < rate).tolist() if rate and training else [False] * len(stack)
    for layer, drop in zip(stack, dropped, strict=True):
        x = _ZeroGradient.apply(x, *others, *layer.parameters()) if drop else apply(layer, x)
    return x
