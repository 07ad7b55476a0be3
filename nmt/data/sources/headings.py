"""Recognise names of columns: headings that stand where a sentence pair is expected."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

# Names of languages, in English, in the language, and in German, French and Spanish, by codes of two and three letters.
_NAMES = {
    "en eng": "english englisch anglais inglés", "de deu ger": "german deutsch allemand alemán",
    "fr fra fre": "french français französisch francés", "es spa": "spanish español spanisch espagnol",
    "it ita": "italian italiano italienisch", "pt por": "portuguese português portugiesisch portugais portugués",
    "nl nld dut": "dutch nederlands niederländisch néerlandais", "pl pol": "polish polski polnisch polonais polaco",
    "cs ces cze": "czech čeština tschechisch tchèque checo", "ru rus": "russian русский russisch russe ruso",
    "uk ukr": "ukrainian українська ukrainisch ukrainien ucraniano", "tr tur": "turkish türkçe türkisch turc turco",
    "ar ara arb": "arabic العربية arabisch arabe árabe", "he heb": "hebrew עברית hebräisch hébreu hebreo",
    "fa fas per pes": "persian فارسی persisch persan persa", "hi hin": "hindi हिन्दी",
    "zh zho chi cmn": "chinese 中文 chinesisch chinois chino", "ja jpn": "japanese 日本語 japanisch japonais japonés",
    "ko kor": "korean 한국어 koreanisch coréen coreano", "vi vie": "vietnamese", "th tha": "thai ไทย",
    "id ind": "indonesian", "sv swe": "swedish svenska schwedisch suédois sueco",
    "da dan": "danish dansk dänisch danois danés", "no nor nob nb": "norwegian norsk norwegisch",
    "fi fin": "finnish suomi finnisch", "hu hun": "hungarian magyar ungarisch",
    "ro ron rum": "romanian română rumänisch", "bg bul": "bulgarian български bulgarisch",
    "el ell gre": "greek ελληνικά griechisch grec griego", "sr srp": "serbian serbisch", "hr hrv": "croatian kroatisch",
    "sk slk slo": "slovak slowakisch", "sl slv": "slovenian slowenisch", "lt lit": "lithuanian",
    "lv lav lvs": "latvian", "et est ekk": "estonian",
}  # fmt: skip
_ONE_LANGUAGE = {name for names in _NAMES.values() for name in names.split()}
_LANGUAGES = "|".join(_ONE_LANGUAGE)
_EQUAL = {code: codes.split() for codes in _NAMES for code in codes.split()}
_SEPARATORS = re.compile(r"(?:(?![\u0900-\u0903\u093a-\u094f])[\W\d_])+")  # not the vowel signs of Devanagari
# Names of columns of parallel text: whole cells (TITLES), and the words of longer names (_WORD).
_SIDES = (
    {"source", "src", "input", "original", "quelle", "quelltext", "ausgangstext", "origen", "fuente"},
    {
        *["target", "tgt", "trg", "output", "translation", "translated", "reference", "ref"],
        *["ziel", "zieltext", "übersetzung", "cible", "traduction", "traducción", "destino"],
    },
)
TITLES = {
    *["source", "src", "target", "tgt", "trg", "input", "output", "original", "translation", "reference"],
    *_ONE_LANGUAGE,
}
_VARIANTS = {"simplified", "traditional", "us", "uk", "american", "british", "brazil", "brazilian", "european"}
_WORD = re.compile(
    "source|src|target|tgt|trg|text|sentences?|segment|string|original|translat(ion|ed)|reference|ref|input|output|lang|"
    f"language|satz|sätze|phrase|frase|{'|'.join(sorted(_SIDES[0] | _SIDES[1]))}|{_LANGUAGES}"
)


def are_names(cells: Sequence[str], languages: tuple[str, str]) -> bool:
    """Whether the cells are names of different columns as a whole: ``source``, ``en``, ``src_text``."""
    codes = {code for language in languages for code in _codes(language)}
    names = list(map(_plain, cells))
    return len(set(names)) > 1 and all(
        name in codes
        or name in TITLES
        or ("_" in name and all(word in codes or _WORD.fullmatch(word) for word in name.split("_")))
        for name in names
    )


def like_names(cells: Sequence[str], languages: tuple[str, str]) -> bool:
    """Whether the cells may be names of columns: of both languages, or different ones of words as ``Sentence 2``."""
    codes = {part for language in languages for part in re.split(r"[\W_]+", language.lower())}
    words = [[word for word in _SEPARATORS.split(_plain(cell)) if word] for cell in cells]
    return (
        are_names(cells, languages)
        or None not in columns(cells, languages)
        or (
            len(set(map(_plain, cells))) > 1
            and all(parts and all(word in codes or _WORD.fullmatch(word) for word in parts) for parts in words)
        )
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


def _plain(name: str) -> str:
    """A name in lower case, composed: files from a Mac have the letters and accents of ``Español`` apart."""
    return unicodedata.normalize("NFC", name).strip().lower()


def _by_code(name: str, languages: tuple[str, str]) -> set[int]:
    equal = {side for side, language in enumerate(languages) if _plain(name) == language.lower()}
    return equal or {side for side, language in enumerate(languages) if _plain(name) in _codes(language)}


def _codes(language: str) -> list[str]:
    """The codes that are equal to one: ``deu`` and ``ger`` to ``de``."""
    return _EQUAL.get(language.lower(), [language.lower()])


def _by_region(name: str, languages: tuple[str, str]) -> set[int]:
    """The sides whose code begins with the name, or the name with the code, as ``en-US`` does with ``en``."""
    code = _plain(name).replace("_", "-")
    codes = [language.lower().replace("_", "-") for language in languages]
    if not re.fullmatch(r"[a-z]{2,3}(-[a-z0-9]{2,8})*", code):
        return set()
    return {side for side, own in enumerate(codes) if code.startswith(f"{own}-") or own.startswith(f"{code}-")}


def _by_language(name: str, languages: tuple[str, str]) -> set[int]:
    words = _words(name, languages)
    codes = [re.split("[-_]", language.lower())[0] for language in languages]
    known = [
        {language.lower(), *_NAMES.get(" ".join(_codes(code)), "").split()}
        for language, code in zip(languages, codes, strict=True)
    ]
    return {side for side, own in enumerate(known) if own & set(words)}


def _by_word(name: str, languages: tuple[str, str]) -> set[int]:
    words = _words(name, languages)
    return {side for side, own in enumerate(_SIDES) if own & set(words)}


def _words(name: str, languages: tuple[str, str]) -> list[str]:
    """The words of a name, if all are from names of columns; otherwise none, as for ``Source URL``."""
    codes = {language.lower() for language in languages}
    words = [word for word in _SEPARATORS.split(_plain(name)) if word]
    known = codes | TITLES | _VARIANTS
    return words if all(word in known or _WORD.fullmatch(word) for word in words) else []
