"""Upper and title case in the text that a tokenizer is trained on, as often as modifiers produce them in training.

Without such lines the vocabulary has no pieces of capitals, and an upper-cased word becomes single letters.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nmt.config.data import DataConfig
from nmt.data.corpus import Corpus
from nmt.data.mixture import chosen, stages_of
from nmt.data.modifiers import title_case, upper_case
from nmt.text.case import has_dotless_i

_FORMS = {"UpperCase": upper_case, "TitleCase": title_case}


class Chances(NamedTuple):
    """How likely the lines of some training pairs are changed.

    Attributes:
        end: the row after their last one.
        upper, title: the probability of each form.
    """

    end: int
    upper: float
    title: float


class Casing:
    """Changes lines of the training text. Which ones depends on their rows alone.

    Args:
        chances: of all rows, in order.
        dotless: whether the language of each side has a dotless i, see :mod:`nmt.text.case`.
    """

    def __init__(self, chances: Sequence[Chances], dotless: tuple[bool, bool] = (False, False)):
        self.chances, self.dotless = chances, dotless

    @classmethod
    def of(cls, data: DataConfig, corpus: Corpus) -> Casing | None:
        """That of the modifiers UpperCase and TitleCase of each dataset; None where there are none.

        With stages, the largest probability of any stage that reads the dataset counts.
        """
        if not data.datasets:
            return None
        sizes = list(corpus.datasets("train").values()) or [len(corpus.part("train"))]
        stages, found = stages_of(data, sizes), []
        for number, end in enumerate(accumulate(sizes)):
            read = [one for stage in stages if stage.shares[number] for one in stage.modifiers[number]]
            largest = (max((one.probability for one in read if one.name == name), default=0.0) for name in _FORMS)
            found.append(Chances(end, *largest))
        dotless = has_dotless_i(data.src_lang), has_dotless_i(data.tgt_lang)
        return cls(found, dotless) if any(one.upper or one.title for one in found) else None

    @property
    def settings(self) -> list[Any]:
        """What the changes depend on, for the key of a tokenizer."""
        return ["casing", *map(list, self.chances), *(["dotless i", *self.dotless] if any(self.dotless) else [])]

    def __call__(self, rows: npt.NDArray[np.int64], lines: list[str], side: int) -> list[str]:
        """The lines, some of them in upper or title case.

        Args:
            rows: of the training part [N].
            lines: [N] of one side.
            side: 0 for sources, 1 for targets.
        """
        of_row = np.searchsorted([one.end for one in self.chances], rows, side="right")
        for number, change in enumerate(_FORMS.values(), 1):
            probabilities = np.array([one[number] for one in self.chances])[of_row]
            for place in np.flatnonzero(chosen(rows, 0, 0, number, probabilities)).tolist():
                lines[place] = change(lines[place], dotless=self.dotless[side])
        return lines
