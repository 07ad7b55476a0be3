"""Attention of one step of a search as Triton kernels; imported on CUDA only.

The W rows of a sentence share its keys: one program takes them all, for one head, and reads each key once. Scores and
sums are in fp32, with the online softmax of Milakov and Gimelshein 2018.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

KEYS = 64  # of a tile
WARPS, STAGES = 4, 2
WIDEST = 128  # coordinates of a head


@triton.jit
def _attend(query, keys, values, bias, top, norm, total, scale, EXACT: tl.constexpr):
    """The online softmax of the rows [M], continued by a tile of keys [N, D]."""
    if EXACT:
        scores = tl.dot(query, tl.trans(keys), input_precision="ieee") * scale + bias
    else:
        scores = tl.dot(query, tl.trans(keys)) * scale + bias
    above = tl.maximum(top, tl.max(scores, 1))
    base = tl.where(above == -float("inf"), 0.0, above)  # no key seen so far: exp(-inf - 0), not exp(-inf + inf)
    weights = tl.exp(scores - base[:, None])
    past = tl.exp(top - base)
    norm = norm * past + tl.sum(weights, 1)
    if EXACT:
        total = total * past[:, None] + tl.dot(weights.to(values.dtype), values, input_precision="ieee")
    else:
        total = total * past[:, None] + tl.dot(weights.to(values.dtype), values)
    return above, norm, total


@triton.jit
def _own(
    parts, cache, visible, position, out, width, places, heads, scale,
    SIZE: tl.constexpr, M: tl.constexpr, N: tl.constexpr, D: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    b, h = tl.program_id(0).to(tl.int64), tl.program_id(1)
    row, d = tl.arange(0, M), tl.arange(0, D)
    inside = (row < width)[:, None] & (d < SIZE)[None, :]
    model = heads * SIZE

    # Each row sees its own key, which no other row of this position sees.
    first = parts + (b * width + row)[:, None] * (3 * model) + h * SIZE + d[None, :]
    query = tl.load(first, mask=inside, other=0.0)
    own_key = tl.load(first + model, mask=inside, other=0.0)
    own_value = tl.load(first + 2 * model, mask=inside, other=0.0)
    past = tl.load(position).to(tl.int32) * width
    place_of = cache + (b * places + past + row)[:, None] * (2 * model) + h * SIZE + d[None, :]
    tl.store(place_of, own_key, mask=inside)
    tl.store(place_of + model, own_value, mask=inside)
    own_mark = visible + (b * width + row) * places + past + row
    tl.store(own_mark, tl.zeros([M], visible.dtype.element_ty), mask=row < width)
    top = tl.sum(query.to(tl.float32) * own_key.to(tl.float32), 1) * scale
    norm = tl.full([M], 1.0, tl.float32)
    total = own_value.to(tl.float32)

    # The positions before.
    for start in range(0, past, N):
        place = start + tl.arange(0, N)
        seen = place < past
        marks = visible + (b * width + row)[:, None] * places + place[None, :]
        bias = tl.load(marks, mask=(row < width)[:, None] & seen[None, :], other=-float("inf")).to(tl.float32)
        at = cache + (b * places + place)[:, None] * (2 * model) + h * SIZE + d[None, :]
        filled = seen[:, None] & (d < SIZE)[None, :]
        keys = tl.load(at, mask=filled, other=0.0)
        values = tl.load(at + model, mask=filled, other=0.0)
        top, norm, total = _attend(query, keys, values, bias, top, norm, total, scale, EXACT)

    result = out + (b * width + row)[:, None] * model + h * SIZE + d[None, :]
    tl.store(result, (total / norm[:, None]).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _cross(
    queries, keys_of, values_of, mask, out, width, length, heads, scale,
    keys_b, keys_h, keys_s, values_b, values_h, values_s,
    SIZE: tl.constexpr, M: tl.constexpr, N: tl.constexpr, D: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    b, h = tl.program_id(0).to(tl.int64), tl.program_id(1)
    row, d = tl.arange(0, M), tl.arange(0, D)
    inside = (row < width)[:, None] & (d < SIZE)[None, :]
    at = (b * width + row)[:, None] * (heads * SIZE) + h * SIZE + d[None, :]
    query = tl.load(queries + at, mask=inside, other=0.0)
    top = tl.full([M], -float("inf"), tl.float32)
    norm = tl.zeros([M], tl.float32)
    total = tl.zeros([M, D], tl.float32)
    for start in range(0, length, N):
        place = start + tl.arange(0, N)
        bias = tl.load(mask + b * length + place, mask=place < length, other=-float("inf")).to(tl.float32)
        filled = (place < length)[:, None] & (d < SIZE)[None, :]
        key = keys_of + b * keys_b + h * keys_h + place[:, None] * keys_s + d[None, :]
        value = values_of + b * values_b + h * values_h + place[:, None] * values_s + d[None, :]
        keys = tl.load(key, mask=filled, other=0.0)
        values = tl.load(value, mask=filled, other=0.0)
        top, norm, total = _attend(query, keys, values, bias[None, :], top, norm, total, scale, EXACT)
    tl.store(out + at, (total / norm[:, None]).to(out.dtype.element_ty), mask=inside)


def own_step(parts: Tensor, cache: Tensor, position: Tensor, visible: Tensor) -> Tensor:
    """See :func:`nmt.models.scaled_dot.own_step`; reads only the positions that are filled."""
    sentences, width, _, heads, size = parts.shape
    parts = parts.contiguous()
    _check(size, cache, visible)
    out = parts.new_empty(sentences, width, heads * size)
    places, options = visible.size(2), _options(parts, width, KEYS)
    _own[(sentences, heads)](parts, cache, visible, position, out, width, places, heads, size**-0.5, **options)
    return out


def cross_step(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """See :func:`nmt.models.scaled_dot.cross_step`."""
    sentences, width, _ = query.shape
    _, heads, length, size = keys.shape
    query = query.contiguous()
    _check(size, mask)
    keys, values = (each if each.stride(3) == 1 else each.contiguous() for each in (keys, values))
    out = torch.empty_like(query)
    strides = *keys.stride()[:3], *values.stride()[:3]
    options = _options(query, width, min(KEYS, max(16, triton.next_power_of_2(length))), size)
    grid = sentences, heads
    _cross[grid](query, keys, values, mask, out, width, length, heads, size**-0.5, *strides, **options)
    return out


def _check(size: int, *whole: Tensor) -> None:
    if size > WIDEST:
        raise ValueError(f"at most {WIDEST} coordinates in a head, found {size}")
    if not all(each.is_contiguous() for each in whole):
        raise ValueError("expected contiguous tensors")


def _options(x: Tensor, width: int, keys: int, size: int | None = None) -> dict[str, int | bool]:
    size = x.size(-1) if size is None else size
    return {
        "SIZE": size,
        "M": max(16, triton.next_power_of_2(width)),  # products on tensor cores have at least 16 rows
        "N": keys,
        "D": max(16, triton.next_power_of_2(size)),
        "EXACT": x.dtype == torch.float32,
        "num_warps": WARPS,
        "num_stages": STAGES,
    }
