"""The best tokens of each row of logits as Triton kernels; imported on CUDA only.

The first kernel reads the logits once, in the precision they are in, and keeps of each piece of a row its maximum and
its sum of exponentials. The k largest of a row are in the k pieces of largest maxima: the second kernel reads these.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

PIECE = 64  # columns of a piece
PIECES = 64  # pieces of a program
MOST = 64  # candidates of a row


@triton.jit
def _reduce(x, tops, sums, stride, n, pieces, P: tl.constexpr, SIZE: tl.constexpr):
    """Of each piece of a row, its maximum m and the sum of exp(x - m)."""
    row = tl.program_id(0).to(tl.int64)
    piece = tl.program_id(1) * P + tl.arange(0, P)
    at = piece[:, None] * SIZE + tl.arange(0, SIZE)[None, :]
    values = tl.load(x + row * stride + at, mask=at < n, other=-float("inf")).to(tl.float32)
    top = tl.max(values, 1)
    base = tl.where(top == -float("inf"), 0.0, top)  # -inf alone: exp(-inf - 0), not exp(-inf + inf)
    total = tl.sum(tl.exp(values - base[:, None]), 1)
    tl.store(tops + row * pieces + piece, top, mask=piece < pieces)
    tl.store(sums + row * pieces + piece, total, mask=piece < pieces)


@triton.jit
def _key(values, index, real):
    """Integers in the order of ``values``, of equal ones in the opposite order of ``index``; least where not real."""
    bits = (values + 0.0).to(tl.int32, bitcast=True)  # + 0.0: -0.0 equals 0.0
    bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    key = (bits.to(tl.int64) << 32) + (0x7FFFFFFF - index).to(tl.int64)
    return tl.where(real, key, -0x7FFFFFFFFFFFFFFF)


@triton.jit
def _choose(
    x, tops, sums, columns, log_probs, norms, stride, n, pieces, k, P: tl.constexpr, K: tl.constexpr, SIZE: tl.constexpr
):
    """From what ``_reduce`` left of a row: its log norm, and its k largest in the order of their columns."""
    row = tl.program_id(0).to(tl.int64)
    slot = tl.arange(0, K)

    # The log norm, and the pieces to search.
    piece = tl.arange(0, P)
    top = tl.load(tops + row * pieces + piece, mask=piece < pieces, other=-float("inf"))
    total = tl.load(sums + row * pieces + piece, mask=piece < pieces, other=0.0)
    highest = tl.max(top, 0)
    base = tl.where(highest == -float("inf"), 0.0, highest)
    norm = base + tl.log(tl.sum(total * tl.exp(top - base), 0))
    tl.store(norms + row, norm)
    keys = _key(top, piece, piece < pieces)
    chosen = tl.full([K], 0x7FFFFFFF, tl.int64)
    for i in range(k):
        best = tl.max(keys, 0)
        keys = tl.where(keys == best, -0x7FFFFFFFFFFFFFFF, keys)
        chosen = tl.where(slot == i, 0x7FFFFFFF - (best & 0x7FFFFFFF), chosen)

    # The largest of these pieces.
    at = chosen[:, None] * SIZE + tl.arange(0, SIZE)[None, :]
    values = tl.load(x + row * stride + at, mask=at < n, other=-float("inf")).to(tl.float32)
    keys = tl.reshape(_key(values, at, at < n), [K * SIZE])
    column = tl.full([K], 0x7FFFFFFF, tl.int64)
    value = tl.full([K], -float("inf"), tl.float32)
    for i in range(k):
        best = tl.max(keys, 0)
        keys = tl.where(keys == best, -0x7FFFFFFFFFFFFFFF, keys)
        bits = (best >> 32).to(tl.int32)
        bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)
        column = tl.where(slot == i, 0x7FFFFFFF - (best & 0x7FFFFFFF), column)
        value = tl.where(slot == i, bits.to(tl.float32, bitcast=True), value)

    place = row * k + tl.sum((column[None, :] < column[:, None]).to(tl.int32), 1)
    tl.store(columns + place, column, mask=slot < k)
    tl.store(log_probs + place, value - norm, mask=slot < k)


def candidates(logits: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`nmt.search.candidates.candidates`; of equal logits, those of the lower columns."""
    if k > MOST:
        raise ValueError(f"at most {MOST} candidates, found {k}")
    logits = logits.contiguous()
    rows, n = logits.shape
    pieces = triton.cdiv(n, PIECE)
    device = logits.device
    tops, sums = torch.empty(2, rows, pieces, device=device).unbind()
    columns = torch.empty(rows, k, dtype=torch.long, device=device)
    log_probs, norms = torch.empty(rows, k, device=device), torch.empty(rows, 1, device=device)
    stride = logits.stride(0)
    grid = rows, triton.cdiv(pieces, PIECES)
    _reduce[grid](logits, tops, sums, stride, n, pieces, P=PIECES, SIZE=PIECE, num_warps=4)
    sizes = {"P": triton.next_power_of_2(pieces), "K": triton.next_power_of_2(k), "SIZE": PIECE}
    warps = 1 if max(sizes["P"], sizes["K"] * PIECE) <= 1024 else 4
    _choose[(rows,)](logits, tops, sums, columns, log_probs, norms, stride, n, pieces, k, **sizes, num_warps=warps)
    return columns, log_probs, norms
