"""The coverage penalty: by hand, and beam search with it against all sequences, on a toy and on both families."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from nmt.config.model import RNNConfig, TransformerConfig
from nmt.config.search import SearchConfig
from nmt.errors import ConfigError
from nmt.models.build import build_model
from nmt.models.seq2seq import Seq2Seq
from nmt.search.beam import beam_search
from nmt.search.coverage import LEAST, Covered, coverage_penalty, covering
from nmt.search.scoring import LengthPenalty
from nmt.translation.pytorch import TorchEngine
from tests.unit.search.test_beam import BOS, EOS, Toy, ToyState, V, divisor

BETA = 0.7


def by_hand(attention: list[list[float]], beta: float) -> float:
    """beta · sum_i log(min(sum_j p_ij, 1)) of attention [T][S]."""
    return beta * sum(math.log(min(sum(column), 1.0)) for column in zip(*attention, strict=True))


def test_penalty_by_hand() -> None:
    coverage = torch.tensor([[0.5, 1.5, 1.0], [0.25, 0.25, 2.0], [1.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
    expected = [0.4 * math.log(0.5), 0.4 * 2 * math.log(0.25), 0.0, 0.4 * math.log(LEAST)]
    assert coverage_penalty(coverage, 0.4).tolist() == pytest.approx(expected)


class Attentive(Toy):
    """A toy whose attention also depends on the whole prefix."""

    def __init__(self, sentences: int, longest: int, seed: int, positions: int = 3, **options: Any):
        super().__init__(sentences, longest, seed, **options)
        generator = torch.Generator().manual_seed(seed + 1000)
        numbers = self.table.size(1)
        self.attention = (3 * torch.randn(sentences, numbers, positions, generator=generator)).softmax(-1)

    def attending_step(self, tokens: Tensor, state: ToyState) -> tuple[Tensor, ToyState, Tensor]:
        logits, after = self.step(tokens, state)
        return logits, after, self.attention[after.sentences, after.numbers]

    def row(self, sentence: int, prefix: list[int]) -> list[float]:
        number = 1
        for token in prefix:
            number = number * V + token
        found: list[float] = self.attention[sentence, number].double().tolist()
        return found


def search(toy: Attentive, sentences: list[int], lengths: list[int], width: int, **options: Any) -> Any:
    mask = torch.ones(len(sentences), toy.attention.size(2), dtype=torch.bool)
    state = Covered.start(toy.state(sentences, width), mask, width)
    return beam_search(
        covering(toy.attending_step), state, torch.tensor(lengths), beam_size=width, bos_id=BOS, eos_id=EOS, **options
    )


@pytest.mark.parametrize(("kind", "alpha"), [("none", 1.0), ("gnmt", 0.8), ("average", 1.0)])
def test_wide_beam_equals_brute_force(kind: Any, alpha: float) -> None:
    longest = 3
    toy = Attentive(4, longest, seed=1)
    found = search(toy, [0, 1, 2, 3], [longest] * 4, 40, penalty=LengthPenalty(kind, alpha), nbest=6, beta=BETA)
    changed = 0
    for sentence, hypotheses in enumerate(found):
        scored = []
        for length in range(longest + 1):
            for tokens in itertools.product(sorted({*range(V)} - {EOS}), repeat=length):
                whole = [*tokens, EOS]
                log_prob = sum(toy.log_probs(sentence, whole[:i])[t] for i, t in enumerate(whole))
                coverage = by_hand([toy.row(sentence, whole[:i]) for i in range(len(whole))], BETA)
                plain = log_prob / divisor(kind, alpha, len(whole))
                scored.append((plain + coverage, coverage, plain, list(tokens)))
        expected = sorted(scored, reverse=True)[:6]
        assert [h.tokens for h in hypotheses] == [tokens for *_, tokens in expected]
        assert [h.score for h in hypotheses] == pytest.approx([score for score, *_ in expected], abs=1e-5)
        assert [h.coverage for h in hypotheses] == pytest.approx([each[1] for each in expected], abs=1e-5)
        changed += expected[0][3] != max(scored, key=lambda each: each[2])[3]
    assert changed  # without the penalty another one would be the best


def test_early_stop_changes_no_result_and_saves_work() -> None:
    saved = 0
    for seed, (width, nbest) in itertools.product(range(10), [(1, 1), (3, 1), (4, 2), (4, 4)]):
        lengths = [5, 2, 4, 5, 5, 3, 0, 5]
        toy = Attentive(len(lengths), 5, seed, eos_bias=seed % 4 - 1.0)
        options: dict[str, Any] = {"penalty": LengthPenalty("gnmt", 0.9), "nbest": nbest, "beta": 0.3}
        early = search(toy, list(range(8)), lengths, width, **options)
        work, toy.rows_fed = toy.rows_fed, 0
        assert early == search(toy, list(range(8)), lengths, width, early_stop=False, **options)
        saved += toy.rows_fed - work
    assert saved > 0


# ------------------------------------------------------------------------------------------------------- real models

SIZES = {"d_model": 8, "dropout": 0.0}
MODELS = {
    "rnn": RNNConfig(type="rnn", **SIZES, d_hidden=6, d_attention=5, attention="general"),
    "transformer": TransformerConfig(
        type="transformer", **SIZES, d_ff=12, num_heads=2, encoder_layers=1, decoder_layers=2
    ),
}
WORDS = 7  # pad, unk, bos, eos and three others
FREE = range(4, WORDS)


class Numbers:
    pad_id, unk_id, bos_id, eos_id = range(4)
    src_vocab_size = tgt_vocab_size = WORDS


def small_model(name: str) -> Seq2Seq[Any]:
    torch.manual_seed(3)
    model = build_model(MODELS[name], WORDS, WORDS, Numbers.pad_id).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    return model


@torch.no_grad()
def scored_by_hand(model: Seq2Seq[Any], source: list[int], target: list[int], beta: float) -> float:
    """The score of an output from teacher forcing and the attention maps, which the search does not use."""
    src, whole = torch.tensor([[*source, Numbers.eos_id]]), [*target, Numbers.eos_id]
    mask, tgt_in = torch.ones_like(src, dtype=torch.bool), torch.tensor([[Numbers.bos_id, *target]])
    log_probs = model.project(model(src, mask, tgt_in)).double().log_softmax(-1)[0]
    log_prob = sum(float(log_probs[i, token]) for i, token in enumerate(whole))
    maps = model.attention_maps(src, mask, tgt_in)
    assert maps is not None
    attention = maps[-1, 0].double().mean(0).tolist()  # the last layer, over the heads: [T, S]
    return log_prob / ((5 + len(whole)) / 6) ** 0.6 + by_hand(attention, beta)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_both_families_equal_brute_force(name: str, beta: float) -> None:
    model, tokenizer, longest = small_model(name), Numbers(), 3
    sources = [[4, 5, 6, 4], [6], [5, 5]]  # of different lengths: padding must cost nothing
    settings = SearchConfig(beam_size=40, alpha=0.6, coverage_penalty=beta)
    engine = TorchEngine(model, tokenizer, settings, torch.device("cpu"))  # type: ignore[arg-type]
    for source, hypotheses in zip(sources, engine.search(sources, [longest] * 3, nbest=8), strict=True):
        everything = [
            (scored_by_hand(model, source, list(tokens), beta), list(tokens))
            for length in range(longest + 1)
            for tokens in itertools.product(FREE, repeat=length)
        ]
        expected = sorted(everything, reverse=True)[:8]
        assert [h.score for h in hypotheses] == pytest.approx([score for score, _ in expected], abs=1e-4)
        assert [h.tokens for h in hypotheses] == [tokens for _, tokens in expected]


def test_a_model_without_attention_is_refused() -> None:
    model = build_model(MODELS["rnn"].model_copy(update={"attention": "none"}), WORDS, WORDS, 0)
    engine = TorchEngine(model, Numbers(), SearchConfig(coverage_penalty=0.2), torch.device("cpu"))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"search\.coverage_penalty: needs a model with attention"):
        engine.search([[4, 5]], [3], 1)


# ------------------------------------------------------------------------------------------- samples of real models


@pytest.mark.parametrize("name", MODELS)
def test_the_sample_of_a_line_does_not_depend_on_other_lines(name: str) -> None:
    model, tokenizer = small_model(name), Numbers()

    def samples(sources: list[list[int]], nbest: int = 2, **more: Any) -> list[list[list[int]]]:
        settings = SearchConfig(method="sample", temperature=4.0, **more)
        engine = TorchEngine(model, tokenizer, settings, torch.device("cpu"))  # type: ignore[arg-type]
        found = engine.search(sources, [12] * len(sources), nbest)
        return [[one.tokens for one in row] for row in found]

    generator = torch.Generator().manual_seed(4)
    sources = [torch.randint(4, WORDS, (1 + i % 7,), generator=generator).tolist() for i in range(30)]
    together = samples(sources)
    assert len({str(row) for row in together}) > 20
    assert samples(sources[::-1]) == together[::-1]
    assert samples(sources, batch_tokens=1) == together
    assert [samples([source])[0] for source in sources[:8]] == together[:8]
    assert [row[:1] for row in together] == samples(sources, nbest=1)
    assert samples(sources, seed=2) != together
