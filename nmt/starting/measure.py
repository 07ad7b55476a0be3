"""Measure a training on a sample of the data, in a temporary folder."""

from __future__ import annotations

import gc
import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from nmt import pipeline, preflight
from nmt.config.experiment import Config
from nmt.config.load import validate_config
from nmt.config.pretrained import inherit
from nmt.runtime.device import Place, resolve_device, resolve_precision, use_device
from nmt.runtime.environment import precision_name
from nmt.runtime.memory import keep_freed_memory
from nmt.starting.material import Material
from nmt.training.estimate import Cost
from nmt.training.prepared import Prepared

HELD = 0.05  # of the sample, because a corpus needs a validation set


@dataclass(frozen=True)
class Measured:
    """The cost of a training on the sample, and what the sample tells of all the data.

    Attributes:
        updates: number for a pass over all pairs of the data.
        vocab_size: pieces of the vocabulary; fewer than asked for where the text cannot fill it.
        unknown: share of the subwords that the vocabulary lacks, of the side where it is larger.
    """

    cost: Cost
    updates: float
    vocab_size: int
    unknown: float = 0.0

    def validation_seconds(self, pairs: int) -> float:
        """The time of a validation of ``pairs`` pairs."""
        cost = self.cost
        return cost.pictures + (cost.validation_seconds - cost.pictures) / cost.validation_lines * pairs


class Bench:
    """A temporary folder with the sample, its tokenizer and its encoded pairs.

    Attributes:
        device: on which ``train.device: auto`` trains here.
    """

    def __init__(self, folder: Path, material: Material):
        self.folder, self.material = folder, material
        keep_freed_memory()
        self.device = resolve_device("auto")
        use_device(self.device)
        self.place = Place(self.device, resolve_precision("auto", self.device))
        for side, name in enumerate(("src", "tgt")):
            lines = (pair[side].replace("\n", " ").replace("\r", " ") for _, pair in material.sample)
            (folder / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        self._prepared: dict[Any, Prepared] = {}  # by the size of the vocabulary

    @cached_property
    def described(self) -> str:
        """The device and the precision, for people."""
        if self.device.type == "cuda":
            return f"{torch.cuda.get_device_name(self.device)}, {precision_name(self.place.dtype)}"
        count = torch.get_num_threads()
        threads = f", {count} thread{'s' if count > 1 else ''}" if self.device.type == "cpu" else ""
        return f"{self.device.type}{threads}, {precision_name(self.place.dtype)}"

    def measure(self, settings: Mapping[str, Any]) -> Measured:
        """Train a few batches with these settings.

        Raises:
            NmtError: the corpus or the tokenizer cannot be made with these settings.
            TrainingError: out of memory.
        """
        config = self._config(settings)
        self._free()
        with _quiet():
            key = config.tokenizer.vocab_size, config.init and config.init.extend_vocabulary
            if (prepared := self._prepared.get(key)) is None:
                prepared = self._prepared[key] = pipeline.prepare(config)
            _, cost = preflight.measure_cost(config, prepared, self.place)
        sampled = len(self.material.sample) * (1 - HELD)
        updates = cost.epoch_steps * self.material.pairs / sampled
        return Measured(cost, updates, prepared.tokenizer.tgt_vocab_size, _unknown(prepared))

    def _free(self) -> None:
        """Free the memory of the last measurement, of which a traceback may have kept tensors alive until now."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _config(self, settings: Mapping[str, Any]) -> Config:
        """The settings with the sample as data, and all folders in the temporary one."""
        text = {"kind": "text", "src": str(self.folder / "src"), "tgt": str(self.folder / "tgt")}
        held = {"kind": "holdout", "fraction": HELD}
        data = {**settings["data"], "train": text, "valid": held, "test": {}, "store": str(self.folder / "store")}
        raw = {**settings, "data": data, "runs": str(self.folder / "runs")}
        inherit(raw)
        return validate_config(raw, "nmt init")


def _unknown(prepared: Prepared) -> float:
    account = prepared.encoded.unknown["train"]
    return float(max(account[side]["pieces"] / max(1, account[side]["tokens"]) for side in ("src", "tgt")))


@contextmanager
def bench(material: Material) -> Iterator[Bench]:
    """A bench whose folder is deleted at the end, also after an error or a signal."""
    with tempfile.TemporaryDirectory(prefix="nmt-init-", ignore_cleanup_errors=True) as folder:
        yield Bench(Path(folder), material)


@contextmanager
def _quiet() -> Iterator[None]:
    """Show the progress of long steps, and none of the messages about the temporary corpus."""
    nmt, progress = logging.getLogger("nmt"), logging.getLogger("nmt.runtime.progress")
    levels = nmt.level, progress.level
    if nmt.isEnabledFor(logging.INFO):
        progress.setLevel(logging.INFO)
    nmt.setLevel(logging.ERROR)
    try:
        yield
    finally:
        nmt.setLevel(levels[0])
        progress.setLevel(levels[1])
