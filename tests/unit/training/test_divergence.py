"""Sums over the vocabulary are those of the plain formulation on all logits at once."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nmt.training import divergence as module
from nmt.training.divergence import summed_over_vocabulary, symmetric_kl
from nmt.training.loss import token_log_probs


def kl(log_p, log_q):
    """KL(p‖q) of each row, by PyTorch's own function."""
    return F.kl_div(log_q, log_p, log_target=True, reduction="none").sum(-1)


def plain_symmetric_kl(p, q):
    log_p, log_q = F.log_softmax(p, -1), F.log_softmax(q, -1)
    return (kl(log_p, log_q) + kl(log_q, log_p)) / 2


def plain_kl(p, q):
    return kl(F.log_softmax(p, -1), F.log_softmax(q, -1))


def plain_jensen_shannon(p, q):
    p, q = F.softmax(p, -1), F.softmax(q, -1)
    middle = (p + q) / 2
    return (kl(p.log(), middle.log()) + kl(q.log(), middle.log())) / 2


PLAIN = {symmetric_kl: plain_symmetric_kl, module.kl: plain_kl, module.jensen_shannon: plain_jensen_shannon}


@pytest.mark.parametrize("function", PLAIN, ids=lambda f: f.__name__)
@pytest.mark.parametrize("rows", [1, 3, 10**6])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_value_and_gradients_equal_the_plain_formulation(function, rows, weighted, bias, monkeypatch):
    monkeypatch.setattr(module, "piece_rows", lambda vocab_size, device: rows)
    torch.manual_seed(0)
    output, states = nn.Linear(8, 11, bias=bias), torch.randn(2, 23, 8)
    weights = torch.tensor([1.0, 0, 2] * 7 + [0, 1]) if weighted else None
    ours, theirs = ([one.clone().requires_grad_() for one in states] for _ in range(2))
    got = summed_over_vocabulary(function, ours, output, weights)
    expected = (PLAIN[function](*map(output, theirs)) * (torch.ones(23) if weights is None else weights)).sum()
    assert got.item() == pytest.approx(expected.item(), rel=1e-5)
    found = torch.autograd.grad(got * 0.7, [*ours, *output.parameters()])
    for one, other in zip(found, torch.autograd.grad(expected * 0.7, [*theirs, *output.parameters()]), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_no_logits_of_a_whole_batch_are_made(monkeypatch):
    shapes = []

    def spied(p, q):
        shapes.append((*p.shape,))
        return symmetric_kl(p, q)

    monkeypatch.setattr(module, "piece_rows", lambda vocab_size, device: 128)
    hidden = torch.randn(1000, 4, requires_grad=True)
    summed_over_vocabulary(spied, [hidden, hidden], nn.Linear(4, 50, bias=False), None)
    assert shapes == [(128, 50)] * 8


def test_no_targets_give_0_and_a_gradient_of_0():
    output, hidden = nn.Linear(4, 5, bias=False), torch.randn(0, 4, requires_grad=True)
    value = summed_over_vocabulary(symmetric_kl, [hidden, hidden], output, None)
    value.backward()
    assert value.item() == 0
    assert torch.equal(output.weight.grad, torch.zeros(5, 4))


def test_bf16_is_near_the_plain_value():
    torch.manual_seed(0)
    output, states = nn.Linear(64, 500, bias=False), torch.randn(2, 300, 64, requires_grad=True)
    exact = plain_symmetric_kl(output(states[0]), output(states[1])).sum()
    expected = torch.autograd.grad(exact, [states, output.weight])
    with torch.autocast("cpu", torch.bfloat16):
        rough = summed_over_vocabulary(symmetric_kl, list(states), output, None)
    found = torch.autograd.grad(rough, [states, output.weight])
    assert rough.item() == pytest.approx(exact.item(), rel=1e-2)
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() < 0.02 * other.norm()


@pytest.mark.parametrize("bias", [False, True])
def test_log_probabilities_of_targets_are_pytorch_s(bias):
    torch.manual_seed(0)
    output, targets, hidden = nn.Linear(4, 5, bias=bias), torch.randint(0, 5, (23,)), torch.randn(23, 4)
    found = token_log_probs(hidden, output, targets)
    assert torch.allclose(found, output(hidden).log_softmax(-1)[torch.arange(23), targets], atol=1e-6)
    assert not found.requires_grad
