"""Bitwise comparison of two finished trainings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nmt.run.checkpoint import list_checkpoints
from nmt.run.directory import Run

# Durations, and lengths of files that contain durations: they differ between equal trainings.
VOLATILE = (
    "seconds", "window", "files", "train/tokens_per_second", "train/mfu",
    "4 speed/share of the peak of matrix products", "4 speed/target subwords per second", "5 final/training minutes",
)  # fmt: skip


def differences(one: Run, other: Run) -> Iterator[str]:
    """Name all differences between two finished runs, except in durations.

    Compares every tensor of every checkpoint and of the final model (weights, averages, optimizer, generators), the
    progress and scores in the checkpoints, every line of ``metrics.jsonl``, every TensorBoard scalar, and the
    hypotheses and scores of the test sets.
    """
    # Checkpoints and final model: tensors, then state
    names = [[path.name for path in folders(run)] for run in (one, other)]
    if names[0] != names[1]:
        yield f"checkpoints: {', '.join(names[0])} against {', '.join(names[1])}"
        return
    for mine, theirs in zip(folders(one), folders(other), strict=True):
        for file in sorted({path.name for folder in (mine, theirs) for path in folder.glob("*.safetensors")}):
            a, b = _tensors(mine / file), _tensors(theirs / file)
            for name in sorted(a.keys() | b.keys()):
                if name not in a or name not in b or not torch.equal(a[name], b[name]):
                    yield f"{mine.name}/{file}: {name}"
        if (mine / "state.json").is_file():
            first, second = (json.loads((path / "state.json").read_text(encoding="utf-8")) for path in (mine, theirs))
            for key in ("score", "scheduled", "python_random", "numpy_random"):
                if first[key] != second[key]:
                    yield f"{mine.name}: {key}"
            ranks = [[_stable(rank) for rank in state.get("others", [])] for state in (first, second)]
            if ranks[0] != ranks[1]:
                yield f"{mine.name}: generators of other ranks"
            before, after = _stable(first["progress"]), _stable(second["progress"])
            yield from (f"{mine.name}: progress: {key}" for key in before if before[key] != after.get(key))
    # Metrics and test sets
    yield from _different_metrics(_metrics(one), _metrics(other))
    before, after = _scalars(one), _scalars(other)
    if tags := sorted(tag for tag in {*before, *after} if before.get(tag) != after.get(tag)):
        yield f"TensorBoard scalars: {', '.join(tags)}"
    for file in sorted({path.name for run in (one, other) for path in run.evaluation.glob("*.*")}):
        texts = [path.read_bytes() if (path := run.evaluation / file).is_file() else None for run in (one, other)]
        if texts[0] != texts[1]:
            yield f"evaluation/{file}"


def folders(run: Run) -> list[Path]:
    """The folders of a run that contain tensors: its checkpoints and its final model."""
    return [*list_checkpoints(run.checkpoints), *([run.model] if run.has_model else [])]


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    return load_file(path) if path.is_file() else {}


def _stable(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in VOLATILE}


def _metrics(run: Run) -> list[dict[str, Any]]:
    return [_stable(json.loads(line)) for line in run.metrics.read_text(encoding="utf-8").splitlines()]


def _different_metrics(mine: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> Iterator[str]:
    """Name each metric that differs, with the step of the first difference."""
    if [line.get("step") for line in mine] != [line.get("step") for line in theirs]:
        yield "metrics.jsonl: other steps"
        return
    named: dict[str, Any] = {}
    for first, second in zip(mine, theirs, strict=True):
        for key in [*first, *second]:
            if repr(first.get(key)) != repr(second.get(key)):  # so that NaN equals NaN
                named.setdefault(key, (first.get("step"), first.get(key), second.get(key)))
    yield from (f"metrics.jsonl: {key}: at step {step} {a} against {b}" for key, (step, a, b) in named.items())


def _scalars(run: Run) -> dict[str, list[tuple[int, str]]]:
    # Not purged, so that duplicates show. Sorted, because files begun in the same second are read in any order.
    events = EventAccumulator(str(run.tensorboard), size_guidance={"scalars": 0}, purge_orphaned_data=False).Reload()
    return {
        tag: sorted((event.step, repr(event.value)) for event in events.Scalars(tag))
        for tag in events.Tags()["scalars"]
        if tag not in VOLATILE
    }
