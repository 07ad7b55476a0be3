"""Unknown words of an output, copied from the source by attention (Jean et al. 2015; Luong et al. 2015b).

An output word with an unknown piece is replaced by the source word that gets the most attention where the piece is
produced. A word is what white space separates; in a vocabulary of words each piece is one. The attention is that of the
last layer, the mean over its heads, the sum over the subwords of a source word.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from nmt.translation.batches import search_batches

if TYPE_CHECKING:
    from nmt.data.tokenizer import Tokenizer
    from nmt.models.seq2seq import Seq2Seq

BATCH_WEIGHTS = 1 << 18  # weights of a batch in one layer and head

Pair = tuple[Sequence[int], Sequence[int]]  # ids of a source and of a target


class Row(NamedTuple):
    """A hypothesis, and what it translates.

    Attributes:
        text: the source that was read.
        tags: number of tags before it.
        source: its ids, after those of the tags.
        ids: of the hypothesis.
    """

    text: str
    tags: int
    source: Sequence[int]
    ids: Sequence[int]


def copied(model: Seq2Seq[Any], tokenizer: Tokenizer, rows: Sequence[Row]) -> list[str]:
    """The texts of hypotheses, with words of the source in place of unknown ones."""
    texts = tokenizer.decode([row.ids for row in rows])
    unknown = [row for row in rows if tokenizer.unk_id in row.ids]
    places = [place for place, row in enumerate(rows) if tokenizer.unk_id in row.ids]
    areas = [range(max(len(row.source), len(row.ids)) ** 2) for row in unknown]
    training = model.training
    model.eval()
    try:
        for batch in search_batches(areas, 1, BATCH_WEIGHTS):
            pairs = [(unknown[i].source, unknown[i].ids) for i in batch]
            with torch.inference_mode():
                found = list(attended(model, tokenizer, pairs))
            for i, weights in zip(batch, found, strict=True):
                copies = _copies(tokenizer, unknown[i], weights[:, unknown[i].tags :])
                texts[places[i]] = tokenizer.decode_copying(unknown[i].ids, copies)
    finally:
        model.train(training)
    return texts


def _copies(tokenizer: Tokenizer, row: Row, weights: Tensor) -> dict[int, str]:
    """The word of the source in place of each target word that has an unknown piece.

    Args:
        weights: [T, S], of the target over the subwords of the source, tags left out.
    """
    words, word_of = row.text.split(), tokenizer.src_words(row.text)[: weights.size(1)]
    if not words or max(word_of, default=-1) < 0:
        return {}
    shares = weights.new_zeros(len(weights), len(words)).index_add(1, torch.tensor(word_of), weights)  # [T, words]
    found = dict[int, Tensor]()
    for share, group, i in zip(shares, tokenizer.tgt_groups(row.ids), row.ids, strict=True):
        if i == tokenizer.unk_id:
            found[group] = found[group] + share if group in found else share
    return {group: words[int(share.argmax())] for group, share in found.items() if share.max() > 0}


def attended(model: Seq2Seq[Any], tokenizer: Tokenizer, pairs: Sequence[Pair], layer: int = -1) -> Iterator[Tensor]:
    """Attention of a layer, the mean over its heads, [T, S] without eos, of each pair of a batch.

    The caller puts the model into evaluation mode. The model has attention.
    """
    device = next(model.parameters()).device

    def filled(rows: Sequence[Sequence[int]]) -> Tensor:
        ids = [torch.tensor(row) for row in rows]
        return torch.nn.utils.rnn.pad_sequence(ids, True, tokenizer.pad_id).to(device)

    src = filled([[*source, tokenizer.eos_id] for source, _ in pairs])
    tgt_in = filled([[tokenizer.bos_id, *target] for _, target in pairs])
    lengths = torch.tensor([len(source) for source, _ in pairs], device=device)
    mask = torch.arange(src.size(1), device=device) <= lengths.unsqueeze(1)
    maps = model.attention_maps(src, mask, tgt_in)
    assert maps is not None
    for row, (source, target) in zip(maps[layer].mean(dim=1).float().cpu(), pairs, strict=True):
        yield row[: len(target), : len(source)]
