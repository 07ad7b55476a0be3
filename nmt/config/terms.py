"""The section ``train.terms``: what is added to the training loss, and the noise that goes with it."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from nmt.config.base import Probability, Section

Weight = Annotated[float, Field(gt=0.0)]


class WordDropoutConfig(Section):
    """Word dropout: input tokens become the unknown word (Bowman et al. 2016)."""

    src: Probability = Field(0.0, description="probability that a source token becomes the unknown word")
    tgt: Probability = Field(
        0.1, description="probability that a token of the decoder's input becomes the unknown word; targets stay"
    )

    @model_validator(mode="after")
    def _drops_a_word(self) -> Self:
        if not (self.src or self.tgt):
            raise ValueError("src and tgt are both 0: no word is dropped; raise one, or write word_dropout: null")
        return self


class RDropConfig(Section):
    """R-Drop: two passes with different dropout must predict alike (Liang et al. 2021)."""

    alpha: Weight = Field(5.0, description="weight of the divergence between the two passes; 1 to 5 in the paper")


class TermsConfig(Section):
    """Terms of the training loss beside the cross entropy. All are off unless given."""

    z_loss: Weight | None = Field(
        None,
        description="weight of the squared logarithm of the softmax's normaliser, which keeps logits small (Chowdhery"
        " et al. 2022 use 1e-4); null: off",
    )
    word_dropout: WordDropoutConfig | None = Field(
        None, description="replace input tokens by the unknown word while training (Bowman et al. 2016); null: off"
    )
    r_drop: RDropConfig | None = Field(
        None,
        description="a second pass with other dropout, and the divergence between both (Liang et al. 2021), for about"
        " twice the time and memory; null: off",
    )
