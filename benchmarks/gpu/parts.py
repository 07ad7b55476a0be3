"""Corpora in memory, and trainings of them without files."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nmt.config.load import validate_config
from nmt.config.search import SearchConfig
from nmt.data.order import TrainingOrder
from nmt.data.reader import Reader
from nmt.models.build import build_model
from nmt.models.seq2seq import Seq2Seq
from nmt.runtime.device import Place, resolve_device, set_deterministic, use_device
from nmt.runtime.ranks import ALONE, Ranks
from nmt.training.batching import choose_batching
from nmt.training.progress import Progress, Window
from nmt.training.updater import Updater
from nmt.translation.pytorch import TorchEngine

TMP = Path(tempfile.gettempdir())
TOKENIZER: Any = SimpleNamespace(pad_id=0, unk_id=1, bos_id=2, eos_id=3)
SPECIAL = 4
SIZES = {"tiny": (16, 2, 1), "little": (64, 2, 2), "small": (128, 4, 4), "base": (512, 8, 6), "big": (1024, 16, 6)}


@dataclass(frozen=True)
class Setting:
    """Where and how large a stage runs."""

    device: torch.device
    tiny: bool
    out: Path
    seconds: float  # of the stage
    multi30k: Path | None = None
    named: bool = False  # whether the command line names the stage

    @classmethod
    def of(cls, device: str, **more: Any) -> Setting:
        found = resolve_device(device)
        use_device(found)
        return cls(found, **more)

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def half(self) -> torch.dtype:
        """The precision of a training: bf16 on CUDA, fp32 on a CPU, where bf16 may take minutes."""
        return torch.bfloat16 if self.cuda else torch.float32

    def clock(self, work: Callable[[], Any]) -> float:
        """Seconds of some work, that of the device included."""
        self.synchronize()
        started = time.perf_counter()
        work()
        self.synchronize()
        return time.perf_counter() - started

    def synchronize(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()


class Pairs:
    """A dataset in memory with lengths like those of WMT14 English-German in a joint vocabulary of 32,000.

    Lengths are log-normal with mean 28 (eos counted), 99 % are under 92. Ids follow Zipf's law. A target is a shifted
    copy of its source, so that a loss can fall. It has the methods of :class:`nmt.data.encoded.ParallelDataset`.
    """

    def __init__(self, count: int, vocab: int, longest: int = 199, seed: int = 1):
        rng = np.random.default_rng(seed)
        src = np.exp(rng.normal(math.log(27) - 0.18, 0.6, count)).round().clip(1, longest).astype(int)
        tgt = (src * np.exp(rng.normal(0.0, 0.22, count))).round().clip(1, longest).astype(int)
        words = vocab - SPECIAL
        weights = 1 / (np.arange(words) + 5.0)
        flat = rng.choice(words, int(src.sum()), p=weights / weights.sum()) + SPECIAL
        self.sources = np.split(flat.astype(np.int32), src.cumsum()[:-1])
        shifted = ((x - SPECIAL + 1) % words + SPECIAL for x in self.sources)
        self.targets = [np.resize(x, n) for x, n in zip(shifted, tgt, strict=True)]
        self._lengths = np.array([src, tgt], np.int32)
        self.vocab = vocab

    def __len__(self) -> int:
        return len(self.sources)

    def lengths(self, start: int = 0, stop: int | None = None) -> npt.NDArray[np.int32]:
        return self._lengths[:, start:stop]

    def src(self, i: int) -> npt.NDArray[np.int32]:
        return self.sources[i]

    def tgt(self, i: int) -> npt.NDArray[np.int32]:
        return self.targets[i]

    def index(self, i: int) -> int:
        return i

    def release(self) -> None:
        """Nothing is mapped."""


def transformer(size: str, **more: Any) -> dict[str, Any]:
    """The section ``model`` of a Transformer."""
    d, heads, layers = SIZES[size]
    usual = {"norm": "post", "activation": "relu", "dropout": 0.1, "tie_embeddings": "all"}
    sizes = {"d_model": d, "d_ff": 4 * d, "num_heads": heads, "encoder_layers": layers, "decoder_layers": layers}
    if "encoder" in more:
        del sizes["encoder_layers"]
    return {"type": "transformer", **sizes, **usual, **more}


def recurrent(size: str, **more: Any) -> dict[str, Any]:
    """The section ``model`` of an RNN."""
    d = SIZES[size][0]
    found = {"type": "rnn", "d_model": d, "d_hidden": d, "d_attention": d, "dropout": 0.1, **more}
    if found.get("attention") in ("general", "none"):
        del found["d_attention"]
    return found


class Training:
    """What a trainer has for its updates, without its files: model, updater, reader, order and sums."""

    def __init__(
        self, setting: Setting, pairs: Pairs, model: dict[str, Any], budget: int,
        dtype: torch.dtype | None = None, device: torch.device | None = None, ranks: Ranks = ALONE, **train: Any,
    ):  # fmt: skip
        device, dtype = device or setting.device, dtype or setting.half
        base = {"batch_tokens": budget, "max_steps": 10**6, "optimizer": {"lr": 1e-3}, "max_bad_steps": 10**6}
        base |= {"schedule": {"name": "constant", "warmup_steps": 0}, "ema_decay": None}
        source = {"kind": "text", "src": "none", "tgt": "none"}
        self.config = validate_config(
            {"name": "check", "data": {"train": source, "valid": {"kind": "holdout", "fraction": 0.1}}, "model": model,
             "train": base | train}, "benchmarks.gpu",
        )  # fmt: skip
        packed, self.batching = choose_batching(self.config, device, dtype, None)
        self.reader = Reader(pairs, TOKENIZER, budget=budget, packed=packed)  # type: ignore[arg-type]
        accumulate = self.config.train.accumulate
        self.order = TrainingOrder(pairs, budget, accumulate, 1, None, self.reader.packing)  # type: ignore[arg-type]
        torch.manual_seed(1)
        self.model: Seq2Seq[Any] = build_model(self.config.model, pairs.vocab, pairs.vocab, 0).to(device).train()
        torch.manual_seed(2)
        self.updater = Updater(self.config.train, self.model, self.reader, Place(device, dtype, ranks))
        self.said: list[str] = []
        self.updater.tell = self.said.append
        self.progress = Progress()
        self.window = Window([], device, self.updater.objective.logged)
        self.device = device

    def batches(self, number: int) -> list[Any]:
        """The batches of an update, pinned on CUDA."""
        updates = self.order.updates(0)
        found = [self.reader.read(rows) for rows in updates[number % len(updates)]]
        return [batch.pinned() for batch in found] if self.device.type == "cuda" else found

    def update(self, batches: Sequence[Any]) -> None:
        self.updater.update(batches, self.progress, self.window)

    def run(self, count: int) -> None:
        for number in range(count):
            self.update(self.batches(number))

    def prepare(self) -> None:
        """What the trainer does before the first step on CUDA: try the longest batch, capture."""
        if self.device.type == "cuda":
            self.updater.prepare(self.order.longest_batch(), self.window)

    @property
    def weights(self) -> torch.Tensor:
        """All weights [N], on the CPU."""
        return torch.cat([p.detach().flatten() for p in self.updater.parameters]).cpu()

    @property
    def moments(self) -> torch.Tensor:
        """Adam's mean of the gradients [N], on the CPU.

        Unlike weights, they show no difference where a gradient is nothing but rounding, as that of a key's bias: Adam
        moves such a weight by the learning rate, up or down.
        """
        states = (self.updater.optimizer.state[p]["exp_avg"] for p in self.updater.parameters)
        return torch.cat([state.detach().flatten() for state in states]).cpu()

    @property
    def loss(self) -> float:
        """Plain loss in nats per target token of the updates so far."""
        sums = dict(zip(self.window.names, self.window.tolist(), strict=True))
        return sums["nll"] / max(1.0, sums["tokens"])


def engine(
    setting: Setting, model: Seq2Seq[Any], budget: int, precision: torch.dtype | None, captured: bool = True,
    device: torch.device | None = None, keep: bool = True, **search: Any,
) -> TorchEngine:  # fmt: skip
    """The search of ``nmt translate``."""
    config = SearchConfig(**{"beam_size": 5, "batch_tokens": budget, **search})
    found = TorchEngine(model, TOKENIZER, config, device or setting.device, precision, keep=keep)
    if not captured:
        found.captured = None
    return found


@contextmanager
def deterministic() -> Iterator[None]:
    """As ``train.deterministic: true``."""
    set_deterministic(True)
    try:
        yield
    finally:
        set_deterministic(False)


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """The relative difference of two vectors: |a - b| / |b|."""
    one, other = one.double(), other.double()
    return float((one - other).norm() / other.norm().clamp(min=1e-30))


def need(condition: bool, reason: str) -> None:
    """Skip a part unless it can run here.

    Raises:
        Skipped: it cannot.
    """
    from .record import Skipped

    if not condition:
        raise Skipped(reason)
