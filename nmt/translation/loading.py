"""Load a translator from a run directory, for either engine."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

from pydantic import ValidationError

from nmt.config.experiment import Config
from nmt.config.explain import Key
from nmt.config.load import validate_config
from nmt.config.search import SearchConfig
from nmt.errors import ConfigError, ExportError
from nmt.run.alpha import described, tuned_settings, with_alpha
from nmt.run.directory import Run
from nmt.runtime.progress import showing

if TYPE_CHECKING:
    from nmt.translation.ctranslate2 import CTranslate2Engine
    from nmt.translation.ensembles import Others
    from nmt.translation.pytorch import TorchEngine
    from nmt.translation.translator import Translator

log = logging.getLogger(__name__)

EngineName = Literal["pytorch", "ctranslate2"]


@overload
def load_translator(
    run: Run,
    overrides: Mapping[str, Any] | None = None,
    device: str | None = None,
    engine: Literal["pytorch"] = ...,
    others: Others | None = None,
    searches: bool = True,
) -> Translator[TorchEngine]: ...


@overload
def load_translator(
    run: Run, overrides: Mapping[str, Any] | None = None, device: str | None = None, *, engine: Literal["ctranslate2"]
) -> Translator[CTranslate2Engine]: ...


@overload
def load_translator(
    run: Run,
    overrides: Mapping[str, Any] | None = None,
    device: str | None = None,
    engine: EngineName = ...,
    others: Others | None = None,
    searches: bool = True,
) -> Translator[Any]: ...


def load_translator(
    run: Run,
    overrides: Mapping[str, Any] | None = None,
    device: str | None = None,
    engine: EngineName = "pytorch",
    others: Others | None = None,
    searches: bool = True,
) -> Translator[Any]:
    """Load the final weights of a run, or the best so far while it is not finished.

    Args:
        overrides: of the run's search settings, such as ``beam_size``.
        device: as ``train.device``, which it overrides.
        engine: what searches the model. PyTorch is not imported for ``ctranslate2`` where the run holds a CTranslate2
            model of its weights.
        others: runs whose models are searched together with that of ``run``, which decides all settings.
        searches: whether to log the settings of the search; not for a caller that only scores.

    Raises:
        ConfigError: an override is wrong, or has no effect; another run has another vocabulary; no such engine.
        CheckpointError: the weights are damaged, or belong to another model or tokenizer.
        DeviceError: the engine cannot use the device.
        ExportError: CTranslate2 is not installed, cannot express the model, or computes other numbers; or an ensemble
            is asked of it.
        RunError: the run has no weights yet.
    """
    if engine not in get_args(EngineName):
        raise ConfigError(f"engine: {engine!r} is not one of {', '.join(get_args(EngineName))}")
    if others is not None and engine == "ctranslate2":
        raise ExportError("--ensemble: CTranslate2 searches one model; translate with PyTorch: leave out --engine")
    config = configured(run, overrides or {})
    search = with_alpha(run, config.search)
    told = described(search, config.search, "alpha" in tuned_settings(run, config.search, overrides or {}))
    config = config.model_copy(update={"search": search})
    with showing("loading the model", unit=""):
        if engine == "ctranslate2":
            from nmt.translation import ctranslate2_cache

            found: Translator[Any] = ctranslate2_cache.load(run, config, device)
        else:
            from nmt.translation import pytorch_loading

            found = pytorch_loading.load(run, config, device, others)
    if others is not None:
        log.info("%s", others.described(run))
    if searches:
        log.info("%s", told)
    return found


def configured(run: Run, overrides: Mapping[str, Any], origins: Mapping[str, str] = MappingProxyType({})) -> Config:
    """The configuration of a run with the search settings of ``nmt tune``, and with other ones.

    Keys of the run without an effect beside the overrides are reset, so that they need not be overridden, too.

    Args:
        origins: the option that an override was given with, by its key.

    Raises:
        ConfigError: an override is wrong, or has no effect.
    """
    config = run.load_config()
    changed = tuned_settings(run, config.search, overrides) | dict(overrides)
    if not changed:
        return config
    raw = config.model_dump(mode="json")
    search = raw["search"] | changed
    with suppress(ValidationError):  # of an override, which is explained below
        unused = SearchConfig.model_validate(search).unused()
        search = {key: value for key, value in search.items() if key in overrides or key not in unused}
    places: dict[Key, str] = {("search", key): option for key, option in origins.items()}
    return validate_config(raw | {"search": search}, str(run.path), places)
