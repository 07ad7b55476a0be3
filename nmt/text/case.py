"""Upper and lower case by the rules of a language (SpecialCasing.txt of the Unicode standard).

Turkish and Azeri have two letters i: dotted (İ, i) and dotless (I, ı).
"""

from __future__ import annotations

import re

_DOTTED = {"tr", "tur", "az", "aze", "azj"}


def has_dotless_i(language: str) -> bool:
    """Whether the capital of i is İ in a language, by its code."""
    return re.split("[-_.@]", language.strip().lower())[0] in _DOTTED


def upper(text: str, dotless: bool = False) -> str:
    """The text in upper case.

    Args:
        dotless: whether the language has a dotless i, see :func:`has_dotless_i`.
    """
    return (text.replace("i", "İ") if dotless else text).upper()


def lower(text: str, dotless: bool = False) -> str:
    """The text in lower case, as :func:`upper`."""
    if dotless:  # İ may be two characters: I and a dot above
        text = text.replace("I\u0307", "i").replace("İ", "i").replace("I", "ı")
    return text.lower()


def title(char: str, dotless: bool = False) -> str:
    """One character in title case, as :func:`upper`."""
    return "İ" if dotless and char == "i" else char.title()
