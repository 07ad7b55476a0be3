"""The script in which a sentence is written."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache

MOST = 0.8  # share of the sentences of a side that are in its script
_CJK = {"CJK", "HIRAGANA", "KATAKANA"}


@cache
def _of_letter(char: str) -> str:
    if not char.isalpha():
        return ""
    name = unicodedata.name(char, "").split(" ")[0].split("-")[0]
    return "CJK" if name in _CJK else name


def script(text: str) -> str:
    """The script of most letters, such as ``LATIN``; empty without letters."""
    counts = Counter(map(_of_letter, text[:200]))
    del counts[""]
    return counts.most_common(1)[0][0] if counts else ""


def usual(texts: Sequence[str]) -> str:
    """The script of nearly all texts; empty where there is none."""
    counts = Counter(filter(None, map(script, texts)))
    name, count = counts.most_common(1)[0] if counts else ("", 0)
    return name if count >= MOST * counts.total() else ""
