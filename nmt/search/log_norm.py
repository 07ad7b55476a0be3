"""The log of the sum of exponentials of each row of logits, by what is fastest on their device."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

log = logging.getLogger(__name__)


def log_norm(logits: Tensor) -> Tensor:
    """log Σ exp of each row of ``logits`` [N, V], [N, 1], in fp32."""
    kernel = _kernel(logits.device) if logits.device.type == "cuda" else _plain
    return kernel(logits)


def _plain(logits: Tensor) -> Tensor:
    return logits.float().logsumexp(-1, keepdim=True)


@cache
def _kernel(device: torch.device) -> Callable[[Tensor], Tensor]:
    """The Triton kernel, if it works here: to compile it takes a C compiler."""
    if importlib.util.find_spec("triton") is None:
        return _plain
    try:
        from nmt.search import triton_norm

        triton_norm.log_norm(torch.zeros(1, 16, device=device))
    except Exception as error:  # whatever Triton or a compiler raises
        log.warning("Triton's kernels do not work here, which makes the search slower: %s", error)
        return _plain
    return triton_norm.log_norm
