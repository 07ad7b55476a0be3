"""The choice between a replicated and a sharded model."""

from __future__ import annotations

import torch
from torch import nn

from nmt.config.experiment import Config, unshardable
from nmt.runtime.device import Place

SHARE = 0.5  # of a device's memory; above it, ``auto`` divides the model


def choose_parallel(config: Config, model: nn.Module, place: Place) -> tuple[bool, str]:
    """Choose whether the model is sharded; return the choice and a description. A collective call.

    Dividing a model makes the ranks exchange half as many bytes more: its weights in the forward and in the backward
    pass, and its gradients once, against the gradients twice in an all-reduce. So ``auto`` divides only models whose
    state leaves little memory for batches.
    """
    ranks, asked = place.ranks, config.train.parallel
    if ranks.size == 1:
        return False, "one process"
    needed = state_bytes(model, config.train.ema_decay is not None)
    what = "of weights, gradients, moments and averages"
    whole = f"replicated: each has {_size(needed)} {what}"
    divided = f"sharded: each has {_size(needed / ranks.size, needed)} of {_size(needed)} {what}"
    if asked == "auto" and place.device.type == "cuda":
        memory = min(ranks.gather(torch.cuda.get_device_properties(place.device).total_memory))
        if needed > SHARE * memory:
            why = unshardable(config)
            return why is None, divided if why is None else f"{whole}; not sharded, because {why}"
    return asked == "sharded", divided if asked == "sharded" else whole


def state_bytes(model: nn.Module, averaged: bool) -> int:
    """The bytes of a training's state in fp32: weights, gradients and two moments, and an average of the weights."""
    each = 8 if averaged else 4
    return sum(p.numel() * (each + (12 if p.requires_grad else 0)) for p in model.parameters())


def _size(count: float, of: float | None = None) -> str:
    """Bytes in GiB or MiB; a part without the unit, which that of the whole decides."""
    unit, name = (2**30, " GiB") if (of or count) >= 2**30 else (2**20, " MiB")
    return f"{count / unit:,.1f}{name if of is None else ''}"
