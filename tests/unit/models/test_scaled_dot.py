"""Windowed attention against attention over all positions with a mask in the shape of a band."""

import pytest
import torch

from nmt.models import scaled_dot
from nmt.models.scaled_dot import windowed_attention


def banded(query, keys, values, mask, window, causal):
    """By the formula: a softmax over the keys of the window; queries at padding are left out by the caller."""
    length = query.size(2)
    seen = [[abs(i - j) < window and (j <= i or not causal) for j in range(length)] for i in range(length)]
    seen = torch.tensor(seen)[None, None]
    if mask is not None:
        seen = seen & mask[:, None, None, :]
    scores = (query @ keys.transpose(2, 3)) / query.size(3) ** 0.5
    weights = scores.masked_fill(~seen, -1e30).softmax(-1)
    return (weights @ values).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("length", "window", "block"),
    [
        (5, 7, 4),
        (5, 5, 4),
        (5, 3, 8),
        (9, 1, 1),
        (9, 2, 2),
        (16, 3, 4),
        (17, 3, 4),
        (23, 5, 1),
        (200, 130, 1),
        (301, 9, 64),
    ],
)
def test_windowed_attention_is_attention_with_a_band_mask(length, window, block, masked, causal, monkeypatch):
    monkeypatch.setattr(scaled_dot, "BLOCK", block)
    torch.manual_seed(length)
    query, keys, values = (torch.randn(3, 2, length, 4, requires_grad=True) for _ in range(3))
    lengths = torch.tensor([length, length // 2 + 1, 1])
    mask = torch.arange(length) < lengths[:, None] if masked else None
    real = mask if mask is not None else torch.ones(3, length, dtype=torch.bool)
    weights = torch.randn(3, length, 8) * real.unsqueeze(2)
    found = windowed_attention(query, keys, values, mask, window, causal=causal)
    expected = banded(query, keys, values, mask, window, causal)
    assert found.isfinite().all()
    torch.testing.assert_close(found[real], expected[real])
    ours, theirs = (torch.autograd.grad((out * weights).sum(), (query, keys, values)) for out in (found, expected))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_windowed_attention_takes_memory_linear_in_the_length():
    """No tensor is as large as the square of the length."""
    length, window = 1 << 12, 16
    largest = 0

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            tensors = [x for x in (out if isinstance(out, tuple | list) else [out]) if isinstance(x, torch.Tensor)]
            largest = max([largest, *(x.untyped_storage().nbytes() for x in tensors)])
            return out

    x = torch.randn(1, 1, length, 4, requires_grad=True)
    with Sizes():
        windowed_attention(x, x, x, torch.ones(1, length, dtype=torch.bool), window).sum().backward()
    assert 0 < largest < length**2


def test_dropout_of_windowed_attention_keeps_the_mean():
    torch.manual_seed(0)
    x = torch.zeros(20, 2, 150, 4)
    out = windowed_attention(x, x, torch.ones(20, 2, 150, 1), None, 8, dropout_p=0.3)
    assert out.mean().item() == pytest.approx(1, abs=0.02)
    assert out.std().item() > 0.1
