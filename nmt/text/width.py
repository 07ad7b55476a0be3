"""Text for a terminal: columns that it takes, cut and wrapped to so many."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator


def columns(text: str) -> int:
    """The columns that a line of text takes: two for a wide character (Unicode Annex 11), none for a mark above it."""
    return len(text) if text.isascii() else sum(map(_columns, text))


def _columns(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in ("W", "F") else 1


def cut(text: str, width: int) -> str:
    """The beginning of a text that fits into ``width`` columns, on one line and without control characters."""
    shown = "".join(char if char.isprintable() or unicodedata.category(char) == "Cf" else " " for char in text)
    shown = " ".join(shown.split())
    return shown if columns(shown) <= width else f"{_fitting(shown, width - 1)}…"


def wrap(text: str, width: int) -> list[str]:
    """The lines of a text, broken at spaces, and within a word that is longer than a line."""
    lines = [""]
    for word in _pieces(text, width):
        if lines[-1] and columns(lines[-1]) + 1 + columns(word) <= width:
            lines[-1] += f" {word}"
        elif lines[-1]:
            lines.append(word)
        else:
            lines[-1] = word
    return lines


def _pieces(text: str, width: int) -> Iterator[str]:
    for word in text.split():
        while columns(word) > width:
            piece = _fitting(word, width) or word[0]
            yield piece
            word = word[len(piece) :]
        if word:
            yield word


def _fitting(text: str, width: int) -> str:
    """The longest beginning that fits."""
    taken = 0
    for place, char in enumerate(text):
        taken += _columns(char)
        if taken > width:
            return text[:place]
    return text
