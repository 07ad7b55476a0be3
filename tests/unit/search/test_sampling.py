"""Samples against exact probabilities, and against filters that are computed by hand."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch

from nmt.config.search import SearchConfig
from nmt.errors import TrainingError
from nmt.search.method import Task
from nmt.search.methods import new_method
from nmt.search.sampling import Sampling, gumbel, mixed
from nmt.search.scoring import Hypothesis
from tests.unit.search.test_beam import BOS, EOS, Toy, V

LONGEST = 2
Outcome = tuple[int, ...]


def sample(
    toy: Toy, keys: Sequence[int], nbest: int = 1, forbidden: Sequence[int] = (), same: bool = True, **search: Any
) -> list[list[Hypothesis]]:
    """Samples of sentence 0 of the toy for each key, or of sentences 0, 1, ... for the keys."""
    method = Sampling(SearchConfig(method="sample", length_penalty="none", **search))
    sentences = [0] * len(keys) if same else list(range(len(keys)))
    task = Task(torch.full((len(keys),), LONGEST), keys, nbest, BOS, EOS, forbidden)
    step: Any = toy.step
    if same:  # ToyState asserts that groups stay in order; of equal sentences any order will do
        state: Any = FreeState(torch.tensor(sentences).repeat_interleave(nbest), None)
        return method(free_step(toy), state, task)
    return method(step, toy.state(sentences, nbest), task)


class FreeState:
    """The toy's state without its checks, for many copies of one sentence."""

    def __init__(self, sentences: torch.Tensor, numbers: torch.Tensor | None):
        self.sentences = sentences
        self.numbers = torch.ones_like(sentences) if numbers is None else numbers

    def select(self, rows: torch.Tensor) -> FreeState:
        return FreeState(self.sentences[rows], self.numbers[rows])


def free_step(toy: Toy) -> Any:
    def step(tokens: torch.Tensor, state: FreeState) -> tuple[torch.Tensor, FreeState]:
        numbers = torch.where(tokens == BOS, state.numbers, state.numbers * V + tokens)
        return toy.table[state.sentences, numbers], FreeState(state.sentences, numbers)

    return step


def exact(toy: Toy, temperature: float = 1.0, forbidden: Sequence[int] = ()) -> dict[Outcome, float]:
    """The probability of each output of sentence 0, from the definition."""

    def chance(prefix: Sequence[int], token: int) -> float:
        if len(prefix) == LONGEST:
            return 1.0
        weights = [
            0.0 if t in forbidden else math.exp(log_prob / temperature)
            for t, log_prob in enumerate(toy.log_probs(0, prefix))
        ]
        return weights[token] / sum(weights)

    found = {}
    for length in range(LONGEST + 1):
        for tokens in itertools.product(sorted({*range(V)} - {EOS}), repeat=length):
            whole = [*tokens, EOS]
            found[tokens] = math.prod(chance(whole[:i], token) for i, token in enumerate(whole))
    assert sum(found.values()) == pytest.approx(1.0)
    return found


def assert_drawn_from(counts: Mapping[Any, int], expected: Mapping[Any, float]) -> None:
    """Pearson's chi-square test; a sample of the distribution fails it once in about 100,000."""
    total = sum(counts.values())
    assert counts.keys() <= {outcome for outcome, p in expected.items() if p > 0}
    rare = sum(p for p in expected.values() if p * total < 5)
    cells = [(counts.get(o, 0), p * total) for o, p in expected.items() if p * total >= 5]
    cells += [(total - sum(count for count, _ in cells), rare * total)] if rare * total >= 5 else []
    chi2, freedom = sum((count - mean) ** 2 / mean for count, mean in cells), len(cells) - 1
    # Wilson and Hilferty 1931: the cube root is close to normal; 4.3 standard deviations
    assert ((chi2 / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / math.sqrt(2 / (9 * freedom)) < 4.3


@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
@pytest.mark.parametrize("forbidden", [(), (0,)])
def test_samples_have_the_probabilities_of_the_model(temperature: float, forbidden: tuple[int, ...]) -> None:
    toy = Toy(1, LONGEST, seed=2, spread=1.0)
    found = sample(toy, range(6000), forbidden=forbidden, temperature=temperature)
    assert_drawn_from(Counter(tuple(one.tokens) for [one] in found), exact(toy, temperature, forbidden))


def test_samples_of_one_line_and_of_other_seeds_are_independent() -> None:
    toy = Toy(1, LONGEST, seed=3, spread=1.0)
    [many] = sample(toy, [12345], nbest=6000)
    assert_drawn_from(Counter(tuple(one.tokens) for one in many), exact(toy))
    # Of the first token alone, so that there are few pairs: of two samples of a line, and of two seeds
    first = {t: math.exp(p) for t, p in enumerate(toy.log_probs(0, []))}
    pairs = {(a, b): first[a] * first[b] for a in first for b in first}

    def begin(one: Hypothesis) -> int:
        return [*one.tokens, EOS][0]

    both = sample(toy, range(6000), nbest=2)
    assert_drawn_from(Counter((begin(a), begin(b)) for a, b in both), pairs)
    seeds = [sample(toy, range(6000), seed=seed) for seed in (1, 2)]
    assert_drawn_from(Counter((begin(a), begin(b)) for [a], [b] in zip(*seeds, strict=True)), pairs)
    # Of the two positions of a line
    chances = {(a, b): p for (a, b), p in [((t[0], t[1]), p) for t, p in exact(toy).items() if len(t) == 2]}
    found = [tuple(one.tokens) for [one] in sample(toy, range(6000)) if len(one.tokens) == 2]
    assert_drawn_from(Counter(found), {o: p / sum(chances.values()) for o, p in chances.items()})


def test_the_sample_of_a_line_is_the_same_in_every_batch() -> None:
    toy = Toy(6, LONGEST, seed=5)
    keys = [7, 2**63 - 1, 0, 99, 12, 5]
    together = sample(toy, keys, nbest=3, same=False)
    for count in range(1, 7):
        assert sample(toy, keys[:count], nbest=3, same=False) == together[:count]
    assert [three[:1] for three in together] == sample(toy, keys, nbest=1, same=False)


def test_log_prob_is_that_of_the_model_whatever_is_filtered() -> None:
    toy = Toy(1, LONGEST, seed=6)
    settings: list[dict[str, Any]] = [{}, {"temperature": 0.3}, {"top_k": 2}, {"top_p": 0.6}]
    for search in settings:
        for [one] in sample(toy, range(50), forbidden=[2], **search):
            whole = [*one.tokens, EOS]
            expected = sum(toy.log_probs(0, whole[:i])[t] for i, t in enumerate(whole))
            assert one.log_prob == pytest.approx(expected, abs=1e-5)
            assert one.score == one.log_prob
            assert 2 not in one.tokens


def kept_by_hand(logits: Sequence[float], temperature: float, top_k: int | None, top_p: float) -> set[int]:
    """The tokens that may be drawn, by the definitions of the papers."""
    order = sorted(range(len(logits)), key=lambda t: -logits[t])[: top_k or len(logits)]
    weights = [math.exp(logits[t] / temperature) for t in order]
    kept, share = set(), 0.0
    for token, weight in zip(order, weights, strict=True):
        kept.add(token)
        share += weight / sum(weights)
        if share >= top_p:
            break
    return kept


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("top_k", [None, 1, 3, 8, 50])
@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.5, 0.01])
def test_filters_against_brute_force(temperature: float, top_k: int | None, top_p: float) -> None:
    """A filtered draw is the best of the kept tokens under the same noise, for every row."""
    rows, vocabulary = 300, 12
    logits = torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(1)) * 2
    logits[:, 4] = -torch.inf  # a forbidden one
    method = Sampling(SearchConfig(method="sample", temperature=temperature, top_k=top_k, top_p=top_p))
    streams = mixed(torch.arange(rows))
    drawn = method.draw(logits, streams).tolist()
    noise = gumbel(streams.unsqueeze(1), torch.arange(vocabulary)).tolist()
    for row, token in enumerate(drawn):
        values = logits[row].double().tolist()
        kept = kept_by_hand(values, temperature, top_k, top_p) - {4}
        assert token == max(kept, key=lambda t: values[t] / temperature + noise[row][t])


def test_the_noise_is_gumbel_to_its_tails() -> None:
    """Kolmogorov's test, and the share above high values, which decides how often rare tokens are drawn."""
    count = 200_000
    noise = gumbel(mixed(torch.arange(count)).unsqueeze(1), torch.arange(5)).flatten().double()
    ordered = noise.sort().values
    steps = torch.arange(1, len(ordered) + 1) / len(ordered)
    assert float(((-(-ordered).exp()).exp() - steps).abs().max()) < 2.2 / math.sqrt(len(ordered))
    for level in (5.0, 9.0, 11.0):
        mean = len(ordered) * -math.expm1(-math.exp(-level))
        assert abs(int((noise > level).sum()) - mean) < 5 * math.sqrt(mean)


def test_a_greedy_limit() -> None:
    toy = Toy(4, LONGEST, seed=8)
    settings: list[dict[str, Any]] = [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-4}]
    beam = new_method(SearchConfig(beam_size=1, length_penalty="none"))
    step: Any = toy.step
    task = Task(torch.full((4,), LONGEST), range(4), 1, BOS, EOS)
    expected = [one.tokens for [one] in beam(step, toy.state(range(4), 1), task)]
    for search in settings:
        assert [one.tokens for [one] in sample(toy, range(4), same=False, **search)] == expected


def test_output_that_is_not_a_number_is_named() -> None:
    toy = Toy(2, LONGEST, seed=0, eos_bias=-20.0)
    toy.table[1, V:, 3] = math.nan  # after the first token
    with pytest.raises(TrainingError, match=r"not a number \(token 2 of a search\)"):
        sample(toy, [0, 1], same=False)


def test_outputs_without_a_probability_are_left_out() -> None:
    toy = Toy(1, LONGEST, seed=0)
    toy.table[..., EOS] = -math.inf
    assert sample(toy, [3]) == [[]]
    assert sample(toy, []) == []
