"""Where sentences begin that stand one after another, without padding between them."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Sentences(NamedTuple):
    """The sentences of one side of a packed batch, which cover its N rows without a gap.

    Attributes:
        starts: [B + 1] int32, the row where each sentence begins, and N. Sentences may be empty.
        positions: [N] int32, the position of each row in its sentence, from 0.
        longest: no sentence has more rows; the same for all batches of a training.
    """

    starts: Tensor
    positions: Tensor
    longest: int
