"""What a validation finds."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from nmt.run.selection import Quality


@dataclass(frozen=True)
class Validation:
    """
    Attributes:
        metrics: by TensorBoard name.
        distinct: the number of different hypotheses, and of hypotheses.
        samples: source, reference, hypothesis.
        maps: name, weights [T, S], source and target subwords of each attention map.
        notes: lines for people.
    """

    metrics: dict[str, float]
    quality: Quality
    distinct: tuple[int, int]
    samples: list[tuple[str, str, str]]
    maps: list[tuple[str, Tensor, list[str], list[str]]]
    notes: list[str] = field(default_factory=list)
