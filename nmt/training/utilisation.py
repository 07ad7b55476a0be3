"""How much of a CUDA device a training uses: the share of the peak of its matrix products (MFU)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nmt.config.model import ModelConfig
from nmt.data.batch import Batch
from nmt.data.packing import PackedBatch
from nmt.models.flops import is_counted, training_flops
from nmt.models.seq2seq import Seq2Seq
from nmt.runtime.device import Place

Lengths = npt.NDArray[np.int64]

LARGE, SMALL = 8192, 4096  # rows of the square matrices that are multiplied
REPEATS = 10


class Utilisation:
    """Model FLOPs utilisation since the last line of metrics (Chowdhery et al. 2022, appendix B).

    FLOPs of the real tokens, see :mod:`nmt.models.flops`, divided by what ``peak`` allows in the seconds. Nothing of it
    belongs to a checkpoint: after a resume, the first line is about what this start did.

    Args:
        peak: operations per second.
    """

    def __init__(self, model: ModelConfig, vocab_size: int, peak: float):
        self.model, self.vocab_size, self.peak = model, vocab_size, peak
        self._flops = self._seconds = 0.0

    @classmethod
    def of_training(cls, place: Place, model: Seq2Seq[Any]) -> Utilisation | None:
        """Measure the peak of the device; None where it is not CUDA, or where the model's products are not counted."""
        config = getattr(model, "config", None)
        if place.device.type != "cuda" or config is None or not is_counted(config):
            return None
        return cls(config, model.output.out_features, matrix_peak(place.device, place.dtype))

    def add(self, batches: Sequence[Batch | PackedBatch], seconds: float) -> None:
        """Count one update, whose batches are in host memory."""
        for batch in batches:
            self._flops += training_flops(self.model, self.vocab_size, *lengths_of(batch)) or 0.0
        self._seconds += seconds

    def take(self) -> float | None:
        """The share, from 0 to 1, and a new beginning; None if nothing was counted."""
        share = self._flops / self._seconds / self.peak if self._seconds > 0 else None
        self._flops = self._seconds = 0.0
        return share


def lengths_of(batch: Batch | PackedBatch) -> tuple[Lengths, Lengths]:
    """Tokens of each source and target of a batch in host memory, [B] each; eos counted."""
    count = len(batch.rows)
    if isinstance(batch, PackedBatch):
        src, tgt = (batch.part(f"{side}_starts").numpy() for side in ("src", "tgt"))
        return np.diff(src[: count + 1]).astype(np.int64), np.diff(tgt[: count + 1]).astype(np.int64)
    width = batch.tgt_in.size(1)
    targets = np.bincount(batch.target_positions.numpy() // width, minlength=len(batch.src))[:count]
    return batch.src_mask.numpy().sum(axis=1)[:count].astype(np.int64), targets.astype(np.int64)


def matrix_peak(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of large matrix products on a CUDA device, in some ten milliseconds (fp32: 0.3 seconds).

    The matrices have random values, because zeros take less power and run faster. They come from a generator of their
    own, so that the training's is untouched.
    """
    size = LARGE if torch.cuda.mem_get_info(device)[0] > 4 << 30 else SMALL
    generator = torch.Generator(device).manual_seed(0)
    a, b = (torch.randn(size, size, device=device, generator=generator).to(dtype) for _ in range(2))
    out = torch.empty_like(a)
    times = []
    for _ in range(REPEATS):
        events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        events[0].record()
        torch.mm(a, b, out=out)
        events[1].record()
        times.append(events)
    torch.cuda.synchronize(device)
    best = min(start.elapsed_time(end) for start, end in times)  # the first one also loads the kernel
    del a, b, out
    torch.cuda.empty_cache()
    return 2 * size**3 / (best / 1e3)
