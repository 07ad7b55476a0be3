"""Subword sampling: its distribution, and draws that depend on a key alone."""

from __future__ import annotations

import io
import itertools
import math
import random
import subprocess
import sys
import threading
from collections import Counter
from typing import Any

import numpy as np
import pytest
import sentencepiece as spm

from nmt.config.tokenizer import SamplingConfig
from nmt.data import subword_sampling
from nmt.data.subword_sampling import BatchSampler
from nmt.data.tokenizer import Tokenizer
from tests.unit.data.corpora import WORDS, Make, sampling_config

TEXT = "das Kind läuft über die Straße"


KINDS = [("unigram", 0.05, -1), ("unigram", 0.05, 8), ("bpe", 0.2, -1)]


def keys(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)


def sampler(tokenizer: Tokenizer, alpha: float, nbest: int = -1) -> BatchSampler:
    return tokenizer.batch_samplers(sampling_config(alpha, nbest))[0]


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
        tuple(tokenizer.src_pieces(tokenizer.sample_src("das Kind", sampling_config(alpha), seed)))
        for seed in range(4000)
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
    steep = sampling_config(0.0 if kind == "bpe" else 100.0)
    assert [tokenizer.sample_src(line, steep, 1) for line in lines] == tokenizer.encode_src(lines)
    batch = tokenizer.batch_samplers(steep)[0].sample(lines, keys(len(lines)))
    assert [ids.tolist() for ids in batch] == tokenizer.encode_src(lines)
    if kind == "bpe":
        assert tokenizer.src_pieces(tokenizer.sample_src("das Kind", sampling_config(1.0), 1)) == list(
            "\u2581das\u2581Kind"
        )
        (ids,) = sampler(tokenizer, 1.0).sample(["das Kind"], keys(1))
        assert tokenizer.src_pieces(ids) == list("\u2581das\u2581Kind")


def test_draws_from_an_n_best_list(make: Make) -> None:
    tokenizer = make(type="unigram")
    best = [tuple(ids) for ids in tokenizer._src.nbest_encode_as_ids(TEXT, 4)]
    scores = [sum(tokenizer._src.get_score(i) for i in ids) for ids in best]
    assert {tuple(tokenizer.sample_src(TEXT, sampling_config(0.0, 4), seed)) for seed in range(100)} == set(best)
    assert {tuple(tokenizer.sample_src(TEXT, sampling_config(100.0, 4), seed)) for seed in range(20)} == {best[0]}
    weights = np.exp(0.5 * np.array(scores))
    found = Counter(tuple(ids.tolist()) for ids in sampler(tokenizer, 0.5, 4).sample([TEXT] * 2000, keys(2000)))
    assert_drawn_from(found, dict(zip(best, weights / weights.sum(), strict=True)))  # type: ignore[arg-type]


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
    monkeypatch.setattr(subword_sampling, "KEPT_ARCS", 100)
    monkeypatch.setattr(subword_sampling, "KEPT_MERGES", 20)
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


@pytest.mark.slow
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
    scope: dict[str, Any] = {"t": tokenizer, "text": TEXT, "c": sampling_config(alpha, nbest), "np": np}
    assert printed[0] == f"{eval(draw, scope)}\n"


def test_samples_are_longer_where_alpha_is_small(make: Make) -> None:
    tokenizer = make(type="unigram")
    lines = [" ".join(random.Random(i).choices(WORDS, k=8)) for i in range(200)]
    mean = {
        alpha: np.mean([len(ids) for ids in sampler(tokenizer, alpha).sample(lines, keys(200))])
        for alpha in (0.1, 0.3, 1.0)
    }
    assert mean[0.1] > mean[0.3] > mean[1.0]
    assert isinstance(tokenizer._src, spm.SentencePieceProcessor)


@pytest.mark.parametrize(("kind", "nbest"), [("unigram", -1), ("unigram", 8), ("bpe", -1)])
def test_symbols_are_never_divided_and_the_rest_is_drawn_as_before(tmp_path, kind, nbest):
    text = ["the __source__ cat __target__ Katze __done__ sleeps", "a dog__done__", "__source__", "dogs and cats sleep"]
    lines = [*text, "the cats and the dogs sleep", "a dog sleeps there", "Katze und Hund"] * 20
    model = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, model_type=kind, vocab_size=60, hard_vocab_limit=False,
        user_defined_symbols=["__source__", "__target__", "__done__"], minloglevel=3,
    )  # fmt: skip
    processor = spm.SentencePieceProcessor(model_proto=model.getvalue())
    alpha = 0.3 if kind == "unigram" else 0.5
    sampler = BatchSampler(processor, SamplingConfig(alpha=alpha, nbest=nbest))
    symbols = {processor.piece_to_id(s) for s in ("__source__", "__target__", "__done__")}
    expected = [[i for i in ids if i in symbols] for ids in processor.encode(text)]
    seen = set()
    for draw in range(50):
        found = sampler.sample(text, np.arange(4, dtype=np.uint64) + np.uint64(100 * draw))
        assert [[i for i in ids.tolist() if i in symbols] for ids in found] == expected
        assert [processor.decode(ids.tolist()) for ids in found] == processor.decode(processor.encode(text))
        seen.add(tuple(found[0].tolist()))
    assert len(seen) > 4
