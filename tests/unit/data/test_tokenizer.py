"""Training, loading, both directions, reproducible sampling."""

from __future__ import annotations

import hashlib
import io
import itertools
import math
import random
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece as spm

from nmt.config import DataConfig, TokenizerConfig
from nmt.data.corpus import Corpus, prepare_corpus
from nmt.data.tokenizer import Tokenizer, sample_lines
from nmt.errors import TokenizerError

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


@pytest.fixture(scope="module")
def make(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Tokenizer]:
    made: dict[str, Tokenizer] = {}

    def get(**fields: Any) -> Tokenizer:
        name = repr(fields)
        if name not in made:
            config = TokenizerConfig.model_validate({"vocab_size": 180, **fields})
            made[name] = Tokenizer.train(config, corpus, tmp_path_factory.mktemp("tok") / "model")
        return made[name]

    return get


Make = Callable[..., Tokenizer]


@pytest.mark.parametrize("kind", ["unigram", "bpe", "char", "word"])
@pytest.mark.parametrize("joint", [True, False])
def test_text_survives_the_way_to_ids_and_back(make: Make, kind: str, joint: bool) -> None:
    tokenizer = make(type=kind, joint=joint, vocab_size=100)
    assert tokenizer.joint is joint
    models = ["joint.model"] if joint else ["src.model", "tgt.model"]
    assert sorted(p.name for p in tokenizer.path.iterdir()) == sorted([*models, "manifest.json"])
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


# --------------------------------------------------------------------------------------------------- sampling


@pytest.mark.parametrize(("kind", "alpha", "nbest"), [("unigram", 0.05, -1), ("unigram", 0.05, 8), ("bpe", 0.2, -1)])
def test_sampling_is_a_function_of_its_seed(make: Make, kind: str, alpha: float, nbest: int) -> None:
    tokenizer = make(type=kind)
    text = "das Kind läuft über die Straße"
    sample = {seed: tokenizer.sample_src(text, alpha, nbest, seed) for seed in range(30)}
    assert len({tuple(ids) for ids in sample.values()}) > 3
    for ids in sample.values():
        assert "".join(tokenizer.src_pieces(ids)) == "▁" + text.replace(" ", "▁")
    tokenizer.sample_tgt("DAS KIND", 0.2, nbest, 99)  # whatever was drawn in between
    assert {seed: tokenizer.sample_src(text, alpha, nbest, seed) for seed in reversed(range(30))} == sample

    found: list[dict[int, list[int]]] = []  # threads that never drew before, at the same time
    work = [
        threading.Thread(
            target=lambda: found.append({s: tokenizer.sample_src(text, alpha, nbest, s) for s in range(30)})
        )
        for _ in range(4)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert found == [sample] * 4


@pytest.mark.parametrize(("kind", "alpha", "nbest"), [("unigram", 0.05, -1), ("unigram", 0.05, 8), ("bpe", 0.2, -1)])
def test_every_process_draws_the_same(make: Make, kind: str, alpha: float, nbest: int) -> None:
    """A resumed training is another process."""
    tokenizer = make(type=kind)
    text = "das Kind läuft über die Straße"
    code = (
        "import sys; from pathlib import Path; from nmt.data.tokenizer import Tokenizer\n"
        f"t = Tokenizer(Path({str(tokenizer.path)!r}))\n"
        f"print([t.sample_src({text!r}, {alpha}, {nbest}, s) for s in range(20)])"
    )
    here = [tokenizer.sample_src(text, alpha, nbest, seed) for seed in range(20)]
    for _ in range(2):
        there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        assert there == f"{here}\n"


def test_samples_are_drawn_with_their_probabilities(make: Make) -> None:
    """Against every segmentation of a word, counted out with SentencePiece's own scores."""
    tokenizer, alpha, draws = make(type="unigram"), 0.3, 4000
    word = "\u2581das\u2581Kind"
    scores = {tokenizer.src_pieces([i])[0]: tokenizer._src.get_score(i) for i in range(4, tokenizer.src_vocab_size)}
    weights = {}
    for cuts in itertools.product([False, True], repeat=len(word) - 1):
        places = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), len(word)]
        pieces = tuple(word[a:b] for a, b in itertools.pairwise(places))
        if all(piece in scores for piece in pieces):
            weights[pieces] = math.exp(alpha * sum(scores[piece] for piece in pieces))
    found = Counter(tuple(tokenizer.src_pieces(tokenizer.sample_src("das Kind", alpha, -1, s))) for s in range(draws))
    assert found.keys() <= weights.keys()
    assert len(weights) > 3
    for pieces, weight in weights.items():
        expected = weight / sum(weights.values())
        assert found[pieces] / draws == pytest.approx(expected, abs=4 * math.sqrt(expected / draws))


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("byte_fallback", [False, True])
def test_the_likeliest_sample_is_sentencepieces_own(make: Make, kind: str, byte_fallback: bool) -> None:
    """With no merge left out, or a steep distribution, it is SentencePiece's encoding, unknown letters and all."""
    size = 340 if byte_fallback else 100
    tokenizer = make(type=kind, byte_fallback=byte_fallback, vocab_size=size)
    lines = ["das Kind läuft", "  über   die Straße. ", "日本 und 日", "", "ﬁne x<s>y</s> \u2581 \u2028", "aaaa" * 20]
    steep = 0.0 if kind == "bpe" else 100.0
    assert [tokenizer.sample_src(line, steep, -1, 1) for line in lines] == tokenizer.encode_src(lines)
    if kind == "bpe":
        pieces = tokenizer.src_pieces(tokenizer.sample_src("das Kind", 1.0, -1, 1))
        assert pieces == list("\u2581das\u2581Kind")


def test_draws_from_an_n_best_list(make: Make) -> None:
    tokenizer = make(type="unigram")
    text = "das Kind läuft über die Straße"
    best = [list(ids) for ids in tokenizer._src.nbest_encode_as_ids(text, 4)]
    assert {tuple(tokenizer.sample_src(text, 0.0, 4, seed)) for seed in range(100)} == {tuple(ids) for ids in best}
    assert {tuple(tokenizer.sample_src(text, 100.0, 4, seed)) for seed in range(20)} == {tuple(best[0])}


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


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"type": "word", "vocab_size": 5000},
            "tokenizer.vocab_size: 5000 is more than the training text can fill; set it to {all_words} or less",
        ),
        (
            {"type": "word", "vocab_size": 5000, "joint": False},
            "tokenizer.vocab_size (src): 5000 is more than the training text can fill; set it to {src_words} or less",
        ),
        (
            {"vocab_size": 10, "joint": False},
            "tokenizer.vocab_size (src): 10 is too small for the characters of the training text and the "
            "special pieces, {letters} in all; set it higher than that, or lower "
            "tokenizer.character_coverage",
        ),
    ],
)
def test_vocabulary_sizes_that_do_not_fit(corpus: Corpus, tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    src, tgt = ({word for line in lines for word in line.split()} for lines in zip(*corpus.part("train"), strict=True))
    sizes = {
        "src_words": len(src) + 4,  # special pieces
        "all_words": len(src | tgt) + 4,
        "letters": len(set("".join(src))) + 5,  # and the ▁ for a space
    }
    with pytest.raises(TokenizerError) as error:
        Tokenizer.train(TokenizerConfig.model_validate(fields), corpus, tmp_path / "tok")
    assert str(error.value) == message.format(**sizes)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_the_largest_size_named_can_be_had(corpus: Corpus, tmp_path: Path, kind: str) -> None:
    config = TokenizerConfig.model_validate({"type": kind, "vocab_size": 5000})
    with pytest.raises(TokenizerError, match="set it to ") as error:
        Tokenizer.train(config, corpus, tmp_path / "tok")
    largest = int(str(error.value).split("set it to ")[1].split()[0])
    fitting = config.model_copy(update={"vocab_size": largest})
    assert Tokenizer.train(fitting, corpus, tmp_path / "tok").src_vocab_size == largest


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
        ({}, ": holds no tokenizer (joint.model, or src.model and tgt.model)"),
        ({"joint.model": b"junk"}, "/joint.model: not a SentencePiece model, or damaged"),
        ({"joint.model": b""}, "/joint.model: not a SentencePiece model, or damaged"),
        ({"src.model": "good"}, "/tgt.model: no such file; the other language's model is there"),
        ({"tgt.model": "good"}, "/src.model: no such file; the other language's model is there"),
        (
            {"joint.model": "good", "tgt.model": "good"},
            ": holds joint.model and separate models too; keep one kind",
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
                shutil.copy(make().path / "joint.model", path / name)
            else:
                (path / name).write_bytes(foreign() if content == "foreign" else content)
    with pytest.raises(TokenizerError) as error:
        Tokenizer.load(path)
    assert str(error.value) == f"{path}{message}"
