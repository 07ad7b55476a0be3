"""Recognise names of columns: headings that stand where a sentence pair is expected."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Names of columns of parallel text: whole cells (TITLES), and the words of longer names (_WORD).
_LANGUAGES = (
    "english|german|french|spanish|italian|portuguese|dutch|polish|czech|russian|ukrainian|turkish|arabic|hebrew|"
    "persian|hindi|chinese|japanese|korean|vietnamese|thai|indonesian|swedish|danish|norwegian|finnish|hungarian|"
    "romanian|bulgarian|greek|serbian|croatian|slovak|slovenian|lithuanian|latvian|estonian"
)
_NATIVE = (
    "deutsch|français|español|italiano|português|nederlands|polski|čeština|русский|українська|türkçe|العربية|עברית|"
    "فارسی|हिन्दी|中文|日本語|한국어|ไทย|svenska|dansk|norsk|suomi|magyar|română|български|ελληνικά"
)
TITLES = {
    *["source", "src", "target", "tgt", "trg", "input", "output", "original", "translation", "reference"],
    *_LANGUAGES.split("|"),
    *_NATIVE.split("|"),
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
