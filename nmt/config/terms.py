"""The section ``train.terms``: what is added to the training loss, and the noise that goes with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, create_model, field_validator, model_validator

from nmt.config.base import RESUMABLE, Probability, Section

Weight = Annotated[float, Field(gt=0.0)]
Rate = Annotated[float, Field(gt=0.0, lt=1.0)]
TWO_PASSES = ("r_drop", "cutoff", "simcut")  # each compares two passes


class WordDropoutConfig(Section):
    """Word dropout: input tokens become the unknown word (Bowman et al. 2016)."""

    src: Probability = Field(0.0, description="probability that a source token becomes the unknown word")
    tgt: Probability = Field(
        0.1, description="probability that a token of the decoder's input becomes the unknown word; targets stay"
    )

    @model_validator(mode="after")
    def _drops_a_word(self) -> Self:
        if not (self.src or self.tgt):
            raise ValueError("src and tgt are both 0: no word is dropped; raise one, or write null")
        return self


class RDropConfig(Section):
    """R-Drop: two passes with different dropout must predict alike (Liang et al. 2021)."""

    alpha: Weight = Field(
        5.0, description="weight of the divergence between the two passes; the paper translates with 5"
    )


class CutoffConfig(Section):
    """Cutoff: a second pass with embeddings partly set to 0 must predict alike (Shen et al. 2020)."""

    kind: Literal["token", "span", "feature"] = Field(
        "token",
        description="set to 0 on both sides: the embeddings of tokens, of a span of each sentence, or a part of"
        " the coordinates in a whole sentence",
    )
    rate: Rate = Field(
        0.05, description="probability of a token or a coordinate; of a span, its share of the sentence, rounded up"
    )
    alpha: Annotated[float, Field(ge=0.0)] = Field(1.0, description="weight of the cross entropy of the second pass")
    beta: Weight = Field(1.0, description="weight of the Jensen-Shannon divergence of the two passes")


class SimCutConfig(Section):
    """SimCut: token cutoff with a divergence alone (Gao et al. 2022)."""

    rate: Rate = Field(0.05, description="probability that the embedding of a token is set to 0 in the second pass")
    alpha: Weight = Field(3.0, description="weight of the divergence of the second pass from the first")


class _Distillation(Section):
    alpha: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.5, description="share of the teacher in the loss; the cross entropy of the reference has the share 1 - alpha"
    )
    temperature: Annotated[float, Field(gt=0.0)] = Field(
        1.0, description="divisor of the logits of teacher and student, in this term alone (Hinton et al. 2015)"
    )
    tail: Literal["renormalise", "class"] = Field(
        "renormalise",
        description="the probability outside of the teacher's top k. renormalise: dropped, so that theirs sum to 1;"
        " class: all other tokens are one more class, for teacher and student",
    )

    @property
    def source(self) -> str:
        """The key ``from``, which is a keyword of Python."""
        return str(getattr(self, "from"))

    def unused(self) -> dict[str, str]:
        if self.tail == "class":
            return {"temperature": "the probability of the other tokens is known at temperature 1 alone (tail: class)"}
        return {}


_FOLDER = Field(
    min_length=1,
    description="folder that nmt distil --word-level wrote, identified by its content",
    json_schema_extra=RESUMABLE,
)

if TYPE_CHECKING:

    class DistillationConfig(_Distillation):
        """Word-level distillation: a teacher's distributions are targets, too (Kim and Rush 2016)."""

else:
    DistillationConfig = create_model(
        "DistillationConfig",
        __base__=_Distillation,
        __doc__="Word-level distillation: a teacher's distributions are targets, too (Kim and Rush 2016).",
        __module__=__name__,
        **{"from": (str, _FOLDER)},
    )


class GuidedAlignmentConfig(Section):
    """Guided alignment: attention learns given word alignments (Chen et al. 2016; Garg et al. 2019)."""

    weight: Weight = Field(
        0.05, description="weight of the cross entropy between given alignments and attention; the paper's is 0.05"
    )
    layer: Annotated[int, Field(gt=0)] | None = Field(
        None,
        description="layer of the decoder whose attention learns, or hop of a recurrent model, from 1; default: the"
        " last hop, or of a Transformer the last layer but one, as in the paper",
    )
    heads: Annotated[list[Annotated[int, Field(gt=0)]], Field(min_length=1)] = Field(
        [1], description="trained heads of a Transformer's layer, from 1"
    )

    @field_validator("heads")
    @classmethod
    def _distinct(cls, heads: list[int]) -> list[int]:
        if len(set(heads)) < len(heads):
            raise ValueError("a head is named twice; name each once")
        return sorted(heads)


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
    cutoff: CutoffConfig | None = Field(
        None,
        description="a second pass with a part of the embeddings set to 0, its cross entropy, and the divergence of the"
        " two (Shen et al. 2020), for about twice the time and memory; null: off",
    )
    simcut: SimCutConfig | None = Field(
        None,
        description="a second pass with the embeddings of some tokens set to 0, and its divergence (Gao et al. 2022),"
        " for about twice the time and memory; null: off",
    )
    guided_alignment: GuidedAlignmentConfig | None = Field(
        None,
        description="cross entropy that trains attention on the word alignments of the training data (Garg et al."
        " 2019): alignments of a text source, alignment_column of tsv, or alignments: true of the demo; null: off",
    )
    l2_start: Weight | None = Field(
        None,
        description="weight of half the squared distance from the weights that init gave, against forgetting (L2-SP, Li"
        " et al. 2018; Miceli Barone et al. 2017); null: off",
    )

    distillation: DistillationConfig | None = Field(
        None,
        description="learn the distributions of a teacher, stored by nmt distil --word-level (Kim and Rush 2016); null:"
        " off",
    )

    @model_validator(mode="after")
    def _one_second_pass(self) -> Self:
        given = [name for name in TWO_PASSES if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} each train two passes to predict alike; keep one of them")
        return self
