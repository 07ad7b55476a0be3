"""Inline casing: ``Der HUND`` is read as ``⇧ der ⇪ hund`` (``tokenizer.case: inline``).

A word has the same subwords in every case, so that capitals cost no vocabulary (Berard et al. 2019; the best of the
methods that Etchegoyhen and Gete 2020 compare). Only words whose case one symbol restores are marked; ``McDonald``
stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial

from nmt.text.case import lower, title, upper

TITLE, UPPER = "⇧", "⇪"

_WORD = re.compile(r"\S+")
_SPACES = re.compile(r"(\s+)")
# A word with the markers before it, in marked text
MARKED_WORD = re.compile(rf"(?:[{TITLE}{UPPER}]\s+)*(?![{TITLE}{UPPER}](?:\s|$))\S+")


Kept = re.Pattern[str]


def kept(symbols: Iterable[str]) -> Kept | None:
    """The symbols of a vocabulary that :func:`mark` must not change; None where it changes none of them."""
    found = sorted((symbol for symbol in symbols if mark(symbol) != symbol), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, found))) if found else None


def mark(text: str, symbols: Kept | None = None, dotless: bool = False) -> str:
    """The text in lower case, with a marker before each word whose case it restores.

    The first character of a word that begins with a marker is doubled, so that :func:`unmark` restores every text.

    Args:
        symbols: words that contain one of them keep their case.
        dotless: whether the language has a dotless i, see :mod:`nmt.text.case`.
    """
    if text.islower() and not _has_markers(text):
        return text
    return _WORD.sub(partial(_marked, symbols, dotless), text)


def _marked(symbols: Kept | None, dotless: bool, found: re.Match[str]) -> str:
    word = found[0]
    if word[0] in (TITLE, UPPER):
        word = word[0] + word
    small = lower(word, dotless)
    if small == word or (symbols is not None and symbols.search(word)):
        return word
    if _title(small, dotless) == word:  # first, so that a single letter has one form
        return f"{TITLE} {small}"
    return f"{UPPER} {small}" if upper(small, dotless) == word else word


def unmark(text: str, dotless: bool = False) -> str:
    """The text that :func:`mark` made ``text`` of. A model may write other text: the last marker of a word counts."""
    if not _has_markers(text):
        return text
    parts, marker, plain = _SPACES.split(text), "", []
    for word, space in zip(parts[::2], [*parts[1::2], ""], strict=True):
        while word[:1] in (TITLE, UPPER) and word[1:2] != word[0]:
            marker, word = word[0], word[1:]
        if marker and not word:
            continue
        word = word[1:] if word[:1] in (TITLE, UPPER) else word  # it was doubled
        if marker:
            word = _title(word, dotless) if marker == TITLE else upper(word, dotless)
        plain.append(word + space)
        marker = ""
    return "".join(plain)


def _has_markers(text: str) -> bool:
    return TITLE in text or UPPER in text


def _title(word: str, dotless: bool) -> str:
    """The word with the first of its letters that have a case in title case."""
    for place, char in enumerate(word):
        if char.islower() or char.isupper() or char.istitle():
            return f"{word[:place]}{title(char, dotless)}{word[place + 1 :]}"
    return word
