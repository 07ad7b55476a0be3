"""Subtitles, SubRip (.srt) and WebVTT (.vtt): numbers, times and everything outside of cues stay."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape, unescape
from itertools import pairwise

from nmt.text.placeholders import Segment, Span

_TIME = re.compile(r"\s*(?:\d+:)?\d+:\d+[,.:]\d+\s*-->\s*(?:\d+:)?\d+:\d+(?:[,.:]\d+)?(?:\s.*)?")
_MARKUP = re.compile(r"<[^<>\n]*>|\{\\[^{}\n]*\}")  # <i>, <c.red>, <00:01.000>, {\an8}
_SPEAKER = re.compile(r"\s*[-‐‑–—]\s*")
_START = re.compile(
    rf"\s*(?:\{{\\[^{{}}\n]*\}}\s*)*(?:{_SPEAKER.pattern})?(?:\{{\\[^{{}}\n]*\}}\s*)*"
)  # {\an8} - Hello


def subtitles(text: str) -> Iterator[str]:
    """The text of a cue is a paragraph; each of its lines is one if they begin with dashes, for several speakers.

    A cue ends at the next time, with or without a blank line before. A SubRip cue may have blank lines inside; a WebVTT
    cue ends at the first one, and what follows may be a note or a style.
    """
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    webvtt = text.startswith("WEBVTT")
    times = [n for n, line in enumerate(lines) if _TIME.fullmatch(line.rstrip("\r\n"))]
    yield from lines[: times[0] + 1 if times else len(lines)]
    for time, following in pairwise([*times, None]):
        assert time is not None
        cue = lines[time + 1 : following]
        number = [cue.pop()] if following is not None and cue and cue[-1].strip().isdigit() else []
        yield from _cue(cue, webvtt)
        yield from number
        yield from lines[following : following + 1] if following is not None else []


def _cue(lines: list[str], webvtt: bool) -> Iterator[str]:
    """What stands between two times: groups of lines between blank lines; in WebVTT the first one is the text."""
    group = list[str]()
    for at, line in enumerate([*lines, ""]):
        if line.strip():
            group.append(line)
            continue
        yield from _group(group, webvtt)
        if webvtt:
            yield from lines[at:]
            return
        yield line
        group = []


def _group(lines: list[str], webvtt: bool) -> Iterator[str]:
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
        newline = group[0][len(group[0].rstrip("\r\n")) :] or "\n"
        if any(map(str.isalpha, _MARKUP.sub("", "".join(bodies)))):
            yield _segment(bodies, newline, webvtt)
        else:
            yield newline.join(bodies)
        yield end


def _segment(bodies: list[str], newline: str, webvtt: bool) -> Segment:
    """The lines of a cue as a paragraph; in WebVTT, text has entities."""
    raw = " ".join(each.strip() for each in bodies).rstrip()
    body, spans, end = "", list[Span](), 0
    for match in _MARKUP.finditer(raw):
        body += unescape(raw[end : match.start()]) if webvtt else raw[end : match.start()]
        spans.append(Span(len(body), len(body) + len(match[0]), "tags", raw=True))
        body += match[0]
        end = match.end()
    body += unescape(raw[end:]) if webvtt else raw[end:]
    return Segment.of(body, spans, _escaped if webvtt else _without_arrow, finish=_Lines(len(bodies), newline))


def _escaped(text: str) -> str:
    return escape(text, quote=False)


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
