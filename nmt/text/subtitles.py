"""Subtitles, SubRip (.srt) and WebVTT (.vtt): numbers, times and everything outside of cues stay."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nmt.text.placeholders import Segment, Span

_TIME = re.compile(r"\s*(?:\d+:)?\d+:\d+[,.:]\d+\s*-->\s*(?:\d+:)?\d+:\d+[,.:]\d+.*")
_MARKUP = re.compile(r"<[^<>\n]*>|\{\\[^{}\n]*\}")  # <i>, <c.red>, <00:01.000>, {\an8}
_SPEAKER = re.compile(r"\s*[-‐‑–—]\s*")
_START = re.compile(
    rf"\s*(?:\{{\\[^{{}}\n]*\}}\s*)*(?:{_SPEAKER.pattern})?(?:\{{\\[^{{}}\n]*\}}\s*)*"
)  # {\an8} - Hello


def subtitles(text: str) -> Iterator[str]:
    """The text of a cue is a paragraph; each of its lines is one if they begin with dashes, for several speakers."""
    cue: list[str] | None = None  # lines of the cue that is read
    for line in re.findall(r"[^\n]*\n|[^\n]+", text):
        if cue is None:
            yield line
            cue = [] if _TIME.fullmatch(line.rstrip("\r\n")) else None
        elif line.strip():
            cue.append(line)
        else:
            yield from _cue(cue)
            yield line
            cue = None
    yield from _cue(cue or [])


def _cue(lines: list[str]) -> Iterator[str]:
    speakers = len(lines) > 1 and all(_SPEAKER.match(_MARKUP.sub("", line)) for line in lines[1:])
    for group in [[line] for line in lines] if speakers else [lines]:
        bodies = [line.rstrip("\r\n") for line in group]
        if not bodies:
            continue
        end = group[-1][len(bodies[-1]) :]
        start = _START.match(bodies[0])
        first = start.end() if start else 0
        yield bodies[0][:first]
        bodies[0] = bodies[0][first:]
        body = " ".join(each.strip() for each in bodies).rstrip()
        newline = group[0][len(group[0].rstrip("\r\n")) :] or "\n"
        spans = [Span(*match.span(), "tags", raw=True) for match in _MARKUP.finditer(body)]
        if any(map(str.isalnum, _MARKUP.sub("", body))):
            yield Segment.of(body, spans, _without_arrow, finish=_Lines(len(bodies), newline))
        else:
            yield newline.join(bodies)
        yield end


def _without_arrow(text: str) -> str:
    return text.replace("-->", "→")  # would be a time


class _Lines:
    """As many lines as before, of about the same length."""

    def __init__(self, count: int, newline: str) -> None:
        self.count, self.newline = count, newline

    def __call__(self, text: str) -> str:
        words = re.findall(r"(?:<[^<>]*>|\{\\[^{}]*\}|\S)+", text)
        lines = list[str]()
        for left in range(self.count, 1, -1):
            goal, taken = sum(_width(word) + 1 for word in words) / left, 0.0
            line = list[str]()
            while len(words) > 1 and (not line or taken + _width(words[0]) / 2 < goal):
                line.append(words.pop(0))
                taken += _width(line[-1]) + 1
            if line:
                lines.append(" ".join(line))
        return self.newline.join([*lines, " ".join(words)])


def _width(word: str) -> int:
    return len(_MARKUP.sub("", word))
