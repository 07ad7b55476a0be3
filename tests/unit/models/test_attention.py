"""Every score against a calculation by hand."""

import itertools
import math

import pytest
import torch

from nmt.config.model import RNNConfig
from nmt.models.alignment import Draws
from nmt.models.attention import (
    SCORES,
    GeneralAttention,
    additive_score,
    build_attention,
    dot_score,
    euclidean_score,
    scaled_dot_score,
)

QUERY = torch.tensor([[1.0, 2.0]])  # [1, A]
KEYS = torch.tensor([[3.0, -1.0], [0.0, 0.5]])  # [S, A]


def test_additive_score():
    expected = [
        2 * math.tanh(1 + 3) - 1 * math.tanh(2 - 1),
        2 * math.tanh(1 + 0) - 1 * math.tanh(2 + 0.5),
    ]
    assert additive_score(QUERY, KEYS, torch.tensor([2.0, -1.0])).tolist() == pytest.approx(expected)


def test_dot_score():
    assert dot_score(QUERY, KEYS).tolist() == [1 * 3 - 2 * 1, 2 * 0.5]


def test_scaled_dot_score():
    assert scaled_dot_score(QUERY, KEYS).tolist() == pytest.approx([1 / math.sqrt(2), 1 / math.sqrt(2)])


def test_euclidean_score():
    expected = [-((1 - 3) ** 2 + (2 + 1) ** 2) / math.sqrt(2), -(1 + 1.5**2) / math.sqrt(2)]
    assert euclidean_score(QUERY, KEYS).tolist() == pytest.approx(expected)


def test_general_is_a_bilinear_form():
    attention = GeneralAttention(d_query=2, d_memory=3, d_attention=99)
    query, values = torch.randn(1, 1, 2), torch.randn(1, 4, 3)
    _, weights, _ = attention(query, attention.read(values, torch.ones(1, 4, dtype=torch.bool)))
    scores = torch.stack([query[0, 0] @ attention.key.weight @ values[0, s] for s in range(4)])
    assert torch.allclose(weights[0, 0], scores.softmax(0), atol=1e-6)


@pytest.mark.parametrize("name", ["additive", "general", "dot", "scaled_dot", "euclidean"])
def test_weights_are_a_distribution_over_real_tokens_and_make_the_context(name):
    attention = SCORES[name](d_query=3, d_memory=4, d_attention=5)
    values = torch.randn(2, 6, 4)
    mask = torch.arange(6) < torch.tensor([[6], [2]])
    context, weights, _ = attention(torch.randn(2, 7, 3), attention.read(values, mask))
    assert context.shape == (2, 7, 4)
    assert weights.shape == (2, 7, 6)
    assert torch.allclose(weights.sum(-1), torch.ones(2, 7))
    assert (weights[1, :, 2:] == 0).all()
    assert torch.allclose(context[1], weights[1, :, :2] @ values[1, :2], atol=1e-6)


# ---------------------------------------------------------------------------------------------------------- alignments

LENGTHS, S, WIDTH, MEMORY = (7, 2, 5), 7, 4, 6


def aligned(alignment, **keys):
    """An attention, two queries [B, 2, Hid] for each sentence, and the encoded sources."""
    torch.manual_seed(0)
    config = RNNConfig(type="rnn", d_model=5, d_hidden=WIDTH, d_attention=3, alignment=alignment, **keys)
    attention = build_attention(config, MEMORY)
    mask = torch.arange(S) < torch.tensor(LENGTHS)[:, None]
    return attention, torch.randn(3, 2, WIDTH), attention.read(torch.randn(3, S, MEMORY), mask)


def scores_of(attention, query, source, sentence):
    """Scores of one query [Hid] at the real positions of a sentence, one by one."""
    keys = source.keys[sentence, : LENGTHS[sentence]]
    return [(torch.tanh(attention.query(query) + key) @ attention.v).item() for key in keys]


@torch.no_grad()
@pytest.mark.parametrize("window", [1, 2, 3, 10])
@pytest.mark.parametrize("alignment", ["local_monotonic", "local_predictive"])
def test_local_attention_equals_a_plain_loop(alignment, window):
    attention, queries, source = aligned(alignment, window=window)
    for t in range(12):  # past the end of every source
        context, weights, _ = attention(queries, source, torch.tensor([t]))
        for sentence, row in itertools.product(range(3), range(2)):
            query, length = queries[sentence, row], LENGTHS[sentence]
            if alignment == "local_monotonic":
                centre = min(t, length - 1)
            else:
                local = attention.alignment
                hidden = torch.tanh(local.hidden.weight @ query)
                centre = length / (1 + math.exp(-float(local.position.weight[0] @ hidden)))
            scores = scores_of(attention, query, source, sentence)
            inside = [j for j in range(length) if centre - window <= j <= centre + window]
            total = sum(math.exp(scores[j]) for j in inside)
            expected = [0.0] * S
            for j in inside:
                expected[j] = math.exp(scores[j]) / total
                if alignment == "local_predictive":
                    expected[j] *= math.exp(-((j - centre) ** 2) / (2 * (window / 2) ** 2))
            assert weights[sentence, row].tolist() == pytest.approx(expected, abs=1e-6)
            value = sum(weight * source.values[sentence, j] for j, weight in enumerate(expected))
            assert torch.allclose(context[sentence, row], value, atol=1e-6)


@pytest.mark.parametrize("saturated", [-1e4, 1e4])
def test_a_predicted_centre_at_the_end_of_a_source_leaves_a_position(saturated):
    attention, queries, source = aligned("local_predictive", window=1)
    torch.nn.init.constant_(attention.alignment.hidden.weight, 1.0)
    torch.nn.init.constant_(attention.alignment.position.weight, saturated)
    _, weights, _ = attention(queries.abs(), source)
    weights.sum().backward()
    assert (weights.sum(-1) > 0).all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in attention.parameters())


@torch.no_grad()
@pytest.mark.parametrize("estimator", ["reinforce", "gumbel"])
def test_hard_attention_reads_the_position_of_the_highest_score(estimator):
    attention, queries, source = aligned("hard", hard={"estimator": estimator})
    context, _, _ = attention(queries, source)
    for sentence, row in itertools.product(range(3), range(2)):
        scores = scores_of(attention, queries[sentence, row], source, sentence)
        assert torch.equal(context[sentence, row], source.values[sentence, scores.index(max(scores))])


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("estimator", ["reinforce", "gumbel"])
def test_hard_attention_draws_positions_with_the_probabilities_of_soft_attention(estimator):
    keys = {"estimator": estimator, **({"expected_context": 0.0} if estimator == "reinforce" else {})}
    attention, queries, source = aligned("hard", hard=keys)
    draws = 20_000
    drawn = [attention(queries, source, None, one).weights for one in attention.alignment.chances(source.mask, draws)]
    assert torch.stack(drawn).unique().tolist() == [0, 1]
    mean, expected = torch.stack(drawn).mean(0), aligned("soft")[0](queries, source).weights
    deviation = (expected * (1 - expected) / draws).sqrt()
    assert ((mean - expected).abs() <= 5 * deviation).all()
    assert (mean[1, :, 2:] == 0).all()


def test_straight_through_passes_one_position_on_and_the_gradient_of_the_softmax_back():
    attention, queries, source = aligned("hard", hard={"estimator": "gumbel", "temperature": 0.7})
    [chance] = attention.alignment.chances(source.mask, 1)
    context, weights, scores = attention(queries[:, :1], source, None, chance)
    position = (scores + chance.noise).argmax(-1)  # [B, 1]
    assert torch.equal(context[:, 0], source.values[torch.arange(3), position[:, 0]])
    gains = torch.randn(3, 1, S)
    [found] = torch.autograd.grad((weights * gains).sum(), scores, retain_graph=True)
    relaxed = torch.softmax((scores + chance.noise) / 0.7, -1)
    [expected] = torch.autograd.grad((relaxed * gains).sum(), scores)
    assert torch.allclose(found, expected, atol=1e-7)
    assert found.abs().max() > 0


def test_expected_sentences_have_the_weights_of_soft_attention():
    attention, queries, source = aligned("hard", hard={"expected_context": 0.5})
    [chance] = attention.alignment.chances(source.mask, 1)
    chance = chance._replace(expected=torch.tensor([True, False, True])[:, None, None])
    weights = attention(queries[:, :1], source, None, chance).weights
    soft = aligned("soft")[0](queries[:, :1], source).weights
    assert torch.equal(weights[[0, 2]], soft[[0, 2]])
    assert weights[1].unique().tolist() == [0, 1]


def test_log_probabilities_and_entropies_of_draws():
    attention, queries, source = aligned("hard", hard={"expected_context": 0.0})
    one, other = attention.alignment.chances(source.mask, 2)
    reads = [attention(queries[:, :1], source, None, chance) for chance in (one, other)]
    scores = torch.stack([read.scores for read in reads], 2)  # two draws of one step
    draws = Draws.of(scores, torch.stack([read.weights for read in reads], 2), source.mask, None)
    for sentence, length in enumerate(LENGTHS):
        p = scores_of(attention, queries[sentence, 0], source, sentence)
        p = [math.exp(score) / sum(map(math.exp, p)) for score in p]
        chosen = [int(read.weights[sentence, 0].argmax()) for read in reads]
        assert draws.log_probs[sentence].tolist() == pytest.approx([sum(math.log(p[j]) for j in chosen)], rel=1e-4)
        assert draws.entropy[sentence].tolist() == pytest.approx([-2 * sum(q * math.log(q) for q in p)], rel=1e-4)
        assert len(p) == length
    assert draws.drawn.all()
    (draws.log_probs.sum() + draws.entropy.sum()).backward()
    assert all(p.grad.isfinite().all() for p in attention.parameters())
