"""Documents: what is translated of them, and what stays as it is.

A parser cuts a document into parts, in their order: :class:`nmt.text.placeholders.Segment` for a paragraph to
translate, and plain strings for the rest. The translated document is the parts with translations in place of
paragraphs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import PurePath

from nmt.text.html import html
from nmt.text.markdown import markdown
from nmt.text.placeholders import Segment, Span
from nmt.text.splitting import sentences
from nmt.text.subtitles import subtitles

Part = str  # Segment to translate, or text that stays
FORMATS: dict[str, Callable[[str], Iterator[Part]]] = {
    "text": lambda text: plain(text),
    "paragraphs": lambda text: paragraphs(text),
    "srt": subtitles,
    "html": html,
    "md": markdown,
}
_ENDINGS = {
    ".srt": "srt", ".vtt": "srt", ".html": "html", ".htm": "html", ".xhtml": "html", ".md": "md", ".markdown": "md",
}  # fmt: skip
_APPENDED = (".gz", ".bz2", ".xz", ".zst", ".utf8", ".clean")  # by compression, and by the advice of error messages
_BAD = re.compile("[\0\ud800-\udfff]")  # NUL, and bytes that are not UTF-8


def format_of(path: str) -> str | None:
    """The format of a file by its ending, also of ``a.srt.gz`` and ``a.srt.utf8``; None for lines of text."""
    name = PurePath(path)
    while name.suffix.lower() in _APPENDED:
        name = name.with_suffix("")
    return _ENDINGS.get(name.suffix.lower())


def parse(text: str, form: str) -> list[Part]:
    """The parts of a document; in paragraphs U+FFFD stands for NUL and for bytes that are not UTF-8."""
    body = text.removeprefix("\ufeff")
    parts = [text[: len(text) - len(body)], *FORMATS[form](body)]
    return [readable(part) if isinstance(part, Segment) else part for part in parts if part]


def readable(segment: Segment) -> Segment:
    found = _BAD.sub("\ufffd", segment)
    raw = [span for span in segment.spans if span.raw]
    for span in raw:
        found = f"{found[: span.start]}{segment[span.start : span.end]}{found[span.end :]}"
    return segment.like(found, segment.spans) if found != segment else segment


def plain(text: str) -> Iterator[Part]:
    """Each line is a paragraph; line ends, blank lines and spaces at the ends of lines stay."""
    for line in re.findall(r"[^\r\n]+|[\r\n]+", text):
        yield from trimmed(line)


def paragraphs(text: str) -> Iterator[Part]:
    """Lines up to the next blank line are a paragraph, which is filled to the width that it had."""
    for block in re.split(r"((?:\r?\n|\A)(?:[^\S\r\n]*\r?\n)+)", text):
        if not block.strip():
            yield block
            continue
        rows = block.split("\n")
        if len(rows) == 1:
            yield from trimmed(block)
            continue
        newline = "\r\n" if rows[0].endswith("\r") else "\n"
        indent = re.match(r"\s*", rows[0])
        hanging = re.match(r"\s*", rows[1])
        assert indent is not None
        assert hanging is not None
        width = max(len(row.rstrip()) for row in rows)
        body = " ".join(row.strip() for row in rows)
        yield indent[0]
        yield Segment.of(body, finish=_Filling(width, len(indent[0]), newline + hanging[0]))
        yield block[len(block.rstrip()) :]


class _Filling:
    """Lines of a width.

    Args:
        used: columns of the first line that are taken.
        between: line break and indentation of further lines.
    """

    def __init__(self, width: int, used: int, between: str) -> None:
        self.width, self.used, self.between = width, used, between

    def __call__(self, text: str) -> str:
        import textwrap

        more = self.between.lstrip("\r\n")
        lines = textwrap.wrap(
            " " * self.used + text, max(self.width, 10), subsequent_indent=more, break_long_words=False,
            break_on_hyphens=False, drop_whitespace=True, replace_whitespace=False,
        )  # fmt: skip
        return self.between.join(line.removeprefix(more) if n else line[self.used :] for n, line in enumerate(lines))


def trimmed(line: str) -> Iterator[Part]:
    body = line.strip()
    start = line.find(body)
    yield line[:start]
    if body:
        yield Segment.of(body)
        yield line[start + len(body) :]
    else:
        yield line[start:]


# ------------------------------------------------------------------------------------------------------------ sentences


def split(line: str, language: str) -> list[Part]:
    """The sentences of a paragraph as segments, and the white space between them."""
    segment = line if isinstance(line, Segment) else Segment.of(line)
    parts, end = list[Part](), 0
    for first, last in _ranges(segment, language):
        inside = [span for span in segment.spans if first <= span.start and span.end <= last]
        moved = [span._replace(start=span.start - first, end=span.end - first) for span in inside]
        parts += [segment[end:first], segment.like(segment[first:last], moved)]
        end = last
    return [part for part in (*parts, str(segment[end:])) if part]


def _ranges(segment: Segment, language: str) -> list[tuple[int, int]]:
    """The places of sentences. A tag belongs to the sentence that it touches, any other placeholder is a word."""
    # The text without tags, and where each character of it was
    places, end, shown = list[int](), 0, list[str]()
    for span in [*segment.spans, Span(len(segment), len(segment), "")]:
        places += range(end, span.start)
        shown.append(segment[end : span.start])
        if not span.inline:
            places += range(span.start, span.end)
            shown.append("x" * (span.end - span.start))
        end = span.end
    found = list(sentences("".join(shown), language))
    if not found:
        return []
    # Back to the text with tags
    ranges = [[places[first], places[last - 1] + 1] for first, last in found]
    ranges[0][0] = len(segment) - len(segment.lstrip())
    ranges[-1][1] = len(segment.rstrip())
    for one, other in pairwise(ranges):
        between = [span for span in segment.spans if one[1] <= span.start and span.end <= other[0]]
        one[1] = _extended(between, one[1], segment)
        for span in reversed(between):
            if span.end == other[0] and span.start >= one[1]:
                other[0] = span.start
    return [(first, last) for first, last in ranges]


def _extended(spans: Sequence[Span], end: int, text: str) -> int:
    """The end of a sentence with the closing tags that follow at once; with all tags if white space follows them."""
    touching, last = list[Span](), end
    for span in spans:
        if span.start == last:
            touching.append(span)
            last = span.end
    if text[last : last + 1].isspace():
        return last
    for span in touching:
        if text[span.start : span.start + 2] != "</":
            break
        end = span.end
    return end
