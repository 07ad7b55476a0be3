"""Subword sampling: its distribution, and that a draw depends on the seed, the epoch and the example alone."""

from __future__ import annotations

import itertools
import math
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece as spm

from nmt.config.data import DataConfig
from nmt.config.tokenizer import SamplingConfig, TokenizerConfig
from nmt.data import sampling
from nmt.data.batching import Reader, Room, TrainingOrder
from nmt.data.corpus import Corpus, prepare_corpus
from nmt.data.dataset import encode_corpus
from nmt.data.sampling import BatchSampler
from nmt.data.tokenizer import Tokenizer

VOCABULARY = "Haus Baum Straße gehen sehen schön und ist der die das über Kind Hund Katze läuft rot grün"
WORDS = VOCABULARY.split()
TEXT = "das Kind läuft über die Straße"
KINDS = [("unigram", 0.05, -1), ("unigram", 0.05, 8), ("bpe", 0.2, -1)]


def config(alpha: float | None, nbest: int = -1, method: str = "batch") -> SamplingConfig:
    """Unchecked: no merge left out, or a steep distribution, are of use to a test."""
    return SamplingConfig.model_construct(alpha=alpha, nbest=nbest, method=method)


def keys(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """German words and compounds of two on the left; on the right the same without spaces, as Chinese is written."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = random.Random(1)
    words = WORDS * 5 + ["".join(rng.choices(WORDS, k=2)) for _ in range(100)]
    rows = [" ".join(rng.choices(words, k=rng.randint(2, 9))) for _ in range(600)]
    content = "".join(f"{row}\t{row.replace(' ', '')}\n" for row in rows)
    for name in ("train", "valid"):
        (folder / name).write_text(content, encoding="utf-8")
    sources = {name: {"kind": "tsv", "path": str(folder / name)} for name in ("train", "valid")}
    data = {**sources, "store": str(folder / "store"), "cleaning": {"drop_overlap": False}}
    return prepare_corpus(DataConfig.model_validate(data))


Make = Callable[..., Tokenizer]


@pytest.fixture(scope="module")
def make(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Make:
    made: dict[str, Tokenizer] = {}

    def get(**fields: Any) -> Tokenizer:
        name = repr(fields)
        if name not in made:
            settings = TokenizerConfig.model_validate({"vocab_size": 180, **fields})
            made[name] = Tokenizer.train(settings, corpus, tmp_path_factory.mktemp("tok") / "model")
        return made[name]

    return get


def sampler(tokenizer: Tokenizer, alpha: float, nbest: int = -1) -> BatchSampler:
    return tokenizer.batch_samplers(config(alpha, nbest))[0]


# ------------------------------------------------------------------------------------------------- distribution


def every_segmentation(tokenizer: Tokenizer, text: str, alpha: float) -> dict[tuple[str, ...], float]:
    """Probability of each segmentation, counted out with SentencePiece's own scores."""
    text = "\u2581" + text.replace(" ", "\u2581")
    scores = {tokenizer.src_pieces([i])[0]: tokenizer._src.get_score(i) for i in range(4, tokenizer.src_vocab_size)}
    weights = {}
    for cuts in itertools.product([False, True], repeat=len(text) - 1):
        places = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), len(text)]
        pieces = tuple(text[a:b] for a, b in itertools.pairwise(places))
        if all(piece in scores for piece in pieces):
            weights[pieces] = math.exp(alpha * sum(scores[piece] for piece in pieces))
    total = sum(weights.values())
    return {pieces: weight / total for pieces, weight in weights.items()}


def assert_drawn_from(found: Counter[tuple[str, ...]], expected: dict[tuple[str, ...], float]) -> None:
    draws = found.total()
    assert found.keys() <= expected.keys()
    assert len(expected) > 3
    for pieces, p in expected.items():
        assert found[pieces] / draws == pytest.approx(p, abs=4.5 * math.sqrt(p / draws))


@pytest.mark.parametrize("text", ["das Kind", "dasKind", "Kindund"])
@pytest.mark.parametrize("alpha", [0.1, 0.3, 1.0])
def test_a_batch_is_drawn_with_its_probabilities(make: Make, text: str, alpha: float) -> None:
    tokenizer = make(type="unigram")
    rows = sampler(tokenizer, alpha).sample([text] * 4000, keys(4000))
    assert_drawn_from(
        Counter(tuple(tokenizer.src_pieces(ids)) for ids in rows), every_segmentation(tokenizer, text, alpha)
    )


def test_a_line_is_drawn_with_its_probabilities(make: Make) -> None:
    tokenizer, alpha = make(type="unigram"), 0.3
    found = Counter(
        tuple(tokenizer.src_pieces(tokenizer.sample_src("das Kind", config(alpha), seed))) for seed in range(4000)
    )
    assert_drawn_from(found, every_segmentation(tokenizer, "das Kind", alpha))


@pytest.mark.parametrize("text", ["Straße", "das Kind", "dasKindläuftüberdieStraße"])  # the last is not kept
def test_merges_are_left_out_as_sentencepiece_leaves_them_out(make: Make, text: str) -> None:
    """Two samples of 4,000 draws, ours and SentencePiece's; the most frequent segmentations and the mean length."""
    tokenizer, draws = make(type="bpe"), 4000
    ours = [tuple(ids.tolist()) for ids in sampler(tokenizer, 0.2).sample([text] * draws, keys(draws))]
    theirs = [tuple(tokenizer._src.encode(text, enable_sampling=True, alpha=0.2, nbest_size=-1)) for _ in range(draws)]
    for ids, count in Counter(theirs).most_common(8):
        assert ours.count(ids) == pytest.approx(count, abs=4.5 * math.sqrt(2 * count))
    lengths = np.array([[len(ids) for ids in rows] for rows in (ours, theirs)])
    assert abs(lengths[0].mean() - lengths[1].mean()) < 4.5 * math.sqrt(lengths.var(axis=1).sum() / draws)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("byte_fallback", [False, True])
def test_the_likeliest_sample_is_sentencepieces_own(make: Make, kind: str, byte_fallback: bool) -> None:
    """With no merge left out, or a steep distribution, it is SentencePiece's encoding, unknown letters and all."""
    tokenizer = make(type=kind, byte_fallback=byte_fallback, vocab_size=340 if byte_fallback else 100)
    lines = ["das Kind läuft", "  über   die Straße. ", "日本 und 日", "", "ﬁne x<s>y</s> \u2581 \u2028", "aaaa" * 20]
    steep = config(0.0 if kind == "bpe" else 100.0)
    assert [tokenizer.sample_src(line, steep, 1) for line in lines] == tokenizer.encode_src(lines)
    batch = tokenizer.batch_samplers(steep)[0].sample(lines, keys(len(lines)))
    assert [ids.tolist() for ids in batch] == tokenizer.encode_src(lines)
    if kind == "bpe":
        assert tokenizer.src_pieces(tokenizer.sample_src("das Kind", config(1.0), 1)) == list("\u2581das\u2581Kind")
        (ids,) = sampler(tokenizer, 1.0).sample(["das Kind"], keys(1))
        assert tokenizer.src_pieces(ids) == list("\u2581das\u2581Kind")


def test_draws_from_an_n_best_list(make: Make) -> None:
    tokenizer = make(type="unigram")
    best = [tuple(ids) for ids in tokenizer._src.nbest_encode_as_ids(TEXT, 4)]
    scores = [sum(tokenizer._src.get_score(i) for i in ids) for ids in best]
    assert {tuple(tokenizer.sample_src(TEXT, config(0.0, 4), seed)) for seed in range(100)} == set(best)
    assert {tuple(tokenizer.sample_src(TEXT, config(100.0, 4), seed)) for seed in range(20)} == {best[0]}
    weights = np.exp(0.5 * np.array(scores))
    found = Counter(tuple(ids.tolist()) for ids in sampler(tokenizer, 0.5, 4).sample([TEXT] * 2000, keys(2000)))
    assert_drawn_from(found, dict(zip(best, weights / weights.sum(), strict=True)))  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------- a function of its key


@pytest.mark.parametrize(("kind", "alpha", "nbest"), KINDS)
def test_a_draw_depends_on_its_key_alone(
    make: Make, kind: str, alpha: float, nbest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its company, nor what is kept of earlier texts, nor the thread makes a difference."""
    tokenizer = make(type=kind)
    texts = [" ".join(random.Random(i).choices(WORDS, k=5)) for i in range(60)]
    each = keys(60)
    expected = [ids.tolist() for ids in sampler(tokenizer, alpha, nbest).sample(texts, each)]
    assert len({tuple(ids) for ids in expected}) > 50
    assert tokenizer.decode(expected) == texts

    other = sampler(tokenizer, alpha, nbest)
    order = random.Random(0).sample(range(60), 60)
    alone = {i: other.sample([texts[i]], each[i : i + 1])[0].tolist() for i in order}
    assert [alone[i] for i in range(60)] == expected
    monkeypatch.setattr(sampling, "KEPT_ARCS", 100)
    monkeypatch.setattr(sampling, "KEPT_MERGES", 20)
    assert [other.sample(texts[i : i + 7], each[i : i + 7])[0].tolist() for i in range(0, 60, 7)] == expected[::7]

    found: list[list[list[int]]] = []
    work = [
        threading.Thread(target=lambda: found.append([ids.tolist() for ids in other.sample(texts, each)]))
        for _ in range(4)
    ]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert found == [expected] * 4


@pytest.mark.parametrize(("kind", "alpha", "nbest"), KINDS)
@pytest.mark.parametrize("method", ["line", "batch"])
def test_every_process_draws_the_same(make: Make, kind: str, alpha: float, nbest: int, method: str) -> None:
    """A resumed training is another process."""
    tokenizer = make(type=kind)
    draw = {
        "line": "[t.sample_src(text, c, s) for s in range(20)]",
        "batch": "[i.tolist() for i in t.batch_samplers(c)[0].sample([text] * 20, np.arange(20, dtype=np.uint64))]",
    }[method]
    code = (
        "from pathlib import Path; import numpy as np; from nmt.data.tokenizer import Tokenizer\n"
        "from nmt.config.tokenizer import SamplingConfig\n"
        f"t, text = Tokenizer(Path({str(tokenizer.path)!r})), {TEXT!r}\n"
        f"c = SamplingConfig(alpha={alpha}, nbest={nbest})\n"
        f"print({draw})"
    )
    printed = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert printed[0] == printed[1]
    assert len(set(printed[0].split("], ["))) > 3
    scope: dict[str, Any] = {"t": tokenizer, "text": TEXT, "c": config(alpha, nbest), "np": np}
    assert printed[0] == f"{eval(draw, scope)}\n"


# ----------------------------------------------------------------------------------------------- reading batches


@pytest.mark.parametrize(
    ("kind", "alpha", "nbest"), [("unigram", None, -1), ("unigram", 0.1, -1), ("bpe", None, -1), ("unigram", 0.1, 16)]
)
def test_sampled_batches_stay_within_the_budget_and_whole(
    corpus: Corpus, make: Make, tmp_path: Path, kind: str, alpha: float | None, nbest: int
) -> None:
    tokenizer, budget, text = make(type=kind), 300, corpus.part("train")
    dataset = encode_corpus(corpus, tokenizer, 60, tmp_path).train
    reader = Reader(dataset, tokenizer, text, config(alpha, nbest), 60, 1, budget)
    order = TrainingOrder(dataset, budget, 1, 1, reader.room)
    longer = batches = 0
    read: dict[tuple[int, int], list[int]] = {}
    for epoch in range(100):
        for (rows,) in order.updates(epoch):
            batch = reader.read(rows, epoch)
            batches += 1
            assert max(batch.src.numel(), batch.tgt_in.numel()) <= budget
            for row, src, tgt in zip(rows.tolist(), batch.src.tolist(), batch.tgt_out.tolist(), strict=True):
                src, tgt = ([i for i in ids if i not in (0, 3)] for ids in (src, tgt))
                assert max(len(src), len(tgt)) <= 60
                assert tokenizer.decode([src, tgt]) == list(text[dataset.index(row)])
                longer += len(tgt) > len(dataset.tgt(row))
                read[epoch, row] = tgt
        if batches >= 250:
            break
    assert batches >= 250
    assert longer > len(read) / 20
    other = Reader(dataset, tokenizer, text, config(alpha, nbest), 60, 1, budget)  # a resumed run reads in any company
    for (epoch, row), tgt in random.Random(0).sample(sorted(read.items()), 20):
        found = other.read(np.array([row]), epoch).tgt_out[0].tolist()
        assert [i for i in found if i not in (0, 3)] == tgt


def test_a_pair_that_fits_alone_is_sampled_within_the_budget(corpus: Corpus, make: Make, tmp_path: Path) -> None:
    tokenizer, text = make(type="unigram"), corpus.part("train")
    dataset = encode_corpus(corpus, tokenizer, 60, tmp_path).train
    longest = int(dataset.lengths().max())
    reader = Reader(dataset, tokenizer, text, config(0.1), 60, 1, longest + 1)
    order = TrainingOrder(dataset, longest + 1, 1, 1, reader.room)
    for (rows,) in itertools.islice(order.updates(0), 100):
        batch = reader.read(rows, 0)
        assert max(batch.src.numel(), batch.tgt_in.numel()) <= longest + 1


def test_the_batch_that_is_tried_is_as_long_as_it_was_planned(corpus: Corpus, make: Make, tmp_path: Path) -> None:
    tokenizer, text, budget = make(type="unigram"), corpus.part("train"), 300
    dataset = encode_corpus(corpus, tokenizer, 60, tmp_path).train
    reader = Reader(dataset, tokenizer, text, config(0.1), 60, 1, budget)
    order = TrainingOrder(dataset, budget, 1, 1, reader.room)
    assert reader.room is not None
    rows = order.longest_batch()
    tried = reader.largest(rows)
    lengths = np.array([[len(dataset.src(i)), len(dataset.tgt(i))] for i in rows.tolist()], np.int32).T
    assert tried.src.shape[1] == reader.room(lengths)[0].max() + 1
    assert tried.tgt_in.shape[1] == reader.room(lengths)[1].max() + 1
    assert max(tried.src.numel(), tried.tgt_in.numel()) <= budget
    assert tried.tgt_in.numel() > reader.read(rows).tgt_in.numel() * 0.99
    plain = Reader(dataset, tokenizer)
    assert plain.largest(rows).tgt_in.tolist() == plain.read(rows).tgt_in.tolist()


def test_room_is_the_mean_and_two_standard_deviations() -> None:
    """By hand: twice as long on average, one more or one less of 4; half as long again, exactly."""
    best = np.array([[4, 4], [2, 2]], np.int32)
    room = Room.measure(best, np.array([[9, 7], [3, 3]], np.int32), 12)
    assert room.ratio == (2.0, 1.5)
    assert room.spread == (0.5, 0.0)  # √(mean of 1²/4)
    lengths = np.array([[1, 4, 9, 20], [1, 4, 9, 20]], np.int32)
    # 2·1 + 2·0.5·1 = 3; 8 + 2 = 10; 18 + 3 = 21, but 12 at most; 20 is longer than that already
    assert room(lengths).tolist() == [[3, 10, 12, 20], [2, 6, 12, 20]]


def test_the_line_method_draws_what_it_drew(make: Make, corpus: Corpus, tmp_path: Path) -> None:
    """Its batches are planned by the best segmentations, and a side is cut."""
    tokenizer, text = make(type="unigram"), corpus.part("train")
    dataset = encode_corpus(corpus, tokenizer, 60, tmp_path).train
    reader = Reader(dataset, tokenizer, text, config(0.1, -1, "line"), 10, 1, 300)
    assert reader.room is None
    batch = reader.read(np.arange(50), 3)
    assert batch.src.shape[1] == 11


def test_samples_are_longer_where_alpha_is_small(make: Make) -> None:
    tokenizer = make(type="unigram")
    lines = [" ".join(random.Random(i).choices(WORDS, k=8)) for i in range(200)]
    mean = {
        alpha: np.mean([len(ids) for ids in sampler(tokenizer, alpha).sample(lines, keys(200))])
        for alpha in (0.1, 0.3, 1.0)
    }
    assert mean[0.1] > mean[0.3] > mean[1.0]
    assert isinstance(tokenizer._src, spm.SentencePieceProcessor)
