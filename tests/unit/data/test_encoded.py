"""The encoded corpus: the same as encoding line by line, cut, dropped, stored once."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from nmt.config.data import DataConfig
from nmt.config.tokenizer import TokenizerConfig
from nmt.data.arrow import BLOCK
from nmt.data.encoded import EncodedCorpus, ParallelDataset, encode_corpus
from nmt.data.prepare import prepare_corpus
from nmt.data.tokenizer import Tokenizer
from nmt.errors import DataError
from tests.unit.data.corpora import CHAR_TRAIN, CHAR_VALID, prepare, texts


def test_long_and_empty_pairs_leave_train(encoded: tuple[EncodedCorpus, Tokenizer]) -> None:
    data, tokenizer = encoded[0].train, encoded[1]
    assert texts(data, tokenizer) == [("▁ab▁c", "▁c"), ("▁b", "▁a▁a")]
    assert [data.index(i) for i in range(len(data))] == [0, 4]
    assert encoded[0].manifest["train"] == {
        "pairs": 2, "src_tokens": 7, "tgt_tokens": 6, "too_many_tokens": 3, "no_tokens": 1,
    }  # fmt: skip


def test_valid_is_cut_and_complete(encoded: tuple[EncodedCorpus, Tokenizer]) -> None:
    data, tokenizer = encoded[0].valid, encoded[1]
    assert texts(data, tokenizer) == [("▁abca", "▁c"), ("", "▁b"), ("▁a", "▁b")]
    assert [data.index(i) for i in range(3)] == [0, 1, 2]
    assert encoded[0].manifest["valid"]["too_many_tokens"] == 1


def test_lengths_and_types(encoded: tuple[EncodedCorpus, Tokenizer]) -> None:
    data = encoded[0].valid
    assert data.lengths().tolist() == [[5, 0, 2], [2, 2, 2]]
    assert data.lengths(1).tolist() == [[0, 2], [2, 2]]
    assert data.lengths(0, 2).tolist() == [[5, 0], [2, 2]]
    assert data.lengths(2, 99).tolist() == [[2], [2]]
    assert data.lengths().dtype == np.int32
    assert data.src(0).dtype == np.uint16
    assert not data.src(0).flags.writeable
    assert not data.src(0).flags.owndata
    for i in (-1, 3):
        with pytest.raises(IndexError):
            data.src(i)


def test_summary(encoded: tuple[EncodedCorpus, Tokenizer]) -> None:
    assert encoded[0].summary() == "\n".join(
        [
            f"encoded {encoded[0].path}",
            "  train            2 pairs, 7 source and 6 target subwords",
            "  valid            3 pairs, 7 source and 6 target subwords",
            "                   3 dropped from train: more than 5 subwords per side",
            "                   1 dropped from train: no subwords on one side",
            "                   1 cut in valid for its loss: more than 5 subwords per side",
        ]
    )


def test_reused_while_nothing_changes(tmp_path: Path) -> None:
    corpus, tokenizer = prepare(tmp_path, CHAR_TRAIN, CHAR_VALID)
    first = encode_corpus(corpus, tokenizer, 5, tmp_path)
    before = {p: p.stat().st_mtime_ns for p in first.path.iterdir()}
    time.sleep(0.01)
    again = encode_corpus(corpus, Tokenizer.load(tokenizer.path), 5, tmp_path)
    assert again.path == first.path
    assert {p: p.stat().st_mtime_ns for p in first.path.iterdir()} == before
    assert encode_corpus(corpus, tokenizer, 6, tmp_path).path != first.path
    other = Tokenizer.train(TokenizerConfig(type="char", joint=False, vocab_size=20), corpus, tmp_path / "other")
    assert encode_corpus(corpus, other, 5, tmp_path).path != first.path


def test_nothing_left(tmp_path: Path) -> None:
    corpus, tokenizer = prepare(tmp_path, CHAR_TRAIN[:3], CHAR_VALID)
    with pytest.raises(DataError) as error:
        encode_corpus(corpus, tokenizer, 1, tmp_path)
    assert str(error.value) == (
        "data.train: none of its 3 pairs has 1 subwords per side or fewer; raise data.cleaning.max_tokens"
    )
    assert not list(tmp_path.glob("*encoded-*"))


def test_blocks_join_without_a_seam(tmp_path: Path) -> None:
    """Two and a bit blocks of text, a third of it dropped: every row is what encoding it alone gives."""
    rows = [("ab c" if i % 3 else "abcabcabc", "abc"[: 1 + i % 3]) for i in range(2 * BLOCK + 100)]
    corpus, tokenizer = prepare(tmp_path, rows, CHAR_VALID)
    data = encode_corpus(corpus, tokenizer, 5, tmp_path).train
    kept = [i for i in range(len(rows)) if i % 3]
    assert len(data) == len(kept)
    text = corpus.part("train")
    for i in [0, 1, BLOCK // 3, BLOCK - 1, BLOCK, BLOCK + 1, len(kept) - 1]:
        assert data.index(i) == kept[i]
        assert data.src(i).tolist() == tokenizer.encode_src([text.src(kept[i])])[0]
        assert data.tgt(i).tolist() == tokenizer.encode_tgt([text.tgt(kept[i])])[0]
    src_lengths, tgt_lengths = data.lengths()
    assert src_lengths.tolist() == [5] * len(kept)
    assert tgt_lengths.tolist() == [2 + i % 3 for i in kept]
    for start, stop in [(0, BLOCK), (BLOCK - 3, BLOCK + 3), (BLOCK, len(kept)), (5, 7)]:
        assert data.lengths(start, stop).tolist() == [[5] * (stop - start), tgt_lengths[start:stop].tolist()]


@pytest.mark.parametrize(("largest", "dtype"), [(65_535, np.uint16), (65_536, np.uint32)])
def test_ids_take_as_few_bits_as_the_vocabulary_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, largest: int, dtype: type
) -> None:
    corpus, tokenizer = prepare(tmp_path, CHAR_TRAIN, CHAR_VALID)
    monkeypatch.setattr(tokenizer, "tgt_vocab_size", largest + 1)
    monkeypatch.setattr(Tokenizer, "encode_tgt", lambda self, texts: [[largest]] * len(texts))
    data = encode_corpus(corpus, tokenizer, 5, tmp_path).train
    assert data.tgt(0).tolist() == [largest]
    assert data.tgt(0).dtype == dtype


def test_damaged(encoded: tuple[EncodedCorpus, Tokenizer]) -> None:
    path = encoded[0].path
    (path / "train.arrow").write_bytes(b"")
    with pytest.raises(DataError) as error:
        ParallelDataset(path / "train.arrow")
    assert str(error.value) == f"{path}/train.arrow: is damaged; delete the folder {path} and run again"


MULTI30K = Path(__file__).parents[3].parent / "shared/data/multi30k"


@pytest.mark.slow
@pytest.mark.skipif(not MULTI30K.is_dir(), reason=f"{MULTI30K} is not there")
def test_multi30k_line_by_line(tmp_path: Path) -> None:
    sources = {
        part: {"kind": "text", "src": f"{MULTI30K}/raw/{name}.en.gz", "tgt": f"{MULTI30K}/raw/{name}.de.gz"}
        for part, name in (("train", "train"), ("valid", "val"))
    }
    corpus = prepare_corpus(DataConfig.model_validate({**sources, "store": str(tmp_path)}))
    tokenizer = Tokenizer.train(TokenizerConfig(type="bpe", vocab_size=4000), corpus, tmp_path / "tok")
    encoded = encode_corpus(corpus, tokenizer, 256, tmp_path)
    text = corpus.part("train")
    for i in range(0, len(encoded.train), 997):
        row = encoded.train.index(i)
        assert encoded.train.src(i).tolist() == tokenizer.encode_src([text.src(row)])[0]
        assert encoded.train.tgt(i).tolist() == tokenizer.encode_tgt([text.tgt(row)])[0]
        assert tokenizer.decode([encoded.train.tgt(i).tolist()]) == [" ".join(text.tgt(row).split())]
    assert len(encoded.valid) == 1014
