"""The common part of exports to ``MarianMTModel`` and Marian: the architecture, and the length penalty."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from nmt.config.experiment import Config
from nmt.config.limits import ResolvedSearch
from nmt.interop import expressible
from nmt.models.transformer import Transformer

# The gnmt penalty ((5 + n) / 6) ** alpha and the average penalty n ** (share * alpha) have equal slopes at n = 20.
SHARE_OF_ALPHA = 20 / (20 + 5)


def check_architecture(path: Path, config: Config, program: str, more: Mapping[str, tuple[Any, ...]]) -> None:
    """
    Args:
        more: values of further keys of ``model`` that the program has.

    Raises:
        ExportError: the program cannot express the model or its search; every key is named.
    """
    if what := expressible.marian(config, more):
        expressible.refuse(path, program, what, config)
    expressible.check_search(path, program, config.search)


def average_penalty(search: ResolvedSearch) -> ResolvedSearch:
    """``search`` with the only length penalty of these programs, length ** alpha."""
    alpha = {"none": 0.0, "average": search.alpha, "gnmt": round(search.alpha * SHARE_OF_ALPHA, 4)}
    if search.length_penalty == "average" or not search.alpha_matters:
        return search
    return search.model_copy(update={"length_penalty": "average", "alpha": alpha[search.length_penalty]})


def weights_of(model: Transformer) -> dict[str, Tensor]:
    """Parameters by name in float32 on the CPU, and an output bias of zeros where there is none."""
    found = {name: tensor.detach().float().cpu() for name, tensor in model.named_parameters()}
    if model.output.bias is None:
        found["output.bias"] = found["tgt_embedding.weight"].new_zeros(len(model.output.weight))
    return found
