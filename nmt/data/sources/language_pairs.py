"""Names of files that belong together: ``train.en`` and ``train.de``, plain or compressed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePath

from nmt.data.formats import PACKED

_ROLES = {  # words of the names of files
    "train": {"train", "training"},
    "valid": {"valid", "val", "validation", "dev", "devel", "development", "tune"},
    "test": {"test", "testing", "eval", "devtest"},
}


def unpacked_name(name: str) -> str:
    """A name without the ending of a compression."""
    return name[: -len(PurePath(name).suffix)] if PurePath(name).suffix.lower() in PACKED else name


def language_of(name: str) -> tuple[str, str]:
    """What precedes the language in the name of a file, and the language: ``a.en``, ``a.en.txt``, ``a.en.gz``."""
    inner = unpacked_name(name)
    stem, _, language = (inner[: -len(".txt")] if inner.lower().endswith(".txt") else inner).rpartition(".")
    return stem, language.lower()


def language_pairs(names: Iterable[str], languages: tuple[str, str]) -> list[tuple[str, str]]:
    """The names that differ in their endings alone: in the language codes, or else in ``.src`` and ``.tgt``."""
    names = sorted(names)
    for src, tgt in (languages, ("src", "tgt")):
        sides: list[dict[str, str]] = [{}, {}]
        for side, language in zip(sides, (src, tgt), strict=True):
            for name in names:
                stem, found = language_of(name)
                if stem and found == language.lower():
                    side.setdefault(stem, name)
        if pairs := [(sides[0][stem], sides[1][stem]) for stem in sides[0] if stem in sides[1]]:
            return pairs
    return []


def without_partner(names: Iterable[str], languages: tuple[str, str]) -> tuple[str, str] | None:
    """The first name of one language of :func:`language_pairs` whose other language is missing, and that language."""
    names = sorted(names)
    for both in (languages, ("src", "tgt")):
        stems = {(stem, language) for stem, language in map(language_of, names) if stem}
        codes = [code.lower() for code in both]
        for name in names:
            stem, language = language_of(name)
            if stem and language in codes:
                other = codes[1 - codes.index(language)]
                if (stem, other) not in stems:
                    return name, other
        if any((stem, code) in stems for stem, _ in stems for code in codes):
            return None
    return None


def role_of(stem: str) -> str:
    """What a file is for, ``train``, ``valid`` or ``test``, by a word of its name; empty if none says."""
    words = set(re.split(r"[\W\d_]+", PurePath(stem).name.lower()))
    roles = [role for role, names in _ROLES.items() if names & words]
    return roles[0] if len(roles) == 1 else ""
