"""Attention among packed sentences: each row of a sentence sees rows of its counterpart only.

On CUDA a Triton kernel does that, or PyTorch's flash kernel for sequences of different lengths; on a CPU, a loop.
"""

from __future__ import annotations

import importlib.util

import torch
import torch.nn.functional as F
from torch import Tensor

from nmt.models.scaled_dot import windowed_attention
from nmt.sentences import Sentences

HAS_TRITON = importlib.util.find_spec("triton") is not None
TRITON_WIDTH = 128  # of a head, at most: its tiles fit into the shared memory
FLASH_WIDTH = 256


def kernel(device: torch.device, dtype: torch.dtype, width: int, window: int | None = None) -> str | None:
    """The name of what computes attention for heads of this width: ``triton``, ``flash`` or ``loop``; None: nothing."""
    if device.type == "cpu":
        return "loop"
    if device.type != "cuda":
        return None
    if HAS_TRITON and width <= TRITON_WIDTH:
        return "triton"
    if window is not None:
        return None
    return "flash" if dtype in (torch.float16, torch.bfloat16) and width <= FLASH_WIDTH and width % 8 == 0 else None


def packed_self_attention(projected: Tensor, sentences: Sentences, causal: bool, window: int | None = None) -> Tensor:
    """softmax(Q Kᵀ / √K) V within each sentence.

    Args:
        projected: [N, 3, H, K] queries, keys and values.
        causal: a row sees those up to its own position.
        window: a row sees those less than ``window`` positions away; None: all.

    Returns:
        [N, H, K]
    """
    chosen = kernel(projected.device, projected.dtype, projected.size(-1), window)
    if chosen == "triton":
        from nmt.models import triton_attention

        return triton_attention.packed_self_attention(projected, sentences, causal, window)
    query, keys, values = projected.unbind(1)
    if chosen == "flash":
        return _flash(query, keys, values, sentences, sentences, causal)
    return _loop(query, keys, values, sentences, sentences, causal, window)


def packed_cross_attention(query: Tensor, memory: Tensor, sentences: Sentences, of_memory: Sentences) -> Tensor:
    """As :func:`packed_self_attention`, of each sentence to its counterpart in ``of_memory``.

    Args:
        query: [N, H, K]
        memory: [M, 2, H, K] keys and values.
    """
    chosen = kernel(query.device, query.dtype, query.size(-1))
    if chosen == "triton":
        from nmt.models import triton_attention

        return triton_attention.packed_cross_attention(query, memory, sentences, of_memory)
    keys, values = memory.unbind(1)
    return (_flash if chosen == "flash" else _loop)(query, keys, values, sentences, of_memory, causal=False)


def _flash(
    query: Tensor, keys: Tensor, values: Tensor, sentences: Sentences, of_keys: Sentences, causal: bool
) -> Tensor:
    """FlashAttention 2 (Dao 2023), as PyTorch carries it, without dropout."""
    limits = sentences.longest, of_keys.longest
    starts = sentences.starts, of_keys.starts
    out: Tensor = torch.ops.aten._flash_attention_forward(
        query, keys, values, *starts, *limits, 0.0, causal, return_debug_mask=False
    )[0]
    return out


def _loop(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    sentences: Sentences,
    of_keys: Sentences,
    causal: bool,
    window: int | None = None,
) -> Tensor:
    """One sentence after another, in fp32 as all attention on a CPU."""
    with torch.autocast("cpu", enabled=False):
        parts = [_parts(x.float(), by) for x, by in ((query, sentences), (keys, of_keys), (values, of_keys))]
        attended = [
            _sentence(q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1), causal, window)
            for q, k, v in zip(*parts, strict=True)
            if len(q)
        ]
        return torch.cat(attended)


def _sentence(query: Tensor, keys: Tensor, values: Tensor, causal: bool, window: int | None) -> Tensor:
    """Attention of one sentence, from [H, T, K] to [T, H, K]."""
    if window is None:
        return F.scaled_dot_product_attention(query, keys, values, is_causal=causal).transpose(0, 1)
    out = windowed_attention(query[None], keys[None], values[None], None, window, causal=causal)
    return out[0].unflatten(-1, (query.size(0), -1))


def _parts(x: Tensor, sentences: Sentences) -> list[Tensor]:
    return list(x.split(sentences.starts.diff().tolist()))
