"""The section ``tokenizer``: the subword vocabulary."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from nmt.config.base import Positive, Section


class SamplingConfig(Section):
    """Subword regularisation while training: a new segmentation at each reading (Kudo 2018; Provilkov et al. 2020)."""

    alpha: Annotated[float, Field(gt=0.0, le=1.0)] | None = Field(
        None,
        description="unigram: exponent that flattens the probabilities of the segmentations, default 0.3 (Kudo 2018"
        " uses 0.2 or 0.5 where nbest is -1); bpe: probability of skipping a merge, default 0.1",
    )
    nbest: int = Field(
        -1, description="unigram: sample among this many best segmentations; -1: among all, several times as fast"
    )
    method: Literal["batch", "line"] = Field(
        "batch",
        description="batch: draw for a whole batch at once, within its budget; line: the slower method of earlier"
        " versions, which may exceed batch_tokens and cuts at cleaning.max_tokens",
    )

    @model_validator(mode="after")
    def _nbest_is_usable(self) -> Self:
        if self.nbest != -1 and self.nbest < 2:
            raise ValueError("nbest must be -1 (all segmentations) or at least 2")
        return self

    def strength(self, kind: str) -> float:
        """``alpha``, or its default for the type of tokenizer."""
        return self.alpha if self.alpha is not None else {"unigram": 0.3, "bpe": 0.1}[kind]


Normalization = Literal["nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf", "whitespace", "identity"]
VocabSize = Annotated[int, Field(ge=8, le=1_000_000)]


class NormalizationConfig(Section):
    """Normalization of each language before segmentation.

    Translations are normalised text: only ``whitespace`` and ``identity`` keep the characters of the target.
    """

    src: Normalization = Field("nmt_nfkc", description="rule for the source")
    tgt: Normalization = Field("whitespace", description="rule for the target")


class VocabSizeConfig(Section):
    """A vocabulary size for each language."""

    src: VocabSize = Field(description="maximum number of pieces of the source vocabulary")
    tgt: VocabSize = Field(description="maximum number of pieces of the target vocabulary")


# One value for both languages, or a mapping with one for each. The discriminator keeps the complaint to one line.
_ONE_OR_EACH = Discriminator(lambda value: "each" if isinstance(value, dict | Section) else "one")
Normalizations = Annotated[
    Annotated[Normalization, Tag("one")] | Annotated[NormalizationConfig, Tag("each")], _ONE_OR_EACH
]
VocabSizes = Annotated[Annotated[VocabSize, Tag("one")] | Annotated[VocabSizeConfig, Tag("each")], _ONE_OR_EACH]


class TokenizerConfig(Section):
    run: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="a run (name or folder) whose tokenizer is used; omitted keys are those of that run; null: train"
        " a new one",
    )
    type: Literal["unigram", "bpe", "char", "word"] = Field("unigram", description="SentencePiece model type")
    vocab_size: VocabSizes = Field(
        8000,
        description="maximum number of pieces, including special ones, lowered to what the training text can fill; with"
        " joint: false for each language, or {src: ..., tgt: ...}",
    )
    joint: bool = Field(True, description="one model for both languages, or one each")
    character_coverage: Annotated[float, Field(gt=0.9, le=1.0)] = Field(
        1.0, description="share of characters the model covers; 0.9995 for Chinese or Japanese"
    )
    byte_fallback: bool = Field(False, description="encode unknown characters as bytes instead of <unk>")
    normalization: Normalizations = Field(
        NormalizationConfig(),
        description="SentencePiece's rule for both languages, or {src: ..., tgt: ...}; _cf folds case, whitespace makes"
        " tabs and line separators spaces and removes control characters, identity changes nothing",
    )
    case: Literal["keep", "inline"] = Field(
        "keep",
        description="inline: words in lower case, with a symbol before each capitalised or upper-cased one, so that a"
        " word has the same subwords in every case (Berard et al. 2019); such models cannot be exported",
    )
    train_sentences: Positive = Field(
        2_000_000, description="train on a random sample of at most this many lines, and of about 60 MB of text"
    )
    sampling: SamplingConfig | None = Field(None, description="subword sampling while training; null: off")

    @model_validator(mode="after")
    def _sampling_has_a_meaning(self) -> Self:
        if self.sampling is not None and self.type not in ("unigram", "bpe"):
            raise ValueError(f"a {self.type} tokenizer has one segmentation only; sampling needs unigram or bpe")
        return self

    @model_validator(mode="after")
    def _case_can_be_marked(self) -> Self:
        if self.case == "inline" and (folds := [rule for rule in self.rules if rule.endswith("_cf")]):
            raise ValueError(f"normalization {folds[0]} leaves no case to mark; remove it, or set case: keep")
        if self.case == "inline" and self.sampling is not None and self.sampling.method == "line":
            raise ValueError("sampling.method: line would divide the symbols of case: inline; use batch")
        return self

    @model_validator(mode="after")
    def _one_size_for_one_vocabulary(self) -> Self:
        if self.joint and isinstance(self.vocab_size, VocabSizeConfig):
            raise ValueError("a joint vocabulary has one vocab_size; give one number, or set joint: false")
        return self

    def unused(self) -> dict[str, str]:
        if self.sampling is not None and self.type != "unigram":
            return {"sampling.nbest": f"a {self.type} model has no list of best segmentations; unigram has"}
        return {}

    @property
    def rules(self) -> tuple[Normalization, Normalization]:
        """The normalization of source and target."""
        if isinstance(self.normalization, NormalizationConfig):
            return self.normalization.src, self.normalization.tgt
        return self.normalization, self.normalization

    @property
    def sizes(self) -> tuple[int, int]:
        """The largest vocabulary of source and target."""
        if isinstance(self.vocab_size, VocabSizeConfig):
            return self.vocab_size.src, self.vocab_size.tgt
        return self.vocab_size, self.vocab_size
