"""One line of the report of ``nmt check``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nmt.numbers import plain
from nmt.text.width import cut

Level = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """What a rule says.

    Attributes:
        rule: a short name, the first word of the line.
        text: one sentence with counts and shares.
        advice: what to do; empty if nothing is to be done.
        examples: lines of the data, with their numbers.
    """

    level: Level
    rule: str
    text: str
    advice: str = ""
    examples: tuple[str, ...] = ()


def share(count: int, total: int) -> str:
    """A count with its share: ``1,200 (12%)``."""
    part = 100 * count / total if total else 0.0
    return f"{count:,} ({part:.0f}%)" if part >= 10 or not count else f"{count:,} ({plain(part, 2)}%)"


def pair(number: int, src: str, tgt: str, most: int = 60) -> str:
    """An example: the number of a pair, counted from 1, and the beginnings of its sides, of ``most`` columns each."""
    src, tgt = (cut(text[: 10 * most], most) for text in (src, tgt))
    return f"{number:,}: {src} ||| {tgt}"
