"""Placeholders out of a text and back into its translation.

A translation with placeholders is a list of parts: translated text, and numbers of placeholders of the source.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from nmt.text.placeholders import SYMBOL, Segment, Span, find, groups, symbol, texts

Parts = list[str | int]
_OPENING, _CLOSING = "([{«„“‘\"'¿¡", ".,;:!?…)]}»”’\"'。，、！？；："
_PAIRS = {*"() [] {} \"\" '' «» »« „“ „” “” ‚‘ ‘’ 「」 『』 （） 【】 《》".split()}  # that a placeholder takes with it
_END = ".!?…。！？"
_WORD = re.compile(r"\w")


@dataclass(frozen=True)
class Source:
    """A text to translate and its placeholders.

    Attributes:
        kinds: that were looked for in the text.
    """

    text: str
    spans: tuple[Span, ...]
    kinds: tuple[str, ...]

    @classmethod
    def of(cls, text: str, kinds: Sequence[str]) -> Source:
        known = text.spans if isinstance(text, Segment) else ()
        return cls(text, tuple(find(text, kinds, known)), tuple(kinds))

    @cached_property
    def found(self) -> list[str]:
        return texts(self.text, self.spans)

    def space(self, place: int) -> bool:
        """Whether white space, or nothing, stands at a place of the text."""
        return not 0 <= place < len(self.text) or self.text[place].isspace()

    @cached_property
    def marks(self) -> dict[int, tuple[str, str]]:
        """Quotes and brackets that enclose a placeholder alone, or several adjacent ones, before and after each."""
        found: dict[int, tuple[str, str]] = {}
        for group in groups(self.text, self.spans):
            start, end = group[0].start, group[-1].end
            while start > 0 and self.text[start - 1] + self.text[end : end + 1] in _PAIRS:
                start, end = start - 1, end + 1
            if not any(span.inline for span in group):
                first, last = self.spans.index(group[0]), self.spans.index(group[-1])
                found[first] = self.text[start : group[0].start], ""
                found[last] = found.get(last, ("", ""))[0], self.text[group[-1].end : end]
        return found

    # -------------------------------------------------------------------------------------------------------- symbols

    def with_symbols(self) -> tuple[str, int]:
        """The text with ``<ph0>``, ``<ph1>``, ... in place of its placeholders, and how many these are."""
        together, end, pieces = groups(self.text, self.spans), 0, list[str]()
        for number, group in enumerate(together):
            pieces += [self.text[end : group[0].start], symbol(number)]
            end = group[-1].end
        return "".join([*pieces, self.text[end:]]), len(together)

    def from_symbols(self, translation: str) -> Parts | None:
        """A translation of the text with symbols; None where it lacks one, has one twice, or tags in another order."""
        together = groups(self.text, self.spans)
        pieces = SYMBOL.split(translation)  # text, number, text, ...
        order = [int(number) for number in pieces[1::2]]
        if sorted(order) != list(range(len(together))):
            return None
        ordered = [number for number in order if any(span.ordered for span in together[number])]
        if ordered != sorted(ordered):
            return None
        for place, number in enumerate(order):
            self._respace(pieces, 2 * place, together[number])
        firsts = {number: self.spans.index(group[0]) for number, group in enumerate(together)}
        parts: Parts = [pieces[0]]
        for place, number in enumerate(order):
            first = firsts[number]
            parts += [*range(first, first + len(together[number])), pieces[2 * place + 2]]
        return parts

    def _respace(self, pieces: list[str], before: int, group: Sequence[Span]) -> None:
        """Let a tag have no space towards the text that it encloses, where it has none in the source."""
        if not all(span.inline for span in group):
            return
        left, right = self.space(group[0].start - 1), self.space(group[-1].end)
        one, other = pieces[before], pieces[before + 2]
        if left and not right and other[:1].isspace():
            pieces[before], pieces[before + 2] = f"{one.rstrip()} " if one.strip() else one, other.lstrip()
        elif right and not left and one[-1:].isspace():
            glued = not other.strip() or other.lstrip()[0] in _CLOSING
            pieces[before], pieces[before + 2] = one.rstrip(), other if glued else f" {other.lstrip()}"

    # -------------------------------------------------------------------------------------------------------- removed

    def without(self, inline_only: bool) -> tuple[str, dict[int, int]]:
        """The text without its placeholders, and for each removed one its place there.

        Args:
            inline_only: leave those that stand for words, unless only the parser of the format knows them.
        """
        plain, places, end = "", dict[int, int](), 0
        for number, span in enumerate(self.spans):
            left, right = ("", "") if inline_only else self.marks.get(number, ("", ""))
            plain += self.text[end : span.start - len(left)]
            end = span.end + len(right)
            if inline_only and not span.inline:
                plain += self.text[span.start : span.end]
                continue
            after = self.text[end : end + 1]
            if not span.inline and after == " " and (not plain or plain.endswith(" ")):
                end += 1
            elif not span.inline and after and after in _CLOSING and plain.endswith(" "):
                plain = plain.removesuffix(" ")
                places = {one: min(place, len(plain)) for one, place in places.items()}
            elif span.inline and _alone(self.found[number]) and not (self.space(span.start - 1) or self.space(end)):
                plain += " "
            places[number] = len(plain)
        return plain + self.text[end:], places

    def placed(self, plain: str, places: Mapping[int, int], translation: str, links: str) -> Parts | None:
        """The translation of a text without placeholders, with these at the words that are aligned.

        Tags and markup keep their order. A pair of tags encloses the translations of the words between them; any other
        placeholder stands before the translation of the next word, or after that of the word that it is attached to.

        Args:
            plain, places: see :meth:`without`.
            links: word alignments ``0-0 1-2``.

        Returns:
            None where nothing would be left between a pair of tags.
        """
        aligned = _Aligned(plain, translation, links)
        partner, found = _pairs(self.found, places), list[tuple[int, int, int]]()
        last = 0  # where the tag before was placed
        for group in groups(self.text, [self.spans[number] for number in places]):
            numbers = [self.spans.index(span) for span in group]
            inline = [span.inline for span in group]
            units = [[number] for number in numbers] if all(inline) else [numbers]
            for unit in units:
                place, mate = places[unit[0]], partner.get(unit[0])
                if len(unit) == 1 and mate is not None and places[mate] != place:
                    start, end = sorted((place, places[mate]))
                    where = aligned.around(start, end, mate > unit[0])
                else:
                    where = aligned.beside(place)
                if any(self.spans[number].ordered for number in unit):
                    where = last = max(last, where)
                found += [(where, number, unit[0]) for number in unit]
        at = {number: where for where, number, _ in found}
        if any(at[one] == at[other] and places[one] != places[other] for one, other in partner.items()):
            return None
        return self._inserted(translation, sorted(found, key=lambda one: (one[0], one[2])))

    def _inserted(self, translation: str, found: Sequence[tuple[int, int, int]]) -> Parts:
        """The placeholders at their places, with spaces as in the source, and between them and words."""
        parts, end = Parts(), 0
        for at, (where, number, _) in enumerate(found):
            # Before it
            parts.append(translation[end:where])
            end, span = where, self.spans[number]
            left, right = self.marks.get(number, ("", ""))
            start, stop = span.start - len(left), span.end + len(right)
            spaced = not span.inline or _is_empty(self.found[number])
            before = translation[where - 1 : where] if where else ""
            if at > 0 and found[at - 1][0] == where:
                if self._apart(found[at - 1][1], number):
                    parts.append(" ")
            elif spaced and start > 0 and before and not before.isspace():
                parts += [" "] if self._separate(start - 1, before, span.inline) else []
            # Itself, and after it
            parts += [left, number, right]
            after = translation[where : where + 1]
            ends = not after or after.isspace() or (after in _CLOSING and self.space(stop))
            last = at + 1 == len(found) or found[at + 1][0] != where
            if spaced and last and stop < len(self.text) and not ends:
                parts += [" "] if self._separate(stop, after, span.inline) else []
        return [*(part for part in parts if part != ""), translation[end:]]

    def _separate(self, place: int, neighbour: str, inline: bool) -> bool:
        """Whether a space belongs between a placeholder and its new neighbour, given what the source has there."""
        return self.space(place) or bool(not inline and _WORD.match(neighbour) and not _WORD.match(self.text[place]))

    def _apart(self, one: int, other: int) -> bool:
        """Whether a space belongs between two placeholders that are placed together: tags enclose words closely."""
        stop, start = (
            self.spans[one].end + len(self.marks.get(one, ("", ""))[1]),
            self.spans[other].start - len(self.marks.get(other, ("", ""))[0]),
        )
        between = self.text[stop:start]
        closes, opens = self.found[other].startswith("</"), self.spans[one].inline
        return (bool(between) and between.isspace()) or (self.space(stop) and not closes and not opens)

    # --------------------------------------------------------------------------------------------------------- pieces

    def pieces(self) -> tuple[Parts, list[int]]:
        """The text as parts, and which parts have words to translate; spaces and marks beside words are other parts."""
        parts, chosen, end = Parts(), list[int](), 0
        for number in range(len(self.spans) + 1):
            last = number == len(self.spans)
            text = self.text[end:] if last else self.text[end : self.spans[number].start]
            inner = re.search(r"\w(?:.*\S)?" if last else rf"\w(?:.*\w)?(?:[{_END}]+(?=\s))?", text, re.DOTALL)
            if inner is None:
                parts.append(text)
            else:
                chosen.append(len(parts) + 1)
                parts += [text[: inner.start()], inner[0], text[inner.end() :]]
            if not last:
                parts.append(number)
                end = self.spans[number].end
        return parts, chosen

    # -------------------------------------------------------------------------------------------------------- results

    def holds(self, parts: Parts) -> bool:
        """Whether parts have each placeholder once, and their texts no further one."""
        numbers = [part for part in parts if isinstance(part, int)]
        left = sorted(self.found[number] for number in range(len(self.spans)) if number not in set(numbers))
        more = sorted(one for part in parts if isinstance(part, str) for one in texts(part, find(part, self.kinds)))
        return len(set(numbers)) == len(numbers) and left == more

    def joined(self, parts: Parts) -> str:
        """The parts as text in the syntax of the format."""
        escape, quote = (self.text.escape, self.text.quote) if isinstance(self.text, Segment) else (str, str)
        pieces = list[str]()
        for part in parts:
            if isinstance(part, int):
                pieces.append(self.found[part] if self.spans[part].raw else quote(self.found[part]))
                continue
            end = 0
            for span in find(part, self.kinds):
                pieces += [escape(part[end : span.start]), quote(part[span.start : span.end])]
                end = span.end
            pieces.append(escape(part[end:]))
        return "".join(pieces)


def _alone(tag: str) -> bool:
    """Whether a tag encloses nothing."""
    name = re.match(r"</?([A-Za-z\d][\w:.-]*)", tag)
    return tag.endswith("/>") or name is None or name[1].lower() in ("br", "hr", "img", "input", "wbr")


def _is_empty(tag: str) -> bool:
    """Whether markup is an empty element or a comment, which may have spaces around it."""
    return tag.startswith("<") and not tag.startswith("</") and _alone(tag)


def without_end(translation: str, piece: str) -> str:
    """The translation of a part of a sentence, without a mark at its end that the part lacks."""
    return translation if piece.rstrip(_CLOSING + " ") != piece else translation.rstrip(_END) or translation


def _pairs(found: Sequence[str], numbers: Iterable[int]) -> dict[int, int]:
    """The other tag of each tag that belongs to a pair. Delimiters such as ``**`` are pairs of equal texts."""
    open_at: dict[str, list[int]] = defaultdict(list)
    partner: dict[int, int] = {}
    for number in numbers:
        match = re.match(r"<(/?)([A-Za-z\d][\w:.-]*)", found[number])
        name = match[2].lower() if match else "[" if found[number].lstrip("!")[:1] in ("[", "]") else found[number]
        closing = bool(match[1]) if match else found[number][0] == "]" if name == "[" else bool(open_at[name])
        if closing and open_at[name]:
            partner[number] = open_at[name].pop()
            partner[partner[number]] = number
        elif not closing and not (match and _alone(found[number])):
            open_at[name].append(number)
    return partner


class _Aligned:
    """A text and its translation, word by word."""

    def __init__(self, source: str, translation: str, links: str) -> None:
        self.source, self.translation = source, translation
        self.words, self.others = (
            [word.span() for word in re.finditer(r"\S+", text)] for text in (source, translation)
        )
        self.links: dict[int, list[int]] = defaultdict(list)
        for link in links.split():
            one, _, other = link.partition("-")
            if int(one) < len(self.words) and int(other) < len(self.others):
                self.links[int(one)].append(int(other))

    def around(self, start: int, end: int, opening: bool) -> int:
        """The start or the end of the translation of ``source[start:end]``."""
        inside = [n for n, (first, last) in enumerate(self.words) if first < end and last > start]
        targets = [target for n in inside for target in self.links[n]]
        if not targets:
            return self.beside(start if opening else end)
        return self._start(min(targets), start) if opening else self._end(max(targets), end)

    def beside(self, place: int) -> int:
        """Where something at a place of the source stands in the translation."""
        before = [n for n, (first, _) in enumerate(self.words) if first < place]
        after = [n for n, (_, last) in enumerate(self.words) if last > place]
        attached = place > 0 and not self.source[place - 1].isspace()
        if after and not attached:
            following = next((self.links[n] for n in after if self.links[n]), None)
            return len(self.translation) if following is None else self._start(min(following), place)
        preceding = next((self.links[n] for n in reversed(before) if self.links[n]), None)
        if preceding is None:
            return 0 if after else len(self.translation)
        return self._end(max(preceding), place)

    def _start(self, word: int, place: int) -> int:
        """The start of a word; after its quotes and brackets where the source has something before the place."""
        start, end = self.others[word]
        if place > 0 and not self.source[place - 1].isspace():
            text = self.translation[start:end]
            start += len(text) - len(text.lstrip(_OPENING) or text)
        return start

    def _end(self, word: int, place: int) -> int:
        """The end of a word; before its punctuation where the source has something after the place."""
        start, end = self.others[word]
        if place < len(self.source) and not self.source[place].isspace():
            end = start + len(self.translation[start:end].rstrip(_CLOSING) or self.translation[start:end])
        return end
