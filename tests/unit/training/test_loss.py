import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nmt.training import loss as loss_module
from nmt.training.loss import projected_cross_entropy


def plain(hidden, output, targets, smoothing):
    """PyTorch's own loss over all logits at once."""
    return F.cross_entropy(output(hidden), targets, label_smoothing=smoothing, reduction="sum")


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("rows", [1, 3, 10**6])
def test_loss_and_gradients_equal_the_plain_formulation(smoothing, rows, bias, monkeypatch):
    monkeypatch.setattr(loss_module, "piece_rows", lambda vocab_size, device: rows)
    torch.manual_seed(0)
    output, targets = nn.Linear(8, 11, bias), torch.randint(0, 11, (23,))
    ours, theirs = (torch.randn(23, 8, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    got = projected_cross_entropy(ours, output, targets, smoothing)
    (got.smoothed * 0.7).backward()
    grads = [p.grad for p in output.parameters()]
    output.zero_grad()
    expected = plain(theirs, output, targets, smoothing)
    (expected * 0.7).backward()
    assert got.smoothed.item() == pytest.approx(expected.item(), rel=1e-5)
    assert got.nll.item() == pytest.approx(plain(theirs, output, targets, 0.0).item(), rel=1e-5)
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-5)
    assert len(grads) == 1 + bias
    for found, parameter in zip(grads, output.parameters(), strict=True):
        assert torch.allclose(found, parameter.grad, atol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_rows_without_weight_do_not_count(smoothing):
    """With a bias; the loss of the rows that count, by PyTorch."""
    torch.manual_seed(0)
    output, targets, hidden = nn.Linear(8, 11), torch.randint(0, 11, (150,)), torch.randn(150, 8, requires_grad=True)
    counts = torch.rand(150) < 0.6
    got = projected_cross_entropy(hidden, output, targets, smoothing, weights=counts.float())
    expected = plain(hidden[counts], output, targets[counts], smoothing)
    inputs = [hidden, output.weight, output.bias]
    assert got.smoothed.item() == pytest.approx(expected.item(), rel=1e-5)
    assert got.nll.item() == pytest.approx(plain(hidden[counts], output, targets[counts], 0.0).item(), rel=1e-5)
    ours, theirs = (torch.autograd.grad(loss * 0.7, inputs) for loss in (got.smoothed, expected))
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("rows", [3, 10**6])
@pytest.mark.parametrize(
    "weights", [None, [1.0, 0, 1] * 7 + [0, 1], [0.5, 0, 2] * 7 + [0, 1]], ids=["all", "0/1", "any"]
)
def test_z_loss_and_its_gradients_equal_the_plain_formulation(smoothing, rows, weights, monkeypatch):
    monkeypatch.setattr(loss_module, "piece_rows", lambda vocab_size, device: rows)
    torch.manual_seed(0)
    output, targets = nn.Linear(8, 11), torch.randint(0, 11, (23,))
    hidden = torch.randn(23, 8, requires_grad=True)
    weights = None if weights is None else torch.tensor(weights)
    got = projected_cross_entropy(hidden, output, targets, smoothing, weights=weights, z_loss=0.3)
    each = torch.ones(23) if weights is None else weights
    logits = output(hidden)
    squared = (each * torch.logsumexp(logits, -1) ** 2).sum()
    loss = (each * F.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="none")).sum()
    assert got.smoothed.item() == pytest.approx((loss + 0.3 * squared).item(), rel=1e-5)
    assert got.squared_log_norm.item() == pytest.approx(squared.item(), rel=1e-5)
    inputs = [hidden, output.weight, output.bias]
    found = torch.autograd.grad(got.smoothed, inputs)
    for one, other in zip(found, torch.autograd.grad(loss + 0.3 * squared, inputs), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_extreme_logits_stay_finite():
    output = nn.Linear(2, 3, bias=False)
    with torch.no_grad():
        output.weight.copy_(torch.tensor([[1000.0, 0], [0, 0], [-1000, 0]]))
    hidden = torch.tensor([[1.0, 0], [-1, 0]], requires_grad=True)
    loss = projected_cross_entropy(hidden, output, torch.tensor([0, 0]), 0.0)
    loss.smoothed.backward()
    assert loss.nll.item() == pytest.approx(2000)  # right with certainty, then wrong by 2000 nats
    assert torch.isfinite(hidden.grad).all()


def test_bf16_is_near_the_plain_loss():
    torch.manual_seed(0)
    output, targets, hidden = nn.Linear(64, 500), torch.randint(0, 500, (300,)), torch.randn(300, 64)
    hidden.requires_grad_()
    exact = plain(hidden, output, targets, 0.1)
    inputs = [hidden, output.weight, output.bias]
    expected = torch.autograd.grad(exact, inputs)
    with torch.autocast("cpu", torch.bfloat16):
        rough = projected_cross_entropy(hidden, output, targets, 0.1).smoothed
    found = torch.autograd.grad(rough, inputs)
    assert rough.item() == pytest.approx(exact.item(), rel=2e-3)
    for one, other in zip(found, expected, strict=True):  # bf16 has 8 bits: 1/256 of a number, less of their mean
        assert (one - other).norm() < 0.01 * other.norm()


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_without_gradients_loss_and_accuracy_take_one_product(mode, rows, monkeypatch):
    monkeypatch.setattr(loss_module, "piece_rows", lambda vocab_size, device: rows)
    torch.manual_seed(0)
    output, hidden, targets = nn.Linear(4, 5, bias=False), torch.randn(23, 4), torch.randint(0, 5, (23,))
    with mode(), FlopCounterMode(display=False) as products:
        loss = projected_cross_entropy(hidden, output, targets, 0.0, count_correct=True)
    assert (
        loss.smoothed.item() == loss.nll.item() == pytest.approx(plain(hidden, output, targets, 0.0).item(), rel=1e-5)
    )
    assert loss.correct.item() == (output(hidden).argmax(-1) == targets).sum().item()
    padded = 23 + -23 % rows  # the last piece is filled up
    assert products.get_total_flops() == padded * 2 * 4 * 5


def test_training_counts_no_correct_words():
    output, hidden = nn.Linear(4, 5, bias=False), torch.randn(23, 4, requires_grad=True)
    loss = projected_cross_entropy(hidden, output, output(hidden).argmax(-1), 0.0)
    assert loss.correct.item() == 0
