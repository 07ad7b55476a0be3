"""Attention weights of a model for sentence pairs, read again from finished hypotheses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from nmt.insight.explain import Method, explain, shares
from nmt.insight.figures import MAX_POSITIONS
from nmt.models.maps import Part, self_attention_maps
from nmt.translation.attended import evaluating

if TYPE_CHECKING:
    from nmt.data.tokenizer import Tokenizer
    from nmt.models.seq2seq import Seq2Seq

EOS = "</s>"
BOS = "<s>"


@dataclass(frozen=True)
class Maps:
    """Attention weights of one hypothesis; each row is a distribution.

    Attributes:
        cross: [layers, H, T, S], of each target subword (row) over the source.
        self_maps: of ``encoder`` [layers, H, S, S] and ``decoder`` [layers, H, T, T], see
            :func:`nmt.models.maps.self_attention_maps`; empty unless asked for.
        methods: contributions of the source by other methods, see :func:`nmt.insight.explain.explain`.
    """

    cross: Tensor | None
    self_maps: dict[Part, Tensor] = field(default_factory=dict)
    methods: dict[Method, Tensor] = field(default_factory=dict)


def read_maps(
    model: Seq2Seq[Any],
    tokenizer: Tokenizer,
    src: Sequence[int],
    hypotheses: Sequence[Sequence[int]],
    self_maps: bool = False,
    methods: Sequence[Method] = (),
) -> list[Maps]:
    """Attention weights of each hypothesis of one source: the model reads the hypothesis by teacher forcing.

    Args:
        src, hypotheses: ids, without bos and eos.
        self_maps: read self-attention, too.
        methods: contributions of the source that are computed beside attention.

    Returns:
        Weights of S = len(src) + 1 and T = len(hypothesis) + 1 subwords, eos included, as float32 on the CPU.
    """
    device, lengths = next(model.parameters()).device, [len(tgt) + 1 for tgt in hypotheses]
    src_ids = torch.tensor([[*src, tokenizer.eos_id]] * len(hypotheses), device=device)
    mask = torch.ones_like(src_ids, dtype=torch.bool)
    rows = [torch.tensor([tokenizer.bos_id, *tgt]) for tgt in hypotheses]
    tgt_in = nn.utils.rnn.pad_sequence(rows, True, tokenizer.pad_id).to(device)  # no row sees the padding after it
    with evaluating(model):
        cross = model.attention_maps(src_ids, mask, tgt_in)
        parts = self_attention_maps(model, src_ids, mask, tgt_in) if self_maps else {}
    cross = None if cross is None else cross.float().cpu()
    parts = {part: weights.float().cpu() for part, weights in parts.items()}
    return [
        Maps(
            None if cross is None else cross[:, n, :, :length],
            {part: w[:, n] if part == "encoder" else w[:, n, :, :length, :length] for part, w in parts.items()},
            explain(model, tokenizer, src, hypotheses[n], methods),
        )
        for n, length in enumerate(lengths)
    ]


def attention_map(
    model: Seq2Seq[Any], tokenizer: Tokenizer, src: Sequence[int], tgt: Sequence[int], method: Method | None = None
) -> tuple[Tensor, list[str], list[str]] | None:
    """Weights averaged over layers and heads, with the subwords of both sides.

    Args:
        src, tgt: ids, without bos and eos.
        method: shares of contributions by this method; None: weights of attention.

    Returns:
        Weights [T', S] of the first target subwords, as many as a figure shows, and all S and T subwords, eos included.
        None without attention (which ``gradient`` and ``erase`` need not), and where a side is empty.
    """
    if not src or not tgt:
        return None
    [maps] = read_maps(model, tokenizer, src, [tgt[: MAX_POSITIONS - 1]], methods=[] if method is None else [method])
    weights = method_weights(maps, method)
    if weights is None:
        return None
    return weights.mean(dim=(0, 1)), [*tokenizer.src_pieces(src), EOS], [*tokenizer.tgt_pieces(tgt), EOS]


def method_weights(maps: Maps, method: Method | None) -> Tensor | None:
    """Shares [layers, H, T, S] of the contributions by a method, or weights of attention; None without attention."""
    if method is None or method == "norm":
        if maps.cross is None or method is None:
            return maps.cross
        return shares(maps.cross * maps.methods["norm"].unsqueeze(2))
    return maps.methods[method]


def merged(weights: Tensor, rows: Sequence[int], columns: Sequence[int]) -> Tensor:
    """Weights [..., T, S] of subwords as weights of words: the sum over a source word, the mean over a target word.

    The weights with which a target word attends to the source words sum to 1, as those of each of its subwords do.

    Args:
        rows, columns: the word of each subword, numbered from 0 on both sides.
    """
    rows_of, columns_of = (
        torch.nn.functional.one_hot(torch.tensor(side)).to(weights) for side in (rows, columns)
    )  # [T, words], [S, words]
    summed = weights @ columns_of
    counts = rows_of.sum(0).clamp_min(1)  # a word may have no subword
    return rows_of.T @ summed / counts[:, None]
