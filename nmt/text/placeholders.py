"""Placeholders: parts of a text that a translation keeps, such as ``{name}``, ``%s``, ``<b>``, URLs and numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import NamedTuple

# Each kind with its pattern. The placeholder that begins first counts; of those that begin together, the first kind.
_BRACED = r"(?:[^{}\n]|\{(?:[^{}\n]|\{[^{}\n]*\})*\})*"  # braces inside braces, as in ICU's plural
_ATTRIBUTE = r"\s+[^\s<>=\"'/]+(?:\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s\"'<>]+))?"
_FIELD = r"\{\{[^{}\n]*\}\}|\{[^{}\s]*\}"  # https://example.org/{id}/edit
_IN_URL = r"[^\s<>\"{}|\\^`]"
_ENTITY = r"&(?:[A-Za-z][A-Za-z0-9]{1,31}|\#[0-9]{1,7}|\#[xX][0-9A-Fa-f]{1,6});"
_IN_BRACKETS = r"\([^\s<>\"{}|\\^`()]*\)"  # https://example.org/A_(b)
PATTERNS = {
    "code": r"(?<!`)(?P<ticks>`+)(?!`)[^\n]*?[^`\n](?P=ticks)(?!`)",
    "urls": rf"(?i:(?:https?|ftp|file)://|\bwww\.)(?>{_ENTITY}|{_IN_BRACKETS}|{_IN_URL}|{_FIELD})*"
    rf"(?:{_ENTITY}|{_IN_BRACKETS}|(?![.,:;!?'()\[\]*]){_IN_URL}|{_FIELD})",
    "emails": r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}\b",
    "tags": rf"<!--.*?-->|</?[A-Za-z][\w:.-]*(?:{_ATTRIBUTE})*\s*/?>|</?\d+\s*/?>",  # <0> of React's Trans
    "entities": _ENTITY,
    "variables": "|".join(
        (
            r"\{\{\{[^{}\n]*\}\}\}|\{\{[^{}\n]*\}\}|\{%[^{}\n]*%\}",  # {{{ raw }}}, {{ name }}, {% tag %}
            r"<%[^\n]*?%>|[$%#]\{[^{}\n]*\}",  # <%= name %>, ${name}, %{name}, #{name}
            rf"\{{\s*\w+\s*,\s*(?:plural|select|selectordinal|number|date|time|spellout)\b{_BRACED}\}}",  # ICU
            r"\{ *+[^{}\s]*+ *+\}",  # {}, {0}, {name:.2f}, { name }
            r"\$[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*",
            r"%[A-Z_][A-Z0-9_]+%|%%",
            r"(?<!\d)%(?:\([\w.-]+\))?(?:\d+\$)?[-+#0]*(?:\d+|\*)?(?:\.(?:\d+|\*))?(?:hh?|ll?|[Lqjzt])?"
            r"[diouxXeEfFgGaAcsSpnr@]",
            r"(?<!\d)%L?\d{1,2}(?![\w%])",  # %1 of Qt
        )
    ),
    "numbers": r"(?<![A-Za-z0-9_])(?<![0-9][.,])\d++(?:[.,:/’'\u00a0\u202f-]\d++)*+(?!(?:st|nd|rd|th)\b)",
}
KINDS = tuple(PATTERNS)
SYMBOL = re.compile(r"<ph([0-9]+)>")
Change = Callable[[str], str]


def symbol(number: int) -> str:
    """The word of a vocabulary that stands for a placeholder."""
    return f"<ph{number}>"


class Span(NamedTuple):
    """A placeholder: ``text[start:end]``.

    Attributes:
        raw: found by the parser of a format, in whose syntax it is; otherwise a part of the plain text.
    """

    start: int
    end: int
    kind: str
    raw: bool = False

    @property
    def inline(self) -> bool:
        """Whether it stands around words, as a tag does, rather than for a word."""
        return self.kind == "tags"

    @property
    def ordered(self) -> bool:
        """Whether it keeps its place in the order of those that are ordered: tags, and the markup of documents."""
        return self.inline or self.raw


class Segment(str):
    """Text to translate, of a document in some format.

    Attributes:
        spans: placeholders that the parser of the format has found, in their order.
        escape: from a translation to the syntax of the format.
        quote: from a placeholder that is not raw to the syntax of the format.
        finish: the last change of a whole translated paragraph, such as its line breaks.
    """

    spans: tuple[Span, ...] = ()
    escape: Change = str
    quote: Change = str
    finish: Change = str

    @classmethod
    def of(
        cls, text: str, spans: Iterable[Span] = (), escape: Change = str, quote: Change = str, finish: Change = str
    ) -> Segment:
        segment = cls(text)
        segment.spans, segment.escape, segment.quote, segment.finish = tuple(spans), escape, quote, finish
        return segment

    def like(self, text: str, spans: Iterable[Span]) -> Segment:
        """Another text of the same format."""
        return Segment.of(text, spans, self.escape, self.quote, self.finish)


def find(text: str, kinds: Iterable[str], known: Sequence[Span] = ()) -> list[Span]:
    """The placeholders of these kinds in a text, in their order.

    Args:
        known: placeholders that are among the result; others do not overlap with them.
    """
    pattern, found, end = _pattern(frozenset(kinds)), list[Span](), 0
    for span in [*known, Span(len(text), len(text), "")]:
        matches = pattern.finditer(text, end, span.start) if pattern is not None else ()
        found += [Span(*match.span(), str(match.lastgroup)) for match in matches]
        if span.end > span.start:
            found.append(span)
        end = span.end
    return found


@cache
def _pattern(kinds: frozenset[str]) -> re.Pattern[str] | None:
    """A pattern whose last group is the kind; None without kinds."""
    chosen = [f"(?P<{kind}>{pattern})" for kind, pattern in PATTERNS.items() if kind in kinds]
    return re.compile("|".join(chosen), re.DOTALL) if chosen else None


def texts(text: str, spans: Iterable[Span]) -> list[str]:
    return [text[span.start : span.end] for span in spans]


def same(source: str, spans: Sequence[Span], translation: str, kinds: Iterable[str]) -> bool:
    """Whether a translation has each placeholder of its source once, no other, and the tags in their order."""
    there = find(translation, kinds)
    tags = [span for span in spans if span.inline], [span for span in there if span.inline]
    return Counter(texts(source, spans)) == Counter(texts(translation, there)) and (
        texts(source, tags[0]) == texts(translation, tags[1])
    )


def groups(text: str, spans: Sequence[Span]) -> list[list[Span]]:
    """The placeholders of a text, those together between which nothing stands."""
    found: list[list[Span]] = []
    for span in spans:
        if found and found[-1][-1].end == span.start:
            found[-1].append(span)
        else:
            found.append([span])
    return found
