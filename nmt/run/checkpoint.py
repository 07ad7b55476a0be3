"""Checkpoints: atomic, checksummed directories that contain no code.

    step-00001200/
        model.safetensors       raw weights
        ema.safetensors         averaged weights, when train.ema_decay is set
        optimizer.safetensors   Adam's moments and step counts, named like the weights
        random.safetensors      states of PyTorch's generators (CPU, and the CUDA device), of every rank
        state.json              format, progress, score and the settings behind it, identity of the run, environment
                                (code, libraries, device, precision; missing in early checkpoints), states of
                                Python's and NumPy's generators, the state of each rank other than rank 0, checksums
                                of the other files and of itself

No index is stored: the last and the best checkpoint are found from the directories themselves.
"""

from __future__ import annotations

import errno
import json
import os
import random
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nmt.errors import CheckpointError, TrainingError
from nmt.runtime.sharding import divided_like
from nmt.storage.atomic import (
    OtherFormatError,
    UnreadableError,
    content_hash,
    new_directory,
    present,
    recover,
    seal,
    verified,
    write_json,
)

FORMAT = 2
_TENSORS = ("model.safetensors", "optimizer.safetensors", "random.safetensors")  # in every checkpoint
NAME = re.compile(r"step-(\d{8,})")


def name_of(step: int) -> str:
    """The name of the directory of a checkpoint."""
    return f"step-{step:08d}"


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose checksums were verified."""

    path: Path
    state: dict[str, Any]

    @property
    def step(self) -> int:
        return int(self.state["progress"]["step"])

    @property
    def score(self) -> float | None:
        """Validation score at this step, higher is better; None without a validation."""
        score: float | None = self.state["score"]
        return score

    @property
    def scheduled(self) -> bool:
        """Whether an uninterrupted training would have written this checkpoint too."""
        return bool(self.state["scheduled"])

    @property
    def others(self) -> list[dict[str, Any]]:
        """The state of each rank other than rank 0; empty if one process trained."""
        others: list[dict[str, Any]] = self.state.get("others", [])
        return others

    @property
    def ranks(self) -> int:
        """Number of processes that saved this checkpoint."""
        return 1 + len(self.others)

    def tensors(self, name: str) -> dict[str, Tensor]:
        return _read_tensors(self.path / f"{name}.safetensors")

    @property
    def environment(self) -> dict[str, Any] | None:
        """Code, libraries, device and precision that trained this checkpoint; None if not recorded."""
        found: dict[str, Any] | None = self.state.get("environment")
        return found

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights to translate with: the moving average if there is one, else the raw weights."""
        return self.tensors(self._translated)

    @property
    def weights_sha256(self) -> str:
        """Checksum of the file that :attr:`weights` are read from."""
        return str(self.state["sha256"][f"{self._translated}.safetensors"])

    @property
    def model_sha256(self) -> str:
        """Checksum of the file of the raw weights."""
        return str(self.state["sha256"]["model.safetensors"])

    @property
    def _translated(self) -> str:
        return "ema" if "ema.safetensors" in self.state["sha256"] else "model"


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read: {error}") from None


@dataclass(frozen=True)
class RankState:
    """The state of one rank: random generators, and metric sums since the last log line."""

    generators: dict[str, Tensor]  # PyTorch's, by device type
    python: list[Any]
    numpy: list[Any]
    window: list[float]

    @classmethod
    def now(cls, window: Sequence[float] = ()) -> RankState:
        states = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            states["cuda"] = torch.cuda.get_rng_state()
        python, numpy = random.getstate(), np.random.get_state()
        return cls(
            states,
            [python[0], list(python[1]), python[2]],
            [numpy[0], numpy[1].tolist(), *numpy[2:]],  # type: ignore[index]
            list(window),
        )

    def as_dict(self) -> dict[str, Any]:
        """The part that is stored in ``state.json``."""
        return {"python_random": self.python, "numpy_random": self.numpy, "window": self.window}


# --------------------------------------------------------------------------------------------------------------- saving


def save(
    directory: Path,
    *,
    tensors: Mapping[str, Mapping[str, Tensor]],
    progress: Mapping[str, Any],
    score: float | None,
    scheduled: bool,
    identity: Mapping[str, Any],
    environment: Mapping[str, Any],
    ranks: Sequence[RankState],
    quality: Mapping[str, Any] | None = None,
    scored_with: Mapping[str, Any] | None = None,
) -> Path:
    """Write one checkpoint under ``directory``; after a crash at any moment it is complete or absent.

    Args:
        tensors: of the files ``model``, ``optimizer`` and ``ema``, see :func:`training_tensors`.
        score, quality: result of the validation at this step, None without a validation.
        scored_with: the settings that this validation depends on.
        scheduled: False for a checkpoint written only because of a signal. It does not count among the last checkpoints
            that are kept or averaged, so that interruptions do not change the result of a training.
        environment: what :func:`nmt.runtime.environment.environment` returned in this process.
        ranks: the states of all ranks, rank 0 first.

    Raises:
        OSError: the disk is full, or writing failed in another way; no incomplete checkpoint is left.
    """
    path = directory / name_of(progress["step"])
    directory.mkdir(exist_ok=True)  # without parents: a removed run directory must not reappear
    # Tensors
    with new_directory(path) as aside:
        generators = {_of_rank(n, key): t for n, rank in enumerate(ranks) for key, t in rank.generators.items()}
        for name, found in {**tensors, "random": generators}.items():
            write_tensors(found, aside / f"{name}.safetensors")
        # State, checksums
        state = {
            "format": FORMAT,
            "progress": dict(progress),
            "score": score,
            "quality": quality,
            "scored_with": scored_with,
            "scheduled": scheduled,
            "identity": dict(identity),
            "environment": dict(environment),
            "python_random": ranks[0].python,
            "numpy_random": ranks[0].numpy,
            "others": [rank.as_dict() for rank in ranks[1:]],
        }
        seal(aside, "state.json", state)
    return path


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Write a file of safetensors, whose own errors are none of the system.

    Raises:
        OSError: the file cannot be written.
    """
    try:
        save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata)
    except SafetensorError as error:  # the system's error is only in its text
        number = re.search(r"os error (\d+)", str(error))
        code = int(number[1]) if number else errno.EIO
        raise OSError(code, os.strerror(code) if number else str(error), str(path)) from error


def amend(checkpoint: Checkpoint, **changes: Any) -> Checkpoint:
    """Replace entries of ``state.json`` atomically; the weights do not change."""
    state = {**checkpoint.state, **changes}
    write_json(checkpoint.path / "state.json", {**state, "checksum": content_hash(state)})
    return Checkpoint(checkpoint.path, state)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters by name; a tied parameter appears once, under its first name."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def training_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer, ema: Mapping[str, Tensor] | None
) -> dict[str, dict[str, Tensor]]:
    """The tensors of a checkpoint's files by name; in shards where the model is divided among ranks."""
    state = {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }
    return {"model": weights_of(model), "optimizer": state, **({} if ema is None else {"ema": dict(ema)})}


def _of_rank(rank: int, name: str) -> str:
    return f"rank{rank}/{name}" if rank else name


def save_model(directory: Path, weights: Mapping[str, Tensor], info: Mapping[str, Any]) -> None:
    """Write the final weights of a run and their origin (``info``).

    Raises:
        TrainingError: the model cannot be written; an earlier model is kept.
    """
    try:
        with new_directory(directory) as aside:
            write_tensors(weights, aside / "model.safetensors")
            seal(aside, "model.json", {"format": FORMAT, **info})
    except OSError as error:
        raise TrainingError(
            f"{error.filename or directory}: the final model could not be saved: {error.strerror or error}; all "
            "checkpoints are kept; free disk space and run the same command again"
        ) from error


def read_model(directory: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the final weights of a run and their origin; checksums are verified.

    Raises:
        CheckpointError: the model is damaged or of an unknown format.
        UnreadableError: the model cannot be read now.
    """
    info = read_origin(directory)
    return _read_tensors(directory / "model.safetensors"), info


def read_origin(directory: Path) -> dict[str, Any]:
    """Read the origin of the final weights of a run; the weights are verified, but not loaded.

    Raises:
        CheckpointError: as :func:`read_model`.
    """
    return verified(directory, "model.json", FORMAT, ["model.safetensors"])


# -------------------------------------------------------------------------------------------------------------- finding


def open_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint's state and verify every checksum.

    Raises:
        CheckpointError: a file is missing, damaged, or of a format that this version does not know.
        UnreadableError: a file cannot be read now; it may be intact.
    """
    checkpoint = Checkpoint(path, verified(path, "state.json", FORMAT, _TENSORS))
    try:
        if checkpoint.step < 0 or not isinstance(checkpoint.score, float | int | None):
            raise ValueError("impossible step or score")
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged: state.json: {error!r}") from None
    return checkpoint


def list_checkpoints(directory: Path) -> list[Path]:
    """Paths of the checkpoints in a folder, oldest first, without leftovers of a killed process."""
    if not present(directory):
        return []
    return sorted((p for p in directory.iterdir() if NAME.fullmatch(p.name)), key=lambda p: int(p.name[5:]))


def last_good(directory: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """Open the newest intact checkpoint. Newer damaged checkpoints are reported and renamed, not deleted.

    Raises:
        CheckpointError: all checkpoints are damaged, now or at an earlier call, or the newest intact one has another
            format.
        UnreadableError: a checkpoint cannot be read now. It may be intact, so it is not renamed.
    """
    recover(directory)
    for path in reversed(list_checkpoints(directory)):
        try:
            return open_checkpoint(path)
        except OtherFormatError:
            raise
        except UnreadableError as error:
            raise UnreadableError(f"{error}, or move {path.name} away to resume from the one before it") from None
        except CheckpointError as error:
            renamed = _rename_damaged(path)
            warn(f"{error}; renamed to {renamed.name}")
    if any(directory.glob("damaged-*")):
        raise CheckpointError(
            f"{directory}: no intact checkpoint is left; the damaged ones are kept as damaged-step-*; "
            "restore one from a backup, or move the run directory away to start from step 0"
        )
    return None


def _rename_damaged(path: Path) -> Path:
    """Rename a damaged checkpoint to an unused name."""
    renamed, number = path.with_name(f"damaged-{path.name}"), 1
    while os.path.lexists(renamed):
        number += 1
        renamed = path.with_name(f"damaged-{path.name}-{number}")
    return path.rename(renamed)


def states(directory: Path) -> dict[Path, dict[str, Any]]:
    """The ``state.json`` of each checkpoint, oldest first, without damaged ones. Weights are not read."""
    found = {}
    for path in list_checkpoints(directory):
        with suppress(OSError, ValueError, RecursionError):
            state = json.loads((path / "state.json").read_text(encoding="utf-8"))
            if isinstance(state, dict) and state.pop("checksum", None) == content_hash(state):
                found[path] = state
    return found


def whole(directory: Path, warn: Callable[[str], None], paths: Sequence[Path] | None = None) -> list[Checkpoint]:
    """Open the intact checkpoints in a folder, or those at ``paths``, oldest first; damaged ones are reported.

    Raises:
        UnreadableError: a checkpoint cannot be read now. Skipping it could make a worse one the best.
    """
    found = []
    for path in list_checkpoints(directory) if paths is None else paths:
        try:
            found.append(open_checkpoint(path))
        except CheckpointError as error:
            if not present(path):
                continue  # deleted meanwhile by a training of this run
            if isinstance(error, UnreadableError):
                raise
            warn(f"{error}; skipped")
    return found


RankOf = Callable[[Mapping[str, Any]], tuple[float, ...] | None]  # maps a state.json to its rank; None: not validated


def by_score(state: Mapping[str, Any]) -> tuple[float, ...] | None:
    """The rank by the score alone."""
    return None if state["score"] is None else (float(state["score"]),)


def ranked(directory: Path, warn: Callable[[str], None], rank: RankOf = by_score) -> list[Checkpoint]:
    """Open the intact, validated checkpoints, best first; of equal ones the earlier first."""
    found = [(value, one) for one in whole(directory, warn) if (value := rank(one.state)) is not None]
    return [one for _, one in sorted(found, key=lambda pair: pair[0], reverse=True)]  # stable: oldest first


def prune(directory: Path, keep_best: int, keep_last: int, rank: RankOf = by_score) -> None:
    """Delete checkpoints that are neither among the best nor among the last.

    Damaged checkpoints are kept, because a person may want to look at them.
    """
    found: dict[Path, tuple[tuple[float, ...] | None, bool]] = {}
    for path, state in states(directory).items():
        if "score" in state and "scheduled" in state:
            found[path] = (rank(state), state["scheduled"])
    best = sorted((p for p in found if found[p][0] is not None), key=lambda p: found[p][0] or (), reverse=True)
    scheduled = [p for p in found if found[p][1]]
    kept = {*best[:keep_best], *scheduled[-keep_last:], *list(found)[-1:]}
    for path in found:
        if path not in kept:  # rename first, so that a visible checkpoint is complete; recover() deletes after a crash
            doomed = path.rename(path.with_name(f".{path.name}.tmp"))
            doomed.unlink() if doomed.is_symlink() else shutil.rmtree(doomed)


# -------------------------------------------------------------------------------------------------------------- loading


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], where: Path) -> None:
    """Copy weights into a model.

    Raises:
        CheckpointError: names or shapes differ; the message names the first difference.
    """
    parameters = dict(model.named_parameters())
    if missing := sorted(parameters.keys() - tensors.keys()):
        raise CheckpointError(
            f"{where}: does not fit this model: {missing[0]} is missing (and {len(missing) - 1} more)"
        )
    if extra := sorted(tensors.keys() - parameters.keys()):
        raise CheckpointError(f"{where}: does not fit this model: it has {extra[0]} (and {len(extra) - 1} more)")
    for name, parameter in parameters.items():
        if tensors[name].shape != parameter.shape:
            raise CheckpointError(
                f"{where}: does not fit this model: {name} is {list(tensors[name].shape)}, not {list(parameter.shape)}"
            )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(divided_like(tensors[name], parameter))


def restore(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer, rank: int = 0) -> None:
    """Restore weights, optimizer state and random states of a rank from a checkpoint.

    A rank that did not take part in writing the checkpoint keeps its random states.
    """
    # Weights, optimizer
    load_weights(model, checkpoint.tensors("model"), checkpoint.path)
    moments = checkpoint.tensors("optimizer")
    for name, parameter in model.named_parameters():
        prefix = f"{name}/"
        found = {k.removeprefix(prefix): v for k, v in moments.items() if k.startswith(prefix)}
        # All state is on the device of its parameter; the fused optimizer needs the step counts there too.
        optimizer.state[parameter] = {
            k: (divided_like(v, parameter) if v.dim() else v).to(parameter.device) for k, v in found.items()
        }
    if rank >= checkpoint.ranks:
        return
    # Random generators
    states = checkpoint.tensors("random")
    torch.set_rng_state(states[_of_rank(rank, "cpu")])
    cuda = states.get(_of_rank(rank, "cuda"))
    if cuda is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(cuda)
    state = [checkpoint.state, *checkpoint.others][rank]
    version, internal, gauss = state["python_random"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = state["numpy_random"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
