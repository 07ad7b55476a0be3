"""Beam search on a toy whose logits depend on the whole prefix: against brute force and a plain search."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nmt.config.search import SearchConfig
from nmt.errors import TrainingError
from nmt.search.beam import BeamSearch, beam_search
from nmt.search.candidates import top_k_by_column
from nmt.search.constraints import Constraints
from nmt.search.scoring import Hypothesis, LengthPenalty

V = 4  # eos and three others
EOS = 1
BOS = V  # fed, never produced
Kind = Any


class Toy:
    """A "model" that gives each (sentence, prefix) its own random logits.

    A prefix has a number, its tokens read as digits of base V after a leading 1, to look it up in a table.
    """

    def __init__(self, sentences: int, longest: int, seed: int, eos_bias: float = 0.0, spread: float = 2.0):
        generator = torch.Generator().manual_seed(seed)
        self.table = torch.randn(sentences, 2 * V ** (longest + 1), V, generator=generator) * spread
        self.table[..., EOS] += eos_bias
        self.rows_fed = 0

    def state(self, sentences: Sequence[int], width: int) -> ToyState:
        ids = torch.tensor(sentences).repeat_interleave(width)
        return ToyState(ids, torch.ones_like(ids), width)

    def step(self, tokens: Tensor, state: ToyState) -> tuple[Tensor, ToyState]:
        self.rows_fed += len(tokens)
        numbers = torch.where(tokens == BOS, state.numbers, state.numbers * V + tokens)
        return self.table[state.sentences, numbers], ToyState(state.sentences, numbers, state.width)

    def log_probs(self, sentence: int, prefix: Sequence[int]) -> list[float]:
        number = 1
        for token in prefix:
            number = number * V + token
        found: list[float] = self.table[sentence, number].double().log_softmax(-1).tolist()
        return found


class ToyState:
    def __init__(self, sentences: Tensor, numbers: Tensor, width: int):
        self.sentences, self.numbers, self.width = sentences, numbers, width

    def select(self, rows: Tensor) -> ToyState:
        groups = rows.view(-1, self.width) // self.width
        assert (groups == groups[:, :1]).all(), "the rows of a sentence must stay together"
        assert (groups[:, 0].diff() > 0).all(), "sentences leave; they do not change places"
        return ToyState(self.sentences[rows], self.numbers[rows], self.width)


def search(
    toy: Toy, sentences: Sequence[int], max_lengths: Sequence[int], width: int, **options: Any
) -> list[list[Hypothesis]]:
    options.setdefault("penalty", LengthPenalty("none"))
    return beam_search(
        toy.step,
        toy.state(sentences, width),
        torch.tensor(max_lengths),
        beam_size=width,
        bos_id=BOS,
        eos_id=EOS,
        **options,
    )


def divisor(kind: str, alpha: float, length: int) -> float:
    values: dict[str, float] = {"gnmt": ((5 + length) / 6) ** alpha, "average": length**alpha, "none": 1.0}
    return values[kind]


def brute_force(
    toy: Toy, sentence: int, longest: int, kind: str, alpha: float, forbidden: Sequence[int] = ()
) -> list[tuple[float, list[int]]]:
    """All sequences of up to ``longest`` tokens with their scores, best first."""
    scored = []
    for length in range(longest + 1):
        for tokens in itertools.product(sorted({*range(V)} - {EOS, *forbidden}), repeat=length):
            whole = [*tokens, EOS]
            log_prob = sum(toy.log_probs(sentence, whole[:i])[whole[i]] for i in range(len(whole)))
            scored.append((log_prob / divisor(kind, alpha, len(whole)), list(tokens)))
    return sorted(scored, key=lambda item: -item[0])


def plain_beam(toy: Toy, sentence: int, longest: int, width: int, kind: str, alpha: float) -> list[list[int]]:
    """The definition of the search, written down with lists, sorting everything and never stopping early."""
    live: list[tuple[float, list[int]]] = [(0.0, [])]
    finished: list[tuple[float, list[int]]] = []
    for length in range(1, longest + 2):
        candidates = [
            (log_prob + step, prefix, token)
            for log_prob, prefix in live
            for token, step in enumerate(toy.log_probs(sentence, prefix))
            if length <= longest or token == EOS
        ]
        candidates.sort(key=lambda item: -item[0])
        finished += [
            (log_prob / divisor(kind, alpha, length), prefix)
            for log_prob, prefix, token in candidates[:width]
            if token == EOS
        ]
        live = [(log_prob, [*prefix, token]) for log_prob, prefix, token in candidates if token != EOS][:width]
        if len(finished) >= width:
            break
    return [prefix for _, prefix in sorted(finished, key=lambda item: -item[0])]


PENALTIES = [("none", 1.0), ("gnmt", 1.0), ("gnmt", 0.6), ("average", 1.0), ("average", 2.5)]


@pytest.mark.parametrize(("kind", "alpha"), PENALTIES)
@pytest.mark.parametrize("forbidden", [(), (0,)])
def test_wide_beam_equals_brute_force(kind: Kind, alpha: float, forbidden: tuple[int, ...]) -> None:
    longest = 3
    everything = sum((V - 1) ** n for n in range(longest + 1))  # prefixes of up to 3 tokens: 40
    toy = Toy(4, longest, seed=1)
    found = search(
        toy, range(4), [longest] * 4, everything, penalty=LengthPenalty(kind, alpha), nbest=5, forbidden=forbidden
    )
    for sentence, hypotheses in enumerate(found):
        expected = brute_force(toy, sentence, longest, kind, alpha, forbidden)[:5]
        assert [h.tokens for h in hypotheses] == [tokens for _, tokens in expected]
        assert [h.score for h in hypotheses] == pytest.approx([score for score, _ in expected], abs=1e-5)


@pytest.mark.parametrize(("kind", "alpha"), PENALTIES)
@pytest.mark.parametrize("width", [1, 2, 3, 5, 9])
def test_narrow_beam_equals_plain_search(kind: Kind, alpha: float, width: int) -> None:
    lengths = [5, 0, 3, 5, 1, 4, 5, 2] * 2
    toy = Toy(len(lengths), max(lengths), seed=width, eos_bias=0.5)
    found = search(toy, range(len(lengths)), lengths, width, penalty=LengthPenalty(kind, alpha), nbest=width)
    for sentence, (longest, hypotheses) in enumerate(zip(lengths, found, strict=True)):
        expected = plain_beam(toy, sentence, longest, width, kind, alpha)
        assert [h.tokens for h in hypotheses] == expected[:width]


@pytest.mark.parametrize("kind", ["none", "gnmt", "average"])
def test_greedy_is_the_argmax_loop(kind: Kind) -> None:
    longest, count = 5, 30
    toy = Toy(count, longest, seed=3)
    found = search(toy, range(count), [longest] * count, 1, penalty=LengthPenalty(kind))
    for sentence, [hypothesis] in enumerate(found):
        tokens: list[int] = []
        while len(tokens) < longest:
            scores = toy.log_probs(sentence, tokens)
            token = max(range(V), key=scores.__getitem__)
            if token == EOS:
                break
            tokens.append(token)
        assert hypothesis.tokens == tokens


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "alpha"), PENALTIES)
def test_early_stop_changes_no_result_and_saves_work(kind: Kind, alpha: float) -> None:
    saved = 0
    for seed in range(12):
        lengths = [5, 2, 4, 5, 5, 3, 0, 5]
        for width, nbest in [(1, 1), (3, 1), (4, 2), (4, 4)]:
            toy = Toy(len(lengths), 5, seed, eos_bias=seed % 4 - 1.0)
            options: dict[str, Any] = {"penalty": LengthPenalty(kind, alpha), "nbest": nbest}
            early = search(toy, range(len(lengths)), lengths, width, **options)
            work, toy.rows_fed = toy.rows_fed, 0
            assert early == search(toy, range(len(lengths)), lengths, width, early_stop=False, **options)
            saved += toy.rows_fed - work
    assert saved > 0


def test_all_finished_hypotheses_serve_every_length_penalty() -> None:
    """Ordered again, they are what the search with another penalty finds; with any number of hypotheses."""
    several = 0
    for seed, width in itertools.product(range(6), [2, 3, 5]):
        lengths = [5, 2, 4, 5, 5, 3, 0, 5]
        toy = Toy(len(lengths), 5, seed, eos_bias=seed % 4 - 1.0)
        everything = search(toy, range(8), lengths, width, nbest=2 * width - 1, penalty=LengthPenalty("none"))
        for kind, alpha in PENALTIES:
            penalty = LengthPenalty(kind, alpha)  # type: ignore[arg-type]
            expected = search(toy, range(8), lengths, width, nbest=width, penalty=penalty)
            for found, best in zip(everything, expected, strict=True):
                scores = {tuple(h.tokens): h.log_prob / divisor(kind, alpha, len(h.tokens) + 1) for h in found}
                ordered = sorted(scores, key=lambda tokens: -scores[tokens])
                assert ordered[:width] == [tuple(h.tokens) for h in best]
                several += len(found) > width
    assert several  # more than W finished somewhere


def test_a_batch_equals_its_sentences_one_by_one() -> None:
    lengths = [5, 1, 4, 0, 5, 3]
    toy = Toy(len(lengths), 5, seed=7)
    options: dict[str, Any] = {"penalty": LengthPenalty("gnmt"), "nbest": 3}
    together = search(toy, range(len(lengths)), lengths, 4, **options)
    alone = [search(toy, [i], [length], 4, **options)[0] for i, length in enumerate(lengths)]
    assert together == alone


def test_log_prob_is_that_of_the_tokens_and_eos() -> None:
    toy = Toy(5, 4, seed=9)
    for sentence, hypotheses in enumerate(search(toy, range(5), [4] * 5, 4, nbest=4, forbidden=[2])):
        assert [h.score for h in hypotheses] == sorted((h.score for h in hypotheses), reverse=True)
        assert len({tuple(h.tokens) for h in hypotheses}) == len(hypotheses) == 4
        for h in hypotheses:
            whole = [*h.tokens, EOS]
            assert 2 not in h.tokens
            # Of the unrestricted model: a forbidden token takes its probability with it.
            expected = sum(toy.log_probs(sentence, whole[:i])[t] for i, t in enumerate(whole))
            assert h.log_prob == pytest.approx(expected, abs=1e-5)


def test_beam_avoids_the_garden_path() -> None:
    """By hand: greedy begins with a and ends at 0.6 · 0.3 = 0.18; the beam finds b at 0.4 · 0.9 = 0.36."""
    after = {1: [0.0, 0.0, 0.6, 0.4], V + 2: [0.35, 0.3, 0.35, 0.0], V + 3: [0.05, 0.9, 0.05, 0.0]}
    toy = Toy(1, 1, seed=0)
    for number, probabilities in after.items():
        toy.table[0, number] = torch.tensor(probabilities).log()
    [[greedy]] = search(toy, [0], [1], 1)
    [[best, second]] = search(toy, [0], [1], 2, nbest=2)
    assert (greedy.tokens, best.tokens, second.tokens) == ([2], [3], [2])
    assert [math.exp(h.log_prob) for h in (greedy, best, second)] == pytest.approx([0.18, 0.36, 0.18])


def test_maximum_length_closes_with_the_price_of_eos() -> None:
    toy = Toy(1, 3, seed=4, eos_bias=-20.0)
    for longest in range(4):
        [[hypothesis]] = search(toy, [0], [longest], 3)
        assert len(hypothesis.tokens) == longest
        assert hypothesis.log_prob < -15.0


def test_equal_scores_fall_the_same_way_every_time() -> None:
    toy = Toy(1, 3, seed=0, spread=0.0)
    [[first, *rest]] = search(toy, [0], [2], 3, nbest=3, penalty=LengthPenalty("average"))
    assert first.tokens == []  # all tokens are equally likely: every mean is log 1/4, so the first leads
    assert all(h.score == pytest.approx(-math.log(4)) for h in rest)


def test_fewer_hypotheses_than_asked_for_when_there_are_no_more() -> None:
    toy = Toy(2, 1, seed=0)
    found = search(toy, [0, 1], [0, 1], 5, nbest=5)
    assert [len(hypotheses) for hypotheses in found] == [1, 4]  # only eos; eos and three tokens before it
    everything_else = [t for t in range(V) if t != EOS]
    assert [
        [h.tokens for h in hypotheses]
        for hypotheses in search(toy, [0, 1], [1, 1], 2, nbest=2, forbidden=everything_else)
    ] == [[[]], [[]]]


def test_no_sentences() -> None:
    assert search(Toy(1, 1, seed=0), [], [], 2) == []


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_output_that_is_not_a_number_is_named(value: float) -> None:
    toy = Toy(2, 3, seed=0, eos_bias=-20.0)
    toy.table[1, V:, 3] = value  # after the first token
    with pytest.raises(TrainingError, match=r"not a number \(token 2 of a search\)"):
        search(toy, [0, 1], [3, 3], 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nbest": 4}, "nbest must be from 1 to 3 with a beam of 2, found 4"),
        ({"nbest": 0}, "nbest must be from 1 to 3 with a beam of 2, found 0"),
        ({"forbidden": [EOS]}, "eos cannot be forbidden"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        search(Toy(1, 1, seed=0), [0], [1], 2, **options)


def test_low_precision_logits_are_summed_in_float32() -> None:
    toy = Toy(1, 4, seed=2)
    toy.table = toy.table.bfloat16()
    step: Callable[..., Any] = toy.step
    [[hypothesis]] = beam_search(
        step, toy.state([0], 2), torch.tensor([4]), beam_size=2, bos_id=BOS, eos_id=EOS, penalty=LengthPenalty("none")
    )
    whole = [*hypothesis.tokens, EOS]
    expected = sum(toy.log_probs(0, whole[:i])[t] for i, t in enumerate(whole))
    assert hypothesis.log_prob == pytest.approx(expected, abs=1e-5)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 4),
    columns=st.integers(1, 700),
    k=st.integers(1, 9),
    levels=st.integers(1, 1000),
    seed=st.integers(0, 999),
)
def test_the_largest_of_long_rows(rows: int, columns: int, k: int, levels: int, seed: int) -> None:
    """Against a full sort; few levels make many ties."""
    k = min(k, columns)
    values = torch.randint(levels, (rows, columns), generator=torch.Generator().manual_seed(seed)).float()
    values[values == 0] = -torch.inf
    found, where = top_k_by_column(values, k, piece=16)
    assert torch.equal(found.sort(descending=True).values, values.sort(descending=True).values[:, :k])
    assert torch.equal(found, values.gather(1, where))
    assert (where.diff() > 0).all()


# ------------------------------------------------------------------------------------------------------- constraints

LONGEST = 4


def repeats(tokens: list[int], n: int) -> bool:
    grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    return len(set(grams)) < len(grams)


@pytest.mark.parametrize("constraints", [(1, 0), (3, 0), (0, 1), (0, 2), (0, 3), (2, 2), (3, 1), (4, 2)])
@pytest.mark.parametrize("forbidden", [(), (2,)])
def test_a_wide_beam_finds_the_best_of_all_sequences_that_obey(constraints, forbidden):
    least, n = constraints
    toy = Toy(3, LONGEST, seed=least * 10 + n, eos_bias=1.0)
    found = search(
        toy, [0, 1, 2], [LONGEST] * 3, 200, nbest=3, forbidden=forbidden, constraints=Constraints(*constraints)
    )
    for sentence, hypotheses in enumerate(found):
        expected = [
            (score, tokens)
            for score, tokens in brute_force(toy, sentence, LONGEST, "none", 1.0, forbidden)
            if len(tokens) >= least and not (n and repeats(tokens, n))
        ][:3]
        if (constraints, forbidden) == ((3, 1), (2,)):  # two words, each once: no sequence of three
            assert {len(each.tokens) for each in hypotheses} == {2}
            continue
        assert [each.tokens for each in hypotheses] == [tokens for _, tokens in expected]
        assert [each.score for each in hypotheses] == pytest.approx([score for score, _ in expected], abs=1e-4)


@pytest.mark.parametrize("width", [1, 2, 3])
def test_a_narrow_beam_obeys(width):
    toy = Toy(5, 6, seed=3, eos_bias=-1.0)
    for hypotheses in search(toy, range(5), [6] * 5, width, constraints=Constraints(3, 2)):
        assert 3 <= len(hypotheses[0].tokens) <= 6
        assert not repeats(hypotheses[0].tokens, 2)


def test_the_longest_length_is_stronger_than_the_least():
    toy = Toy(1, 4, seed=1, eos_bias=5.0)
    (found,) = search(toy, [0], [2], 3, constraints=Constraints(min_length=9))
    assert len(found[0].tokens) == 2


def test_tokens_that_would_repeat_by_hand():
    logits = torch.zeros(2, 6)
    prefixes = torch.tensor([[2, 3, 4, 2, 3], [2, 3, 2, 4, 5]])
    word, log_probs, _ = Constraints(no_repeat_ngram=3).candidates(logits, 6, prefixes, torch.tensor([0]), EOS)
    left = [sorted(w[p > -torch.inf].tolist()) for w, p in zip(word, log_probs, strict=True)]
    assert left == [[1, 2, 3, 5], [1, 2, 3, 4, 5]]
    assert log_probs.max().item() == pytest.approx(-torch.tensor(6.0).log().item())


@pytest.mark.parametrize("keys", [{"min_length": 2}, {"no_repeat_ngram": 3}])
def test_no_graph_records_a_constrained_search(keys: dict[str, Any]):
    assert BeamSearch(SearchConfig()).capturable
    assert not BeamSearch(SearchConfig(**keys)).capturable
