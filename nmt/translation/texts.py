"""Translation of arbitrary text: protect placeholders, split paragraphs, parse documents."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from nmt.data.tagged import TaggedLine, like
from nmt.errors import ConfigError, DataError
from nmt.text.documents import split
from nmt.text.placeholders import KINDS, Segment
from nmt.translation.protected import Align, Protected
from nmt.translation.translator import Notice, Translation, Translator

log = logging.getLogger(__name__)

BLOCK = 500  # paragraphs that are translated together at most
QUOTED = 30  # characters of a paragraph in a notice


class Lines(Protocol):
    """Translates lines: a :class:`nmt.translation.translator.Translator`, or a class of this module around it."""

    def translate(
        self,
        lines: Sequence[str],
        nbest: int = 1,
        warn: Callable[[Notice], None] | None = None,
        first_line: int = 1,
    ) -> list[list[Translation]]: ...


class Sentences:
    """Translates paragraphs sentence by sentence (:mod:`nmt.text.splitting`).

    The n-th translation of a paragraph has the n-th of each sentence, or the last of a sentence that has fewer. Its
    log-probability is the sum, its score the mean of the scores.

    Args:
        language: code of the source language.
    """

    def __init__(self, inner: Lines, language: str) -> None:
        self.inner, self.language = inner, language

    def translate(
        self,
        lines: Sequence[str],
        nbest: int = 1,
        warn: Callable[[Notice], None] | None = None,
        first_line: int = 1,
    ) -> list[list[Translation]]:
        """Translate as :meth:`nmt.translation.translator.Translator.translate`; white space between sentences stays."""
        cut = [self._parts(line) for line in lines]
        asked = [(row, part) for row, parts in enumerate(cut) for part in parts if isinstance(part, Segment)]

        def told(notice: Notice) -> None:
            if warn is not None:
                warn(notice._replace(line=first_line + asked[notice.line - 1][0]))

        sentences = [like(lines[row], part) if isinstance(lines[row], TaggedLine) else part for row, part in asked]
        found = iter(self.inner.translate(sentences, nbest, told, 1))
        return [self._joined(line, parts, found) for line, parts in zip(lines, cut, strict=True)]

    def _parts(self, line: str) -> list[str]:
        body = line.removeprefix("\ufeff")
        mark = line[: len(line) - len(body)]
        return [mark, *split(body, self.language)] if mark else split(line, self.language)

    def _joined(self, line: str, parts: Sequence[str], found: Iterator[list[Translation]]) -> list[Translation]:
        """The translations of a line, of those of its sentences."""
        each = [next(found) if isinstance(part, Segment) else part for part in parts]
        several = [one for one in each if not isinstance(one, str)]
        count = max(map(len, several), default=1)
        results = []
        for rank in range(count):
            chosen = [one if isinstance(one, str) else one[min(rank, len(one) - 1)] for one in each]
            best = [one for one in chosen if isinstance(one, Translation)]
            text = "".join(one if isinstance(one, str) else one.text for one in chosen)
            finish = line.finish if isinstance(line, Segment) else str
            score = sum(one.score for one in best) / max(1, len(best))
            tokens = [token for one in best for token in one.tokens]
            at_limit = any(one.at_limit for one in best)
            results.append(Translation(finish(text), score, sum(one.log_prob for one in best), tokens, at_limit))
        return results


class Texts:
    """A translator that keeps placeholders and white space as configured.

    Args:
        protect: kinds of placeholders; none: placeholders are translated as any text.
        split: whether lines are split into sentences.
        language: code of the source language.
        align: see :class:`Protected`; called when it is needed first.
    """

    def __init__(
        self,
        translator: Translator[Any],
        protect: Sequence[str],
        split: bool,
        language: str,
        align: Callable[[], Align | None] = lambda: None,
    ) -> None:
        self.translator, self.language = translator, language
        self._protect, self._split, self._align = tuple(protect), split, align
        self.protected: Protected | None = None
        self.lines: Lines = translator
        if protect:
            self.lines = self._protecting()
        if split:
            self.lines = Sentences(self.lines, language)

    def translate(
        self,
        lines: Sequence[str],
        nbest: int,
        warn: Callable[[Notice], None] | None,
        first_line: int,
        prefixes: Sequence[str] = (),
    ) -> list[list[Translation]]:
        """Translate as :meth:`nmt.translation.translator.Translator.translate`.

        Raises:
            DataError: lines have prefixes, and they are split or protected.
        """
        if not any(prefixes):
            return self.lines.translate(lines, nbest, warn, first_line)
        if self.lines is not self.translator:
            raise DataError("prefixes: need whole lines; use --protect none and --no-split")
        return self.translator.translate(lines, nbest, warn, first_line, prefixes)

    def _protecting(self) -> Protected:
        self.protected = self.protected or Protected(self.translator, self._protect, self._align())
        return self.protected

    def for_documents(self) -> Lines:
        """A translator for the paragraphs of documents: sentence by sentence, with their markup kept."""
        return Sentences(self._protecting(), self.language)

    def document(
        self,
        parts: Sequence[str],
        warn: Callable[[Notice], None] | None = None,
        expect: Callable[[int], object] = lambda paragraphs: None,
    ) -> Iterator[tuple[str, int]]:
        """The translated document in blocks, each with the number of its paragraphs.

        Args:
            parts: see :func:`nmt.text.documents.parse`.
            warn: called with notices, in which a line is the number of a paragraph; they quote its first words.
            expect: called with the number of paragraphs before a block is translated.
        """
        lines, done, at = self.for_documents(), 0, 0
        while at < len(parts):
            start, count = at, 0
            while at < len(parts) and count < BLOCK:
                count += isinstance(parts[at], Segment)
                at += 1
            block = parts[start:at]
            expect(count)
            paragraphs = [part for part in block if isinstance(part, Segment)]
            found = iter(lines.translate(paragraphs, 1, _quoting(paragraphs, warn, done + 1), done + 1))
            yield "".join(next(found)[0].text if isinstance(part, Segment) else part for part in block), count
            done += count


def _quoting(
    paragraphs: Sequence[str], warn: Callable[[Notice], None] | None, first: int
) -> Callable[[Notice], None] | None:
    """``warn`` with the first words of the paragraph, because nobody counts paragraphs."""
    if warn is None:
        return None

    def quoting(notice: Notice) -> None:
        text = " ".join(paragraphs[notice.line - first].split())
        start = text if len(text) <= QUOTED else f"{text[:QUOTED].rstrip()}…"
        warn(notice._replace(detail=f"{notice.detail}; {json.dumps(start, ensure_ascii=False)}"))

    return quoting


def kinds_of(words: Sequence[str]) -> tuple[str, ...]:
    """The kinds of placeholders that a user names; ``all`` and ``none`` are possible.

    Raises:
        ConfigError: there is no such kind.
    """
    found = list[str]()
    for word in words:
        if word not in (*KINDS, "all", "none"):
            raise ConfigError(
                f"protect: {word!r} is not a kind of placeholder; kinds: {', '.join(KINDS)}; or all, none"
            )
        found += KINDS if word == "all" else [] if word == "none" else [word]
    if "none" in words and len(words) > 1:
        raise ConfigError("protect: none stands alone")
    return tuple(kind for kind in KINDS if kind in found)
