import pytest
import torch
from torch import nn

from nmt.models import layers
from nmt.models.layers import Dropout, Linear, embedding


@pytest.mark.parametrize("p", [0.1, 0.3, 0.5, 0.9])
def test_dropout_drops_at_its_rate_and_keeps_the_expectation(p):
    torch.manual_seed(0)
    x = torch.ones(1000, 999)  # not a multiple of eight
    y = Dropout(p)(x)
    kept = y != 0
    assert kept.float().mean().item() == pytest.approx(1 - p, abs=0.004)  # the rate is rounded to 1/256
    assert y.mean().item() == pytest.approx(1, abs=0.01)
    assert y[kept].unique().numel() == 1


def test_dropout_masks_are_independent_between_neighbours_and_calls():
    torch.manual_seed(0)
    first, second = (Dropout(0.5)(torch.ones(1 << 20)) != 0 for _ in range(2))
    for other in (second, first.roll(1), first.roll(8), first.roll(64)):
        assert (first == other).float().mean().item() == pytest.approx(0.5, abs=0.003)


def test_dropout_sends_gradients_where_values_went():
    x = torch.randn(50, 30, requires_grad=True)
    y = Dropout(0.4)(x)
    y.sum().backward()
    assert torch.allclose(x.grad * x.detach(), y.detach())


def test_dropout_repeats_with_the_seed():
    torch.manual_seed(3)
    first = Dropout(0.3)(torch.ones(77))
    torch.manual_seed(3)
    assert torch.equal(first, Dropout(0.3)(torch.ones(77)))


def test_dropout_does_nothing_outside_training_or_at_rate_zero():
    x = torch.randn(5)
    assert Dropout(0.3).eval()(x) is x
    assert Dropout(0.0)(x) is x


def test_embedding_rows_have_unit_norm_on_average_and_padding_is_zero():
    torch.manual_seed(0)
    table = embedding(2000, 64, pad_id=3).weight
    assert (table[3] == 0).all()
    assert table.square().sum(1).mean().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7,), (3, 5), (40, 13), (600,)])
def test_linear_in_bf16_equals_pytorchs_with_its_gradients(shape, bias):
    torch.manual_seed(0)
    ours, theirs = Linear(24, 40, bias=bias), nn.Linear(24, 40, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    found = []
    for layer in (ours, theirs):
        x = torch.randn(*shape, 24, generator=torch.Generator().manual_seed(1)).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(x)
        assert y.dtype == torch.bfloat16
        (y.float() * torch.randn(y.shape, generator=torch.Generator().manual_seed(2))).sum().backward()
        found.append([y.detach().float(), x.grad, *(p.grad for p in layer.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-2 * other.abs().max().item())


def test_linear_in_bf16_makes_products_of_few_shapes(monkeypatch):
    seen, zero_padded = set(), layers._zero_padded

    def watched(x):
        flat = zero_padded(x)
        seen.add(flat.shape)
        return flat

    monkeypatch.setattr(layers, "_zero_padded", watched)
    layer = Linear(4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        for rows in range(3500, 4097):
            assert layer(torch.ones(rows, 4)).shape == (rows, 4)
    assert len(seen) <= 6
    assert max(rows for rows, _ in seen) <= 4096


def test_linear_elsewhere_is_pytorchs():
    layer, x = Linear(6, 5), torch.randn(3, 6)
    assert torch.equal(layer(x), nn.functional.linear(x, layer.weight, layer.bias))
