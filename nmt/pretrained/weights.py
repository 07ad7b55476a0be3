"""The weights of a trained model under our names, in the order of our vocabulary."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from nmt.config.model import TransformerConfig
from nmt.config.pretrained import Pretrained
from nmt.data.sentencepiece_model import BOS_ID
from nmt.errors import CheckpointError, RunError
from nmt.models.transformer_layers import added_positions
from nmt.pretrained.names import Program, tables, to_ours
from nmt.pretrained.vocabulary import vocabularies
from nmt.run import checkpoint as checkpoints
from nmt.run.directory import Run
from nmt.storage.atomic import sha256

log = logging.getLogger(__name__)

Weights = dict[str, Tensor]
# Logit of a piece that the other program does not have: its probability is under 1e-8, and its loss stays finite.
ABSENT = -20.0


def read(source: Pretrained, model: Any, step: int | None) -> tuple[Weights, dict[str, str]]:
    """The weights of ``source``, and the SHA-256 of the file that they are in, by its name.

    Args:
        model: the section ``model`` that the weights are for.
        step: of a checkpoint of a run; None: the final weights.

    Raises:
        CheckpointError, RunError: the weights are missing, damaged, or do not fit the model.
    """
    if source.kind == "run":
        return _of_run(Run(source.path), step)
    assert isinstance(model, TransformerConfig)
    if source.kind == "huggingface":
        file = weights_file(source.path)
        theirs = _load(file)
    else:
        file = source.path
        theirs = _arrays(file)
    return _renamed(source, theirs, model, file), {file.name: sha256(file)}


def _of_run(run: Run, step: int | None) -> tuple[Weights, dict[str, str]]:
    if step is not None:
        path = run.checkpoints / f"step-{step:08d}"
        if not path.is_dir():
            there = [str(int(one.name[5:])) for one in checkpoints.list_checkpoints(run.checkpoints)]
            raise RunError(f"init.checkpoint: {path}: no such checkpoint; there are steps {', '.join(there) or 'none'}")
        found = checkpoints.open_checkpoint(path)
        return found.weights, {path.name: found.weights_sha256}
    if not run.has_model:
        raise RunError(
            f"init.from: {run.path}: has no final weights yet; finish its training, or name a step (init.checkpoint)"
        )
    if unfinished := run.unfinished():
        log.warning("%s", unfinished)
    weights, info = checkpoints.read_model(run.model)
    return weights, {"model.safetensors": str(info["sha256"]["model.safetensors"])}


def weights_file(folder: Path) -> Path:
    """The file of the weights of a folder in the format of Hugging Face.

    Raises:
        CheckpointError: there is none.
    """
    for name in ("model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(f"init.from: {folder}: contains no weights (model.safetensors or pytorch_model.bin)")


def _load(file: Path) -> Weights:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        found = torch.load(file, map_location="cpu", weights_only=True)  # runs no code of the file
    except Exception as error:  # pickle and zip files fail in many ways
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        kind = SafetensorError.__name__ if isinstance(error, SafetensorError) else type(error).__name__
        raise CheckpointError(f"init.from: {file}: cannot be read ({kind}: {reason})") from None
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise CheckpointError(f"init.from: {file}: is not a mapping of names to tensors")
    return dict(found)


def _arrays(file: Path) -> Weights:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(arrays[name]) for name in arrays.files if not name.startswith("special:")}
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"init.from: {file}: cannot be read: {' '.join(str(error).split())[:120]}") from None


def _renamed(source: Pretrained, theirs: Weights, model: TransformerConfig, file: Path) -> Weights:
    """The weights of another program as ours.

    Raises:
        CheckpointError: a weight is missing or has another shape, or a table of positions is of another kind.
    """
    program: Program = "marian" if source.kind == "marian" else "huggingface"
    if program == "huggingface":
        theirs = _with_aliases(theirs, model.tie_embeddings)
        _check_positions(theirs, model, file)
    elif "decoder_ff_logit_out_W" in theirs:  # of earlier versions of Marian, [D, V]
        theirs = {"decoder_ff_logit_out_Wt": theirs["decoder_ff_logit_out_W"].t(), **theirs}
    try:
        ours = to_ours(theirs, program, model.encoder_layers, model.decoder_layers, model.tie_embeddings)
    except KeyError as error:
        shown = ", ".join(sorted(theirs)[:3])
        raise CheckpointError(f"init.from: {file}: lacks the weight {error.args[0]}; it has {shown}, ...") from None
    src, tgt = vocabularies(source)
    for name in tables(model.tie_embeddings):
        side = src if name.startswith("src_") else tgt
        highest = max(number for number in side.foreign if number is not None)
        if highest >= len(ours[name]):
            raise CheckpointError(f"init.from: {file}: {name} has {len(ours[name])} rows, the vocabulary {highest + 1}")
        ours[name] = _rows(ours[name], side.foreign, ABSENT if name == "output.bias" else 0.0)
    if model.start == "zero" and (ours["tgt_embedding.weight"][BOS_ID] != 0).any():
        raise CheckpointError(
            f"init.from: {file}: the decoder of this model starts with a vector other than zero; set model.start: bos"
        )
    return ours


def _with_aliases(theirs: Weights, ties: str) -> Weights:
    """Weights under the names of :mod:`nmt.pretrained.names`, of which files leave out or repeat shared ones."""
    found = dict(theirs)
    names = ("model.shared.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight")
    shared = next((found[name] for name in (*names, "lm_head.weight") if name in found), None)
    if ties == "all" and shared is not None:
        found.setdefault("model.shared.weight", shared)
    if ties == "decoder" and "lm_head.weight" in found:
        found.setdefault("model.decoder.embed_tokens.weight", found["lm_head.weight"])
    if "model.shared.weight" in found:
        for name in names[1:]:
            found.setdefault(name, found["model.shared.weight"])
    return found


def _check_positions(theirs: Weights, model: TransformerConfig, file: Path) -> None:
    """Check that positions stored with the weights are those that the model computes."""
    for side in ("encoder", "decoder"):
        table = theirs.get(f"model.{side}.embed_positions.weight")
        if table is None:
            continue
        kinds = ("sinusoidal_halves", "sinusoidal_marian")
        like = torch.empty(table.size(1))
        near = [k for k in kinds if (added_positions(k, 0, len(table), like) - table.float()).abs().max() < 1e-3]
        if model.positions not in near:
            reason = f"set model.positions: {near[0]}" if near else "they are none that can be computed here"
            raise CheckpointError(f"init.from: {file}: its positions are not {model.positions}; {reason}")


def _rows(table: Tensor, foreign: Sequence[int | None], absent: float) -> Tensor:
    """The rows of ``table`` in the order of our ids; those that the other program lacks are filled with ``absent``."""
    made = table.new_full((len(foreign), *table.shape[1:]), absent)
    ours = [number for number, there in enumerate(foreign) if there is not None]
    made[ours] = table[[there for there in foreign if there is not None]]
    return made
