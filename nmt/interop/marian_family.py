"""The common part of exports to ``MarianMTModel`` and Marian: the architecture, and the length penalty."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from nmt.config.experiment import Config
from nmt.config.limits import ResolvedSearch
from nmt.config.model import TransformerConfig
from nmt.errors import ExportError
from nmt.interop.targets import check_search
from nmt.models.transformer import Transformer

# The gnmt penalty ((5 + n) / 6) ** alpha and the average penalty n ** (share * alpha) have equal slopes at n = 20.
SHARE_OF_ALPHA = 20 / (20 + 5)
# Values of ``model`` that every program of the family has.
ARCHITECTURE: dict[str, tuple[Any, ...]] = {
    "norm": ("post",),
    "norm_type": ("layer",),
    "qk_norm": ("none",),
    "activation": ("relu", "gelu", "swish"),
    "attention_window": (None,),
    "fix_norm": (False,),
}


def check_architecture(path: Path, config: Config, program: str, more: Mapping[str, tuple[Any, ...]]) -> None:
    """
    Args:
        more: values of further keys of ``model`` that the program has.

    Raises:
        ExportError: the program cannot express the model or its search; every key is named.
    """
    model = config.model
    if not isinstance(model, TransformerConfig):
        raise ExportError(
            f"{path}: {program} cannot express a recurrent model (model.type: {model.type}); export --to onnx"
        )
    keys = [
        f"model.{key}: {getattr(model, key)}"
        for key, values in {**ARCHITECTURE, **more}.items()
        if getattr(model, key) not in values
    ]
    keys += [f"model.encoder.type: {model.encoder.type}"] if model.encoder is not None else []
    if keys:
        raise ExportError(
            f"{path}: {program} cannot express {', '.join(keys)}; train a run with model.preset: marian, which every "
            "target can express, or export --to onnx or ctranslate2"
        )
    check_search(path, program, config.search)


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
