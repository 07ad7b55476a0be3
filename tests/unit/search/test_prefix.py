"""Searches whose outputs begin with given tokens: against brute force, and a plain search that begins there."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nmt.config.search import SearchConfig
from nmt.models.build import build_model
from nmt.search.beam import beam_search
from nmt.search.constraints import Constraints
from nmt.search.method import Task
from nmt.search.prefix import Prefixed, Prefixing
from nmt.search.sampling import Sampling
from nmt.search.scoring import Hypothesis, LengthPenalty
from nmt.translation.pytorch import TorchEngine
from tests.unit.models.test_seq2seq import CONFIGS, VOCAB
from tests.unit.search.test_beam import BOS, EOS, PENALTIES, Toy, V, brute_force, divisor, repeats
from tests.unit.search.test_sampling import FreeState, assert_drawn_from, free_step

SPARE = 0
PREFIXES: list[list[int]] = [[], [2], [3, 3], [2, 3, 2], [3, 2, 3, 3]]
LONGEST = 4


def search(toy: Toy, width: int, **options: Any) -> list[list[Hypothesis]]:
    """Sentence i with prefix i."""
    options.setdefault("penalty", LengthPenalty("none"))
    return beam_search(
        Prefixing(toy.step, SPARE),
        Prefixed.start(toy.state(range(len(PREFIXES)), width), PREFIXES, width, torch.device("cpu")),
        torch.tensor([LONGEST] * len(PREFIXES)),
        beam_size=width,
        bos_id=BOS,
        eos_id=EOS,
        forbidden=[SPARE],
        **options,
    )


@pytest.mark.parametrize(("kind", "alpha"), PENALTIES)
@pytest.mark.parametrize("early_stop", [True, False])
def test_a_wide_beam_equals_brute_force(kind: Any, alpha: float, early_stop: bool) -> None:
    toy = Toy(len(PREFIXES), LONGEST, seed=3)
    found = search(toy, 50, penalty=LengthPenalty(kind, alpha), nbest=5, early_stop=early_stop)
    for sentence, (prefix, hypotheses) in enumerate(zip(PREFIXES, found, strict=True)):
        everything = brute_force(toy, sentence, LONGEST, kind, alpha, [SPARE])
        expected = [(score, tokens) for score, tokens in everything if tokens[: len(prefix)] == prefix][:5]
        assert [h.tokens for h in hypotheses] == [tokens for _, tokens in expected]
        assert [h.score for h in hypotheses] == pytest.approx([score for score, _ in expected], abs=1e-4)


@pytest.mark.parametrize("width", [1, 2, 3])
def test_a_narrow_beam_equals_a_plain_search_from_the_prefix(width: int) -> None:
    toy = Toy(len(PREFIXES), LONGEST, seed=width, eos_bias=0.5)
    found = search(toy, width, nbest=width, penalty=LengthPenalty("gnmt"))
    for sentence, (prefix, hypotheses) in enumerate(zip(PREFIXES, found, strict=True)):
        start = sum(toy.log_probs(sentence, prefix[:i])[token] for i, token in enumerate(prefix))
        live, finished = [(start, prefix)], list[tuple[float, list[int]]]()
        for length in range(len(prefix) + 1, LONGEST + 2):
            candidates = [
                (log_prob + step, tokens, token)
                for log_prob, tokens in live
                for token, step in enumerate(toy.log_probs(sentence, tokens))
                if token != SPARE and (length <= LONGEST or token == EOS)
            ]
            candidates.sort(key=lambda item: -item[0])
            ended = [(log_prob, tokens) for log_prob, tokens, token in candidates[:width] if token == EOS]
            finished += [(log_prob / divisor("gnmt", 1.0, length), tokens) for log_prob, tokens in ended]
            live = [(p, [*tokens, token]) for p, tokens, token in candidates if token != EOS][:width]
            if len(finished) >= width:
                break
        expected = [tokens for _, tokens in sorted(finished, key=lambda item: -item[0])]
        assert [h.tokens for h in hypotheses] == expected[:width]


def test_a_prefix_is_stronger_than_constraints() -> None:
    """What follows it obeys them: no token occurs that the prefix or the rest has, and three are needed."""
    toy = Toy(len(PREFIXES), LONGEST, seed=5)
    found = search(toy, 50, nbest=3, constraints=Constraints(min_length=3, no_repeat_ngram=2))
    for sentence, (prefix, hypotheses) in enumerate(zip(PREFIXES, found, strict=True)):

        def obeys(tokens: list[int], start: int = len(prefix)) -> bool:
            grams = [tuple(tokens[i - 2 : i]) for i in range(2, len(tokens) + 1)]
            return all(grams[i - 2] not in grams[: i - 2] for i in range(max(2, start + 1), len(tokens) + 1))

        everything = [each for each in brute_force(toy, sentence, LONGEST, "none", 1.0, [SPARE]) if len(each[1]) >= 3]
        expected = [tokens for _, tokens in everything if tokens[: len(prefix)] == prefix and obeys(tokens)]
        assert [h.tokens for h in hypotheses] == expected[:3]
    assert repeats(PREFIXES[4] + [3], 2)


def test_samples_continue_the_prefix_with_the_probabilities_of_the_model() -> None:
    toy, count = Toy(1, 2, seed=1), 4000
    method = Sampling(SearchConfig(method="sample", length_penalty="none", temperature=1.5))
    task = Task(torch.full((count,), 2), list(range(count)), 1, BOS, EOS, [SPARE])
    state: Any = FreeState(torch.zeros(count, dtype=torch.long), None)
    start = Prefixed.start(state, [[3]] * count, 1, torch.device("cpu"))
    drawn = [row[0] for row in method(Prefixing(free_step(toy), SPARE), start, task)]
    assert {h.tokens[0] for h in drawn} == {3}
    logits = torch.tensor(toy.log_probs(0, [3])) / 1.5
    logits[SPARE] = -torch.inf
    exact = logits.softmax(0).tolist()
    assert_drawn_from(
        Counter(h.tokens[1] if len(h.tokens) > 1 else EOS for h in drawn), {t: exact[t] for t in range(V) if exact[t]}
    )
    for h in drawn[:20]:
        whole = [*h.tokens, EOS]
        expected = sum(toy.log_probs(0, whole[:i])[t] for i, t in enumerate(whole))
        assert h.log_prob == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ["rnn-lstm-deep-input-feeding", "transformer-swiglu-rotary"])
@pytest.mark.parametrize("search", [{}, {"beam_size": 1}, {"coverage_penalty": 0.2}, {"method": "sample"}])
def test_an_engine_finds_outputs_with_their_prefixes_in_any_batch(name: str, search: dict[str, Any]) -> None:
    torch.manual_seed(1)
    model = build_model(CONFIGS[name], VOCAB, VOCAB, 0).eval()
    tokenizer: Any = SimpleNamespace(pad_id=0, unk_id=1, bos_id=2, eos_id=3)
    engine = TorchEngine(model, tokenizer, SearchConfig(**search), torch.device("cpu"))
    sources, prefixes = [[5, 6, 7], [8], [9, 4, 4, 4], [5]], [[4, 9, 9, 12, 4, 5, 6, 7, 8], [], [11], [7]]
    limits = [12, 5, 6, 1]
    together = engine.search(sources, limits, 1, prefixes)
    for source, limit, prefix, [best] in zip(sources, limits, prefixes, together, strict=True):
        assert best.tokens[: len(prefix)] == prefix
        assert len(best.tokens) <= limit
        [[alone]] = engine.search([source], [limit], 1, [prefix])
        assert alone.tokens == best.tokens
        assert alone.log_prob == pytest.approx(best.log_prob, abs=1e-4)
        with torch.no_grad():
            src, tgt_in = torch.tensor([[*source, 3]]), torch.tensor([[2, *best.tokens]])
            forced = model.project(model(src, torch.ones_like(src, dtype=torch.bool), tgt_in)).log_softmax(-1)[0]
        expected = sum(float(forced[t, token]) for t, token in enumerate([*best.tokens, 3]))
        assert best.log_prob == pytest.approx(expected, abs=1e-4)
