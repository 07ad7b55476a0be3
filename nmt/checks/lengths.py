"""Misalignment by lines, found in the lengths: translations are long where their sources are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Lengths = npt.NDArray[Any]

FARTHEST = 5  # lines
BLOCK = 500  # pairs that are correlated together
FEWEST = 50  # pairs of the smallest block
SIGNIFICANT = 5.0  # standard errors, 1/sqrt(pairs), by which a shifted correlation exceeds that of the pairs as read


@dataclass(frozen=True)
class Shift:
    """Pairs of which the source of line i belongs to the target of line i + ``lines``.

    Attributes:
        first, last: first and last pair, counted from 0.
    """

    lines: int
    first: int
    last: int


def correlation(src: Lengths, tgt: Lengths) -> float:
    """Pearson's correlation of logarithms of lengths; 0 where one side does not vary."""
    a, b = np.log1p(src.astype(np.float64)), np.log1p(tgt.astype(np.float64))
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 1e-9 else 0.0


def shifts(src: Lengths, tgt: Lengths) -> list[Shift]:
    """Runs of shifted pairs, by the lengths [N] of both sides."""
    total = len(src)
    size = max(FEWEST, min(BLOCK, total // 4))
    if total < FEWEST:
        return []
    # Shift of each block; the last block also takes what remains.
    starts = list(range(0, total - size + 1, size))
    found = [_of_block(src, tgt, start, min(start + size, total)) for start in starts]
    # Join neighbouring blocks of the same shift.
    runs: list[Shift] = []
    for start, lines in zip(starts, found, strict=True):
        end = total - 1 if start == starts[-1] else start + size - 1
        if lines and runs and runs[-1].lines == lines and runs[-1].last >= start - size - 1:
            runs[-1] = Shift(lines, runs[-1].first, end)
        elif lines:
            runs.append(Shift(lines, _begin(src, tgt, start, size, lines), end))
    return runs


def _of_block(src: Lengths, tgt: Lengths, start: int, end: int) -> int:
    """The shift of a block; 0 where none is significantly better than the pairs as read."""
    values = {}
    for lines in range(-FARTHEST, FARTHEST + 1):
        low, high = max(start, -lines), min(end, len(tgt) - lines)
        values[lines] = correlation(src[low:high], tgt[low + lines : high + lines])
    best = max(values, key=lambda lines: values[lines])
    limit = SIGNIFICANT / np.sqrt(end - start)
    return best if values[best] > limit and values[best] - values[0] > limit else 0


def _begin(src: Lengths, tgt: Lengths, start: int, size: int, lines: int) -> int:
    """The line at which a shift that a block shows begins, between one block before it and its end."""
    low, high = max(0, start - size, -lines), min(start + size, len(src), len(tgt) - lines)
    a, b = np.log1p(src.astype(np.float64)), np.log1p(tgt.astype(np.float64))
    usual = np.median(b[low:high]) - np.median(a[low:high])
    as_read = np.abs(b[low:high] - a[low:high] - usual)
    shifted = np.abs(b[low + lines : high + lines] - a[low:high] - usual)
    # The pairs before the beginning fit as read, those after it shifted: minimise the sum of both misfits.
    misfit = np.concatenate([[0.0], np.cumsum(as_read - shifted)])
    begin = low + int(np.argmin(misfit))
    return 0 if begin <= FARTHEST else begin
