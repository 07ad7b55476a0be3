"""Recognise names of columns: headings that stand where a sentence pair is expected."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache

from nmt.config.languages import code_named, codes_of, includes, names_of

# Names of columns of parallel text: whole cells (TITLES), and the words of longer names (_WORD).
_SIDES = (
    {"source", "src", "input", "original", "quelle", "quelltext", "ausgangstext", "origen", "fuente"},
    {
        *["target", "tgt", "trg", "output", "translation", "translated", "reference", "ref"],
        *["ziel", "zieltext", "übersetzung", "cible", "traduction", "traducción", "destino"],
    },
)
TITLES = {"source", "src", "target", "tgt", "trg", "input", "output", "original", "translation", "reference"}
_VARIANTS = {"simplified", "traditional", "us", "uk", "american", "british", "brazil", "brazilian", "european"}
LONGEST = 4  # words of the name of a language
_WORD = re.compile(
    "source|src|target|tgt|trg|text|sentences?|segment|string|original|translat(ion|ed)|reference|ref|input|output|lang|"
    f"language|satz|sätze|phrase|frase|{'|'.join(sorted(_SIDES[0] | _SIDES[1]))}"
)


def are_names(cells: Sequence[str], languages: tuple[str, str]) -> bool:
    """Whether the cells are names of different columns as a whole: ``source``, ``en``, ``src_text``."""
    codes = {code for language in languages for code in codes_of(language)}
    names = list(map(_plain, cells))
    return len(set(names)) > 1 and all(
        name in codes
        or name in TITLES
        or " ".join(_words(name)) in _languages()
        or ("_" in name and all(word in codes or _WORD.fullmatch(word) for word in name.split("_")))
        for name in names
    )


def like_names(cells: Sequence[str], languages: tuple[str, str]) -> bool:
    """Whether the cells may be names of columns: of both languages, or different ones of words as ``Sentence 2``."""
    codes = {part for language in languages for part in re.split(r"[\W_]+", language.lower())}
    known = codes | _languages()
    return (
        are_names(cells, languages)
        or None not in columns(cells, languages)
        or (
            len(set(map(_plain, cells))) > 1
            and all(
                parts and all(_WORD.fullmatch(part) or part in known for part in parts) for parts in map(_parts, cells)
            )
        )
    )


def names_one_language(cells: Sequence[str], languages: tuple[str, str]) -> bool:
    """Whether one of two cells is the name of its language, and the other may be one: ``Mixteco | Español``."""
    named = [_by_language(cell, languages) == {side} for side, cell in enumerate(cells)]
    return any(named) and all(len(_words(cell)) in (1, 2, 3) for cell in cells) and len(set(map(_plain, cells))) > 1


def columns(names: Sequence[str], languages: tuple[str, str]) -> tuple[str | None, str | None]:
    """The names of the columns of the source and of the target; None for a side that no name, or several, can mean.

    A name means a side by its language (code; code with a region; name of the language, as ``German text``), or else by
    a word such as ``source`` and ``translation``.
    """
    # Sides that each name can mean, from the surest sign to the weakest
    signs = (_by_code, _by_region, _by_language, _by_word)
    found: list[str | None] = []
    for side in (0, 1):
        chosen = None
        for sign in signs:
            meant = [name for name in names if sign(name, languages) == {side}]
            if meant:
                chosen = meant[0] if len(set(meant)) == 1 else None
                break
        found.append(chosen)
    src, tgt = found
    return (None, None) if src == tgt else (src, tgt)


def _plain(name: str) -> str:
    """A name in lower case, composed: files from a Mac have the letters and accents of ``Español`` apart."""
    return unicodedata.normalize("NFC", name).strip().lower()


def _by_code(name: str, languages: tuple[str, str]) -> set[int]:
    equal = {side for side, language in enumerate(languages) if _plain(name) == language.lower()}
    return equal or {side for side, language in enumerate(languages) if _plain(name) in codes_of(language)}


def _by_region(name: str, languages: tuple[str, str]) -> set[int]:
    """The sides whose language includes that of the code, or the other way round, as ``en-US`` and ``en``."""
    code = _plain(name).replace("_", "-")
    if not re.fullmatch(r"[a-z]{2,3}(-[a-z0-9]{2,8})*", code):
        return set()
    return {side for side, own in enumerate(languages) if includes(own, code) or includes(code, own)}


def _by_language(name: str, languages: tuple[str, str]) -> set[int]:
    parts = _column_parts(name, languages)
    known = [{language.lower(), *map(_joined, names_of(language))} for language in languages]
    return {side for side, own in enumerate(known) if own & set(parts)}


def _by_word(name: str, languages: tuple[str, str]) -> set[int]:
    parts = _column_parts(name, languages)
    return {side for side, own in enumerate(_SIDES) if own & set(parts)}


def _column_parts(name: str, languages: tuple[str, str]) -> list[str]:
    """The parts of a name, if all are from names of columns; otherwise none, as for ``Source URL``."""
    parts = _parts(name)
    known = {language.lower() for language in languages} | TITLES | _VARIANTS | _languages()
    return parts if all(_WORD.fullmatch(part) or part in known for part in parts) else []


def _parts(name: str) -> list[str]:
    """The words of a name, those of the name of a language together: ``Haitian Creole text`` has two parts."""
    words, found = _words(name), list[str]()
    while words:
        most = min(len(words), LONGEST)
        length = next((n for n in range(most, 1, -1) if " ".join(words[:n]) in _languages()), 1)
        found.append(" ".join(words[:length]))
        words = words[length:]
    return found


def _words(name: str) -> list[str]:
    """The words of a name: sequences of letters with their combining marks."""
    return "".join(char if unicodedata.category(char)[0] in "LM" else " " for char in _plain(name)).split()


def _joined(name: str) -> str:
    return " ".join(_words(name))


@cache
def _languages() -> set[str]:
    """Names of all languages, as the parts of a name have them."""
    return set(map(_joined, code_named()))
