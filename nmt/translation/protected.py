"""Translations that keep the placeholders of their lines (:mod:`nmt.text.placeholders`), whatever the model does.

Four ways are tried in turn for each line, and the best hypotheses of the beam in each. The first that keeps every
placeholder once, adds none, and keeps the order of tags is the translation:

1. *symbols*: each placeholder is a word ``<ph0>``, ``<ph1>``, ..., which the model has learned to copy (the modifier
   Placeholders, :mod:`nmt.config.modifiers`); for models with such words in their vocabulary.
2. *copied*: the model reads placeholders as they are, but no tags. These are placed by attention.
3. *placed*: the model reads the line without placeholders, which are placed by attention.
4. *pieces*: what stands between placeholders is translated piece by piece.

A line without placeholders is translated as by the translator alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nmt.data.tagged import like
from nmt.text.placeholders import KINDS, find, same
from nmt.text.restoring import Parts, Source, without_end
from nmt.translation.translator import Notice, Translation, Translator

Align = Callable[[Sequence[str], Sequence[Sequence[Translation]]], list[list[str]]]
Restore = Callable[[int, Translation, str], Parts | None]  # of a row, a hypothesis and its links
WAYS = {
    "symbols": "kept by the model as symbols",
    "copied": "kept by the model",
    "placed": "placed by attention",
    "pieces": "translated in pieces between placeholders",
}


class Protected:
    """A translator that keeps placeholders.

    Args:
        kinds: of placeholders; lines of documents have some besides (:class:`nmt.text.placeholders.Segment`).
        align: word alignments of translations, as :class:`nmt.insight.alignment.Aligner` makes them; None where the
            engine or the model has no attention.

    Attributes:
        lines, placeholders: how many there were.
        ways: how many lines were translated in which way.
        removed: placeholders that were deleted because a translation had added them.
    """

    def __init__(self, translator: Translator[Any], kinds: Sequence[str] = KINDS, align: Align | None = None) -> None:
        self.translator, self.kinds, self.align = translator, tuple(kinds), align
        self.symbols = translator.tokenizer.placeholders
        self.lines = self.placeholders = self.removed = 0
        self.ways: Counter[str] = Counter()

    def translate(
        self,
        lines: Sequence[str],
        nbest: int = 1,
        warn: Callable[[Notice], None] | None = None,
        first_line: int = 1,
    ) -> list[list[Translation]]:
        """Translate as :meth:`nmt.translation.translator.Translator.translate`; a line may have fewer translations."""
        sources = {row: Source.of(line, self.kinds) for row, line in enumerate(lines)}
        waiting = {row: source for row, source in sources.items() if source.spans}
        work = _Work(self, sources, lines, nbest, warn, first_line)
        plain = [row for row in sources if row not in waiting]
        work.ask({row: lines[row] for row in plain}, nbest, lambda row, one, links: [one.text], "plain")
        self.lines += len(waiting)
        self.placeholders += sum(len(source.spans) for source in waiting.values())
        for way in (work.by_symbols, work.by_copying, work.by_placing):
            way([row for row in waiting if row not in work.found])
        work.by_pieces([row for row in waiting if row not in work.found])
        return [work.found[row] for row in range(len(lines))]

    def summary(self) -> str:
        """One line on the methods that kept placeholders; empty without placeholders."""
        if not self.lines:
            return ""
        ways = ", ".join(f"{self.ways[way]:,} {text}" for way, text in WAYS.items() if self.ways[way])
        lines = f"{self.lines:,} line{'s' if self.lines > 1 else ''}"
        return f"placeholders: {self.placeholders:,} in {lines}, all kept; lines: {ways}"


class _Work:
    """One call of :meth:`Protected.translate`.

    Attributes:
        found: the translations of a row.
    """

    def __init__(
        self,
        owner: Protected,
        sources: Mapping[int, Source],
        lines: Sequence[str],
        nbest: int,
        warn: Callable[[Notice], None] | None,
        first_line: int,
    ) -> None:
        self.owner, self.sources, self.lines, self.nbest = owner, sources, lines, nbest
        self.warn, self.first_line = warn, first_line
        self.found: dict[int, list[Translation]] = {}
        search = owner.translator.search
        self.width = max(nbest, search.beam_size) if search.uses_beam else nbest

    def by_symbols(self, rows: Sequence[int]) -> None:
        given = {row: self.sources[row].with_symbols() for row in rows}
        texts = {row: text for row, (text, count) in given.items() if 0 < count <= self.owner.symbols}
        self.ask(texts, self.width, lambda row, one, _: self.sources[row].from_symbols(one.text), "symbols")

    def by_copying(self, rows: Sequence[int]) -> None:
        given = {row: self.sources[row].without(inline_only=True) for row in rows}
        texts = {row: plain for row, (plain, places) in given.items() if self.owner.align is not None or not places}
        texts = {row: plain for row, plain in texts.items() if len(given[row][1]) < len(self.sources[row].spans)}
        self.ask(texts, self.width, self._placing(given), "copied")

    def by_placing(self, rows: Sequence[int]) -> None:
        if self.owner.align is None:
            return
        given = {row: self.sources[row].without(inline_only=False) for row in rows}
        texts = {row: plain for row, (plain, _) in given.items() if any(map(str.isalnum, plain))}
        self.ask(texts, self.width, self._placing(given), "placed")

    def by_pieces(self, rows: Sequence[int]) -> None:
        cut = {row: self.sources[row].pieces() for row in rows}
        asked = [(row, place) for row in rows for place in cut[row][1]]
        texts = [str(cut[row][0][place]) for row, place in asked]
        notices: list[list[Notice]] = [[] for _ in asked]
        found = self._translated(texts, [row for row, _ in asked], self.width, notices)
        translated: dict[int, list[Translation]] = {row: [] for row in rows}
        for (row, place), text, hypotheses, told in zip(asked, texts, found, notices, strict=True):
            best = next((one for one in hypotheses if not self._added(one.text)), hypotheses[0])
            cut[row][0][place] = without_end(self._cleaned(row, best.text), text) or text
            translated[row].append(best)
            self._tell(row, told)
        for row in rows:
            text, several = self.sources[row].joined(cut[row][0]), translated[row]
            source = self.sources[row]
            if not source.holds(cut[row][0]) or not self._is_same(source, text):
                text = source.joined([source.text]) if not any(span.raw for span in source.spans) else text
            total = sum(one.log_prob for one in several)
            score = sum(one.score for one in several) / max(1, len(several))
            tokens = [token for one in several for token in one.tokens]
            cut_off = any(one.at_limit for one in several)
            self.found[row] = [Translation(text, score, total, tokens, cut_off)]
            self.owner.ways["pieces"] += 1

    # -------------------------------------------------------------------------------------------------------- one way

    def ask(self, texts: Mapping[int, str], nbest: int, restore: Restore, way: str) -> None:
        """Translate a text for each row, and take the hypotheses with which every placeholder is kept."""
        rows = list(texts)
        notices: list[list[Notice]] = [[] for _ in rows]
        found = self._translated(list(texts.values()), rows, nbest, notices)
        aligned: list[list[str]] = [[""] * len(each) for each in found]
        if way in ("copied", "placed") and self.owner.align is not None and rows:
            aligned = self.owner.align([like(self.lines[row], texts[row]) for row in rows], found)
        for row, hypotheses, told, links in zip(rows, found, notices, aligned, strict=True):
            source = self.sources[row]
            good = list[Translation]()
            for one, link in zip(hypotheses, links, strict=True):
                parts = restore(row, one, link)
                if parts is None or (way != "plain" and not source.holds(parts)):
                    continue
                text = source.joined(parts)
                if way == "plain" or self._is_same(source, text):
                    good.append(replace(one, text=text))
            if good:
                self.found[row] = good[: self.nbest]
                self._tell(row, told)
                if way != "plain":
                    self.owner.ways[way] += 1

    def _placing(self, given: Mapping[int, tuple[str, dict[int, int]]]) -> Restore:
        def restore(row: int, one: Translation, links: str) -> Parts | None:
            return self.sources[row].placed(*given[row], one.text, links)

        return restore

    def _translated(
        self, texts: Sequence[str], rows: Sequence[int], nbest: int, notices: list[list[Notice]]
    ) -> list[list[Translation]]:
        if not texts:
            return []
        lines = [like(self.lines[row], text) for row, text in zip(rows, texts, strict=True)]
        return self.owner.translator.translate(lines, nbest, lambda notice: notices[notice.line - 1].append(notice), 1)

    def _tell(self, row: int, notices: Sequence[Notice]) -> None:
        for notice in notices if self.warn is not None else ():
            assert self.warn is not None
            self.warn(notice._replace(line=self.first_line + row))

    def _is_same(self, source: Source, text: str) -> bool:
        """Whether the finished text keeps all; what parsers of formats have found is kept by construction."""
        return any(span.raw for span in source.spans) or same(source.text, source.spans, text, source.kinds)

    def _added(self, text: str) -> list[str]:
        return [text[span.start : span.end] for span in find(text, self.owner.kinds)]

    def _cleaned(self, row: int, text: str) -> str:
        """A translated piece without placeholders, of which its source has none."""
        while added := find(text, self.owner.kinds):
            shown = ", ".join(self._added(text))
            self._tell(row, [Notice(1, "placeholders added by the translation were deleted", shown)])
            self.owner.removed += len(added)
            for span in reversed(added):
                text = text[: span.start] + text[span.end :]
            text = " ".join(text.split())
        return text
