"""A trained run in PyTorch: its weights, its model, and a translator that searches the model."""

from __future__ import annotations

import logging
from typing import Any

import torch

from nmt.config.experiment import Config
from nmt.config.limits import LengthLimits, default_batch_tokens, resolve_search
from nmt.config.model import ModelConfig
from nmt.data.tokenizer import Tokenizer
from nmt.errors import CheckpointError, RunError
from nmt.models.build import build_model
from nmt.models.ensemble import Ensemble
from nmt.models.seq2seq import Seq2Seq
from nmt.run import checkpoint as checkpoints
from nmt.run.directory import Run
from nmt.run.selection import Ranking
from nmt.runtime.device import Place, resolve_device, resolve_precision, set_threads, use_device
from nmt.runtime.memory import keep_freed_memory
from nmt.translation.ensembles import Others
from nmt.translation.pytorch import TorchEngine
from nmt.translation.translator import Translator

log = logging.getLogger(__name__)


def load(run: Run, config: Config, device: str | None = None, others: Others | None = None) -> Translator[TorchEngine]:
    """See :func:`nmt.translation.loading.load_translator`; ``config`` is the run's, with the search settings asked for.

    The translator's ``checksum`` is that of the weights.
    """
    where = resolve_device(device or config.train.device)
    set_threads(config.train.threads)
    use_device(where)
    keep_freed_memory()
    tokenizer = Tokenizer.load(run.tokenizer)
    model = new_model(config.model, tokenizer)
    checksum = load_final(run, model, tokenizer)
    if others is not None:
        model, checksum = _ensemble(run, others, config, tokenizer, model, checksum)
        config = others.readable(config)
    dtype = resolve_precision(config.train.precision, where) if where.type == "cuda" else torch.float32
    translator = new_translator(model.to(where).eval(), tokenizer, config, run.length_limits(), Place(where, dtype))
    translator.checksum = checksum
    if others is not None:
        translator.max_target_tokens = others.most_target(config)
    translator.engine.keep = True  # the weights stay where they are
    return translator


def _ensemble(
    run: Run, others: Others, config: Config, tokenizer: Tokenizer, model: Seq2Seq[Any], checksum: str
) -> tuple[Ensemble, str]:
    """The ensemble of ``model``, which is that of ``run``, with the others, and a checksum of all weights."""
    others.check(run, tokenizer, config.search)
    models, checksums = [model], [checksum]
    for other in others.runs:
        models.append(new_model(other.load_config().model, tokenizer))
        checksums.append(load_final(other, models[-1], tokenizer))
    return Ensemble(models, others.average), others.checksum(checksums)


def new_model(config: ModelConfig, tokenizer: Tokenizer) -> Seq2Seq[Any]:
    """A freshly initialised model for the vocabularies of ``tokenizer``."""
    sizes = tokenizer.src_vocab_size, tokenizer.tgt_vocab_size
    return build_model(config, *sizes, tokenizer.pad_id, tokenizer.bos_id)


def load_final(run: Run, model: Seq2Seq[Any], tokenizer: Tokenizer) -> str:
    """Load the final weights of a run, or the best so far where there are none yet; return their SHA-256.

    Raises:
        CheckpointError: they are damaged, or of another model or tokenizer.
        RunError: there are none yet.
    """
    if run.has_model:
        weights, info = checkpoints.read_model(run.model)
        identity, where, checksum = info["identity"], run.model, info["sha256"]["model.safetensors"]
        if unfinished := run.unfinished():
            log.warning("%s", unfinished)
    else:
        c = run.load_config().train
        best = checkpoints.ranked(run.checkpoints, log.warning, Ranking(c.score, c.selection == "validated").of_state)
        if not best:
            raise RunError(f"{run.path}: has no validated checkpoint yet; train it first (nmt train)")
        log.warning("%s is not finished: using the best checkpoint so far, %s", run.path, best[0].path.name)
        weights, identity, where = best[0].weights, best[0].state["identity"], best[0].path
        checksum = best[0].weights_sha256
    if identity["tokenizer"] != tokenizer.fingerprint:
        raise CheckpointError(f"{where}: was trained with another tokenizer than the one in {tokenizer.path}")
    checkpoints.load_weights(model, weights, where)
    return str(checksum)


def new_translator(
    model: Seq2Seq[Any], tokenizer: Tokenizer, config: Config, limits: LengthLimits | None, place: Place
) -> Translator[TorchEngine]:
    """A translator that searches ``model`` under the settings of ``config.search``.

    Args:
        limits: lengths of the training pairs; None where they are not known.
        place: where the model is. Its precision applies on CUDA; elsewhere products have the precision of the weights.
            Each step of a search calls ``place.ranks.pulse``.
    """
    on_cuda = place.device.type == "cuda"
    memory = torch.cuda.get_device_properties(place.device).total_memory if on_cuda else None
    budget = default_batch_tokens(place.device.type, memory)
    search = resolve_search(config.search, limits, config.data.cleaning.max_tokens, budget)
    precision = place.dtype if on_cuda and place.dtype != torch.float32 else None
    engine = TorchEngine(model, tokenizer, search, place.device, precision, place.ranks.pulse)
    longest = limits.longest_source if limits is not None else None
    return Translator(engine, tokenizer, search, config.model.max_target_tokens, longest)
