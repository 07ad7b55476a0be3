"""The door from a run directory to a translator, whichever engine searches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, overload

from nmt.config.search import SearchConfig
from nmt.run.directory import Run

if TYPE_CHECKING:
    from nmt.translation.ctranslate2 import CTranslate2Engine
    from nmt.translation.pytorch import TorchEngine
    from nmt.translation.translator import Translator

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
        CheckpointError: the weights are damaged, or belong to another model or tokenizer.
        DeviceError: the engine cannot use the device.
        ExportError: CTranslate2 is not installed, cannot express the model, or computes other numbers.
        RunError: the run has no weights yet.
    """
    config = run.load_config()
    search = SearchConfig.model_validate({**config.search.model_dump(), **(overrides or {})})
    config = config.model_copy(update={"search": search})
    if engine == "ctranslate2":
        from nmt.translation import ctranslate2_cache

        return ctranslate2_cache.load(run, config, device)
    from nmt.translation import pytorch_loading

    return pytorch_loading.load(run, config, device)
