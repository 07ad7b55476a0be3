"""Ranking of validations, for the best checkpoints, patience and the plateau schedule.

BLEU is the geometric mean of four precisions. For a weak model or short sentences, few 4-grams match. Without any match
BLEU is 0 or depends on smoothing (Post 2018; Chen and Cherry 2014). So each validation is ranked by the first reliable
measure: the configured score, chrF, the loss.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

Score = Literal["bleu", "chrf", "loss"]
Rank = tuple[float, ...]

TITLES: dict[Score, str] = {"bleu": "BLEU", "chrf": "chrF", "loss": "loss"}

# A precision from n matches has a relative error of about 1 / sqrt(n), and BLEU a quarter of that: 8 % for n = 10.
ENOUGH_MATCHES = 10
# Unrelated sentences of one language have a chrF of 10 to 20; lower values carry no information.
ENOUGH_CHRF = 10.0
# If at most this share of the hypotheses is distinct, compared with the references, the model ignores the source.
FEW_DISTINCT = 0.05


@dataclass(frozen=True)
class Quality:
    """The results of a validation that rank weights.

    Attributes:
        loss: nats per target token.
        bleu, chrf: in percent.
        matches: number of 4-grams of the hypotheses found in their references; None if not recorded.
        varied: whether the hypotheses vary with the sources, see :func:`varied`.
        ended: whether most hypotheses end before the length limit. A model that repeats a word up to the limit has a
            chrF of 20 and more against references with that word.
    """

    loss: float = math.nan
    bleu: float = math.nan
    chrf: float = math.nan
    matches: int | None = None
    varied: bool = True
    ended: bool = True

    @classmethod
    def of(cls, state: Mapping[str, Any], score: Score) -> Quality | None:
        """Read the quality from ``state.json``; None if the checkpoint was not validated.

        Checkpoints of earlier versions have only the score, a number for which higher is better.
        """
        if (quality := state.get("quality")) is not None:
            known = {field.name for field in fields(cls)}
            return cls(**{key: value for key, value in quality.items() if key in known and value is not None})
        if (number := state.get("score")) is None:
            return None
        return cls(loss=-number) if score == "loss" else cls(bleu=number)

    @property
    def complete(self) -> bool:
        """Whether every field was recorded."""
        return self.matches is not None

    def measure(self, score: Score) -> Score:
        """The measure that ranks this validation: ``score``, or the first reliable one."""
        if score == "loss" or not (self.varied and self.ended):
            return "loss"
        matched = self.matches >= ENOUGH_MATCHES if self.matches is not None else self.bleu > 0
        if score == "bleu" and matched:
            return "bleu"
        return "chrf" if self.chrf >= ENOUGH_CHRF else "loss"

    def rank(self, score: Score) -> Rank:
        """Sort key, highest for the best weights. Validations that BLEU can rank are above others; nan (-1) is last."""
        measure = self.measure(score)
        level = 0.0 if score == "loss" else float(("loss", "chrf", "bleu").index(measure))
        values = {"bleu": self.bleu, "chrf": self.chrf, "loss": -self.loss}
        order = list(values)[list(values).index(measure) :]
        numbers = [value if not math.isnan(value := values[name]) else -math.inf for name in order]
        if math.isnan(values[measure]) or (self.complete and math.isnan(self.loss)):  # below all numbers
            level = -1.0
        return (level, *numbers, *[-math.inf] * (3 - len(numbers)))

    def single(self, score: Score) -> Rank:
        """Sort key by the score alone."""
        value = {"bleu": self.bleu, "chrf": self.chrf, "loss": -self.loss}[score]
        return (-1.0,) if math.isnan(value) else (0.0, value)

    def as_dict(self) -> dict[str, Any]:
        """JSON data, with None (null) for nan."""
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(self).items()}

    def __str__(self) -> str:
        numbers = [("BLEU", self.bleu, 2), ("chrF", self.chrf, 2), ("loss", self.loss, 3)]
        return ", ".join(f"{name} {value:.{digits}f}" for name, value, digits in numbers if not math.isnan(value))


UNKNOWN = Quality()


@dataclass(frozen=True)
class Ranking:
    """The ranking of validations in a run.

    Attributes:
        score: the configured measure (``train.score``).
        fallback: whether other measures decide if the score is not reliable (``train.selection: validated``).
    """

    score: Score
    fallback: bool

    def of(self, quality: Quality) -> Rank:
        return quality.rank(self.score) if self.fallback else quality.single(self.score)

    def of_state(self, state: Mapping[str, Any]) -> Rank | None:
        """The rank of a checkpoint by its ``state.json``; None if it was not validated."""
        quality = Quality.of(state, self.score)
        return None if quality is None else self.of(quality)

    def better(self, quality: Quality, best: Quality | None) -> bool:
        """Whether ``quality`` is better than ``best``; nan never is."""
        rank = self.of(quality)
        return rank[0] >= 0 and (best is None or rank > self.of(best))

    def measure(self, quality: Quality) -> Score:
        """The measure that ranks ``quality``."""
        return quality.measure(self.score) if self.fallback else self.score


def varied(hypotheses: list[str], references: list[str]) -> bool:
    """Whether the hypotheses vary about as much as the references.

    Few distinct references, such as yes and no, need only few distinct hypotheses.
    """
    few = len(set(hypotheses)) <= max(1, FEW_DISTINCT * len(set(references)))
    return not few or _most_frequent(hypotheses) <= 2 * _most_frequent(references)


def _most_frequent(lines: list[str]) -> float:
    """The share of the most frequent line."""
    counts = Counter(lines)
    return max(counts.values()) / len(lines)
