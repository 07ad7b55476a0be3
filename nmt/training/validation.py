"""Results of a validation."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from nmt.training.selection import Quality


@dataclass(frozen=True)
class Validation:
    """Results of a validation, and material to show.

    Attributes:
        metrics: values by TensorBoard name.
        distinct: the number of distinct hypotheses, and of all hypotheses.
        samples: source, reference, hypothesis.
        maps: name, weights [T, S], source and target subwords of each attention map.
        notes: lines to print.
    """

    metrics: dict[str, float]
    quality: Quality
    distinct: tuple[int, int]
    samples: list[tuple[str, str, str]]
    maps: list[tuple[str, Tensor, list[str], list[str]]]
    notes: list[str] = field(default_factory=list)
