"""Markers of case: any text is restored, and a word has the same subwords in every case."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmt.config.tokenizer import SamplingConfig, TokenizerConfig
from nmt.data.inline_casing import kept, mark, unmark
from nmt.data.prepare import prepare_corpus
from nmt.data.tokenizer import Tokenizer
from nmt.data.tokenizer_training import Symbols
from tests.unit.data.corpora import Make, config

MARKED = {
    "Der HUND schläft.": "⇧ der ⇪ hund schläft.",
    "A MAN, I.": "⇧ a ⇪ man, ⇧ i.",
    "(Das „Haus“ 3D": "⇧ (das ⇧ „haus“ ⇧ 3d",
    "McDonald iPhone Jean-Luc": "McDonald iPhone Jean-Luc",  # no one symbol restores them
    "STRASSE straße ẞ": "⇪ strasse straße ẞ",
    "İstanbul ΟΔΟΣ Ǆep": "İstanbul ⇪ οδος Ǆep",
    "ǅep ﬃ ß ĸ": "⇧ ǆep ﬃ ß ĸ",
    "⇧ ⇪⇪ ⇧⇪ a⇧ ⇧a": "⇧⇧ ⇪⇪⇪ ⇧⇧⇪ a⇧ ⇧⇧a",
    "北京 hat 3 % \t": "北京 hat 3 % \t",
    "": "",
}


@pytest.mark.parametrize(("text", "marked"), MARKED.items())
def test_marked_text(text: str, marked: str) -> None:
    assert mark(text) == marked
    assert unmark(marked) == text


def test_any_text_is_restored() -> None:
    rng = random.Random(1)
    for _ in range(20_000):
        text = "".join(rng.choices("aAbBßẞİıǅΣσς⇧⇪⇧⇪ .-\t\u3000\u2028", k=rng.randint(0, 12)))
        assert unmark(mark(text)) == text
        assert unmark(mark(text, dotless=True), dotless=True) == text


def test_turkish_has_two_letters_i() -> None:
    """SpecialCasing.txt of Unicode: the capital of i is İ, that of ı is I."""
    text, marked = "İZMİR İzmir ISPARTA Iğdır I\u0307ZMİR", "⇪ izmir ⇧ izmir ⇪ ısparta ⇧ ığdır I\u0307ZMİR"
    assert mark(text, dotless=True) == marked
    assert unmark(marked, dotless=True) == text


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("rule", ["nmt_nfkc", {"src": "nmt_nfkc", "tgt": "whitespace"}])
def test_each_side_has_the_case_of_its_language(tmp_path: Path, joint: bool, rule: Any) -> None:
    rows = [("izmir ısparta ile", "izmir and isparta with"), ("iki ılık", "two mild"), ("kırık iyi", "in it is")] * 20
    (tmp_path / "t.tsv").write_text("".join(f"{src} {n}\t{tgt} {n}\n" for n, (src, tgt) in enumerate(rows)))
    valid = {"kind": "holdout", "fraction": 0.1}
    data = config(tmp_path, src_lang="tr", train={"kind": "tsv", "path": f"{tmp_path}/t.tsv"}, valid=valid)
    settings = TokenizerConfig(case="inline", joint=joint, vocab_size=55, type="char", normalization=rule)
    tokenizer = Tokenizer.train(settings, prepare_corpus(data), tmp_path / "made")
    pieces = tokenizer.src_pieces(tokenizer.encode_src(["İZMİR ISPARTA"])[0])
    assert "".join(pieces) == "▁⇪▁izmir▁⇪▁ısparta"
    pieces = tokenizer.tgt_pieces(tokenizer.encode_tgt(["IZMIR It"])[0])
    assert "".join(pieces) == "▁⇪▁izmir▁⇧▁it"
    assert tokenizer.decode(tokenizer.encode_tgt(["IZMIR It"])) == ["IZMIR It"]


@pytest.mark.parametrize(
    ("marked", "text"),
    [
        ("⇧", ""),
        ("der ⇪", "der "),
        ("⇧ ⇪ hund ⇧ ⇧", "HUND "),
        ("⇧ McDonald", "McDonald"),
        ("a ⇧. ⇪⇧hund", "a . Hund"),
        ("⇪ 3 ⇧ 3", "3 3"),
    ],
)
def test_markers_that_a_model_may_write(marked: str, text: str) -> None:
    assert unmark(marked) == text


def test_words_with_a_symbol_keep_their_case() -> None:
    symbols = kept(["<ph0>", "__SOURCE__", "<Term>"])
    assert mark("__SOURCE__ Hund (<Term>) <ph0>HUND", symbols) == "__SOURCE__ ⇧ hund (<Term>) <ph0>HUND"
    assert kept(["<ph0>", "__start__"]) is None


@pytest.mark.parametrize("rule", ["nmt_nfkc", "whitespace"])
def test_a_symbol_with_capitals_is_one_piece(make: Make, rule: str) -> None:
    symbols = Symbols(words=("__SOURCE__", "<Term>", "__start__"))
    tokenizer = make(case="inline", normalization=rule, vocab_size=120, symbols=symbols)
    pieces = tokenizer.src_pieces(tokenizer.encode_src(["__SOURCE__ HUND <Term> Hund __start__"])[0])
    assert [piece for piece in pieces if len(piece) > 5] == list(symbols.words)
    assert all(map(tokenizer.reads, symbols.words))
    sampler = tokenizer.batch_samplers(SamplingConfig(alpha=0.05))[0]
    for ids in sampler.sample(["__SOURCE__ HUND"] * 5, np.arange(5, dtype=np.uint64)):
        assert "__SOURCE__" in tokenizer.src_pieces(ids.tolist())


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char", "word"])
@pytest.mark.parametrize("rule", ["nmt_nfkc", "whitespace", "identity"])
def test_all_cases_have_the_same_subwords(make: Make, kind: str, rule: str) -> None:
    tokenizer = make(type=kind, case="inline", normalization=rule, vocab_size=60 if kind == "char" else 120)
    assert tokenizer.marks_case
    lower, title, upper = (
        tokenizer.src_pieces(ids) for ids in tokenizer.encode_src(["hund läuft", "Hund Läuft", "HUND LÄUFT"])
    )
    for cased, symbol in ((title, "▁⇧"), (upper, "▁⇪")):
        assert [piece for piece in cased if piece != symbol] == lower
        assert cased.count(symbol) == 2
    texts = ["Der HUND läuft über", "", "DER"] * 10
    assert tokenizer.decode(tokenizer.encode_tgt(texts)) == texts
    assert [tokenizer.decode([ids])[0] for ids in tokenizer.encode_tgt(texts[:3])] == texts[:3]
    assert Tokenizer.load(tokenizer.path).encode_tgt(texts) == tokenizer.encode_tgt(texts)


def test_a_marker_belongs_to_the_word_that_follows(make: Make) -> None:
    tokenizer = make(case="inline", vocab_size=120)
    text = "Der HUND läuft Rot"
    [ids] = tokenizer.encode_tgt([text])
    pieces = tokenizer.tgt_pieces(ids)
    expected, word = [], -1
    for before, piece in zip(["", *pieces], pieces, strict=False):
        word += piece.startswith("▁") and before not in ("▁⇧", "▁⇪")
        expected.append(word)
    assert set(expected) == {0, 1, 2, 3}
    assert tokenizer.tgt_words(ids) == tokenizer.tgt_text_words(text) == tokenizer.src_words(text) == expected
    assert tokenizer.tgt_groups(ids) == expected
    assert tokenizer.decode_copying(ids, {1: "Katze"}) == "Der Katze läuft Rot"


@pytest.mark.parametrize(("kind", "nbest"), [("unigram", -1), ("unigram", 5), ("bpe", -1)])
def test_sampled_subwords_are_of_the_same_text(make: Make, kind: str, nbest: int) -> None:
    tokenizer = make(type=kind, case="inline", vocab_size=120)
    sampling = SamplingConfig(alpha=0.05, nbest=nbest)
    text = "Der HUND läuft über die Straße"
    batch = tokenizer.batch_samplers(sampling)[1].sample([text] * 20, np.arange(20, dtype=np.uint64))
    found = [ids.tolist() for ids in batch]
    assert len(set(map(tuple, found))) >= 3
    assert tokenizer.decode(found) == [text] * len(found)
    assert all(sum(piece in ("▁⇧", "▁⇪") for piece in tokenizer.tgt_pieces(ids)) == 3 for ids in found)


def test_a_tokenizer_without_markers_keeps_the_arrows_of_a_text(make: Make) -> None:
    tokenizer = make(byte_fallback=True, vocab_size=330)
    assert not tokenizer.marks_case
    assert tokenizer.decode(tokenizer.encode_tgt(["⇧ der ⇪ HUND"])) == ["⇧ der ⇪ HUND"]
