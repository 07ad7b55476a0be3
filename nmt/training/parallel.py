"""Whether the processes of a training hold the whole model each, or a share of it."""

from __future__ import annotations

import torch
from torch import nn

from nmt.config.experiment import Config, unshardable
from nmt.runtime.device import Place

SHARE = 0.5  # of a device's memory; above it, ``auto`` divides the model


def choose_parallel(config: Config, model: nn.Module, place: Place) -> tuple[bool, str]:
    """Whether the model is divided among the ranks, and why, for people; a collective call.

    Dividing a model makes the ranks exchange half as many bytes more: its weights in the forward and in the backward
    pass, and its gradients once, against the gradients twice in an all-reduce. So ``auto`` divides only models whose
    state leaves little memory for batches.
    """
    ranks, asked = place.ranks, config.train.parallel
    if ranks.size == 1:
        return False, "one process"
    needed = state_bytes(model, config.train.ema_decay is not None)
    whole = f"replicated: {_size(needed)} of weights, gradients, moments and averages in each process"
    divided = f"sharded: {_size(needed / ranks.size)} of {_size(needed)} of weights, gradients, moments and averages"
    if asked == "auto" and place.device.type == "cuda":
        memory = min(ranks.gather(torch.cuda.get_device_properties(place.device).total_memory))
        if needed > SHARE * memory:
            why = unshardable(config)
            return why is None, f"{divided} in each process" if why is None else f"{whole}; not sharded, because {why}"
    return asked == "sharded", f"{divided} in each process" if asked == "sharded" else whole


def state_bytes(model: nn.Module, averaged: bool) -> int:
    """The bytes of a training's state in fp32: weights, gradients and two moments, and an average of the weights."""
    each = 8 if averaged else 4
    return sum(p.numel() * (each + (12 if p.requires_grad else 0)) for p in model.parameters())


def _size(count: float) -> str:
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"
