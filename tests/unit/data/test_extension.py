"""New pieces of a trained tokenizer."""

import io
import random

import pytest
import sentencepiece as spm

from nmt.config.tokenizer import SamplingConfig
from nmt.data.extension import Learner, extend
from nmt.data.sentencepiece_model import CASE_MARKERS, parse_model, processor_of
from nmt.data.subword_sampling import Sampler
from nmt.data.tokenizer import Tokenizer

OLD = [" ".join(random.Random(n).choices(["one", "two", "three", "four", "five"], k=5)) for n in range(300)]
NEW = ["řeka threefold onefold", "řeka fivefold two", "one řeka twofold", "fourfold five three"] * 5


def model_of(folder, kind, **options):
    out = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(OLD), model_writer=out, vocab_size=options.pop("vocab_size", 24), model_type=kind,
        pad_id=0, unk_id=1, bos_id=2, eos_id=3, minloglevel=3, hard_vocab_limit=False, **options,
    )  # fmt: skip
    (folder / "joint.model").write_bytes(out.getvalue())
    return parse_model(folder / "joint.model")


def extended(model, count, texts=NEW):
    learner = Learner([model], [len(model.pieces)])
    learner.read(0, texts)
    pieces = learner.learn(count)
    return pieces, extend(model, len(model.pieces), pieces, learner.total)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_new_text_takes_fewer_pieces_and_comes_back(tmp_path, kind):
    model = model_of(tmp_path, kind)
    before, size = Tokenizer(tmp_path), len(model.pieces)
    old_ids = before.encode_src(OLD)
    pieces, parts = extended(model, 15)
    (tmp_path / "joint.model").write_bytes(model.SerializeToString())
    after = Tokenizer(tmp_path)
    assert {p.text for p in pieces[:5]} == set("řkald")  # what the old text lacks comes first
    assert after.src_vocab_size == size + 15 == size + len(parts)
    assert after.src_pieces(range(size)) == before.src_pieces(range(size))
    assert after.decode(after.encode_tgt(NEW)) == NEW
    assert sum(map(len, after.encode_src(NEW))) < 0.6 * sum(map(len, before.encode_src(NEW)))
    assert after.decode(old_ids) == OLD
    by_text = {piece.text: ids for piece, ids in zip(pieces, parts, strict=True)}
    assert by_text["ř"] == [before.unk_id]
    if "▁threefold" in by_text:
        assert before.decode([by_text["▁threefold"]])[0].startswith("three")


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_new_pieces_of_text_whose_case_is_marked_have_no_capitals(tmp_path, kind):
    model = model_of(tmp_path, kind, user_defined_symbols=list(CASE_MARKERS))
    before = Tokenizer(tmp_path)
    capitals = [*map(str.title, NEW), *map(str.upper, NEW)]
    pieces, _ = extended(model, 15, capitals)
    (tmp_path / "joint.model").write_bytes(model.SerializeToString())
    after = Tokenizer(tmp_path)
    assert len(pieces) == 15
    assert all(piece.text.islower() for piece in pieces)
    assert after.decode(after.encode_tgt(capitals)) == capitals
    assert sum(map(len, after.encode_src(capitals))) < 0.8 * sum(map(len, before.encode_src(capitals)))


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_new_pieces_are_drawn_like_old_ones(tmp_path, kind):
    model = model_of(tmp_path, kind)
    size = len(model.pieces)
    extended(model, 15)
    processor = processor_of(model.SerializeToString())
    sampling = SamplingConfig(alpha=0.1 if kind == "bpe" else 0.9)
    drawn = [Sampler(processor).sample(NEW[0], sampling, seed) for seed in range(20)]
    assert any(i >= size for row in drawn for i in row)
    assert {processor.decode(row) for row in drawn} == {NEW[0]}


def test_whole_words_of_a_word_model_and_characters_of_a_character_model(tmp_path):
    words, _ = extended(model_of(tmp_path, "word"), 3)
    assert [piece.text for piece in words] == ["▁řeka", "▁fivefold", "▁fourfold"]
    characters, _ = extended(model_of(tmp_path, "char"), 100)
    assert {piece.text for piece in characters} == set("".join(NEW)) - set("".join(OLD))


def test_characters_that_bytes_spelled_become_pieces(tmp_path):
    model = model_of(tmp_path, "unigram", byte_fallback=True, vocab_size=290)
    names = [piece.piece for piece in model.pieces]
    pieces, parts = extended(model, 30)
    first = next(n for n, piece in enumerate(pieces) if piece.text == "ř")
    assert [names[i] for i in parts[first]] == ["<0xC5>", "<0x99>"]
    processor = processor_of(model.SerializeToString())
    assert "ř" in "".join(processor.encode(NEW[0], out_type=str))


def test_letters_digits_and_punctuation_are_not_merged_with_each_other(tmp_path):
    pieces, _ = extended(model_of(tmp_path, "unigram"), 100, ["one2, two... 2024"] * 9)
    assert {"...", "2024"} <= {piece.text.removeprefix("▁") for piece in pieces}
    for piece in pieces:
        kinds = {"L" if char.isalpha() else "N" if char.isdigit() else "P" for char in piece.text.removeprefix("▁")}
        assert len(kinds) == 1, piece


def test_text_that_the_tokenizer_knows_well_gives_no_new_piece(tmp_path):
    model = model_of(tmp_path, "word")
    assert extended(model, 10, OLD) == ([], [])
    assert extended(model_of(tmp_path, "bpe"), 10, ["řřř"])[0] != []
    assert extended(model_of(tmp_path, "bpe"), 10, ["ř"]) == ([], [])  # once is too rare
