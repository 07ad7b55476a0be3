"""Penalties, constraints, prefixes, ensembles and unknown words together: a wide beam against all sequences."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

from nmt.config.search import Average, SearchConfig
from nmt.models.ensemble import Ensemble
from nmt.models.seq2seq import Seq2Seq
from nmt.translation.pytorch import TorchEngine
from tests.unit.search.test_beam import divisor, repeats
from tests.unit.search.test_coverage import FREE, MODELS, Numbers, by_hand, small_model

LONGEST = 4
SOURCES = [[4, 5, 6, 4], [6], [5, 5]]
PREFIXES = [[5], [], [4, 4, 6]]
SETTINGS: list[dict[str, Any]] = [
    {"length_penalty": "gnmt", "alpha": 0.6, "coverage_penalty": 0.5, "min_length": 2, "no_repeat_ngram": 2},
    {"length_penalty": "average", "alpha": 1.0, "coverage_penalty": 0.3, "no_repeat_ngram": 1, "copy_unknown": True},
    {"length_penalty": "none", "min_length": 3, "copy_unknown": True},
]


@torch.no_grad()
def scored(
    members: list[Seq2Seq[Any]],
    average: Average,
    source: list[int],
    targets: list[list[int]],
    settings: dict[str, Any],
) -> list[float]:
    """The scores of outputs of one length from teacher forcing and attention maps of each member."""
    whole = torch.tensor([[*target, Numbers.eos_id] for target in targets])  # [N, T]
    src = torch.tensor([[*source, Numbers.eos_id]]).expand(len(targets), -1)
    mask, start = torch.ones_like(src, dtype=torch.bool), torch.full((len(targets), 1), Numbers.bos_id)
    tgt_in = torch.cat([start, whole[:, :-1]], dim=1)
    each = [model.project(model(src, mask, tgt_in)).double().softmax(-1) for model in members]  # [N, T, V]
    if average == "probability":
        mean = sum(each[1:], each[0]) / len(each)
    else:
        product = math.prod(each[1:], start=each[0]) ** (1 / len(each))
        mean = product / product.sum(-1, keepdim=True)
    log_probs = mean.gather(2, whole.unsqueeze(2)).log().sum((1, 2)).tolist()
    maps = [model.attention_maps(src, mask, tgt_in) for model in members]
    attention = sum(found[-1].double().mean(1) for found in maps if found is not None) / len(maps)  # [N, T, S]
    assert isinstance(attention, torch.Tensor)
    penalty = divisor(settings["length_penalty"], settings.get("alpha", 0.0), whole.size(1))
    coverage = [by_hand(one, settings.get("coverage_penalty", 0.0)) for one in attention.tolist()]
    return [one / penalty + more for one, more in zip(log_probs, coverage, strict=True)]


def allowed(tokens: list[int], prefix: list[int], settings: dict[str, Any]) -> bool:
    """Whether an output begins with its prefix and obeys behind it."""
    n = settings.get("no_repeat_ngram", 0)
    # The n-grams that end behind the prefix must not occur before.
    ends = range(max(n, len(prefix) + 1), len(tokens) + 1) if n else ()
    repeated = any(tokens[end - n : end] in (tokens[i : i + n] for i in range(end - n)) for end in ends)
    return tokens[: len(prefix)] == prefix and len(tokens) >= settings.get("min_length", 0) and not repeated


@pytest.mark.slow
@pytest.mark.parametrize(
    ("members", "average"),
    [
        (["rnn"], "probability"),
        (["transformer"], "probability"),
        (["rnn", "transformer"], "probability"),
        (["rnn", "transformer"], "log_probability"),
    ],
)
@pytest.mark.parametrize("prefixes", [[], PREFIXES])
@pytest.mark.parametrize("settings", SETTINGS, ids=["coverage", "repeats", "least"])
def test_a_wide_beam_finds_the_best_outputs(
    members: list[str], average: Average, prefixes: list[list[int]], settings: dict[str, Any]
) -> None:
    models = [small_model(name) for name in members]
    model = models[0] if len(models) == 1 else Ensemble(models, average).eval()
    words = [*FREE, Numbers.unk_id] if settings.get("copy_unknown") else [*FREE]
    config = SearchConfig(beam_size=len(words) ** LONGEST, **settings)
    engine = TorchEngine(model, Numbers(), config, torch.device("cpu"))  # type: ignore[arg-type]
    found = engine.search(SOURCES, [LONGEST] * 3, nbest=6, prefixes=prefixes)
    for source, prefix, hypotheses in zip(SOURCES, prefixes or [[]] * 3, found, strict=True):
        ranked = []
        for length in range(LONGEST + 1):
            outputs = [list(each) for each in itertools.product(words, repeat=length)]
            outputs = [tokens for tokens in outputs if allowed(tokens, prefix, settings)]
            if outputs:
                ranked += zip(scored(models, average, source, outputs, settings), outputs, strict=True)
        expected = sorted(ranked, reverse=True)[:6]
        assert [h.score for h in hypotheses] == pytest.approx([score for score, _ in expected], abs=1e-4)
        assert [h.tokens for h in hypotheses] == [tokens for _, tokens in expected]


def test_the_outputs_that_are_allowed_by_hand() -> None:
    assert MODELS.keys() == {"rnn", "transformer"}
    assert allowed([4, 4, 6, 5], [4, 4, 6], {"no_repeat_ngram": 1})
    assert not allowed([4, 4, 6, 4], [4, 4, 6], {"no_repeat_ngram": 1})
    assert not allowed([4, 5, 4, 5], [4], {"no_repeat_ngram": 2})
    assert repeats([4, 5, 4, 5], 2)
    assert not allowed([5], [4], {})
