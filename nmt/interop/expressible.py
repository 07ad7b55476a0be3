"""What the programs cannot express of a run, from its configuration alone.

Values are compared with those that a program has, so that a value that was added to nmt is refused until a target
supports it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from nmt.config.encoders import PretrainedEncoderConfig
from nmt.config.model import RNNConfig, TransformerConfig
from nmt.config.search import ADDED
from nmt.errors import ExportError
from nmt.translation import ctranslate2_cache

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nmt.config.experiment import Config
    from nmt.config.search import SearchConfig

_LENGTH_PENALTIES = ("gnmt", "average", "none")
# Values of ``model`` that every program of the Marian family has.
_MARIAN: dict[str, tuple[Any, ...]] = {
    "norm": ("post",),
    "norm_type": ("layer",),
    "qk_norm": ("none",),
    "activation": ("relu", "gelu", "swish"),
    "attention_window": (None,),
    "fix_norm": (False,),
}


def ctranslate2(config: Config) -> str | None:
    """What CTranslate2 cannot express of a model, after its name; None if it can express all."""
    return ctranslate2_cache.inexpressible(config.model)


def onnx(config: Config) -> str | None:
    """The same of the export to ONNX."""
    model = config.model
    if not isinstance(model, RNNConfig | TransformerConfig):
        return f"cannot express model.type: {model.type}"
    if isinstance(model.encoder, PretrainedEncoderConfig):
        return (
            "reads text with SentencePiece and cannot express the tokenizer of a pretrained encoder "
            f"(model.encoder.type: {model.encoder.type})"
        )
    for name, section in {"model": model, "model.encoder": model.encoder}.items():
        if (window := getattr(section, "attention_window", None)) is not None:
            return f"cannot express {name}.attention_window: {window}"
    return None


def marian(config: Config, more: Mapping[str, tuple[Any, ...]]) -> str | None:
    """The same of Marian and ``MarianMTModel``.

    Args:
        more: values of further keys of ``model`` that the program has.
    """
    model = config.model
    if not isinstance(model, TransformerConfig):
        return ctranslate2_cache.other_family(model)
    known = {**_MARIAN, **more}
    keys = [f"model.{key}: {getattr(model, key)}" for key in known if getattr(model, key) not in known[key]]
    keys += [f"model.encoder.type: {model.encoder.type}"] if model.encoder is not None else []
    return f"cannot express {', '.join(keys)}" if keys else None


def refuse(path: Path, program: str, what: str, config: Config) -> NoReturn:
    """
    Args:
        what: see :func:`ctranslate2`.

    Raises:
        ExportError: it names the targets that can express the model.
    """
    found = [name for name, why in (("onnx", onnx), ("ctranslate2", ctranslate2)) if why(config) is None]
    advice = f"export --to {' or '.join(found)}" if found else "use nmt serve"
    if isinstance(config.model, TransformerConfig) and config.model.encoder is None:
        advice = f"train a run with model.preset: marian, which every target can express, or {advice}"
    raise ExportError(f"{path}: {program} {what}; {advice}")


def check_search(path: Path, program: str, search: SearchConfig) -> None:
    """
    Raises:
        ExportError: the search has settings that the program lacks; every one is named.
    """
    special, instead = search.special(), {key: str(ADDED[key]).lower() for key in search.special()}
    if search.length_penalty not in _LENGTH_PENALTIES:
        special["length_penalty"], instead["length_penalty"] = search.length_penalty, "gnmt"
    if what := ctranslate2_cache.unsearchable(special):
        advice = " ".join(f"{key}={value}" for key, value in instead.items())
        raise ExportError(f"{path}: {program} {what}; export with another search: --search {advice}")
