"""Word dropout."""

from __future__ import annotations

from dataclasses import replace

import torch

from nmt.config.terms import WordDropoutConfig
from nmt.data.sentencepiece_model import UNK_ID
from nmt.training.terms.base import Term
from nmt.training.terms.inputs import Inputs, Side


class WordDropout(Term[WordDropoutConfig]):
    """Replace each input token by the unknown word with a probability of its side (Bowman et al. 2016, section 3.1).

    The paper does so to the decoder's input, so that the decoder cannot rely on the words before alone. Here the source
    can be treated alike. Gal and Ghahramani 2016 instead set the embedding of a word type to 0 wherever it occurs.
    Targets, bos, eos and padding stay. Each pass of a batch draws its own words.
    """

    is_summand = False

    def change(self, inputs: Inputs) -> Inputs:
        src, tgt = _dropped(inputs.src, self.config.src), _dropped(inputs.tgt, self.config.tgt)
        return replace(inputs, src=src, tgt=tgt)


def _dropped(side: Side, probability: float) -> Side:
    if not probability:
        return side
    drawn = torch.rand(side.ids.shape, device=side.ids.device) < probability
    return replace(side, ids=side.ids.masked_fill(drawn & side.words, UNK_ID))
