"""The Triton kernels against PyTorch's autograd; ``test_triton.py`` runs this in Triton's interpreter."""

import itertools
import sys

import torch

from nmt.models import triton_attention
from nmt.sentences import Sentences
from nmt.training.triton_loss import log_norm_and_gradient_


def sentences(lengths: list[int]) -> Sentences:
    starts = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32)
    return Sentences(starts, torch.cat([torch.arange(n) for n in lengths]).int(), 192)


def attend(query, keys, values, lengths, of_keys, causal, window):
    """One sentence after another, by the formula."""
    outs = []
    for q, k, v in zip(query.split(lengths), keys.split(of_keys), values.split(of_keys), strict=True):
        scores = torch.einsum("nhk,mhk->hnm", q.double(), k.double()) / q.size(-1) ** 0.5
        if causal:
            scores = scores + torch.full(scores.shape[1:], -torch.inf).triu(1)
        if window is not None:
            away = (torch.arange(len(q))[:, None] - torch.arange(len(k))).abs()
            scores = scores.masked_fill(away >= window, -torch.inf)
        outs.append(torch.einsum("hnm,mhk->nhk", scores.softmax(-1), v.double()))
    return torch.cat(outs)


def check_attention(
    lengths: list[int],
    of_keys: list[int],
    width: int,
    dtype: torch.dtype,
    causal: bool,
    window: int | None = None,
) -> None:
    torch.manual_seed(1)
    query = torch.randn(sum(lengths), 2, width, dtype=dtype, requires_grad=True)
    keys, values = torch.randn(2, sum(of_keys), 2, width, dtype=dtype, requires_grad=True)
    grad = torch.randn(sum(lengths), 2, width, dtype=dtype)
    if causal or window is not None:
        projected = torch.stack([query, keys, values], dim=1)
        found = triton_attention.packed_self_attention(projected, sentences(lengths), causal, window)
    else:
        memory = torch.stack([keys, values], dim=1)
        found = triton_attention.packed_cross_attention(query, memory, sentences(lengths), sentences(of_keys))
    expected = attend(query, keys, values, lengths, of_keys, causal, window)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    assert found.dtype == dtype
    assert torch.allclose(found.double(), expected, atol=tolerance), (found - expected).abs().max()
    inputs = (query, keys, values)
    ours, theirs = torch.autograd.grad(found, inputs, grad), torch.autograd.grad(expected, inputs, grad.double())
    for one, other, name in zip(ours, theirs, ("query", "keys", "values"), strict=True):
        error = (one.double() - other).abs().max()
        assert error < 5 * tolerance, (name, error)


def attention() -> None:
    few, others = [3, 1, 5, 2, 0, 0], [2, 4, 1, 6, 0, 0]
    for dtype in (torch.float32, torch.float16):
        check_attention(few, others, 8, dtype, causal=False)
        check_attention(few, few, 24, dtype, causal=True)
        # Several tiles of queries, of keys, of both.
        check_attention([70, 7, 130, 64], [33, 100, 65, 64], 16, dtype, causal=False)
        check_attention([70, 7, 130, 64], [70, 7, 130, 64], 16, dtype, causal=True)


def window() -> None:
    few, several = [3, 1, 5, 2, 0, 0], [70, 7, 130, 64]
    for causal in (True, False):
        check_attention(few, few, 8, torch.float32, causal, window=2)
        for size in (1, 40, 100):  # within a tile, two tiles, all but the ends
            check_attention(several, several, 16, torch.float32, causal, size)
        check_attention(several, several, 16, torch.float16, causal, window=20)


def loss() -> None:
    torch.manual_seed(1)
    for vocabulary in (37, 9000):  # one block, two blocks
        logits = 3 * torch.randn(5, vocabulary)
        targets, weights = torch.randint(vocabulary, (5,)), torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0])
        for z_loss in (0.0, 0.2):
            z, replaced = logits.clone().double().requires_grad_(), logits.clone()
            log_norm = z.logsumexp(-1)
            losses = log_norm + z_loss * log_norm**2 - 0.9 * z.gather(1, targets[:, None])[:, 0]
            (losses * weights).sum().backward()
            found = log_norm_and_gradient_(replaced, targets, weights, 0.9, z_loss)
            assert torch.allclose(found.double(), log_norm * weights, atol=1e-5)
            assert torch.allclose(replaced.double(), z.grad, atol=1e-6)


if __name__ == "__main__":
    {"attention": attention, "window": window, "loss": loss}[sys.argv[1]]()
