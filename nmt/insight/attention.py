"""Attention weights of a model for one sentence pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nmt.insight.figures import MAX_POSITIONS

if TYPE_CHECKING:
    from nmt.data.tokenizer import Tokenizer
    from nmt.models.seq2seq import Seq2Seq


def attention_map(
    model: Seq2Seq[Any], tokenizer: Tokenizer, src: Sequence[int], tgt: Sequence[int]
) -> tuple[Tensor, list[str], list[str]] | None:
    """Weights averaged over layers and heads, with the subwords of both sides.

    Args:
        src, tgt: ids, without bos and eos.

    Returns:
        Weights [T', S] of the first target subwords, as many as a figure shows, and all S and T subwords, eos included.
        None without attention, and where a side is empty.
    """
    if not src or not tgt:
        return None
    device = next(model.parameters()).device
    ids = torch.tensor([[*src, tokenizer.eos_id]], device=device)
    tgt_in = torch.tensor([[tokenizer.bos_id, *tgt][:MAX_POSITIONS]], device=device)
    with torch.inference_mode():
        maps = model.attention_maps(ids, torch.ones_like(ids, dtype=torch.bool), tgt_in)
    if maps is None:
        return None
    weights = maps.float().mean(dim=(0, 2))[0].cpu()  # [T', S]
    return weights, [*tokenizer.src_pieces(src), "</s>"], [*tokenizer.tgt_pieces(tgt), "</s>"]
