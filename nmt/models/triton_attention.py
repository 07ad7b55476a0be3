"""Attention among packed sentences as Triton kernels; imported on CUDA only.

After FlashAttention 2 (Dao 2023), for sentences of a usual length. Most fit into one tile, so that one program makes
all gradients of a sentence and head. One program makes each sum, in a fixed order and without atomic additions: the
same input gives the same bits. ``TRITON_INTERPRET=1`` runs the kernels on a CPU, which is how they are tested.

Names in the kernels: a tile has M queries or N keys; the head width K is filled up to D, a power of 2. With WINDOW > 0
a query sees the keys less than ``window`` positions away, and tiles outside of all windows are left out.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from nmt.sentences import Sentences


@triton.jit
def _rows(x, first, rows, stride, head, d, mask, K: tl.constexpr):
    """Load rows [M, D] of one head; 0 outside the mask."""
    where = x + (first + rows).to(tl.int64)[:, None] * stride + head * K + d[None, :]
    return tl.load(where, mask=mask[:, None] & (d < K)[None, :], other=0.0)


@triton.jit
def _store_rows(x, values, first, rows, stride, head, d, mask, K: tl.constexpr):
    where = x + (first + rows).to(tl.int64)[:, None] * stride + head * K + d[None, :]
    tl.store(where, values.to(x.dtype.element_ty), mask=mask[:, None] & (d < K)[None, :])


@triton.jit
def _scores(
    q, k, rows, cols, length, scale, CAUSAL: tl.constexpr, WINDOW: tl.constexpr, PRECISION: tl.constexpr
):  # fmt: skip
    """Scaled scores [M, N], -inf where a query does not see a key."""
    s = tl.dot(q, tl.trans(k), input_precision=PRECISION) * scale
    seen = (cols < length)[None, :]
    if CAUSAL:
        seen = seen & (cols[None, :] <= rows[:, None])
    if WINDOW > 0:
        away = cols[None, :] - rows[:, None]
        seen = seen & (away > -WINDOW) & (away < WINDOW)
    return tl.where(seen, s, -float("inf"))


@triton.jit
def _columns(block, length, CAUSAL: tl.constexpr, WINDOW: tl.constexpr, M: tl.constexpr, N: tl.constexpr):
    """The first tile of keys that a tile of queries sees, and the end of the last."""
    begin, end = 0, length
    if CAUSAL:
        end = tl.minimum(length, (block + 1) * M)
    if WINDOW > 0:
        begin = (tl.maximum(0, block * M - WINDOW + 1) // N) * N
        if not CAUSAL:
            end = tl.minimum(length, (block + 1) * M + WINDOW - 1)
    return begin, end


@triton.jit
def _forward(
    Q, K_, V, OUT, L, starts_q, starts_k, sq, sk, sv, so, n, scale,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, D: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    b, h, block = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    q0, k0 = tl.load(starts_q + b), tl.load(starts_k + b)
    tq, tk = tl.load(starts_q + b + 1) - q0, tl.load(starts_k + b + 1) - k0
    if block * M < tq:
        rows, d = block * M + tl.arange(0, M), tl.arange(0, D)
        q = _rows(Q, q0, rows, sq, h, d, rows < tq, K)
        top = tl.full([M], -float("inf"), tl.float32)
        norm = tl.zeros([M], tl.float32)
        out = tl.zeros([M, D], tl.float32)
        begin, end = _columns(block, tk, CAUSAL, WINDOW, M, N)
        for start in range(begin, end, N):
            cols = start + tl.arange(0, N)
            k = _rows(K_, k0, cols, sk, h, d, cols < tk, K)
            v = _rows(V, k0, cols, sv, h, d, cols < tk, K)
            s = _scores(q, k, rows, cols, tk, scale, CAUSAL, WINDOW, PRECISION)
            new = tl.maximum(top, tl.max(s, 1))
            base = new
            if WINDOW > 0:  # no key seen so far: exp(-inf - 0), not exp(-inf + inf)
                base = tl.where(new == -float("inf"), 0.0, new)
            p = tl.exp(s - base[:, None])
            old = tl.exp(top - base)
            norm = norm * old + tl.sum(p, 1)
            out = out * old[:, None] + tl.dot(p.to(v.dtype), v, input_precision=PRECISION)
            top = new
        _store_rows(OUT, out / norm[:, None], q0, rows, so, h, d, rows < tq, K)
        tl.store(L + h * n + q0 + rows, top + tl.log(norm), mask=rows < tq)


@triton.jit
def _of_keys(
    Q, K_, V, OUT, G, L, DQ, DK, DV, starts_q, starts_k, sq, sk, sv, so, sg, sdq, sdk, sdv, n, scale,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, D: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of a tile of keys and values, and of the queries where the sentence has no other tile of keys."""
    b, h, block = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    q0, k0 = tl.load(starts_q + b), tl.load(starts_k + b)
    tq, tk = tl.load(starts_q + b + 1) - q0, tl.load(starts_k + b + 1) - k0
    if block * N < tk:
        cols, d = block * N + tl.arange(0, N), tl.arange(0, D)
        k = _rows(K_, k0, cols, sk, h, d, cols < tk, K)
        v = _rows(V, k0, cols, sv, h, d, cols < tk, K)
        dk, dv = tl.zeros([N, D], tl.float32), tl.zeros([N, D], tl.float32)
        first, last = (block * N // M) * M if CAUSAL else 0, tq
        if WINDOW > 0:
            last = tl.minimum(tq, (block + 1) * N + WINDOW - 1)
            if not CAUSAL:
                first = (tl.maximum(0, block * N - WINDOW + 1) // M) * M
        for start in range(first, last, M):
            rows = start + tl.arange(0, M)
            q = _rows(Q, q0, rows, sq, h, d, rows < tq, K)
            o = _rows(OUT, q0, rows, so, h, d, rows < tq, K)
            g = _rows(G, q0, rows, sg, h, d, rows < tq, K)
            log_norm = tl.load(L + h * n + q0 + rows, mask=rows < tq, other=float("inf"))
            p = tl.exp(_scores(q, k, rows, cols, tk, scale, CAUSAL, WINDOW, PRECISION) - log_norm[:, None])
            dv += tl.dot(tl.trans(p.to(g.dtype)), g, input_precision=PRECISION)
            delta = tl.sum(o.to(tl.float32) * g.to(tl.float32), 1)
            dp = tl.dot(g, tl.trans(v), input_precision=PRECISION)
            ds = (p * (dp - delta[:, None]) * scale).to(q.dtype)
            dk += tl.dot(tl.trans(ds), q, input_precision=PRECISION)
            if tk <= N:
                dq = tl.dot(ds, k, input_precision=PRECISION)
                _store_rows(DQ, dq, q0, rows, sdq, h, d, rows < tq, K)
        _store_rows(DK, dk, k0, cols, sdk, h, d, cols < tk, K)
        _store_rows(DV, dv, k0, cols, sdv, h, d, cols < tk, K)


@triton.jit
def _of_queries(
    Q, K_, V, OUT, G, L, DQ, starts_q, starts_k, sq, sk, sv, so, sg, sdq, n, scale,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, D: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Gradients of a tile of queries of a sentence that has several tiles of keys."""
    b, h, block = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    q0, k0 = tl.load(starts_q + b), tl.load(starts_k + b)
    tq, tk = tl.load(starts_q + b + 1) - q0, tl.load(starts_k + b + 1) - k0
    if (block * M < tq) & (tk > N):
        rows, d = block * M + tl.arange(0, M), tl.arange(0, D)
        q = _rows(Q, q0, rows, sq, h, d, rows < tq, K)
        o = _rows(OUT, q0, rows, so, h, d, rows < tq, K)
        g = _rows(G, q0, rows, sg, h, d, rows < tq, K)
        log_norm = tl.load(L + h * n + q0 + rows, mask=rows < tq, other=float("inf"))
        delta = tl.sum(o.to(tl.float32) * g.to(tl.float32), 1)
        dq = tl.zeros([M, D], tl.float32)
        begin, end = _columns(block, tk, CAUSAL, WINDOW, M, N)
        for start in range(begin, end, N):
            cols = start + tl.arange(0, N)
            k = _rows(K_, k0, cols, sk, h, d, cols < tk, K)
            v = _rows(V, k0, cols, sv, h, d, cols < tk, K)
            p = tl.exp(_scores(q, k, rows, cols, tk, scale, CAUSAL, WINDOW, PRECISION) - log_norm[:, None])
            dp = tl.dot(g, tl.trans(v), input_precision=PRECISION)
            ds = (p * (dp - delta[:, None]) * scale).to(q.dtype)
            dq += tl.dot(ds, k, input_precision=PRECISION)
        _store_rows(DQ, dq, q0, rows, sdq, h, d, rows < tq, K)


# ------------------------------------------------------------------------------------------------------------ launches

TILE = 64  # rows of a tile of heads up to 64 wide in half precision; of others less, to fit into the shared memory


def _constants(query: Tensor, causal: bool, window: int) -> dict[str, Any]:
    """What the kernels are specialised for. In fp32 products are exact, not TF32, and the tiles smaller."""
    width, half = query.size(2), query.element_size() == 2
    filled = max(16, triton.next_power_of_2(width))
    tile = TILE // (1 if half else 2) // (1 if filled <= 64 else 2)
    return {
        "CAUSAL": causal, "WINDOW": window, "M": tile, "N": tile, "K": width, "D": filled,
        "PRECISION": "tf32" if half else "ieee", "num_warps": 4,
    }  # fmt: skip


def _attend(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    starts: Tensor,
    starts_of_keys: Tensor,
    longest: int,
    causal: bool = False,
    window: int = 0,
) -> tuple[Tensor, Tensor]:
    """What attention returns, [N, H, K], and log Σ exp of the scores of each query, [H, N]."""
    out = query.new_empty(query.shape)
    log_norms = torch.empty(query.size(1), query.size(0), device=query.device, dtype=torch.float32)
    constants = _constants(query, causal, window)
    grid = (starts.numel() - 1, query.size(1), triton.cdiv(longest, constants["M"]))
    strides = [x.stride(0) for x in (query, keys, values, out)]
    _forward[grid](
        query, keys, values, out, log_norms, starts, starts_of_keys, *strides, query.size(0), query.size(2) ** -0.5,
        **constants,
    )  # fmt: skip
    return out, log_norms


def _differentiate(
    grads: tuple[Tensor, Tensor, Tensor],
    grad: Tensor,
    inputs: tuple[Tensor, Tensor, Tensor],
    outputs: tuple[Tensor, Tensor],
    starts: tuple[Tensor, Tensor],
    longest: tuple[int, int],
    causal: bool = False,
    window: int = 0,
) -> None:
    """Write the gradients of queries, keys and values.

    Args:
        grad: of what attention returned.
        inputs: queries, keys and values.
        outputs: of :func:`_attend`.
        starts, longest: of the queries' sentences, and of the keys'.
    """
    grad = grad.contiguous()
    query, constants = inputs[0], _constants(inputs[0], causal, window)
    saved = *inputs, outputs[0], grad, outputs[1]
    strides = [x.stride(0) for x in (*inputs, outputs[0], grad)]
    sizes = query.size(0), query.size(2) ** -0.5
    sentences, heads = starts[0].numel() - 1, query.size(1)
    _of_keys[(sentences, heads, triton.cdiv(longest[1], constants["N"]))](
        *saved, *grads, *starts, *strides, *(x.stride(0) for x in grads), *sizes, **constants
    )
    if longest[1] > constants["N"]:
        _of_queries[(sentences, heads, triton.cdiv(longest[0], constants["M"]))](
            *saved, grads[0], *starts, *strides, grads[0].stride(0), *sizes, **constants
        )


# ------------------------------------------------------------------------------------------------ operators of PyTorch
# Gradients are written at once into the layout of the fused projections.


@torch.library.custom_op("nmt::packed_self_attention", mutates_args=())
def _self_attention(
    projected: Tensor, starts: Tensor, longest: int, causal: bool, window: int
) -> tuple[Tensor, Tensor]:
    query, keys, values = projected.unbind(1)
    return _attend(query, keys, values, starts, starts, longest, causal, window)


@_self_attention.register_fake
def _(projected: Tensor, *others: object) -> tuple[Tensor, Tensor]:
    return _empty_results(projected[:, 0])


@torch.library.custom_op("nmt::packed_self_attention_backward", mutates_args=())
def _self_attention_backward(
    grad: Tensor,
    projected: Tensor,
    out: Tensor,
    log_norms: Tensor,
    starts: Tensor,
    longest: int,
    causal: bool,
    window: int,
) -> Tensor:
    found = projected.new_empty(projected.shape)
    inputs, grads = projected.unbind(1), found.unbind(1)
    _differentiate(
        (grads[0], grads[1], grads[2]), grad, (inputs[0], inputs[1], inputs[2]), (out, log_norms), (starts, starts),
        (longest, longest), causal, window,
    )  # fmt: skip
    return found


@_self_attention_backward.register_fake
def _(grad: Tensor, projected: Tensor, *others: object) -> Tensor:
    return projected.new_empty(projected.shape)


def _save_self(ctx, inputs, output):
    projected, starts, *ctx.rest = inputs
    ctx.save_for_backward(projected, *output, starts)


def _self_gradient(ctx, grad, _):
    return _self_attention_backward(grad, *ctx.saved_tensors, *ctx.rest), None, None, None, None


_self_attention.register_autograd(_self_gradient, setup_context=_save_self)


@torch.library.custom_op("nmt::packed_cross_attention", mutates_args=())
def _cross_attention(
    query: Tensor, memory: Tensor, starts: Tensor, starts_of_memory: Tensor, longest: int, longest_of_memory: int
) -> tuple[Tensor, Tensor]:
    keys, values = memory.unbind(1)
    return _attend(query, keys, values, starts, starts_of_memory, longest)


@_cross_attention.register_fake
def _(query: Tensor, *others: object) -> tuple[Tensor, Tensor]:
    return _empty_results(query)


@torch.library.custom_op("nmt::packed_cross_attention_backward", mutates_args=())
def _cross_attention_backward(
    grad: Tensor,
    query: Tensor,
    memory: Tensor,
    out: Tensor,
    log_norms: Tensor,
    starts: Tensor,
    starts_of_memory: Tensor,
    longest: int,
    longest_of_memory: int,
) -> tuple[Tensor, Tensor]:
    of_query, of_memory = query.new_empty(query.shape), memory.new_empty(memory.shape)
    keys, values = memory.unbind(1)
    of_keys, of_values = of_memory.unbind(1)
    _differentiate(
        (of_query, of_keys, of_values), grad, (query, keys, values), (out, log_norms), (starts, starts_of_memory),
        (longest, longest_of_memory),
    )  # fmt: skip
    return of_query, of_memory


@_cross_attention_backward.register_fake
def _(grad: Tensor, query: Tensor, memory: Tensor, *others: object) -> tuple[Tensor, Tensor]:
    return query.new_empty(query.shape), memory.new_empty(memory.shape)


def _save_cross(ctx, inputs, output):
    query, memory, starts, starts_of_memory, *ctx.rest = inputs
    ctx.save_for_backward(query, memory, *output, starts, starts_of_memory)


def _cross_gradient(ctx, grad, _):
    return *_cross_attention_backward(grad, *ctx.saved_tensors, *ctx.rest), None, None, None, None


_cross_attention.register_autograd(_cross_gradient, setup_context=_save_cross)


def _empty_results(query: Tensor) -> tuple[Tensor, Tensor]:
    return query.new_empty(query.shape), query.new_empty((query.size(1), query.size(0)), dtype=torch.float32)


def packed_self_attention(projected: Tensor, sentences: Sentences, causal: bool, window: int | None = None) -> Tensor:
    """See :func:`nmt.models.packed.packed_self_attention`."""
    rows = projected.contiguous()
    out: Tensor = _self_attention(rows, sentences.starts, sentences.longest, causal, window or 0)[0]
    return out


def packed_cross_attention(query: Tensor, memory: Tensor, sentences: Sentences, of_memory: Sentences) -> Tensor:
    """See :func:`nmt.models.packed.packed_cross_attention`."""
    starts, longest = (sentences.starts, of_memory.starts), (sentences.longest, of_memory.longest)
    out: Tensor = _cross_attention(query.contiguous(), memory.contiguous(), *starts, *longest)[0]
    return out
