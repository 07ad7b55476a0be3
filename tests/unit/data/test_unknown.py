"""Unknown pieces of an encoded corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nmt.config.data import DataConfig
from nmt.config.tokenizer import TokenizerConfig
from nmt.data.encoded import encode_corpus
from nmt.data.prepare import prepare_corpus
from nmt.data.tokenizer import Tokenizer
from nmt.data.unknown import describe, percent
from tests.unit.data.corpora import prepare


def test_unknown_pieces_are_counted_in_every_part(tmp_path: Path) -> None:
    """By hand. The model knows the letters of train: ▁ a b c x y. Runs of unknown letters are one piece."""
    rows = {
        "train": [("a b", "x"), ("c", "y"), ("a" * 9, "x")],  # the last is too long for train
        "valid": [("a日本b", "x"), ("é a", "x y")],  # ▁ a ? b, and ? ▁ a with the ▁ of the line before it
        "test": [("a", "日x日"), ("a", "x")],  # ▁ ? x ?
    }
    for name, pairs in rows.items():
        (tmp_path / name).write_text("".join(f"{src}\t{tgt}\n" for src, tgt in pairs), encoding="utf-8")
    source = {name: {"kind": "tsv", "path": str(tmp_path / name)} for name in rows}
    data = {
        "train": source["train"], "valid": source["valid"], "test": {"t": source["test"]}, "store": str(tmp_path),
        "cleaning": {"drop_overlap": False, "max_ratio": 1000.0},
    }  # fmt: skip
    corpus = prepare_corpus(DataConfig.model_validate(data))
    tokenizer = Tokenizer.train(TokenizerConfig(type="char", vocab_size=20), corpus, tmp_path / "tok")
    encoded = encode_corpus(corpus, tokenizer, 5, tmp_path)
    found = encoded.unknown
    none = {"pieces": 0, "lines": 0, "most_frequent": {}}
    assert found["train"] == {"pairs": 2, "src": {"tokens": 6, **none}, "tgt": {"tokens": 4, **none}}
    unknown = {"pieces": 2, "lines": 2, "most_frequent": {"日": 1, "本": 1, "é": 1}}
    assert found["valid"] == {"pairs": 2, "src": {"tokens": 8, **unknown}, "tgt": {"tokens": 6, **none}}
    unknown = {"pieces": 2, "lines": 1, "most_frequent": {"日": 2}}
    assert found["test.t"] == {"pairs": 2, "src": {"tokens": 4, **none}, "tgt": {"tokens": 6, **unknown}}
    assert describe(found) == (
        2 / 6,
        "target 33% of the subwords of test.t (in 50% of its lines); source 25% of valid (in 100% of its lines); "
        "most frequent: '日' 3, '本' 1, 'é' 1",
    )
    assert encode_corpus(corpus, tokenizer, 5, tmp_path).unknown == found


def test_the_account_of_unknown_pieces_is_short_whatever_is_unknown() -> None:
    def side(pieces: int, name: str) -> dict[str, Any]:
        texts = {f"{name}{number}" * 300: pieces for number in range(20)}
        return {"tokens": 1000, "pieces": pieces, "lines": 1, "most_frequent": texts}

    accounts = {f"test.{n}": {"pairs": 1, "src": side(n, "s"), "tgt": side(2 * n, "t")} for n in range(1, 41)}
    share, told = describe(accounts)
    assert share == 0.08
    assert len(told) < 800
    assert told.startswith(
        "target 8% of the subwords of test.40 (in 100% of its lines), 7.8% of test.39 (in 100% of its lines), "
        "7.6% of test.38 (in 100% of its lines) and of 37 other parts; source 4% of test.40 "
    )
    assert "; most frequent of 2,460 pieces: 't0t0t0t0t0t0t0t0t0t0...' " in told  # 3 times 1 + 2 + ... + 40
    assert told.count("...'") == 8


def test_unknown_words(tmp_path: Path) -> None:
    """Eight words fill the vocabulary: 4 of them are letters that come twice."""
    rows = [("a b c d", "a"), ("a b c d", "xyz a"), ("b xyz", "c")]
    corpus, _ = prepare(tmp_path, rows, [("a", "a")])
    tokenizer = Tokenizer.train(TokenizerConfig(type="word", vocab_size=8), corpus, tmp_path / "words")
    found = encode_corpus(corpus, tokenizer, 50, tmp_path).unknown["train"]
    assert found["src"] == {"tokens": 10, "pieces": 1, "lines": 1, "most_frequent": {"xyz": 1}}
    assert found["tgt"] == {"tokens": 4, "pieces": 1, "lines": 1, "most_frequent": {"xyz": 1}}


@pytest.mark.parametrize(
    ("share", "text"), [(0.5, "50%"), (0.1, "10%"), (0.0921, "9.2%"), (0.00012, "0.012%"), (1, "100%")]
)
def test_shares_for_people(share: float, text: str) -> None:
    assert percent(share) == text
