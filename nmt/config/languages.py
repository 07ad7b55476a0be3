"""Languages: codes that are equal, likely scripts and regions of a code, and names.

The table ``languages.tsv`` has the languages of ISO 639-1 and others of Unicode CLDR.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Tag:
    """The subtags of a language code (BCP 47): ``zh-Hant-TW``, ``zho_Hant``; empty where the code has none."""

    language: str
    script: str = ""
    region: str = ""


@dataclass(frozen=True)
class _Language:
    """A row of the table.

    Attributes:
        codes: equal codes; the first one stands for all of them in a :class:`Tag`.
        scripts: regions of each script; the first region of the first script is the likely one.
    """

    codes: tuple[str, ...]
    scripts: dict[str, tuple[str, ...]]
    names: tuple[str, ...]


@cache
def _table() -> dict[str, _Language]:
    """The languages by each of their codes."""
    found: dict[str, _Language] = {}
    for line in Path(__file__).with_name("languages.tsv").read_text("utf-8").splitlines():
        if not line.startswith("#"):
            code, others, scripts, names = line.split("\t")
            regions = {
                script: tuple(where.split(",")) for script, _, where in (s.partition(":") for s in scripts.split())
            }
            language = _Language((code, *others.split()), regions, tuple(names.split("; ")))
            found |= dict.fromkeys(language.codes, language)
    return found


def codes_of(code: str) -> tuple[str, ...]:
    """The codes that are equal to the language of a code, with it: ``de``, ``deu`` and ``ger``."""
    language = _subtags(code).language
    return _table()[language].codes if language in _table() else (language,)


def names_of(code: str) -> tuple[str, ...]:
    """Names of the language of a code, in lower case: in English, in the language, and in others."""
    language = _table().get(_subtags(code).language)
    return language.names if language else ()


@cache
def code_named() -> dict[str, str]:
    """The code of each name of a language, in lower case."""
    return {name: language.codes[0] for language in reversed(_table().values()) for name in language.names}


def _subtags(code: str) -> Tag:
    language, *rest = re.split("[-_.@]", code.strip().lower())
    known = _table().get(language)
    script = next((part.title() for part in rest if re.fullmatch("[a-z]{4}", part)), "")
    region = next((part.upper() for part in rest if re.fullmatch("[a-z]{2}|[0-9]{3}", part)), "")
    return Tag(known.codes[0] if known else language, script, region)


def likely(code: str) -> Tag:
    """A code with its most likely script and region (UTS 35): ``zh-TW`` is ``zh-Hant-TW``, ``zh`` is ``zh-Hans-CN``."""
    tag = _subtags(code)
    known = _table().get(tag.language)
    if known is None or not known.scripts:
        return tag
    default = next(iter(known.scripts))
    by_region = next((script for script, regions in known.scripts.items() if tag.region in regions), default)
    script = tag.script or by_region
    regions = known.scripts.get(script, ("",))
    return Tag(tag.language, script, tag.region or regions[0])


def are_equal(one: str, other: str) -> bool:
    """Whether two codes mean the same: ``bo`` and ``bod``, ``zho_Hans_CN`` and ``zh-CN``."""
    return likely(one) == likely(other) and _subtags(one).region == _subtags(other).region


def includes(wanted: str, code: str) -> bool:
    """Whether text with a code is in the wanted language: ``en-US`` for ``en``, ``zh-CN`` for ``zh-Hans``."""
    asked, found = _subtags(wanted), likely(code)
    return asked.language == found.language and (
        asked == Tag(asked.language) or (likely(wanted).script == found.script and asked.region in ("", found.region))
    )
