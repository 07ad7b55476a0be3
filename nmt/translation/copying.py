"""Unknown words of an output, copied from the source by attention (Jean et al. 2015; Luong et al. 2015b).

An output word with an unknown piece is replaced by the source word that gets the most attention where the piece is
produced. A word is what white space separates; in a vocabulary of words each piece is one. The attention is that of the
last layer, the mean over its heads, the sum over the subwords of a source word.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from nmt.translation.attended import BATCH_WEIGHTS, evaluating, forced_maps
from nmt.translation.batches import search_batches

if TYPE_CHECKING:
    from nmt.data.tokenizer import Tokenizer
    from nmt.models.seq2seq import Seq2Seq


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
    with evaluating(model):
        for batch in search_batches(areas, 1, BATCH_WEIGHTS):
            pairs = [(unknown[i].source, unknown[i].ids) for i in batch]
            for i, maps in zip(batch, forced_maps(model, tokenizer, pairs), strict=True):
                weights = maps[-1].mean(dim=0)[:-1, unknown[i].tags : -1]
                copies = _copies(tokenizer, unknown[i], weights)
                texts[places[i]] = tokenizer.decode_copying(unknown[i].ids, copies)
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
