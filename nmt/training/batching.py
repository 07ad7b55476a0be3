"""The choice between packed and padded batches."""

from __future__ import annotations

import torch

from nmt.config.experiment import Config, unpackable
from nmt.config.model import TransformerConfig
from nmt.errors import DeviceError, RunError
from nmt.models.packed import kernel


def choose_batching(config: Config, device: torch.device, dtype: torch.dtype, recorded: str | None) -> tuple[bool, str]:
    """Choose packed or padded batches; return whether they are packed, and a description.

    Args:
        recorded: what the run was started with; None for a new run.

    Raises:
        RunError: the run was started otherwise.
        DeviceError: packed batches were asked for, or the run has them, but the device cannot train on them.
    """
    asked = config.train.batching
    if recorded is not None and asked not in ("auto", recorded):
        raise RunError(
            f"train.batching: {asked}, but the run was started with {recorded} batches, and other batches would not "
            "continue it; remove this setting, or give this training another name (--set name=...)"
        )
    wanted = recorded or asked
    why = unpackable(config) or _no_kernel(config, device, dtype)
    if wanted == "packed":
        if why is not None:
            raise DeviceError(f"train.batching: packed is not possible here: {why}; use padded, or another device")
        return True, "packed, without padding"
    if wanted == "padded":
        return False, "padded"
    if why is None and device.type != "cuda":
        why = f"packing gains little on {device.type}"
    return why is None, "packed, without padding" if why is None else f"padded: {why}"


def _no_kernel(config: Config, device: torch.device, dtype: torch.dtype) -> str | None:
    """Why the device has no attention for packed batches; None where it has."""
    model = config.model
    assert isinstance(model, TransformerConfig)
    width = model.d_model // model.num_heads
    if kernel(device, dtype, width, model.attention_window) is not None:
        return None
    if kernel(device, dtype, width) is not None:
        return "model.attention_window without padding takes Triton and heads of at most 128"
    return f"{device.type} has no attention without padding for heads of width {width} in {str(dtype)[6:]}"
