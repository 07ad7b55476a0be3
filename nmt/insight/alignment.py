"""Word alignments from attention weights, in the format of Pharaoh: ``0-0 1-2 2-1``.

The rule: each output word has one link, to the source word with the largest weight. A word is what white space
separates (``str.split``) in the source line and in the output. Its weights are those of the last layer of attention, or
of a chosen one: the mean over the heads, the sum over the subwords of a source word, the mean over the subwords of an
output word. The end of the source takes no link; an output word whose weight is all there has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nmt.errors import DataError
from nmt.insight.attention import evaluating, merged
from nmt.translation.batches import search_batches
from nmt.translation.translator import read_text

if TYPE_CHECKING:
    from nmt.data.tokenizer import Tokenizer
    from nmt.models.seq2seq import Seq2Seq
    from nmt.translation.pytorch import TorchEngine
    from nmt.translation.translator import Translation, Translator

BATCH_WEIGHTS = 1 << 18  # weights of a batch in one layer and head


class Aligner:
    """Aligns translations with their sources.

    Args:
        layer: of attention, from 1; None for the last one.

    Raises:
        DataError: the model has no attention, or no such layer.
    """

    def __init__(self, translator: Translator[TorchEngine], layer: int | None = None) -> None:
        self.translator, self.tokenizer = translator, translator.tokenizer
        self.model: Seq2Seq[Any] = translator.engine.model
        layers = attention_layers(self.model, self.tokenizer)
        if layer is not None and not 1 <= layer <= layers:
            count = f"{layers} layer{'s' * (layers > 1)}"
            raise DataError(f"--alignment-layer {layer}: the model has {count} of attention; count from 1")
        self.layer = (layers if layer is None else layer) - 1

    def __call__(self, lines: Sequence[str], translations: Sequence[Sequence[Translation]]) -> list[list[str]]:
        """The alignment of each translation of each line; empty where a side has no words."""
        sources = self.translator.encode(lines)
        found = [[""] * len(each) for each in translations]
        places = [(i, n) for i, each in enumerate(translations) for n, one in enumerate(each) if one.tokens]
        areas = [range(max(len(sources[i]), len(translations[i][n].tokens)) ** 2) for i, n in places]
        words = {i: self.tokenizer.src_words(read_text(self.translator.search, lines[i])) for i, _ in places}
        for batch in search_batches(areas, 1, BATCH_WEIGHTS):
            pairs = [(sources[i], translations[i][n].tokens) for i, n in (places[place] for place in batch)]
            for place, weights in zip(batch, self._weights(pairs), strict=True):
                i, n = places[place]
                weights = weights[:, len(self.translator.tags_of(lines[i])) :]  # tags are no words
                found[i][n] = _links(weights, words[i], self.tokenizer.tgt_words(translations[i][n].tokens))
        return found

    def _weights(self, pairs: Sequence[tuple[list[int], list[int]]]) -> Iterator[Tensor]:
        """The mean over the heads of the layer, [T, S] without eos, of each pair of ids."""
        for maps in forced_maps(self.model, self.tokenizer, pairs):
            yield maps[self.layer].mean(dim=0)[:-1, :-1]


def attention_layers(model: Seq2Seq[Any], tokenizer: Tokenizer) -> int:
    """The number of layers of attention over the source.

    Raises:
        DataError: the model has no attention.
    """
    ids = torch.tensor([[tokenizer.eos_id]], device=next(model.parameters()).device)
    with evaluating(model):
        maps = model.attention_maps(ids, torch.ones_like(ids, dtype=torch.bool), ids)
    if maps is None:
        raise DataError("the model has no attention (model.attention: none): nothing to align words with")
    return maps.size(0)


def forced_maps(
    model: Seq2Seq[Any], tokenizer: Tokenizer, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]
) -> Iterator[Tensor]:
    """Attention over the source of each pair of ids under teacher forcing, as float32 on the CPU.

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
    with evaluating(model):
        maps = model.attention_maps(src, mask, tgt_in)
    assert maps is not None
    for row, (source, target) in zip(maps.float().cpu().unbind(1), pairs, strict=True):
        yield row[:, :, : len(target) + 1, : len(source) + 1]


def aligner_of(translator: Translator[Any]) -> Aligner | None:
    """An aligner of a translator; None where its engine or its model has no attention."""
    if not hasattr(translator.engine, "model"):
        return None
    try:
        return Aligner(translator)
    except DataError:
        return None


def _links(weights: Tensor, src_words: Sequence[int], tgt_words: Sequence[int]) -> str:
    """The links of weights [T, S]; see the module."""
    if max(src_words, default=-1) < 0 or max(tgt_words, default=-1) < 0:
        return ""
    largest, best = merged(weights, tgt_words, src_words[: weights.size(1)]).max(dim=1)
    links = enumerate(zip(largest.tolist(), best.tolist(), strict=True))
    return " ".join(f"{source}-{target}" for target, (weight, source) in links if weight > 0)
