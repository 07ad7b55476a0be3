"""The summary at the start of a training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from nmt.config.experiment import Config
from nmt.config.model import ModelConfig
from nmt.config.train import TrainConfig
from nmt.data.order import TrainingOrder
from nmt.models.build import count_parameters
from nmt.numbers import count_of, plain
from nmt.run.selection import TITLES
from nmt.runtime.device import Place
from nmt.runtime.environment import precision_name
from nmt.training.prepared import Prepared
from nmt.training.trainer import Trainer


def summary(config: Config, prepared: Prepared, trainer: Trainer, resumed: bool) -> str:
    """Model, data, limits, device and run, one line each."""
    parameters, embeddings = count_parameters(trainer.model)
    data, counts, progress = prepared.encoded.train, prepared.encoded.manifest["train"], trainer.progress
    order, place = trainer.order, trainer.place
    (steps, exact), done = order.length(progress.epoch), math.ceil(progress.position / order.accumulate)
    about = "" if exact else "about "
    start = (
        f"resuming at step {progress.step} (epoch {progress.epoch}, update {done} of {about}{steps}, "
        f"{progress.seconds / 60:.1f} minutes trained)"
        if resumed
        else "starting at step 0"
    )
    both = config.train.bidirectional_epochs
    pair = f"{config.data.src_lang} to {config.data.tgt_lang}"
    return "\n".join([
        f"model       {_family(config.model)}, {parameters:,} parameters, {embeddings:,} of them embeddings",
        f"training    {len(data):,} sentence pairs, {counts['src_tokens']:,} source and "
        f"{counts['tgt_tokens']:,} target subwords",
        *(f"{'' if n else 'mixture':<12}{line}" for n, line in enumerate(_mixture(config, order))),
        f"epoch       {about}{steps:,} steps of at most {order.budget * order.accumulate:,} tokens per side",
        *([f"direction   both in the first {count_of(both, 'epoch')}, then {pair}"] if both else []),
        f"until       {', or '.join(_limits(config.train))}",
        f"batches     {trainer.batching}",
        *([f"processes   {trainer.parallel}"] if place.ranks.size > 1 else []),
        f"device      {_place(place)}; {_reproducible(trainer.environment)}",
        f"run         {trainer.run.path}: {start}",
    ])  # fmt: skip


def _mixture(config: Config, order: TrainingOrder) -> list[str]:
    names = [dataset.name for dataset in config.data.datasets]
    return order.examples.mixture.described(names) if order.examples is not None and config.data.train_is_list else []


def _family(model: ModelConfig) -> str:
    encoder = model.encoder
    return model.type if encoder is None else f"{model.type} with a {encoder.type} encoder"


def _limits(config: TrainConfig) -> list[str]:
    """What ends the training."""
    limits = [
        f"{plain(getattr(config, key), 6)} {key.removeprefix('max_')}"
        for key in ("max_steps", "max_epochs", "max_minutes")
        if getattr(config, key)
    ]
    if config.patience:
        limits.append(f"{count_of(config.patience, 'validation')} without a better {TITLES[config.score]}")
    return limits


def _place(place: Place) -> str:
    threads = f" with {torch.get_num_threads()} threads" if place.device.type == "cpu" else ""
    others = f", in each of {place.ranks.size} processes" if place.ranks.size > 1 else ""
    return f"{place.device}{threads}, {precision_name(place.dtype)}{others}"


def _reproducible(environment: Mapping[str, Any]) -> str:
    """Whether the seed reproduces the bits of the run, given the environment of this start and of earlier ones."""
    if not environment["deterministic"]:
        return "not bit-reproducible; set train.deterministic: true to make it so"
    return {
        "same": "bit-reproducible from the seed",
        "other": "the environment has changed since the first start; not bit-reproducible from the seed",
        "unknown": "bit-reproducible from the seed if its earlier starts had these versions and threads",
    }[environment.get("earlier", "same")]
