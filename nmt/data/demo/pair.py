"""The same thing in both languages, and how a table of such pairs is read."""

from __future__ import annotations

from typing import NamedTuple


class Pair(NamedTuple):
    """The same thing in both languages: a sentence, or any part of one."""

    src: str
    tgt: str


def words(*parts: str) -> str:
    """Join the parts that are not empty."""
    return " ".join(part for part in parts if part)


def bilingual(table: str) -> list[Pair]:
    """Read "Berlin Rome/Rom"; an underscore is a space inside an entry."""
    entries = (entry.replace("_", " ").partition("/") for entry in table.split())
    return [Pair(en, de or en) for en, _, de in entries]
