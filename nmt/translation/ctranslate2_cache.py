"""The CTranslate2 model of a run, written once and kept in the run.

Nothing here imports PyTorch before it is needed: a run that CTranslate2 has translated with before starts at once.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from nmt import __version__
from nmt.config.compare import digest
from nmt.config.experiment import Config
from nmt.config.limits import ResolvedSearch, resolve_search
from nmt.config.model import ModelConfig, RNNConfig, TransformerConfig
from nmt.data.tokenizer import Tokenizer
from nmt.errors import CheckpointError, ExportError
from nmt.run.directory import Run
from nmt.runtime.memory import keep_freed_memory
from nmt.storage.atomic import UnreadableError, new_directory, recover, remove, seal, signals_raise, verified
from nmt.storage.locks import waiting_lock
from nmt.translation.ctranslate2 import CTranslate2Engine, import_ctranslate2, resolve_device
from nmt.translation.translator import Translator

if TYPE_CHECKING:
    from nmt.translation.pytorch import TorchEngine

log = logging.getLogger(__name__)

FORMAT = 2  # of the folder; another number means another key
ACCOUNT = "nmt.json"  # checksums of a folder's files, and where the model comes from
MODEL_FILES = ("config.json", "model.bin")  # of every CTranslate2 model; the names of the vocabulary's files differ
# Values of ``model`` that a CTranslate2 model can have.
_MODEL: dict[str, tuple[Any, ...]] = {
    "norm_type": ("layer", "rms", "scale"),
    "qk_norm": ("none",),
    "activation": ("relu", "gelu", "swish", "swiglu"),
    "positions": ("sinusoidal", "sinusoidal_halves", "sinusoidal_marian", "learned", "rotary"),
    "attention_window": (None,),
}
MAX_DIFFERENCE = 1e-3  # of the log-probability of a token, with float32 weights


def load(run: Run, config: Config, device: str | None = None) -> Translator[CTranslate2Engine]:
    """See :func:`nmt.translation.loading.load_translator`; ``config`` is the run's, with the search settings asked for.

    The CTranslate2 model is written from the weights of the run and kept for the next time. If the run cannot be
    written to, a temporary folder holds the model.
    """
    # Settings
    check_expressible(run, config)
    version = import_ctranslate2().__version__
    where = resolve_device(device or device_of(config))
    tokenizer = Tokenizer.load(run.tokenizer)
    limits = run.length_limits()
    search = resolve_search(config.search, limits, config.data.cleaning.max_tokens)

    @cache
    def own() -> Translator[TorchEngine]:
        from nmt.translation import pytorch_loading

        return pytorch_loading.load(run, config, device)

    # The folder of these weights
    weights = run.model_checksum() if run.has_model else _checksum(own())
    key = digest(weights, config.model, tokenizer.fingerprint, positions(search), FORMAT, version)
    path = run.ctranslate2 / key
    longest = limits.longest_source if limits is not None else None
    keep_freed_memory()

    def translator(folder: Path) -> Translator[CTranslate2Engine]:
        engine = CTranslate2Engine(folder, tokenizer, search, where, config.train.threads, lambda: own().engine)
        return Translator(engine, tokenizer, search, config.model.max_target_tokens, longest)

    # Load it, or write it first
    for _ in range(3):  # between writing and loading, a process with other weights may delete it
        with waiting_lock(run.ctranslate2, shared=True):
            if is_whole(path):
                found = translator(path)
                if unfinished := run.unfinished():
                    log.warning("%s", unfinished)
                return found
        made = own()
        try:
            _keep(run, path, made, {"ctranslate2": version, "run": run.path.name})
        except OSError as error:
            reason = error.strerror or error
            log.warning("%s: cannot be written: %s; using a temporary folder, for this command only", path, reason)
            return _temporary(made, translator)
    raise ExportError(f"{path}: is replaced by other processes all the time; run the same command again")


def check_expressible(run: Run, config: Config) -> None:
    """
    Raises:
        ExportError: CTranslate2 cannot express the model or its search.
    """
    if what := inexpressible(config.model) or unsearchable(config.search.special()):
        raise ExportError(f"{run.path}: CTranslate2 {what}; use PyTorch: remove --engine")


def inexpressible(model: ModelConfig) -> str | None:
    """What CTranslate2 does not support of a model; None if it supports all."""
    if not isinstance(model, TransformerConfig):
        return other_family(model)
    if model.encoder is not None:
        return f"cannot express the encoder of this model (model.encoder.type: {model.encoder.type})"
    keys = [f"model.{key}: {getattr(model, key)}" for key in _MODEL if getattr(model, key) not in _MODEL[key]]
    return f"cannot express {', '.join(keys)}" if keys else None


def other_family(model: ModelConfig) -> str:
    """Why a program of Transformers cannot express a model of another family."""
    kind = "a recurrent model" if isinstance(model, RNNConfig) else "this model"
    return f"runs Transformers and cannot express {kind} (model.type: {model.type})"


def unsearchable(settings: Mapping[str, Any]) -> str | None:
    """Why a program cannot search as the run does; None without ``settings``, by key, that the program lacks."""
    named = ", ".join(f"search.{key}: {value}" for key, value in settings.items())
    return f"cannot search as the run does ({named})" if named else None


def device_of(config: Config) -> str:
    """``train.device``, or ``auto`` where CTranslate2 has no code for the device: Apple's GPUs."""
    return "auto" if config.train.device == "mps" else config.train.device


def positions(search: ResolvedSearch) -> int:
    """The most positions of either side in a search within these limits, eos and the step after eos included."""
    longest = int(search.max_length_ratio * search.max_source_tokens + search.max_length_offset)
    return max(search.max_source_tokens, longest) + 1


def write(folder: Path, own: Translator[TorchEngine], quantize: str | None = None, longest: int = 0) -> float | None:
    """Write the model of ``own`` into ``folder``, and compare its log-probabilities with those of ``own``.

    Args:
        longest: positions that a table of sinusoidal ones has at least.

    Returns:
        The largest difference; None for quantized weights, which differ by intention.

    Raises:
        ExportError: the log-probabilities differ by more than :data:`MAX_DIFFERENCE`.
    """
    from nmt.models.transformer import Transformer
    from nmt.translation.ctranslate2_model import largest_difference, write_model

    model, tokenizer = own.engine.model, own.tokenizer
    assert isinstance(model, Transformer)  # as its configuration said
    longest = max(longest, positions(own.search))
    write_model(model, tokenizer, longest, folder, quantize)
    difference = None if quantize else largest_difference(model, tokenizer, folder, longest)
    if difference is not None and not difference <= MAX_DIFFERENCE:
        raise ExportError(
            f"the CTranslate2 model computes other probabilities than the one it was made of (log-probabilities differ "
            f"by {difference:.2g}, the limit is {MAX_DIFFERENCE:g}); it was not kept; please report this"
        )
    return difference


def is_whole(folder: Path) -> bool:
    """Whether ``folder`` holds what was written there. CTranslate2 itself would load damaged weights.

    Raises:
        UnreadableError: the folder cannot be read now.
    """
    try:
        verified(folder, ACCOUNT, FORMAT, MODEL_FILES)
    except UnreadableError:
        raise
    except CheckpointError:
        return False
    return True


def _keep(run: Run, path: Path, own: Translator[TorchEngine], account: Mapping[str, Any]) -> None:
    """Write the CTranslate2 model of the run into ``path``, unless another process has by now."""
    run.refuse_links()
    run.ctranslate2.mkdir(exist_ok=True)
    with signals_raise(), waiting_lock(run.ctranslate2):
        recover(run.ctranslate2)
        if is_whole(path):
            return
        log.info("writing the CTranslate2 model of this run (cached in %s)", path)
        with new_directory(path) as folder:
            write(folder, own)
            seal(folder, ACCOUNT, {"format": FORMAT, "nmt": __version__, **account, "weights": "float32"})
        for other in run.ctranslate2.iterdir():  # of earlier weights
            if other != path and not other.name.startswith("."):
                remove(other)


def _temporary(
    own: Translator[TorchEngine], translator: Callable[[Path], Translator[CTranslate2Engine]]
) -> Translator[CTranslate2Engine]:
    """A translator whose model was in a temporary folder, and is in memory now."""
    try:
        with signals_raise(), TemporaryDirectory(prefix="nmt-") as folder:
            write(Path(folder), own)
            return translator(Path(folder))
    except OSError as error:
        raise ExportError(
            f"{error.filename or 'the temporary folder'}: cannot be written: {error.strerror or error}; check space "
            "and permissions, or name another folder for temporary files (TMPDIR=FOLDER)"
        ) from None


def _checksum(own: Translator[TorchEngine]) -> str:
    """A checksum of weights in memory, for a run whose best weights may change at any time."""
    sums = hashlib.sha256()
    for name, parameter in own.engine.model.named_parameters():
        sums.update(name.encode() + parameter.detach().cpu().numpy().tobytes())
    return sums.hexdigest()
