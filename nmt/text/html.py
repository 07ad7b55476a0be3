"""HTML: text is translated; tags, attributes, comments, scripts, styles and code stay, in their order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape, unescape

from nmt.text.placeholders import Segment, Span

_TAG = r"<(?P<close>/?)(?P<name>[A-Za-z][^\s/>]*+)(?P<attributes>(?:[^>\"']|\"[^\"]*+\"|'[^']*+')*+)>"
_TOKEN = re.compile(rf"<!--.*?-->|<!\[CDATA\[.*?\]\]>|<\?(?:php\b|=).*?\?>|<[!?][^>]*>|{_TAG}", re.DOTALL)
_SPACE = " \t\r\n\f"
# White space at the ends of a paragraph, which no translation holds: forwards and backwards.
_FIRST, _LAST = (re.compile(rf"(?:[{_SPACE}\u00a0]|{nbsp})*") for nbsp in ("&nbsp;", "&nbsp;"[::-1]))
# Tags inside of a paragraph; every other tag ends it.
INLINE = frozenset(
    "a abbr acronym b bdi bdo big button cite data del dfn em font i img input ins label mark meter output progress q"
    " rp rt ruby s small span strike strong sub sup time tt u wbr".split()
)
OPAQUE = frozenset("code kbd samp var svg math object canvas".split())  # elements that stand in a paragraph as a word
SKIPPED = frozenset("script style textarea pre template xmp iframe noembed noframes audio video".split())
_VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())


def html(text: str) -> Iterator[str]:
    """Paragraphs are text and inline tags between two other tags; white space in them counts as one space."""
    paragraph, end = _Paragraph(), 0
    while (match := _TOKEN.search(text, end)) is not None:
        paragraph.text(text[end : match.start()])
        end = match.end()
        name = (match["name"] or "").lower()
        stays = name in SKIPPED or name in OPAQUE or _kept(match["attributes"] or "")
        if stays and not match["close"] and name not in _VOID and not match[0].endswith("/>"):
            end = _element_end(text, match.end(), name)
            if name in OPAQUE or name in INLINE:
                paragraph.tag(text[match.start() : end], "code")
                continue
        elif name in INLINE or match[0].startswith("<!--"):
            paragraph.tag(match[0], "tags")
            continue
        yield from paragraph.parts()
        yield text[match.start() : end]
        paragraph = _Paragraph()
    paragraph.text(text[end:])
    yield from paragraph.parts()


def escaped(text: str) -> str:
    return escape(text, quote=False).replace("\N{NO-BREAK SPACE}", "&nbsp;")


def _kept(attributes: str) -> bool:
    """Whether attributes say that an element is not translated."""
    return bool(
        re.search(r"(?i)\btranslate\s*=\s*[\"']?no\b|\bclass\s*=\s*(?:\"[^\"]*|'[^']*|)\bnotranslate\b", attributes)
    )


def _element_end(text: str, start: int, name: str) -> int:
    """The end of an element whose start tag ends at ``start``."""
    depth = 1
    nests = name not in ("script", "style", "textarea", "xmp", "iframe", "noembed", "noframes")
    for match in re.finditer(rf"(?i)<(/?){re.escape(name)}(?=[\s/>])[^>]*>?", text[start:]):
        depth += -1 if match[1] else int(nests and not match[0].endswith("/>"))
        if depth == 0:
            return start + match.end()
    return len(text)


class _Paragraph:
    """Text and inline tags, as they are collected."""

    def __init__(self) -> None:
        self.tokens: list[tuple[str, str]] = []  # kind, with text first, and source
        self.has_words = False

    def text(self, raw: str) -> None:
        if raw:
            self.tokens.append(("text", raw))
            self.has_words = self.has_words or any(map(str.isalpha, unescape(raw)))

    def tag(self, raw: str, kind: str) -> None:
        self.tokens.append((kind, raw))

    def parts(self) -> Iterator[str]:
        if not self.has_words:
            yield "".join(raw for _, raw in self.tokens)
            return
        first, last = self._trim()
        yield first
        body, spans = "", list[Span]()
        for kind, raw in self.tokens:
            if kind == "text":
                body += re.sub(rf"[{_SPACE}]+", " ", unescape(raw))
            else:
                spans.append(Span(len(body), len(body) + len(raw), kind, raw=True))
                body += raw
        yield Segment.of(body, spans, escaped, escaped)
        yield last

    def _trim(self) -> tuple[str, str]:
        """Take what stands before the first and after the last word off: white space, and tags that close there."""
        first, last = "", ""
        while self.tokens[0][0] == "text" and _FIRST.fullmatch(self.tokens[0][1]):
            first += self.tokens.pop(0)[1]
        while self.tokens[-1][0] == "text" and _FIRST.fullmatch(self.tokens[-1][1]):
            last = self.tokens.pop()[1] + last
        kind, raw = self.tokens[0]
        if kind == "text" and (space := _FIRST.match(raw)):
            first += space[0]
            self.tokens[0] = (kind, raw[space.end() :])
        kind, raw = self.tokens[-1]
        if kind == "text" and (space := _LAST.match(raw[::-1])):
            stop = len(raw) - space.end()
            last = raw[stop:] + last
            self.tokens[-1] = (kind, raw[:stop])
        return first, last
