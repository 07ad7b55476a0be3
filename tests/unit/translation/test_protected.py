"""Placeholders through translators that copy, reverse, drop, add and babble."""

from __future__ import annotations

import random
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from nmt.data.tagged import TaggedLine
from nmt.text.placeholders import SYMBOL
from nmt.translation.protected import Protected
from nmt.translation.translator import Notice, Translation
from tests.placeholders import WORDS, check, line


class Fake:
    """A translator of words, each of which becomes what ``change`` makes of the list."""

    def __init__(self, change: Any, symbols: int = 0, beam_size: int = 2) -> None:
        self.change, self.asked = change, list[str]()
        self.tokenizer = SimpleNamespace(placeholders=symbols)
        self.search = SimpleNamespace(uses_beam=True, beam_size=beam_size)

    def translate(self, lines: Sequence[str], nbest: int, warn: Any = None, first_line: int = 1) -> Any:
        self.asked += lines
        return [
            [Translation(" ".join(words), -1.0 - n, -2.0 - n, [7]) for n, words in enumerate(self.hypotheses(text))]
            for text in lines
        ]

    def hypotheses(self, text: str) -> list[list[str]]:
        return [self.change(text.split())]

    def align(self, lines: Sequence[str], found: Sequence[Sequence[Translation]]) -> list[list[str]]:
        """The alignment of a translator that reverses."""
        rows = []
        for text, each in zip(lines, found, strict=True):
            count = len(text.split())
            assert all(len(one.text.split()) <= count for one in each)
            rows.append([" ".join(f"{n}-{count - 1 - n}" for n in range(count)) for _ in each])
        return rows


def reverse(words: list[str]) -> list[str]:
    return words[::-1]


def upper(words: list[str]) -> list[str]:
    return [word.upper() for word in words]


def add(words: list[str]) -> list[str]:
    return [*words, "{name}", "<b>", "42", "http://x.org/y"]


def drop(words: list[str]) -> list[str]:
    return [word for word in words if word in WORDS]


def babble(words: list[str]) -> list[str]:
    return ["</b>", "{x", "%", "1", "&", "<", "a@b.cd"] * 3


def twice(words: list[str]) -> list[str]:
    return words * 2


def nothing(words: list[str]) -> list[str]:
    return []


@pytest.mark.parametrize(
    ("change", "symbols", "count"),
    [
        (babble, 0, 500),
        (reverse, 3, 200),
        (upper, 0, 99),
        (add, 3, 99),
        (drop, 0, 99),
        (twice, 3, 99),
        (nothing, 0, 99),
    ],
)
def test_generated_lines_keep_every_placeholder(change, symbols, count):
    rng = random.Random(count)
    lines = [line(rng) for _ in range(count)]
    fake: Any = Fake(change, symbols)
    protected = Protected(fake)
    found = protected.translate([text for text, _ in lines])
    for (text, placeholders), [best] in zip(lines, found, strict=True):
        if placeholders:
            check(text, placeholders, best.text)
        else:
            assert best.text == " ".join(change(text.split()))
    assert sum(protected.ways.values()) == protected.lines == sum(bool(found) for _, found in lines)


def translated(text: str, change: Any = reverse, symbols: int = 0, align: bool = True, **more: Any) -> tuple[str, str]:
    """The translation, and the way of it."""
    fake: Any = Fake(change, symbols, **more)
    protected = Protected(fake, align=fake.align if align else None)
    [[best]] = protected.translate([text])
    [way] = protected.ways
    return best.text, way


@pytest.mark.parametrize(
    ("text", "expected", "way"),
    [
        ("one {name} two", "two {name} one", "copied"),
        ("one <b>two</b> three", "three <b>two</b> one", "placed"),
        ("<b>one two</b> three", "three <b>two one</b>", "placed"),
        ("one <a href='x y'>two three</a>", "<a href='x y'>three two</a> one", "placed"),
        ("one <i><b>two</b> three</i>", "<i>three <b>two</b></i> one", "placed"),
        ("<b>{name}</b> one", "one <b>{name}</b>", "copied"),
        ("one<br/>two", "<br/>two one", "placed"),
        ("one <0>two three</0> four <1/>", "four <0>three two</0><1/> one", "placed"),
        ("{name}", "{name}", "copied"),
    ],
)
def test_words_are_reversed_and_tags_enclose_the_same_words(text, expected, way):
    assert translated(text) == (expected, way)


def test_a_placeholder_that_the_model_drops_is_placed_by_attention():
    def lossy(words: list[str]) -> list[str]:
        return [word for word in reversed(words) if "{" not in word]

    assert translated("one {name} two three", lossy) == ("three {name} two one", "placed")
    assert translated("one {name}, two", lossy) == ("two one {name},", "placed")
    assert translated("one {name} two three", lossy, align=False) == ("one {name} three two", "pieces")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one ({name}) two", "({name}) two one"),
        ('one "{a}{b}", two', 'two one "{a}{b}",'),
        ("one („{name}“) two", "(„{name}“) two one"),
        ("{name}, one", "{name} one"),
        ("{name}'s one", "{name} one"),
        ("one ({a}) {b}", "one ({a}) {b}"),
        ("one <br/> {a} two", "<br/> {a} two one"),
        ("one %s%d two", "%s%d two one"),
        ("one {a}<br> two", "{a}<br> two one"),
        ("one {a} <b>two</b>", "{a} <b>two</b> one"),
        ("one{a} two", "two one{a}"),
        ("<b>one</b> {a} two", "{a} two <b>one</b>"),
    ],
)
def test_placed_placeholders_keep_their_marks_and_spaces(text, expected):
    def lossy(words: list[str]) -> list[str]:
        kept = [word for word in reversed(words) if word not in (",", "'s")]
        return kept if not any(char in word for word in words for char in "{%") else ["lost"]

    assert translated(text, lossy) == (expected, "placed")


def test_a_model_that_ends_every_piece_as_a_sentence_adds_no_points():
    def ended(words: list[str]) -> list[str]:
        kept = [word for word in words if "{" not in word]
        return [*kept[:-1], kept[-1].rstrip(".?") + "."]

    text = "one two. {x} three {y} four? {z} five, ({a}) six"
    expected = "one two. {x} three {y} four. {z} five, ({a}) six"
    assert translated(text, ended, align=False) == (expected, "pieces")


def test_symbols_come_first_and_carry_adjacent_placeholders_together():
    fake: Any = Fake(reverse, 2)
    [[best]] = Protected(fake).translate(["one <b>{name}</b> two %s"])
    assert fake.asked == ["one <ph0> two <ph1>"]
    assert best.text == "%s two <b>{name}</b> one"
    assert translated("%s %d {x} one", reverse, 2)[1] == "copied"  # more than there are symbols


def test_tags_keep_no_space_inside():
    def apart(words: list[str]) -> list[str]:
        return [part for word in words for part in SYMBOL.sub(r" <ph\1> ", word).split()]

    assert translated("one <b>two three</b> four.", apart, 2)[0] == "one <b>two three</b> four."


def test_the_first_hypothesis_that_keeps_all_is_taken():
    class Several(Fake):
        def hypotheses(self, text: str) -> list[list[str]]:
            return [["lost"], ["kept", "{x}"], ["kept", "{x}", "{x}"], ["{x}", "again"]]

    fake: Any = Several(None)
    [found] = Protected(fake).translate(["one {x}"], nbest=2)
    assert [(one.text, one.score) for one in found] == [("kept {x}", -2.0), ("{x} again", -4.0)]


def test_tags_of_the_model_stay_with_every_text_that_is_asked():
    fake: Any = Fake(drop)
    Protected(fake).translate([TaggedLine.of("one {x} two", ["<2de>"])])
    assert [one.tags for one in fake.asked] == [("<2de>",)] * 3


def test_what_a_piece_adds_is_deleted_and_named():
    notices: list[Notice] = []
    fake: Any = Fake(add)
    protected = Protected(fake)
    [_, [best]] = protected.translate(["one", "one {name} two"], warn=notices.append, first_line=11)
    assert best.text == "one {name} two"
    assert {notice.line for notice in notices} == {12}
    assert "placeholders added by the translation were deleted" in notices[0].kind
    assert protected.removed == 8
    assert protected.summary() == (
        "placeholders: 1 in 1 line, all kept; lines: 1 translated in pieces between placeholders"
    )
