"""Bidirectional training: pairs that the first epochs read from target to source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nmt.data.encoded import Lengths
from nmt.data.splits import mix

Ids = npt.NDArray[Any]


@dataclass(frozen=True)
class Bidirectional:
    """Which pairs an epoch reads from target to source, as a pure function of (seed, epoch) (Ding et al. 2021).

    The paper trains first on the corpus in both directions. Here each of the first epochs reads every pair once, half
    of the pairs backwards, and two epochs in a row read every pair in both directions. So an epoch keeps its number of
    pairs, and what counts epochs keeps its meaning.

    Attributes:
        epochs: how many epochs read pairs backwards.
    """

    seed: int
    epochs: int

    def backwards(self, rows: Ids, epoch: int) -> npt.NDArray[np.bool_]:
        """Whether the epoch reads each of these rows [N] from target to source."""
        if epoch >= self.epochs:
            return np.zeros(len(rows), dtype=bool)
        half = mix(rows.astype(np.uint64), (self.seed << 32) + epoch // 2) < 0.5
        return half if epoch % 2 == 0 else ~half

    def lengths(self, lengths: Lengths, rows: Ids, epoch: int) -> Lengths:
        """The lengths of both sides [2, N] as the epoch reads these rows [N]."""
        return np.where(self.backwards(rows, epoch), lengths[::-1], lengths)
