"""Checkpoints: directories that are whole or absent, checksummed, and never run code when read.

    step-00001200/
        model.safetensors       raw weights
        ema.safetensors         averaged weights, when train.ema_decay is set
        optimizer.safetensors   Adam's moments and step counts, named like the weights
        random.safetensors      states of PyTorch's generators (CPU, and the CUDA device), of every rank
        state.json              format, progress, score and what it was made with, identity of the run, environment
                                (code, libraries, device, precision; none before it was recorded), states of
                                Python's and NumPy's generators, what the ranks other than the first have of their own,
                                checksums of the other files and of itself

Which one is the last or the best is read off the directories themselves, so it can never disagree with them.
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
_TENSORS = ("model.safetensors", "optimizer.safetensors", "random.safetensors")  # of every checkpoint
NAME = re.compile(r"step-(\d{8,})")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read back and found whole."""

    path: Path
    state: dict[str, Any]

    @property
    def step(self) -> int:
        return int(self.state["progress"]["step"])

    @property
    def score(self) -> float | None:
        """Validation score at this step, higher is better; None when none was taken there."""
        score: float | None = self.state["score"]
        return score

    @property
    def scheduled(self) -> bool:
        """Whether an uninterrupted training would have written it too."""
        return bool(self.state["scheduled"])

    @property
    def others(self) -> list[dict[str, Any]]:
        """What each rank but the first had of its own; none where one process trained."""
        others: list[dict[str, Any]] = self.state.get("others", [])
        return others

    @property
    def ranks(self) -> int:
        """By how many processes it was saved."""
        return 1 + len(self.others)

    def tensors(self, name: str) -> dict[str, Tensor]:
        return _read_tensors(self.path / f"{name}.safetensors")

    @property
    def environment(self) -> dict[str, Any] | None:
        """What its bits depend on beside the settings; None where that was not recorded."""
        found: dict[str, Any] | None = self.state.get("environment")
        return found

    @property
    def weights(self) -> dict[str, Tensor]:
        """The weights to translate with: the moving average where there is one."""
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
    """What each rank has of its own: its generators, and its sums since the last line of metrics."""

    generators: dict[str, Tensor]  # of PyTorch, by kind of device
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
        """What of it goes into ``state.json``."""
        return {"python_random": self.python, "numpy_random": self.numpy, "window": self.window}


# --------------------------------------------------------------------------------------------------------------- saving


def save(
    directory: Path,
    *,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    ema: Mapping[str, Tensor] | None,
    progress: Mapping[str, Any],
    score: float | None,
    scheduled: bool,
    identity: Mapping[str, Any],
    environment: Mapping[str, Any],
    ranks: Sequence[RankState],
    quality: Mapping[str, Any] | None = None,
    scored_with: Mapping[str, Any] | None = None,
) -> Path:
    """Write one checkpoint under ``directory``; a crash at any moment leaves it whole or absent.

    Args:
        score, quality: of the validation at this step, None where there was none.
        scored_with: the settings that this validation depends on.
        scheduled: False for one written only because a signal came. It does not count among the last that are kept or
            averaged, so that interruptions do not change what a training leaves.
        environment: what :func:`nmt.runtime.environment.environment` returned in this process.
        ranks: the states of all, this one's (the first's) included.

    Raises:
        OSError: the disk is full, or writing failed in another way; nothing half-written is left.
    """
    path = directory / f"step-{progress['step']:08d}"
    directory.mkdir(exist_ok=True)  # not the run: one that is gone is not made again
    with new_directory(path) as aside:
        files = {
            "model": weights_of(model),
            "optimizer": _optimizer_tensors(model, optimizer),
            "random": {_of_rank(n, key): t for n, rank in enumerate(ranks) for key, t in rank.generators.items()},
        }
        if ema is not None:
            files["ema"] = dict(ema)
        for name, tensors in files.items():
            _write_tensors(tensors, aside / f"{name}.safetensors")
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


def _write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    try:
        save_file({k: v.contiguous() for k, v in tensors.items()}, path)
    except SafetensorError as error:  # it wraps the system's error in its own
        number = re.search(r"os error (\d+)", str(error))
        code = int(number[1]) if number else errno.EIO
        raise OSError(code, os.strerror(code) if number else str(error), str(path)) from error


def amend(checkpoint: Checkpoint, **changes: Any) -> Checkpoint:
    """Replace entries of ``state.json`` in one step; the weights stay as they are."""
    state = {**checkpoint.state, **changes}
    write_json(checkpoint.path / "state.json", {**state, "checksum": content_hash(state)})
    return Checkpoint(checkpoint.path, state)


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters by name; one that is tied to others appears once, under its first name."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _of_rank(rank: int, name: str) -> str:
    return f"rank{rank}/{name}" if rank else name


def save_model(directory: Path, weights: Mapping[str, Tensor], info: Mapping[str, Any]) -> None:
    """Write the final weights of a run, with an account of where they come from.

    Raises:
        TrainingError: they cannot be written; what was there before is left.
    """
    try:
        with new_directory(directory) as aside:
            _write_tensors(weights, aside / "model.safetensors")
            seal(aside, "model.json", {"format": FORMAT, **info})
    except OSError as error:
        raise TrainingError(
            f"{error.filename or directory}: the final model could not be saved: {error.strerror or error}; all "
            "checkpoints are kept; make room and run the same command again"
        ) from error


def read_model(directory: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The final weights of a run, verified, and the account of where they come from.

    Raises:
        CheckpointError: they are damaged or of an unknown format.
        UnreadableError: they cannot be read now.
    """
    info = read_origin(directory)
    return _read_tensors(directory / "model.safetensors"), info


def read_origin(directory: Path) -> dict[str, Any]:
    """The account of where the final weights of a run come from; the weights are verified, not read.

    Raises:
        CheckpointError: as :func:`read_model`.
    """
    return verified(directory, "model.json", FORMAT, ["model.safetensors"])


# -------------------------------------------------------------------------------------------------------------- finding


def open_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint's state and verify every checksum.

    Raises:
        CheckpointError: something is missing, damaged, or of a format this version does not know.
        UnreadableError: something cannot be read now, whole or not.
    """
    checkpoint = Checkpoint(path, verified(path, "state.json", FORMAT, _TENSORS))
    try:
        if checkpoint.step < 0 or not isinstance(checkpoint.score, float | int | None):
            raise ValueError("impossible step or score")
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged: state.json: {error!r}") from None
    return checkpoint


def list_checkpoints(directory: Path) -> list[Path]:
    """Paths of the checkpoints in a folder, oldest first; leftovers of a killed writer are not among them."""
    if not present(directory):
        return []
    return sorted((p for p in directory.iterdir() if NAME.fullmatch(p.name)), key=lambda p: int(p.name[5:]))


def last_good(directory: Path, warn: Callable[[str], None]) -> Checkpoint | None:
    """The newest whole checkpoint; damaged ones newer than it are named and set aside, not deleted.

    Raises:
        CheckpointError: there are checkpoints, but every one is damaged, now or at an earlier call, or the newest whole
            one is of another format.
        UnreadableError: one cannot be read now. It may be whole: nothing is set aside.
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
            aside = _set_aside(path)
            warn(f"{error}; set aside as {aside.name}")
    if any(directory.glob("damaged-*")):
        raise CheckpointError(
            f"{directory}: no whole checkpoint is left; the damaged ones are kept as damaged-step-*; "
            "restore one from a backup, or move the run directory away to start anew"
        )
    return None


def _set_aside(path: Path) -> Path:
    """Give a damaged checkpoint another name, one that no other has."""
    aside, number = path.with_name(f"damaged-{path.name}"), 1
    while os.path.lexists(aside):
        number += 1
        aside = path.with_name(f"damaged-{path.name}-{number}")
    return path.rename(aside)


def states(directory: Path) -> dict[Path, dict[str, Any]]:
    """The ``state.json`` of each checkpoint, oldest first; one that is damaged is left out. Weights are not read."""
    found = {}
    for path in list_checkpoints(directory):
        with suppress(OSError, ValueError, RecursionError):
            state = json.loads((path / "state.json").read_text(encoding="utf-8"))
            if isinstance(state, dict) and state.pop("checksum", None) == content_hash(state):
                found[path] = state
    return found


def whole(directory: Path, warn: Callable[[str], None], paths: Sequence[Path] | None = None) -> list[Checkpoint]:
    """The checkpoints in a folder, or those at ``paths``, oldest first; damaged ones are named and left out.

    Raises:
        UnreadableError: one cannot be read now. Without it another would be the best.
    """
    found = []
    for path in list_checkpoints(directory) if paths is None else paths:
        try:
            found.append(open_checkpoint(path))
        except CheckpointError as error:
            if not present(path):
                continue  # deleted meanwhile by the training that this run is still in
            if isinstance(error, UnreadableError):
                raise
            warn(f"{error}; left out")
    return found


RankOf = Callable[[Mapping[str, Any]], tuple[float, ...] | None]  # of a state.json; None: not validated


def by_score(state: Mapping[str, Any]) -> tuple[float, ...] | None:
    """The rank by the score alone."""
    return None if state["score"] is None else (float(state["score"]),)


def ranked(directory: Path, warn: Callable[[str], None], rank: RankOf = by_score) -> list[Checkpoint]:
    """Whole checkpoints that were validated, best first; of equal ones the earlier one first."""
    found = [(value, one) for one in whole(directory, warn) if (value := rank(one.state)) is not None]
    return [one for _, one in sorted(found, key=lambda pair: pair[0], reverse=True)]  # stable: oldest first


def prune(directory: Path, keep_best: int, keep_last: int, rank: RankOf = by_score) -> None:
    """Delete checkpoints that are neither among the best nor among the last.

    A damaged one is never deleted here: a person may want to look at it.
    """
    found: dict[Path, tuple[tuple[float, ...] | None, bool]] = {}
    for path, state in states(directory).items():
        if "score" in state and "scheduled" in state:
            found[path] = (rank(state), state["scheduled"])
    best = sorted((p for p in found if found[p][0] is not None), key=lambda p: found[p][0] or (), reverse=True)
    scheduled = [p for p in found if found[p][1]]
    kept = {*best[:keep_best], *scheduled[-keep_last:], *list(found)[-1:]}
    for path in found:
        if path not in kept:  # under its name it is whole to the last moment; recover() finishes what a crash leaves
            doomed = path.rename(path.with_name(f".{path.name}.tmp"))
            doomed.unlink() if doomed.is_symlink() else shutil.rmtree(doomed)


# -------------------------------------------------------------------------------------------------------------- loading


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], where: Path) -> None:
    """Copy weights into a model.

    Raises:
        CheckpointError: names or shapes differ; the first difference is named.
    """
    own = dict(model.named_parameters())
    if missing := sorted(own.keys() - tensors.keys()):
        raise CheckpointError(f"{where}: is of another model: it lacks {missing[0]} (and {len(missing) - 1} more)")
    if extra := sorted(tensors.keys() - own.keys()):
        raise CheckpointError(f"{where}: is of another model: it holds {extra[0]} (and {len(extra) - 1} more)")
    for name, parameter in own.items():
        if tensors[name].shape != parameter.shape:
            raise CheckpointError(
                f"{where}: is of another model: {name} is {list(tensors[name].shape)}, not {list(parameter.shape)}"
            )
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(tensors[name])


def restore(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer, rank: int = 0) -> None:
    """Put weights, optimizer state and all random states of a rank back as they were when the checkpoint was written.

    A rank that was not there then keeps the random states it has.
    """
    load_weights(model, checkpoint.tensors("model"), checkpoint.path)
    moments = checkpoint.tensors("optimizer")
    for name, parameter in model.named_parameters():
        prefix = f"{name}/"
        found = {k.removeprefix(prefix): v for k, v in moments.items() if k.startswith(prefix)}
        # Step counts stay where the optimizer keeps them (fused: on the device); moments follow their parameter.
        optimizer.state[parameter] = {k: v.to(parameter.device) for k, v in found.items()}
    if rank >= checkpoint.ranks:
        return
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
