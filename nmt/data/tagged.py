"""Source sentences with tags before them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class TaggedLine(str):
    """A source sentence that tags stand before: symbols of the vocabulary, which no text can contain.

    Attributes:
        tags: those of this line; they take the place of the tags of a translator.
    """

    tags: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str, tags: Sequence[str]) -> TaggedLine:
        line = cls(text)
        line.tags = tuple(tags)
        return line


def tagged(lines: Iterable[str], ranges: Iterable[tuple[int, Sequence[str]]]) -> list[str]:
    """The lines with their tags.

    Args:
        ranges: number of lines, and their tags, in order. Lines without tags, and lines after the last range,
            are not changed.
    """
    rest, found = iter(lines), list[str]()
    for count, tags in ranges:
        chosen = [line for _, line in zip(range(count), rest, strict=False)]
        found += [TaggedLine.of(line, tags) for line in chosen] if tags else chosen
    return [*found, *rest]


def written(line: str) -> str:
    """The line as text, with its tags before it."""
    return " ".join([*line.tags, str(line)]) if isinstance(line, TaggedLine) else line


def like(line: str, text: str) -> str:
    """Another text with the tags of the line."""
    return TaggedLine.of(text, line.tags) if isinstance(line, TaggedLine) else text
