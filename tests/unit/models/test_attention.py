"""Every score against a calculation by hand."""

import math

import pytest
import torch

from nmt.models.attention import SCORES, GeneralAttention, additive_score, dot_score, euclidean_score, scaled_dot_score

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
    _, weights = attention(query, attention.read(values, torch.ones(1, 4, dtype=torch.bool)))
    scores = torch.stack([query[0, 0] @ attention.key.weight @ values[0, s] for s in range(4)])
    assert torch.allclose(weights[0, 0], scores.softmax(0), atol=1e-6)


@pytest.mark.parametrize("name", ["additive", "general", "dot", "scaled_dot", "euclidean"])
def test_weights_are_a_distribution_over_real_tokens_and_make_the_context(name):
    attention = SCORES[name](d_query=3, d_memory=4, d_attention=5)
    values = torch.randn(2, 6, 4)
    mask = torch.arange(6) < torch.tensor([[6], [2]])
    context, weights = attention(torch.randn(2, 7, 3), attention.read(values, mask))
    assert context.shape == (2, 7, 4)
    assert weights.shape == (2, 7, 6)
    assert torch.allclose(weights.sum(-1), torch.ones(2, 7))
    assert (weights[1, :, 2:] == 0).all()
    assert torch.allclose(context[1], weights[1, :, :2] @ values[1, :2], atol=1e-6)
