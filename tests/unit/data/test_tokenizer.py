"""Training, loading, both directions, normalization."""

from __future__ import annotations

import hashlib
import io
import random
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import sentencepiece as spm

from nmt.config.data import DataConfig
from nmt.config.tokenizer import TokenizerConfig
from nmt.data import tokenizer_training
from nmt.data.corpus import Corpus
from nmt.data.prepare import prepare_corpus
from nmt.data.tokenizer import FEW, Tokenizer
from nmt.data.tokenizer_training import sample_lines
from nmt.errors import TokenizerError
from tests.unit.data.corpora import Make

TEXT = "Haus Baum Straße gehen sehen schön und ist der die das über Kind Hund Katze läuft rot grün"
WORDS = TEXT.split()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """German words and compounds of two on the left, the same in capitals on the right."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = random.Random(1)
    words = WORDS * 5 + ["".join(rng.choices(WORDS, k=2)) for _ in range(100)]
    rows = [" ".join(rng.choices(words, k=rng.randint(2, 9))) for _ in range(600)]
    (folder / "train").write_text("".join(f"{row}\t{row.upper()}\n" for row in rows), encoding="utf-8")
    (folder / "valid").write_text("Žižka\tŽIŽKA\n", encoding="utf-8")
    sources = {name: {"kind": "tsv", "path": str(folder / name)} for name in ("train", "valid")}
    return prepare_corpus(DataConfig.model_validate({**sources, "store": str(folder / "store")}))


def vocabulary(tokenizer: Tokenizer, side: str) -> list[str]:
    model = spm.SentencePieceProcessor(model_file=str(tokenizer.path / f"{side}.model"))
    return [model.id_to_piece(i) for i in range(model.get_piece_size())]


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char", "word"])
@pytest.mark.parametrize("joint", [True, False])
def test_text_survives_the_way_to_ids_and_back(make: Make, kind: str, joint: bool) -> None:
    tokenizer = make(type=kind, joint=joint, vocab_size=100)
    assert sorted(p.name for p in tokenizer.path.glob("*.model")) == ["src.model", "tgt.model"]
    assert (vocabulary(tokenizer, "src") == vocabulary(tokenizer, "tgt")) is joint
    text = "DER HUND LÄUFT ÜBER DIE STRASSE"
    ids = tokenizer.encode_tgt([text, ""])
    assert tokenizer.decode(ids) == [text, ""]
    assert not {tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id} & set(ids[0])
    assert "".join(tokenizer.tgt_pieces(ids[0])) == "▁" + text.replace(" ", "▁")
    src = tokenizer.encode_src(["der Hund"])[0]
    assert "".join(tokenizer.src_pieces(src)) == "▁der▁Hund"
    assert all(isinstance(i, int) for i in src)
    assert tokenizer.encode_src([]) == [] == tokenizer.decode([])


def test_special_ids_are_fixed(make: Make) -> None:
    tokenizer = make()
    assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id) == (0, 1, 2, 3)
    assert tokenizer.tgt_pieces([0, 1, 2, 3]) == ["<pad>", "<unk>", "<s>", "</s>"]
    assert tokenizer.src_vocab_size == tokenizer.tgt_vocab_size == 180


def test_separate_models_have_vocabularies_of_their_own(make: Make) -> None:
    tokenizer = make(joint=False, vocab_size=60)
    assert tokenizer.src_vocab_size == tokenizer.tgt_vocab_size == 60
    assert tokenizer.unk_id in tokenizer.encode_tgt(["der"])[0]  # only capitals there
    assert tokenizer.unk_id not in tokenizer.encode_src(["der"])[0]


def test_only_the_training_part_is_learned_from(make: Make) -> None:
    assert make().unk_id in make().encode_src(["Žižka"])[0]  # valid has it


def test_special_symbols_in_text_are_text(make: Make) -> None:
    ids = make().encode_src(["<s> </s> <pad> <unk>"])[0]
    assert not {0, 2, 3} & set(ids)


def test_decoding_leaves_out_specials_and_shows_unknown(make: Make) -> None:
    tokenizer = make()
    ids = tokenizer.encode_tgt(["DER HUND"])[0]
    assert tokenizer.decode([[2, *ids, 3, 0, 0]]) == ["DER HUND"]
    assert tokenizer.decode([[1]]) == ["⁇"]


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char", "word"])
def test_byte_fallback_spells_anything_on_one_line(make: Make, kind: str) -> None:
    tokenizer = make(type=kind, byte_fallback=True, vocab_size=290 if kind == "word" else 330)
    ids = tokenizer.encode_tgt(["DER 😀 Ж HUND"])
    assert tokenizer.unk_id not in ids[0]
    assert tokenizer.decode(ids) == ["DER 😀 Ж HUND"]
    newline = next(i for i in range(tokenizer.tgt_vocab_size) if tokenizer.tgt_pieces([i]) == ["<0x0A>"])
    assert "\n" not in tokenizer.decode([[*ids[0], newline, *ids[0]]])[0]


def test_many_threads_give_what_one_gives(make: Make) -> None:
    texts = [f"der Hund {word}" for word in WORDS] * 40
    assert make().encode_src(texts, num_threads=4) == make().encode_src(texts, num_threads=1)


def test_texts_one_by_one_and_in_blocks_have_the_same_ids(make: Make) -> None:
    """SentencePiece takes a list of texts, or for few of them one at a time."""
    tokenizer = make()
    texts = [f"der  Hund {word} \u00e4\U0001f600" for word in WORDS] + ["", " ", "\ufeffx"]
    many = texts * (FEW // len(texts) + 1)
    assert len(many) > FEW > len(texts[:5])
    ids = tokenizer.encode_src(many)
    assert [tokenizer.encode_src([text])[0] for text in many] == ids
    ids = tokenizer.encode_tgt(many)
    assert tokenizer.encode_tgt(many[:5]) == ids[:5]
    assert [tokenizer.decode([each])[0] for each in ids] == tokenizer.decode(ids)


# --------------------------------------------------------------------------------------------- normalization

# A line as it is met in each language, with what nmt_nfkc would change: full-width marks and digits, SARA AM, joiners
# and zero-width spaces, jamo, powers, fractions, signs, ligatures, no-break spaces, decomposed letters.
AS_WRITTEN = {
    "zh": "我们今天找到书，但是你卖米饭。（真的？！）２０２６年",
    "zh-TW": "「請問：這是什麼？」；１．５％～２％",
    "ja": "１０時に会いましょう！！（ＡＢＣ）ｶﾞｷﾞ㌔㈱",
    "ko": "ㅋㅋㅋ 한국어 문장입니다．",
    "ko decomposed": unicodedata.normalize("NFD", "한국어 문장입니다."),
    "th": "ไม่ได้ทำ น้ำ กำลัง\u200bคำ",
    "km": "ខ្ញុំ\u200bស្រឡាញ់\u200bភាសា",
    "lo": "ສະບາຍດີ ຄຳ ໜ້າ",
    "my": "မြန်မာ\u200bစာ",
    "fa": "می\u200cروم خانه\u200cها؟ ﷼",
    "ar": "مَرْحَبًا بالعالم، ﷺ ﻻ",
    "he": "שָׁלוֹם\u200f עולם ﬡ",
    "hi": "क्ष ज्ञ क्\u200dष फ़ \u0958",
    "vi": "Tiếng Việt có dấu",
    "vi decomposed": unicodedata.normalize("NFD", "Tiếng Việt có dấu"),
    "de": "20 m² CO₂ … „so“ ½ 10⁶ № ™ ﬁn 5\u202f%",
    "fr": "«\u00a0oui\u00a0»\u202f!",
}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("scripts")
    for name in ("train", "valid"):
        (folder / name).write_text("".join(f"a b\t{line}\n" for line in AS_WRITTEN.values()) * 3, encoding="utf-8")
    sources = {name: {"kind": "tsv", "path": str(folder / name)} for name in ("train", "valid")}
    cleaning = {"drop_duplicates": False, "drop_overlap": False, "max_ratio": 1000.0}
    return prepare_corpus(DataConfig.model_validate({**sources, "store": str(folder / "store"), "cleaning": cleaning}))


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char", "word"])
@pytest.mark.parametrize("joint", [True, False])
def test_a_target_comes_back_as_it_was_written(scripts: Corpus, tmp_path: Path, kind: str, joint: bool) -> None:
    config = TokenizerConfig.model_validate({"type": kind, "joint": joint, "vocab_size": 8000})
    tokenizer = Tokenizer.train(config, scripts, tmp_path / "tok")
    lines = list(AS_WRITTEN.values())
    found = dict(zip(AS_WRITTEN, tokenizer.decode(tokenizer.encode_tgt(lines)), strict=True))
    assert found == AS_WRITTEN


@pytest.mark.parametrize("rule", ["whitespace", "identity"])
def test_one_rule_that_keeps_the_characters_of_both_sides(scripts: Corpus, tmp_path: Path, rule: str) -> None:
    config = TokenizerConfig.model_validate({"vocab_size": 8000, "normalization": rule})
    tokenizer = Tokenizer.train(config, scripts, tmp_path / "tok")
    assert [path.name for path in (tmp_path / "tok").glob("*.model")] == ["joint.model"]
    lines = list(AS_WRITTEN.values())
    assert tokenizer.decode(tokenizer.encode_src(lines)) == tokenizer.decode(tokenizer.encode_tgt(lines)) == lines


def test_spaces_and_control_characters_of_a_target_are_tidied(make: Make) -> None:
    lines = ["DER\tHUND", "  DER  HUND ", "DER\u2028HUND", "\ufeffDER\x07 HUND\x7f", "DER\r\x85 HUND\v"]
    assert make().decode(make().encode_tgt(lines)) == ["DER HUND"] * 5


@pytest.mark.parametrize("joint", [True, False])
def test_the_sides_are_normalised_apart_by_sentencepiece_alone_too(corpus: Corpus, tmp_path: Path, joint: bool) -> None:
    """What an export ships is the .model files; SentencePiece's own rules are the reference."""
    fields = {"vocab_size": 100, "joint": joint, "normalization": {"src": "nmt_nfkc_cf", "tgt": "whitespace"}}
    tokenizer = Tokenizer.train(TokenizerConfig.model_validate(fields), corpus, tmp_path / "tok")
    src, tgt = (spm.SentencePieceProcessor(model_file=str(tmp_path / f"tok/{side}.model")) for side in ("src", "tgt"))
    text = "DER\tＨund ½"
    assert src.normalize(text) == spm.SentencePieceNormalizer(rule_name="nmt_nfkc_cf").normalize(text)
    assert tgt.normalize(text) == "▁DER▁Ｈund▁½"
    assert tokenizer.encode_src(["DER HUND"]) == [src.encode("der hund")] == tokenizer.encode_src(["der hund"])
    assert tokenizer.decode(tokenizer.encode_tgt(["DER HUND"])) == ["DER HUND"]
    assert (vocabulary(tokenizer, "src") == vocabulary(tokenizer, "tgt")) is joint


def test_one_rule_for_both_sides_makes_the_model_that_sentencepiece_makes(corpus: Corpus, tmp_path: Path) -> None:
    """As earlier versions did, byte by byte: their runs find their tokenizers."""
    part, out = corpus.part("train"), io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(part.sources() + part.targets()), model_writer=out, model_type="unigram",
        vocab_size=100, character_coverage=1.0, byte_fallback=False, normalization_rule_name="nmt_nfkc", pad_id=0,
        unk_id=1, bos_id=2, eos_id=3, num_threads=8, max_sentence_length=1 << 30, minloglevel=3,
    )  # fmt: skip
    Tokenizer.train(TokenizerConfig(vocab_size=100, normalization="nmt_nfkc"), corpus, tmp_path / "tok")
    assert [path.name for path in (tmp_path / "tok").glob("*.model")] == ["joint.model"]
    assert (tmp_path / "tok/joint.model").read_bytes() == out.getvalue()


def test_a_model_is_the_same_each_time(corpus: Corpus, tmp_path: Path) -> None:
    """No trace of a temporary file, or of an order of keys, is in it."""
    code = (
        "import sys; from pathlib import Path; from nmt.config.tokenizer import TokenizerConfig\n"
        "from nmt.data.corpus import Corpus; from nmt.data.file_hashes import read_manifest\n"
        "from nmt.data.tokenizer import Tokenizer\n"
        f"corpus = Corpus(Path({str(corpus.path)!r}), read_manifest(Path({str(corpus.path)!r})))\n"
        f"Tokenizer.train(TokenizerConfig(vocab_size=100), corpus, Path({str(tmp_path / 'there')!r}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    here = Tokenizer.train(TokenizerConfig(vocab_size=100), corpus, tmp_path / "here")
    assert here.fingerprint == Tokenizer.load(tmp_path / "there").fingerprint


# --------------------------------------------------------------------------------------------------- training


def test_training_is_reproducible_and_atomic(corpus: Corpus, tmp_path: Path) -> None:
    config = TokenizerConfig(vocab_size=100, joint=False)
    first, second = (Tokenizer.train(config, corpus, tmp_path / name) for name in "ab")
    assert (tmp_path / "a/src.model").read_bytes() == (tmp_path / "b/src.model").read_bytes()
    assert first.fingerprint == second.fingerprint == Tokenizer.load(tmp_path / "a").fingerprint
    third = Tokenizer.train(config.model_copy(update={"vocab_size": 99}), corpus, tmp_path / "c")
    assert third.fingerprint != first.fingerprint
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "c"]
    sums = [hashlib.sha256((tmp_path / f"a/{side}.model").read_bytes()).hexdigest() for side in ("src", "tgt")]
    assert first.fingerprint == hashlib.sha256(" ".join(sums).encode()).hexdigest()


def test_a_sample_of_the_lines(corpus: Corpus) -> None:
    part = corpus.part("train")
    everything = list(sample_lines(part, (0, 1), 10_000))
    assert everything == part.sources() + part.targets()
    some = list(sample_lines(part, (0, 1), 100))
    assert len(some) == 100
    assert some == list(sample_lines(part, (0, 1), 100))
    assert set(some) <= set(everything)
    assert 25 < sum(line.isupper() for line in some) < 75  # of both sides
    assert set(sample_lines(part, (0,), 100)) <= set(part.sources())


def test_a_sample_of_bounded_size(corpus: Corpus) -> None:
    part = corpus.part("train")
    whole = sum(len(line.encode()) for line in part.sources())
    assert list(sample_lines(part, (0,), 10_000, max_bytes=whole)) == part.sources()
    some = list(sample_lines(part, (0,), 10_000, max_bytes=whole // 4))
    assert 0.9 < sum(len(line.encode()) for line in some) / (whole // 4) < 1.1
    assert len(list(sample_lines(part, (0,), 10_000, max_bytes=1))) == 1


def test_a_long_line_is_learned_from(tmp_path: Path) -> None:
    """SentencePiece leaves out lines of more than 4192 bytes unless it is told otherwise."""
    (tmp_path / "t").write_text("a b\tc\n" + "öäü " * 5000 + "\t" + "x" * 20_000 + "\n", encoding="utf-8")
    source = {"kind": "tsv", "path": str(tmp_path / "t")}
    data = {"train": source, "valid": source, "store": str(tmp_path)}
    data["cleaning"] = {"max_chars": 100_000, "drop_overlap": False}
    corpus = prepare_corpus(DataConfig.model_validate(data))
    tokenizer = Tokenizer.train(TokenizerConfig(type="char", vocab_size=50), corpus, tmp_path / "tok")
    assert tokenizer.unk_id not in tokenizer.encode_src(["öäü"])[0]


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char", "word"])
def test_a_size_is_lowered_to_what_each_side_can_fill(
    corpus: Corpus, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    src, tgt = ({word for line in lines for word in line.split()} for lines in zip(*corpus.part("train"), strict=True))
    letters = {"src": len(set("".join(src))) + 5, "tgt": len(set("".join(tgt))) + 5}  # 4 special pieces, and ▁
    fields = {"type": kind, "vocab_size": 30_000, "joint": False}
    tokenizer = Tokenizer.train(TokenizerConfig.model_validate(fields), corpus, tmp_path / "tok")
    sizes = {"src": tokenizer.src_vocab_size, "tgt": tokenizer.tgt_vocab_size}
    if kind == "word":
        assert sizes == {"src": len(src) + 4, "tgt": len(tgt) + 4}
    elif kind == "char":
        assert sizes == letters
    told = [message for message in caplog.messages if "vocab_size" in message]
    assert len(told) == (0 if kind == "char" else 2)  # each letter is a piece: nothing was asked for that is not there
    for (side, size), message in zip(sizes.items(), told, strict=False):
        assert letters[side] <= size < 30_000
        assert message.startswith(
            f"warning: tokenizer.vocab_size ({side}): 30000 lowered to {size}, all the pieces that the training text"
        )
        # 600 pairs: 30 times the root of that is 735
        assert ("; most of them are rare: for 600 pairs, a size of about 700 is better" in message) is (
            kind in ("unigram", "bpe") and size * 0.8 > 700
        )
    fitting = TokenizerConfig.model_validate({**fields, "vocab_size": sizes})
    again = Tokenizer.train(fitting, corpus, tmp_path / "again")
    assert {"src": again.src_vocab_size, "tgt": again.tgt_vocab_size} == sizes


def test_each_language_has_a_size(corpus: Corpus, tmp_path: Path) -> None:
    config = TokenizerConfig.model_validate({"vocab_size": {"src": 80, "tgt": 60}, "joint": False})
    tokenizer = Tokenizer.train(config, corpus, tmp_path / "tok")
    assert (tokenizer.src_vocab_size, tokenizer.tgt_vocab_size) == (80, 60)


def test_a_size_without_room_for_the_letters(corpus: Corpus, tmp_path: Path) -> None:
    letters = len(set("".join(corpus.part("train").sources()).replace(" ", ""))) + 5
    with pytest.raises(TokenizerError) as error:
        Tokenizer.train(TokenizerConfig(vocab_size=10, joint=False), corpus, tmp_path / "tok")
    assert str(error.value) == (
        "tokenizer.vocab_size (src): 10 is too small for the characters of the training text and the special pieces, "
        f"{letters} in all; set it higher than that, or lower tokenizer.character_coverage"
    )
    assert not list(tmp_path.iterdir())


def test_sentencepiece_is_silent(corpus: Corpus, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Tokenizer.train(TokenizerConfig(vocab_size=100), corpus, tmp_path / "tok")
    assert capfd.readouterr() == ("", "")


# ---------------------------------------------------------------------------------------------------- loading


def foreign() -> bytes:
    out = io.BytesIO()
    spm.SentencePieceTrainer.train(sentence_iterator=iter(["a b c"] * 5), model_writer=out, vocab_size=8, minloglevel=3)
    return out.getvalue()


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (None, ": no such tokenizer folder; nmt prepare makes one"),
        ({}, ": contains no tokenizer (joint.model, or src.model and tgt.model)"),
        ({"joint.model": b"junk"}, "/joint.model: not a SentencePiece model, or damaged"),
        ({"joint.model": b""}, "/joint.model: not a SentencePiece model, or damaged"),
        ({"src.model": "good"}, "/tgt.model: no such file; the other language's model is there"),
        ({"tgt.model": "good"}, "/src.model: no such file; the other language's model is there"),
        (
            {"joint.model": "good", "tgt.model": "good"},
            ": contains joint.model and separate models too; keep one kind",
        ),
        (
            {"joint.model": "foreign"},
            "/joint.model: its pad, unk, bos and eos have the ids -1, 0, 1, 2 instead of 0, 1, 2, 3; "
            "train it with nmt prepare",
        ),
    ],
)
def test_folders_that_cannot_be_loaded(make: Make, tmp_path: Path, files: dict[str, Any] | None, message: str) -> None:
    path = tmp_path / "tok"
    if files is not None:
        path.mkdir()
        for name, content in files.items():
            if content == "good":
                shutil.copy(make().path / "tgt.model", path / name)
            else:
                (path / name).write_bytes(foreign() if content == "foreign" else content)
    with pytest.raises(TokenizerError) as error:
        Tokenizer.load(path)
    assert str(error.value) == f"{path}{message}"


def test_printable_lines_are_as_the_whitespace_rule_leaves_them() -> None:
    every = [chr(code) for code in range(1, 0x110000) if not 0xD800 <= code < 0xE000]
    lines = ["".join(every[start : start + 97]) for start in range(0, len(every), 97)] + ["  two  spaces ", "", "a\tb"]
    assert tokenizer_training._normalise(lines, "whitespace") == tokenizer_training._normalizer("whitespace").normalize(
        lines
    )
    kept = [char for char in every if char.isprintable()]
    assert tokenizer_training._normalizer("whitespace").normalize(kept) == kept


# ----------------------------------------------------------------------------------------------------- words of pieces


@pytest.fixture(scope="module")
def spelling(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """A vocabulary of letters and bytes, whose rule (NFKC) changes the number of characters."""
    folder, model = tmp_path_factory.mktemp("spelling"), io.BytesIO()
    lines = ["a bc def 1 2 . \N{FRACTION SLASH}"] * 20
    special = {"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3}
    options: dict[str, Any] = {"vocab_size": 300, "hard_vocab_limit": False, "byte_fallback": True, "minloglevel": 3}
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type="char", **special, **options
    )
    (folder / "joint.model").write_bytes(model.getvalue())
    return Tokenizer.load(folder)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        # ▁ a ▁ b c ▁ d e f: a space belongs to the word after it
        ("a bc  def", [0, 0, 1, 1, 1, 2, 2, 2, 2]),
        ("  a\tbc ", [0, 0, 1, 1, 1]),
        ("a\u00a0bc\u3000d", [0, 0, 1, 1, 1, 2, 2]),  # no-break and ideographic space
        ("½ a", [0, 0, 0, 0, 1, 1]),  # ▁ 1 ⁄ 2
        ("a… d", [0, 0, 0, 0, 0, 1, 1]),  # three full stops
        ("a 😀b c", [0, 0, 1, 1, 1, 1, 1, 1, 2, 2]),  # four bytes
        ("", []),
    ],
)
def test_each_source_piece_has_its_word(spelling: Tokenizer, text: str, words: list[int]) -> None:
    assert spelling.src_words(text) == words
    assert len(words) == len(spelling.encode_src([text])[0])


def test_each_target_piece_has_its_word(spelling: Tokenizer) -> None:
    model = spm.SentencePieceProcessor(model_file=str(spelling.path / "joint.model"))
    pieces = ["▁", "a", "▁", "b", "<0xE2>", "<0x82>", "<0xAC>", "<0x0A>", "c", "▁"]
    ids = [model.piece_to_id(piece) for piece in pieces]
    assert spelling.decode([ids]) == ["a b€ c"]  # a line end within a translation becomes a space
    assert spelling.tgt_words(ids) == [0, 0, 1, 1, 1, 1, 1, 2, 2, 2]
    assert spelling.tgt_words([spelling.unk_id, ids[1]]) == [0, 1]  # " ⁇ a"
    assert spelling.tgt_words([model.piece_to_id("▁")]) == [-1]
    assert spelling.tgt_words([]) == []
