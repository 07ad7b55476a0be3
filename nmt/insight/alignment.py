"""Word alignments from attention weights, in the format of Pharaoh: ``0-0 1-2 2-1``.

The rule: each output word has one link, to the source word with the largest weight. A word is what white space
separates (``str.split``) in the source line and in the output. Its weights are those of the last layer of attention, or
of a chosen one: the mean over the heads, the sum over the subwords of a source word, the mean over the subwords of an
output word. The end of the source takes no link; an output word whose weight is all there has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nmt.errors import DataError
from nmt.insight.attention import merged
from nmt.translation.attended import BATCH_WEIGHTS, evaluating, forced_maps
from nmt.translation.batches import search_batches
from nmt.translation.translator import read_text

if TYPE_CHECKING:
    from nmt.data.tokenizer import Tokenizer
    from nmt.models.seq2seq import Seq2Seq
    from nmt.translation.pytorch import TorchEngine
    from nmt.translation.translator import Translation, Translator


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

    def _weights(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[Tensor]:
        """The mean over the heads of the layer, [T, S] without eos, of each pair of ids."""
        with evaluating(self.model):
            found = list(forced_maps(self.model, self.tokenizer, pairs))
        return [maps[self.layer].mean(dim=0)[:-1, :-1] for maps in found]


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
