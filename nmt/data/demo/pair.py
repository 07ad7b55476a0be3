"""The same thing in both languages, how a table of such pairs is read, and which words mean the same."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

Tags = tuple[str, ...]  # what a word stands for; words of the two languages that share a tag are aligned
VERB, FINITE, NOT = "^verb", "^finite", "^not"  # of the clause that is being rendered, see closed


class Text(str):
    """A text that knows what each of its words stands for; equal to the plain text.

    Attributes:
        tags: of each word (``split()``).
    """

    __slots__ = ("tags",)
    tags: tuple[Tags, ...]

    @classmethod
    def of(cls, text: str, tags: Sequence[Tags]) -> Text:
        """The text with tags for each word."""
        made = cls(text)
        made.tags = tuple(tags)
        return made


class Pair(NamedTuple):
    """The same thing in both languages: a sentence, or any part of one."""

    src: str
    tgt: str


def tags_of(text: str) -> tuple[Tags, ...]:
    """The tags of each word; none where nobody gave any."""
    return text.tags if type(text) is Text else ((),) * len(text.split())


@lru_cache(1 << 14)
def tagged(text: str, *tags: str) -> Text:
    """The text, all of whose words have these tags."""
    return Text.of(text, [tags] * len(text.split()))


def numbered(text: str, number: int | str) -> Text:
    """The text as part ``number`` of a larger one: its tags differ from those of the other parts."""
    return Text.of(text, _numbered(tags_of(text), number))


def closed(text: str) -> Text:
    """The text of a whole clause: its tags for the verb no longer mean that of the clause around it."""
    return Text.of(text, _closed(tags_of(text)))


def rewritten(text: str, changed: str) -> Text:
    """``changed`` with the tags of ``text``, which has as many words."""
    return Text.of(changed, tags_of(text))


def words(*parts: str) -> Text:
    """Join the parts that are not empty."""
    tags: list[Tags] = []
    for part in parts:
        tags += tags_of(part)
    return Text.of(" ".join([part for part in parts if part]), tags)


def compound(*parts: str) -> Text:
    """Join the parts to one word, which stands for what each of them does."""
    return Text.of("".join(parts), [tuple(tag for part in parts for tags in tags_of(part) for tag in tags)])


def word_by_word(en: str, de: str) -> Pair:
    """A set phrase: word by word where both have as many; else their last words, and all those before."""
    one, other = en.split(), de.split()
    if len(one) != len(other):
        if min(len(one), len(other)) < 2:
            return Pair(tagged(en, "0"), tagged(de, "0"))
        return Pair(*(words(tagged(" ".join(side[:-1]), "0"), tagged(side[-1], "1")) for side in (one, other)))
    return Pair(*(Text.of(side, [(str(n),) for n in range(len(one))]) for side in (en, de)))


def bilingual(table: str) -> list[Pair]:
    """Read "Berlin Rome/Rom"; an underscore is a space inside an entry."""
    entries = (entry.replace("_", " ").partition("/") for entry in table.split())
    return [word_by_word(en, de or en) for en, _, de in entries]


def links(pair: Pair) -> tuple[tuple[int, int], ...]:
    """The word alignment of a pair: the places of words in ``split()`` of both sides that stand for the same."""
    places: dict[str, list[int]] = {}
    for place, tags in enumerate(tags_of(pair.src)):
        for tag in tags:
            places.setdefault(tag, []).append(place)
    return tuple(
        sorted(
            {(src, tgt) for tgt, tags in enumerate(tags_of(pair.tgt)) for tag in tags for src in places.get(tag, ())}
        )
    )


@lru_cache(1 << 14)
def _numbered(tags: tuple[Tags, ...], number: int | str) -> tuple[Tags, ...]:
    return tuple(tuple(tag if tag[0] == "^" else f"{number}.{tag}" for tag in each) for each in tags)


@lru_cache(1 << 14)
def _closed(tags: tuple[Tags, ...]) -> tuple[Tags, ...]:
    return tuple(tuple(tag.removeprefix("^") for tag in each) for each in tags)
