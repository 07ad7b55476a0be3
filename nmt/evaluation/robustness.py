"""Robustness: variants of the sources of a set, and what each costs in score.

Every draw depends on :data:`SEED`, the variant and the number of the line alone, so that a set always has the same
variants. Typing errors and noise of characters follow Belinkov & Bisk 2018.
"""

from __future__ import annotations

import math
import random
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from nmt.config.evaluation import Metric
from nmt.data.tagged import like
from nmt.evaluation.scores import METRICS, TITLES, Scores
from nmt.evaluation.sets import TestSet
from nmt.text.case import has_dotless_i, title, upper

SEED = 1
TYPOS = 0.03  # share of letters with a typing error
NOISE = 0.05  # share of characters that noise replaces
ADDED: tuple[Metric, ...] = ("bleu-uncased",)  # a model may rightly answer capitals in capitals
_Change = Callable[[str, random.Random, Sequence[str], bool], str]


def variants(one: TestSet, language: str = "") -> dict[str, TestSet]:
    """The variants of a set by name, with the same references; the set is named ``NAME@VARIANT``.

    Args:
        language: code of the sources.
    """
    dotless = has_dotless_i(language)
    characters = sorted({c for line in one.sources for c in line if not c.isspace()})
    found = {}
    for name, change in VARIANTS.items():
        draws = (random.Random(f"{SEED} {name} {number}") for number in range(len(one.sources)))
        lines = [
            like(line, change(line, draw, characters, dotless)) for line, draw in zip(one.sources, draws, strict=True)
        ]
        found[name] = replace(one, name=f"{one.name}@{name}", sources=lines)
    return found


def losses(original: Scores, variant: Scores) -> dict[str, float]:
    """How much worse the variant is by each metric both have; negative where it is better."""
    signs = {metric: -1 if metric == "ter" else 1 for metric in METRICS}
    both = [metric for metric in METRICS if metric in original.signatures and metric in variant.signatures]
    return {metric: signs[metric] * (original.value(metric) - variant.value(metric)) for metric in both}


def loss_table(original: Scores, found: Mapping[str, Scores], changed: Mapping[str, int]) -> str:
    """An aligned table: the score of each variant, and in parentheses its loss.

    Args:
        changed: number of lines that differ from the original, by variant.
    """
    metrics = [metric for metric in METRICS if metric in original.signatures]
    cells = [["variant", "lines changed", *(f"{TITLES[metric]} (loss)" for metric in metrics)]]
    cells.append(["original", "0", *(f"{original.value(metric):.2f} {'':8}" for metric in metrics)])
    for name, scores in found.items():
        lost = losses(original, scores)
        told = {metric: f"({round(lost.get(metric, math.nan), 2) + 0.0:.2f})" for metric in metrics}  # no "-0.00"
        values = [f"{scores.value(metric):.2f} {told[metric]:>8}" for metric in metrics]
        cells.append([name, f"{changed[name]:,}", *values])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in cells
    )


def _title(line: str, _: random.Random, __: Sequence[str], dotless: bool) -> str:
    """Upper case at the start of each word; ``str.title`` would change "don't" to "Don'T"."""
    starts = [i == 0 or line[i - 1].isspace() for i in range(len(line))]
    return "".join(title(c, dotless) if start else c for c, start in zip(line, starts, strict=True))


def _without_punctuation(line: str, _: random.Random, __: Sequence[str], ___: bool) -> str:
    """Without punctuation, but for what stands within a word or number ("don't", "3.5")."""
    kept = [
        c
        for i, c in enumerate(line)
        if not unicodedata.category(c).startswith("P") or (line[:i][-1:].isalnum() and line[i + 1 : i + 2].isalnum())
    ]
    return " ".join("".join(kept).split())


def _typos(line: str, draw: random.Random, _: Sequence[str], __: bool) -> str:
    """Letters left out, doubled, or exchanged with the next one of the same word."""
    found, i = [], 0
    while i < len(line):
        c, after = line[i], line[i + 1 : i + 2]
        i += 1
        if not c.isalpha() or draw.random() >= TYPOS:
            found.append(c)
            continue
        kind = draw.choice(("omit", "double", "exchange"))
        if kind == "exchange" and after.isalpha():
            found.append(after + c)
            i += 1
        elif kind != "omit":
            found.append(c + c)
    return "".join(found)


def _noise(line: str, draw: random.Random, characters: Sequence[str], _: bool) -> str:
    """Characters replaced by any character of the sources."""
    return "".join(draw.choice(characters) if not c.isspace() and draw.random() < NOISE else c for c in line)


VARIANTS: dict[str, _Change] = {
    "upper": lambda line, _, __, dotless: upper(line, dotless),
    "title": _title,
    "no-punctuation": _without_punctuation,
    "typo": _typos,
    "noise": _noise,
}
