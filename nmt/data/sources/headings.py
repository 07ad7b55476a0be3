"""Recognise names of columns: headings that stand where a sentence pair is expected."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Names of languages by code, in English and in the language.
_NAMES = {
    "en": "english", "de": "german deutsch", "fr": "french français", "es": "spanish español",
    "it": "italian italiano", "pt": "portuguese português", "nl": "dutch nederlands", "pl": "polish polski",
    "cs": "czech čeština", "ru": "russian русский", "uk": "ukrainian українська", "tr": "turkish türkçe",
    "ar": "arabic العربية", "he": "hebrew עברית", "fa": "persian فارسی", "hi": "hindi हिन्दी", "zh": "chinese 中文",
    "ja": "japanese 日本語", "ko": "korean 한국어", "vi": "vietnamese", "th": "thai ไทย", "id": "indonesian",
    "sv": "swedish svenska", "da": "danish dansk", "no": "norwegian norsk", "fi": "finnish suomi",
    "hu": "hungarian magyar", "ro": "romanian română", "bg": "bulgarian български", "el": "greek ελληνικά",
    "sr": "serbian", "hr": "croatian", "sk": "slovak", "sl": "slovenian", "lt": "lithuanian", "lv": "latvian",
    "et": "estonian",
}  # fmt: skip
_LANGUAGES = "|".join(name for names in _NAMES.values() for name in names.split())
# Names of columns of parallel text: whole cells (TITLES), and the words of longer names (_WORD).
_SIDES = (
    {"source", "src", "input", "original"},
    {"target", "tgt", "trg", "output", "translation", "translated", "reference", "ref"},
)
TITLES = {
    *["source", "src", "target", "tgt", "trg", "input", "output", "original", "translation", "reference"],
    *_LANGUAGES.split("|"),
}
_WORD = re.compile(
    "source|src|target|tgt|trg|text|sentences?|segment|string|original|translat(ion|ed)|reference|ref|input|output|lang|"
    f"language|{_LANGUAGES}"
)


def are_names(cells: Sequence[str], languages: tuple[str, str]) -> bool:
    """Whether the cells are names of different columns as a whole: ``source``, ``en``, ``src_text``."""
    codes = {language.lower() for language in languages}
    names = [cell.strip().lower() for cell in cells]
    return len(set(names)) > 1 and all(
        name in codes
        or name in TITLES
        or ("_" in name and all(word in codes or _WORD.fullmatch(word) for word in name.split("_")))
        for name in names
    )


def like_names(cells: Sequence[str], languages: tuple[str, str]) -> bool:
    """Whether the cells differ and consist of words from names of columns: ``German text``, ``Sentence 2``."""
    codes = {part for language in languages for part in re.split(r"[\W_]+", language.lower())}
    words = [[word for word in re.split(r"[\W\d_]+", cell.strip().lower()) if word] for cell in cells]
    return are_names(cells, languages) or (
        len({cell.strip().lower() for cell in cells}) > 1
        and all(parts and all(word in codes or _WORD.fullmatch(word) for word in parts) for parts in words)
    )


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


def _by_code(name: str, languages: tuple[str, str]) -> set[int]:
    return {side for side, language in enumerate(languages) if name.strip().lower() == language.lower()}


def _by_region(name: str, languages: tuple[str, str]) -> set[int]:
    """The sides whose code begins with the name, or the name with the code, as ``en-US`` does with ``en``."""
    code = name.strip().lower().replace("_", "-")
    codes = [language.lower().replace("_", "-") for language in languages]
    if not re.fullmatch(r"[a-z]{2,3}(-[a-z0-9]{2,8})*", code):
        return set()
    return {side for side, own in enumerate(codes) if code.startswith(f"{own}-") or own.startswith(f"{code}-")}


def _by_language(name: str, languages: tuple[str, str]) -> set[int]:
    words = _words(name, languages)
    codes = [language.lower() for language in languages]
    known = [{code, *_NAMES.get(re.split("[-_]", code)[0], "").split()} for code in codes]
    return {side for side, own in enumerate(known) if own & set(words)}


def _by_word(name: str, languages: tuple[str, str]) -> set[int]:
    words = _words(name, languages)
    return {side for side, own in enumerate(_SIDES) if own & set(words)}


def _words(name: str, languages: tuple[str, str]) -> list[str]:
    """The words of a name, if all are from names of columns; otherwise none, as for ``Source URL``."""
    codes = {language.lower() for language in languages}
    words = [word for word in re.split(r"[\W\d_]+", name.strip().lower()) if word]
    return words if all(word in codes or word in TITLES or _WORD.fullmatch(word) for word in words) else []
