"""Which weights are better: the ranking behind best checkpoints, patience and the plateau schedule.

BLEU is the geometric mean of four precisions. The one of 4-grams rests on few matches while a model is weak or its
sentences are short, and with none of them BLEU is 0 or a matter of smoothing (Post 2018; Chen and Cherry 2014). So each
validation is ranked by the first measure that can tell: the score asked for, chrF, the loss.
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

# The precision of n matches has a relative error of about 1 / sqrt(n), and BLEU a quarter of it: 8 % for 10.
ENOUGH_MATCHES = 10
# Unrelated sentences of one language have a chrF of 10 to 20: below, it says nothing.
ENOUGH_CHRF = 10.0
# Where so small a share of the hypotheses differ, compared with the references, the source plays no part in them.
FEW_DISTINCT = 0.05


@dataclass(frozen=True)
class Quality:
    """What a validation found, as far as it ranks weights.

    Attributes:
        loss: nats per target token.
        bleu, chrf: in percent.
        matches: 4-grams of the hypotheses that are in their references; None where that was not recorded.
        varied: whether the hypotheses differ with the sources, see :func:`varied`.
        ended: whether most hypotheses end before the limit of length. A model that repeats a word up to the limit has
            a chrF of 20 and more against references that hold the word.
    """

    loss: float = math.nan
    bleu: float = math.nan
    chrf: float = math.nan
    matches: int | None = None
    varied: bool = True
    ended: bool = True

    @classmethod
    def of(cls, state: Mapping[str, Any], score: Score) -> Quality | None:
        """From what ``state.json`` holds; None where the checkpoint was not validated.

        Checkpoints of earlier versions hold the score alone, as a number of which higher is better.
        """
        if (quality := state.get("quality")) is not None:
            known = {field.name for field in fields(cls)}
            return cls(**{key: value for key, value in quality.items() if key in known and value is not None})
        if (number := state.get("score")) is None:
            return None
        return cls(loss=-number) if score == "loss" else cls(bleu=number)

    @property
    def complete(self) -> bool:
        """Whether it was recorded whole."""
        return self.matches is not None

    def measure(self, score: Score) -> Score:
        """The measure that ranks it: ``score``, or the first one that can tell."""
        if score == "loss" or not (self.varied and self.ended):
            return "loss"
        matched = self.matches >= ENOUGH_MATCHES if self.matches is not None else self.bleu > 0
        if score == "bleu" and matched:
            return "bleu"
        return "chrf" if self.chrf >= ENOUGH_CHRF else "loss"

    def rank(self, score: Score) -> Rank:
        """Sorts weights, the best highest. What BLEU can rank stands above what it cannot; nan (-1) stands last."""
        measure = self.measure(score)
        level = 0.0 if score == "loss" else float(("loss", "chrf", "bleu").index(measure))
        values = {"bleu": self.bleu, "chrf": self.chrf, "loss": -self.loss}
        order = list(values)[list(values).index(measure) :]
        numbers = [value if not math.isnan(value := values[name]) else -math.inf for name in order]
        if math.isnan(values[measure]) or (self.complete and math.isnan(self.loss)):  # below all that are numbers
            level = -1.0
        return (level, *numbers, *[-math.inf] * (3 - len(numbers)))

    def single(self, score: Score) -> Rank:
        """Sorts weights by the score alone."""
        value = {"bleu": self.bleu, "chrf": self.chrf, "loss": -self.loss}[score]
        return (-1.0,) if math.isnan(value) else (0.0, value)

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON, which has no nan: null stands for it."""
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(self).items()}

    def __str__(self) -> str:
        numbers = [("BLEU", self.bleu, 2), ("chrF", self.chrf, 2), ("loss", self.loss, 3)]
        return ", ".join(f"{name} {value:.{digits}f}" for name, value, digits in numbers if not math.isnan(value))


UNKNOWN = Quality()


@dataclass(frozen=True)
class Ranking:
    """How a run ranks what it has validated.

    Attributes:
        score: the measure asked for (``train.score``).
        fallback: whether other measures decide where it cannot tell (``train.selection: validated``).
    """

    score: Score
    fallback: bool

    def of(self, quality: Quality) -> Rank:
        return quality.rank(self.score) if self.fallback else quality.single(self.score)

    def of_state(self, state: Mapping[str, Any]) -> Rank | None:
        """The rank of a checkpoint by its ``state.json``; None where it was not validated."""
        quality = Quality.of(state, self.score)
        return None if quality is None else self.of(quality)

    def better(self, quality: Quality, best: Quality | None) -> bool:
        """Whether it is the new best. What is no number never is."""
        rank = self.of(quality)
        return rank[0] >= 0 and (best is None or rank > self.of(best))

    def measure(self, quality: Quality) -> Score:
        """The measure that ranks it."""
        return quality.measure(self.score) if self.fallback else self.score


def varied(hypotheses: list[str], references: list[str]) -> bool:
    """Whether hypotheses differ from each other about as references do.

    Few different references, as in sentences that are answered by yes or no, ask for few different hypotheses.
    """
    few = len(set(hypotheses)) <= max(1, FEW_DISTINCT * len(set(references)))
    return not few or _largest(hypotheses) <= 2 * _largest(references)


def _largest(lines: list[str]) -> float:
    """The share of the most frequent line."""
    counts = Counter(lines)
    return max(counts.values()) / len(lines)
