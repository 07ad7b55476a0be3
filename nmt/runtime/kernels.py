"""Triton kernels, with PyTorch code for where they do not work."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from typing import Any

import torch

log = logging.getLogger(__name__)
DEVICES = {"cuda"}  # types of devices that Triton compiles for


class Kernel:
    """A function of a module of Triton kernels, or PyTorch code that does the same.

    The module is imported at the first call on a device that Triton compiles for. To compile takes a C compiler. The
    first failure is reported, and from then on ``plain`` does the work.

    Args:
        module, name: where the function is; its first argument is a tensor.
        plain: called with the same arguments.
    """

    def __init__(self, module: str, name: str, plain: Callable[..., Any]) -> None:
        self.module, self.name, self.plain = module, name, plain
        self.works = True

    def __call__(self, first: torch.Tensor, *others: Any) -> Any:
        if first.device.type in DEVICES and self.works:
            try:
                return getattr(importlib.import_module(self.module), self.name)(first, *others)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # whatever Triton or a compiler raises
                self.works = False
                log.warning(
                    "the Triton kernel %r does not work here, which makes the search slower: %s", self.name, error
                )
        return self.plain(first, *others)
