"""Attention over the source that a model gives to translations which are known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from nmt.data.tokenizer import Tokenizer
    from nmt.models.seq2seq import Seq2Seq

BATCH_WEIGHTS = 1 << 18  # weights of a batch in one layer and head


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Run the model without dropout and gradients, and return it to its mode."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)


def forced_maps(
    model: Seq2Seq[Any], tokenizer: Tokenizer, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> Iterator[Tensor]:
    """Attention over the source of each pair of ids under teacher forcing, as float32 on the CPU.

    The caller puts the model into evaluation mode (:func:`evaluating`).

    Args:
        model: has attention.
        pairs: without bos and eos.

    Returns:
        [layers, H, T + 1, S + 1] of each pair: the rows of all its target tokens and of eos, over the source and eos.
    """
    device = next(model.parameters()).device

    def padded(rows: Sequence[Sequence[int]]) -> Tensor:
        return torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], True, tokenizer.pad_id).to(device)

    src = padded([[*source, tokenizer.eos_id] for source, _ in pairs])
    tgt_in = padded([[tokenizer.bos_id, *target] for _, target in pairs])
    lengths = torch.tensor([len(source) for source, _ in pairs], device=device)
    mask = torch.arange(src.size(1), device=device) <= lengths.unsqueeze(1)
    maps = model.attention_maps(src, mask, tgt_in)
    assert maps is not None
    for row, (source, target) in zip(maps.float().cpu().unbind(1), pairs, strict=True):
        yield row[:, :, : len(target) + 1, : len(source) + 1]
