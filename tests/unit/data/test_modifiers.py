"""Random changes of pairs, against what OpusTrainer does, by hand, and against the package where it is installed."""

from __future__ import annotations

import random
import re
from collections import Counter
from typing import Any

import pytest
from pydantic import TypeAdapter

from nmt.config.modifiers import TYPOS, ModifierConfig
from nmt.data.modifiers import Around, Pair, modify, parse_links, symbols_among

PAIR = Pair("Hello, old world!", "Hallo, alte Welt!")
OTHERS = [Pair("one two", "eins zwei"), Pair("three", "drei")]


def modifier(**fields: Any) -> Any:
    return TypeAdapter(ModifierConfig).validate_python(fields)


def changed(fields: dict[str, Any], pair: Pair = PAIR, seed: int = 1) -> Pair:
    return modify(modifier(**fields), pair, random.Random(seed), Around(lambda rng: rng.choice(OTHERS)))


def test_cases_of_turkish_have_two_letters_i():
    """SpecialCasing.txt of Unicode: the capital of i is İ, that of ı is I."""
    pair, around = Pair("izmir ve ısparta", "izmir and isparta"), Around(lambda _: PAIR, None, (True, False))
    upper, title = (
        modify(modifier(**{name: 1}), pair, random.Random(1), around) for name in ("UpperCase", "TitleCase")
    )
    assert upper == Pair("İZMİR VE ISPARTA", "IZMIR AND ISPARTA")
    assert title == Pair("İzmir Ve Isparta", "Izmir And Isparta")


def test_cases():
    assert changed({"UpperCase": 1}) == Pair("HELLO, OLD WORLD!", "HALLO, ALTE WELT!")
    assert changed({"TitleCase": 1}) == Pair("Hello, Old World!", "Hallo, Alte Welt!")
    assert changed({"TitleCase": 1}, Pair("iPad élan  x", "ß y")).src == "IPad Élan X"


@pytest.mark.parametrize(("src", "tgt", "expected"), [
    ("Hello.", "你好。", ("Hello", "你好")),
    ("Hello .", "Hallo!", None),  # marks of different kinds
    ("Hello?!", "Hallo!", None),  # several marks
    ("Hello . .", "Hallo .", None),
    ("Hello . ", "Hallo .", None),
    ("Why ?", "Warum ?", ("Why", "Warum")),
    ("Hello", "Hallo", None),
    (".", ".", ("", "")),
])  # fmt: skip
def test_removing_the_punctuation_at_the_end(src, tgt, expected):
    pair = Pair(src, tgt)
    found = changed({"RemoveEndPunct": 1}, pair)
    assert (found.src, found.tgt) == (expected or (src, tgt))


@pytest.mark.parametrize(("src", "tgt", "links", "expected"), [
    ("a b.", "x y.", "0-0 1-1", "0-0 1-1"),  # the last words stay, and so do their links
    ("a b .", "x y.", "0-0 1-1 2-1", "0-0 1-1"),
    ("a  b  .", "x y .", "0-0 1-1 2-2", "0-0 1-1"),
    (".", ".", "0-0", ""),
])  # fmt: skip
def test_links_of_a_removed_mark_are_removed(src, tgt, links, expected):
    assert changed({"RemoveEndPunct": 1}, Pair(src, tgt, parse_links(links))).links == parse_links(expected)


def test_prefix_is_a_phrase_of_the_target():
    found = {changed({"Prefix": 1, "min_words": 2, "max_words": 2}, seed=seed).src for seed in range(30)}
    assert found == {f"__start__ {part} __end__ Hello, old world!" for part in ("Hallo, alte", "alte Welt!")}
    assert changed({"Prefix": 1, "min_words": 4}) == PAIR  # the target is too short


def test_merge_moves_the_word_alignments():
    pair = Pair("a b", "x y z", ((0, 2), (1, 0)))
    found = modify(modifier(Merge=1, min_lines=2, max_lines=2), pair, random.Random(0),
                   Around(lambda _: Pair("c", "w", ((0, 0),))))  # fmt: skip
    assert found == Pair("a b c", "x y z w", ((0, 2), (1, 0), (2, 3)))
    lengths = Counter(len(changed({"Merge": 1}, Pair("a", "b"), seed).tgt.split()) for seed in range(50))
    assert max(lengths) <= 7
    assert changed({"Merge": 1}, Pair("a", "b")).links is None


def test_noise_is_the_same_on_both_sides():
    for seed in range(20):
        found = changed({"Noise": 1, "max_words": 3}, seed=seed)
        assert found.src == found.tgt != ""


def test_tags_of_aligned_words():
    pair = Pair("I like the cake", "Me gusta el pastel", parse_links("0-0 1-1 2-2 2-3 3-3"))
    assert changed({"Tags": 1.0}, pair).src == (
        "__source__ I __target__ Me __done__ __source__ like __target__ gusta __done__ the cake"
    )
    replaced = changed({"Tags": 1.0, "replace": 1.0}, Pair("a b", "x b", parse_links("0-0 1-1")))
    words = replaced.src.split()
    assert words[:2] + words[-2:] == ["__source__", "a", "__done__", "b"]  # equal words stay
    assert replaced.tgt == " ".join([*words[3:-2], "b"])
    assert changed({"Tags": 1.0}) == Pair(PAIR.src, PAIR.tgt)  # without word alignments


@pytest.mark.parametrize("kind", TYPOS)
def test_typos_make_one_error_in_the_source(kind):
    text = "The bookkeeper 7 ate a pizza"
    found = {changed({"Typos": 1.0, kind: 1.0}, Pair(text, "x"), seed).src for seed in range(200)}
    difference = {"missing_char": -1, "skipped_space": -1, "unichar": -1, "char_swap": 0, "nearby_char": 0,
                  "similar_char": 0}.get(kind, 1)  # fmt: skip
    assert len(found) > 2
    assert {len(one) for one in found} - {len(text) + difference} <= {len(text) + 1}  # "9" may become "10"
    if kind == "char_swap":
        assert all(sorted(one.lower()) == sorted(text.lower()) for one in found)
    if kind == "unichar":
        assert found == {"The bokkeeper 7 ate a pizza", "The bookeeper 7 ate a pizza", "The bookkeper 7 ate a pizza",
                         "The bookkeeper 7 ate a piza"}  # fmt: skip


def test_a_typo_moves_the_word_alignments():
    pair = Pair("ab c de", "x y z", ((0, 0), (1, 1), (2, 2)))
    for seed in range(40):
        found = changed({"Typos": 1.0, "skipped_space": 1.0}, pair, seed)
        assert found.links in (((0, 0), (0, 1), (1, 2)), ((0, 0), (1, 1), (1, 2)))
        split = changed({"Typos": 1.0, "random_space": 1.0}, pair, seed)
        assert all(place < len(split.src.split()) for place, _ in split.links or ())
        assert {tgt for _, tgt in split.links or ()} == {0, 1, 2}


@pytest.mark.parametrize("fields", [
    {"UpperCase": 1}, {"TitleCase": 1}, *({"Typos": 1, kind: 1.0} for kind in TYPOS),
])  # fmt: skip
def test_case_and_typos_leave_the_symbols_of_other_modifiers_whole(fields):
    symbols = symbols_among([modifier(Placeholders=1, symbols=2), modifier(Prefix=1, template="src: {trg} [/src] ")])
    pair = Pair("src: xz  yy [/src] aa <ph1>bb", "cc <ph1> dd")
    found = set()
    for seed in range(100):
        new = modify(modifier(**fields), pair, random.Random(seed), Around(lambda _: PAIR, symbols))
        assert [new.src.count(one) for one in ("src:", "[/src]", "<ph1>")] == [1, 1, 1]
        assert "<ph1>" in new.tgt
        found.add(new.src)
    assert found - {pair.src}
    if "UpperCase" in fields:
        assert found == {"src: XZ  YY [/src] AA <ph1>BB"}


def test_typos_have_the_given_probabilities():
    assert modifier(Typos=0.5).kinds == dict.fromkeys(TYPOS, 0.1)
    assert modifier(Typos=0.5, char_swap=0.3).kinds == {"char_swap": 0.3}


# ---------------------------------------------------------------------------------------------------------- the package


def test_the_package_changes_alike():
    """Deterministic changes are equal, and each kind of typing error gives the same distribution."""
    pytest.importorskip("opustrainer", reason="needs opustrainer, with which the modifiers are compared")
    from opustrainer.modifiers.punctuation import RemoveEndPunctuationModifier
    from opustrainer.modifiers.surface import TitleCaseModifier, UpperCaseModifier
    from opustrainer.modifiers.typos import TypoModifier

    lines = ["hello world.\thallo welt.", "Is it?!\tIst es?", "x y…\tä ß ⋯", "no end\tkein Ende", "É lan .\tx ."]
    for name, theirs in (("UpperCase", UpperCaseModifier), ("TitleCase", TitleCaseModifier),
                         ("RemoveEndPunct", RemoveEndPunctuationModifier)):  # fmt: skip
        for line, expected in zip(lines, theirs(1.1)(lines), strict=True):
            found = changed({name: 1.0}, Pair(*line.split("\t")))
            assert f"{found.src}\t{found.tgt}" == expected
    for kind in TYPOS:
        ours, draws = Counter[str](), 4000
        theirs = Counter(line.split("\t")[0] for line in TypoModifier(1.1, **{kind: 1.0})(["Ab ccd 7\tx"] * draws))
        for seed in range(draws):
            ours[changed({"Typos": 1.0, kind: 1.0}, Pair("Ab ccd 7", "x"), seed).src] += 1
        assert ours.keys() == theirs.keys()
        assert all(abs(ours[text] - theirs[text]) < 5 * (2 * ours[text]) ** 0.5 + 5 for text in ours)


# -------------------------------------------------------------------------------------------------------- placeholders


def with_placeholders(pair: Pair, count: int = 40, symbols: int = 4) -> list[Pair]:
    return [changed({"Placeholders": 1.0, "symbols": symbols}, pair, seed) for seed in range(count)]


def test_words_of_both_sides_become_the_same_symbols():
    sides = "Anna pays 12.50 and 3, 3 to http://a.b/c.", "Anna zahlt 12.50 und 3, 3 an http://a.b/c."
    found = with_placeholders(Pair(*sides))
    seen: set[str] = set()
    for one in found:
        for side in (one.src, one.tgt):
            assert sorted(re.findall(r"<ph\d>", side)) == sorted(re.findall(r"<ph\d>", one.src))
        pairs = zip(one.src.split(), one.tgt.split(), strict=False)
        seen |= {src for src, tgt in pairs if src == tgt and "<ph" in src}
        assert "3, 3" in one.src  # twice on each side: which belongs to which is not known
    assert {re.sub(r"\d", "", word) for word in seen} >= {"<ph>", "<ph>."}


def test_aligned_words_become_symbols_and_links_stay():
    found = with_placeholders(Pair("a big dog", "ein großer Hund", ((0, 0), (1, 1), (2, 2))))
    assert any("big" not in one.src and "großer" not in one.tgt for one in found)
    for one in found:
        src, tgt = one.src.split(), one.tgt.split()
        assert one.links is not None
        for left, right in one.links:
            assert ("<ph" in src[left]) == ("<ph" in tgt[right])


def test_a_pair_without_shared_words_has_symbols_at_its_ends():
    found = {re.sub(r"\d", "", f"{one.src}|{one.tgt}") for one in with_placeholders(Pair("a dog", "ein Hund"))}
    assert found == {"<ph> a dog|<ph> ein Hund", "a dog <ph>|ein Hund <ph>", "<ph>a dog<ph>|<ph>ein Hund<ph>"}
