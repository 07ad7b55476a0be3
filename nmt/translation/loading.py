"""The door from a run directory to a translator, whichever engine searches."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, overload

from nmt.config.search import SearchConfig
from nmt.errors import ConfigError
from nmt.run.alpha import described, with_alpha
from nmt.run.directory import Run

if TYPE_CHECKING:
    from nmt.translation.ctranslate2 import CTranslate2Engine
    from nmt.translation.pytorch import TorchEngine
    from nmt.translation.translator import Translator

log = logging.getLogger(__name__)

EngineName = Literal["pytorch", "ctranslate2"]


@overload
def load_translator(
    run: Run, overrides: Mapping[str, Any] | None = None, device: str | None = None, engine: Literal["pytorch"] = ...
) -> Translator[TorchEngine]: ...


@overload
def load_translator(
    run: Run, overrides: Mapping[str, Any] | None = None, device: str | None = None, *, engine: Literal["ctranslate2"]
) -> Translator[CTranslate2Engine]: ...


@overload
def load_translator(
    run: Run, overrides: Mapping[str, Any] | None = None, device: str | None = None, engine: EngineName = ...
) -> Translator[Any]: ...


def load_translator(
    run: Run, overrides: Mapping[str, Any] | None = None, device: str | None = None, engine: EngineName = "pytorch"
) -> Translator[Any]:
    """Load the final weights of a run, or the best so far while it is not finished.

    Args:
        overrides: of the run's search settings, such as ``beam_size``.
        device: as ``train.device``, which it overrides.
        engine: what searches the model. PyTorch is not imported for ``ctranslate2`` where the run holds a CTranslate2
            model of its weights.

    Raises:
        ConfigError: an override has no effect.
        CheckpointError: the weights are damaged, or belong to another model or tokenizer.
        DeviceError: the engine cannot use the device.
        ExportError: CTranslate2 is not installed, cannot express the model, or computes other numbers.
        RunError: the run has no weights yet.
    """
    config = run.load_config()
    configured = _overridden(config.search, overrides or {})
    search = with_alpha(run, configured)
    config = config.model_copy(update={"search": search})
    if engine == "ctranslate2":
        from nmt.translation import ctranslate2_cache

        found: Translator[Any] = ctranslate2_cache.load(run, config, device)
    else:
        from nmt.translation import pytorch_loading

        found = pytorch_loading.load(run, config, device)
    log.info("%s", described(search, configured))
    return found


def _overridden(search: SearchConfig, overrides: Mapping[str, Any]) -> SearchConfig:
    """
    Raises:
        ConfigError: the method of the search ignores an override.
    """
    found = SearchConfig.model_validate({**search.model_dump(), **overrides})
    unused = found.unused()
    for key, value in overrides.items():
        if key in unused:
            raise ConfigError(f"search.{key}: {value} has no effect: {unused[key]}; remove it")
    return found
