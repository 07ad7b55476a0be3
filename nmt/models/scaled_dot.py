"""Scaled dot-product attention (Vaswani et al. 2017, section 3.2.1), by what is fastest on the device."""

from __future__ import annotations

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor

from nmt.models.layers import dropout
from nmt.runtime.kernels import Kernel

SHORT = 128  # positions up to which attention on a CPU is fastest in plain products
BLOCK = 64  # positions of a block of windowed attention, at least


def attention(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, dropout_p: float = 0.0, causal: bool = False
) -> Tensor:
    """PyTorch's ``scaled_dot_product_attention``, from [B, H, T, K] to [B, T, H·K]; see :func:`short_attention`."""
    if query.device.type != "cpu":
        out = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, dropout_p=dropout_p, is_causal=causal)
    else:
        # Not in bf16: its products are no faster at this size, and oneDNN keeps code for every shape of them; the
        # backward pass of the fused kernel is 15 times slower.
        autocast = torch.is_autocast_enabled("cpu")  # to enter the context costs as much as a product of a few rows
        with torch.autocast("cpu", enabled=False) if autocast else nullcontext():
            query, keys, values = query.float(), keys.float(), values.float()
            if mask is not None and mask.is_floating_point():
                mask = mask.float()
            if query.size(2) * keys.size(2) <= SHORT**2:
                out = short_attention(query, keys, values, mask, dropout_p, causal)
            else:
                out = F.scaled_dot_product_attention(
                    query, keys, values, attn_mask=mask, dropout_p=dropout_p, is_causal=causal
                )
    return out.transpose(1, 2).flatten(2)


def short_attention(
    query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, dropout_p: float, causal: bool
) -> Tensor:
    """``scaled_dot_product_attention`` as three batched products, for sentences of a usual length on a CPU.

    PyTorch's fused kernel goes through long sequences in blocks, one head after another. With tens of thousands of
    sentences and heads of 20 positions each this is two to four times as fast, forward and backward, and keeps weights
    about as large as its queries.

    Args:
        query: [B, H, T, K].
        keys: [B, H, S, K], as ``values``.
        mask: True where a key is seen, or numbers to add to the scores; broadcast to [B, H, T, S].
    """
    batch, heads = query.shape[:2]
    query, keys, values = (x.flatten(0, 1) for x in (query, keys, values))  # [B·H, ...]
    scores = torch.bmm(query, keys.transpose(1, 2)).mul_(query.size(-1) ** -0.5)  # [B·H, T, S]
    if causal:
        scores.masked_fill_(torch.ones(scores.shape[1:], dtype=torch.bool).triu_(1), -torch.inf)
    if mask is not None:
        apart = scores.view(batch, heads, *scores.shape[1:])
        apart.masked_fill_(~mask, -torch.inf) if mask.dtype == torch.bool else apart.add_(mask)
    weights = dropout(scores.softmax(-1), dropout_p, True)
    out = torch.bmm(weights, values)
    return out.view(batch, heads, *out.shape[1:])


def windowed_attention(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None,
    window: int,
    dropout_p: float = 0.0,
    causal: bool = False,
) -> Tensor:
    """Self-attention in which position i sees the positions j with |i - j| < ``window``, and j ≤ i if causal.

    The sequence is cut into blocks of c ≥ ``window`` positions. The queries of a block see keys of this block and of
    its neighbours only: memory and work are O(S·c), not O(S²) (Beltagy et al. 2020, section 3.1). Positions of the
    padding see themselves, so that their softmax is defined.

    Args:
        query, keys, values: [B, H, S, K].
        mask: [B, S], True where a key is seen; None: everywhere.

    Returns:
        [B, S, H·K].
    """
    length, block = query.size(2), -(-max(window, BLOCK) // 8) * 8  # masks of a fused kernel need a multiple of 8
    if length <= window:
        return attention(query, keys, values, None if mask is None else mask[:, None, None, :], dropout_p, causal)
    if length <= block:
        seen = _band(length, length, 0, window, causal, query.device)
        seen = seen if mask is None else seen & mask[:, None, :] | _diagonal(length, length, 0, query.device)
        return attention(query, keys, values, seen.view(-1, 1, length, length), dropout_p)
    # Cut into N blocks of c positions, [B·N, H, c, K] and [B·N, H, 2c or 3c, K]
    batch, after = query.size(0), 0 if causal else 1
    query = _blocks(query.transpose(1, 2), block, 0, 0)
    keys, values = (_blocks(x.transpose(1, 2), block, 1, after).transpose(1, 2) for x in (keys, values))
    # Who sees whom, [B·N, 1, c, 2c or 3c]
    inside = query.new_ones(1, length, dtype=torch.bool) if mask is None else mask
    inside = _blocks(inside, block, 1, after).unflatten(0, (inside.size(0), -1)).expand(batch, -1, -1)  # [B, N, 3c]
    sizes = block, inside.size(2), block
    seen = _band(*sizes, window, causal, query.device) & inside.flatten(0, 1).unsqueeze(1)
    seen = (seen | _diagonal(*sizes, query.device)).unsqueeze(1)
    out = attention(query.transpose(1, 2), keys, values, seen, dropout_p)  # [B·N, c, H·K]
    return out.reshape(batch, -1, out.size(2))[:, :length]


def _blocks(x: Tensor, block: int, before: int, after: int) -> Tensor:
    """x [B, S, ...] in N blocks, each with its neighbours: [B·N, (before + 1 + after)·block, ...]; 0 outside of x."""
    count = -(-x.size(1) // block)
    ends = [0, 0] * (x.dim() - 2) + [before * block, (count + after) * block - x.size(1)]
    padded = F.pad(x, ends).unflatten(1, (-1, block))  # [B, before + N + after, block, ...]
    if not before and not after:
        return padded.flatten(0, 1)
    parts = [padded[:, first : first + count] for first in range(before + 1 + after)]
    return torch.cat(parts, dim=2).flatten(0, 1)


def _band(rows: int, columns: int, offset: int, window: int, causal: bool, device: torch.device) -> Tensor:
    """Which of the columns [T, S] are within the window of each row; row i is at the position of column offset + i."""
    distance = torch.arange(columns, device=device) - torch.arange(rows, device=device).unsqueeze(1) - offset
    seen: Tensor = (distance > -window) & (distance < (1 if causal else window))
    return seen


def _diagonal(rows: int, columns: int, offset: int, device: torch.device) -> Tensor:
    return _band(rows, columns, offset, 1, True, device)


def own_step(parts: Tensor, cache: Tensor, position: Tensor, visible: Tensor) -> Tensor:
    """Self-attention of the W rows of each sentence at ``position``.

    Writes their keys and values into the cache, and marks their places in ``visible``.

    Args:
        parts: queries, keys and values of the rows, [B, W, 3, H, K].
        cache: keys and values [B, room·W, 2, H, K]; those of position p are at p·W … p·W + W - 1.
        position: [1], how many positions are filled.
        visible: [B, W, room·W], to be added to the scores: 0 at the places of earlier positions that a row descends
            from, else -inf. Each row also sees itself; its place may be marked already.

    Returns:
        [B, W, H·K].
    """
    out: Tensor = _own_step(parts, cache, position, visible)
    return out


def cross_step(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Attention of queries [B, W, H·K] to keys and values [B, H, S, K], with ``mask`` [B, S] added to the scores.

    Returns:
        [B, W, H·K].
    """
    out: Tensor = _cross_step(query, keys, values, mask)
    return out


def leave_window_(visible: Tensor, position: Tensor, window: int) -> None:
    """Hide the places of a cache that the window has left, for steps at ``position``; see :func:`own_step`."""
    oldest = (position - (window - 1)) * visible.size(1)  # [1], the first place that is seen
    visible.masked_fill_(torch.arange(visible.size(2), device=visible.device) < oldest, -torch.inf)


def plain_own_step(parts: Tensor, cache: Tensor, position: Tensor, visible: Tensor) -> Tensor:
    width = parts.size(1)
    rows = torch.arange(width, device=parts.device)
    places = position * width + rows  # [W]
    cache.index_copy_(1, places, parts[:, :, 1:])
    itself = torch.arange(visible.size(2), device=parts.device) == places.unsqueeze(1)  # [W, room·W]
    visible.masked_fill_(itself, 0.0)
    query, keys, values = (each.transpose(1, 2) for each in (parts[:, :, 0], cache[:, :, 0], cache[:, :, 1]))
    return attention(query, keys, values, visible.unsqueeze(1))


def plain_cross_step(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    query = query.unflatten(2, (keys.size(1), -1)).transpose(1, 2)  # [B, H, W, K]
    return attention(query, keys, values, mask[:, None, None, :])


_own_step = Kernel("nmt.models.triton_step", "own_step", plain_own_step)
_cross_step = Kernel("nmt.models.triton_step", "cross_step", plain_cross_step)
