"""The section ``model``: a model family and its sizes."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nmt.config.base import RESUMABLE, Positive, Probability, Section
from nmt.config.encoders import EncoderConfig, RecurrentEncoderConfig, RecurrentStack, TransformerStack
from nmt.config.presets import PresetSection

TieEmbeddings = Literal["all", "decoder", "none"]
BIAS_HELP = "add a learned bias to the logits of each subword"
TIE_HELP = "all: source, target and output share one matrix; decoder: target and output; none: three matrices"
ENCODER_HELP = "an encoder of another family or other sizes; default: the encoder of this type"


class HardAttentionConfig(Section):
    """Training of hard attention (Xu et al. 2015, section 4.1)."""

    estimator: Literal["reinforce", "gumbel"] = Field(
        "reinforce",
        description="estimator of the gradient through a draw: reinforce (Williams 1992), or gumbel, straight-through"
        " (Jang et al. 2017)",
    )
    reinforce_weight: Annotated[float, Field(gt=0.0)] = Field(
        0.1, description="factor of the REINFORCE term; 1: the unbiased gradient, which is noisy"
    )
    entropy_weight: Annotated[float, Field(ge=0.0)] = Field(
        0.01, description="weight of the entropy of the distribution, for each target token"
    )
    baseline_decay: Probability = Field(
        0.9, description="decay of the moving average of the log-likelihood, which REINFORCE subtracts as its baseline"
    )
    expected_context: Probability = Field(
        0.5, description="probability that a training sentence uses soft weights instead of draws"
    )
    temperature: Annotated[float, Field(gt=0.0)] = Field(
        1.0, description="temperature of the softmax whose gradient gumbel uses"
    )

    def unused(self) -> dict[str, str]:
        if self.estimator == "reinforce":
            return {"temperature": "estimator: reinforce has no temperature; gumbel has"}
        keys = ("reinforce_weight", "entropy_weight", "baseline_decay", "expected_context")
        return dict.fromkeys(keys, "estimator: gumbel has no such term; reinforce has")


class RNNConfig(RecurrentStack, PresetSection):
    """Recurrent encoder–decoder with attention (Bahdanau et al. 2015)."""

    type: Literal["rnn"] = Field(description="recurrent encoder and decoder with attention")
    preset: Literal["gnmt"] | None = Field(
        None, description="values of omitted keys; gnmt: the sizes of Wu et al. 2016", json_schema_extra=RESUMABLE
    )
    d_model: Positive = Field(256, description="width of the embeddings and of the deep output")
    d_hidden: Positive = Field(256, description="width of the recurrent state; the encoder has it in each direction")
    encoder_layers: Positive = Field(1, description="layers of the encoder")
    decoder_layers: Positive = Field(1, description="layers of the decoder")
    attention: Literal["additive", "general", "dot", "scaled_dot", "euclidean", "none"] = Field(
        "additive", description="score of the alignment; none: the decoder sees the source as one vector"
    )
    d_attention: Positive = Field(256, description="width of the space in which queries and keys are compared")
    alignment: Literal["soft", "hard", "local_monotonic", "local_predictive"] = Field(
        "soft",
        description="soft: weights over the source; hard: one position per step (Xu et al. 2015); local: a window"
        " (Luong et al. 2015) at the target position (monotonic), or at one that the decoder predicts (predictive)",
    )
    window: Positive = Field(10, description="positions on each side of the centre of local alignment")
    hard: HardAttentionConfig = Field(HardAttentionConfig(), description="training of hard alignment")
    hops: Positive = Field(
        1, description="attention layers; the context of one refines the query of the next (Sukhbaatar et al. 2015)"
    )
    input_feeding: bool = Field(
        False, description="the vector that predicts a word is an input of the next step (Luong et al. 2015)"
    )
    dropout: Probability = Field(0.2, description="dropout on embeddings, between layers and on the deep output")
    tie_embeddings: TieEmbeddings = Field("decoder", description=TIE_HELP)
    output_bias: bool = Field(False, description=BIAS_HELP)
    encoder: EncoderConfig | None = Field(None, description=ENCODER_HELP)

    @property
    def max_target_tokens(self) -> None:
        """None: the decoder can take any number of steps."""

    @property
    def attends(self) -> bool:
        """Whether the decoder attends to the source."""
        return self.attention != "none"

    @property
    def source_encoder(self) -> EncoderConfig:
        """The section ``encoder``; where it is not given, that of the encoder which the other keys describe."""
        shared = {key: getattr(self, key) for key in RecurrentStack.model_fields if key != "type"}
        return self.encoder or RecurrentEncoderConfig(type="recurrent", num_layers=self.encoder_layers, **shared)

    @property
    def highest_residual(self) -> int:
        own = self.source_encoder if self.encoder is None else None
        return max(self.decoder_layers, own.highest_residual if isinstance(own, RecurrentEncoderConfig) else 1)

    def unused(self) -> dict[str, str]:
        found = super().unused() | _replaced(self)
        if self.encoder is None and self.encoder_layers == 1:
            found["bidirectional"] = "the encoder has one layer, the first"
        if self.attention in ("general", "none"):
            found["d_attention"] = f"attention: {self.attention} does not project queries and keys to d_attention"
        if self.attention == "none":
            reason = "attention: none reads no source positions"
            found |= dict.fromkeys(("alignment", "hops", "input_feeding"), reason)
        if self.attention == "none" or not self.alignment.startswith("local_"):
            found["window"] = "only local alignment has a window"
        if self.attention == "none" or self.alignment != "hard":
            found |= {f"hard.{key}": "only alignment: hard uses it" for key in HardAttentionConfig.model_fields}
        return found

    @model_validator(mode="after")
    def _embeddings_can_be_tied(self) -> Self:
        _check_ties(self)
        return self


class TransformerConfig(TransformerStack, PresetSection):
    """Transformer encoder–decoder (Vaswani et al. 2017)."""

    type: Literal["transformer"] = Field(description="Transformer encoder and decoder")
    preset: Literal["marian"] | None = Field(
        None,
        description="values of omitted keys; marian: the architecture of Marian and of Hugging Face's MarianMTModel,"
        " which every export can express",
        json_schema_extra=RESUMABLE,
    )
    encoder_layers: Positive = Field(6, description="layers of the encoder")
    decoder_layers: Positive = Field(6, description="layers of the decoder")
    tie_embeddings: TieEmbeddings = Field("all", description=TIE_HELP)
    output_bias: bool = Field(False, description=BIAS_HELP)
    start: Literal["bos", "zero"] = Field(
        "bos",
        description="the decoder's first input; bos: the learned embedding of begin-of-sentence; zero: a vector of"
        " zeros, as in Marian, where padding of MarianMTModel stands for it",
    )
    fix_norm: bool = Field(
        False,
        description="FixNorm: divide each row of the embeddings and of the output layer by its length"
        " (Nguyen and Salazar 2019)",
    )
    encoder: EncoderConfig | None = Field(None, description=ENCODER_HELP)

    @property
    def attends(self) -> bool:
        """Whether the decoder attends to the source."""
        return True

    @property
    def max_target_tokens(self) -> int | None:
        """Number of positions that the decoder has; None if any length fits."""
        return self.max_positions if self.positions == "learned" else None

    def unused(self) -> dict[str, str]:
        return super().unused() | _replaced(self)

    @model_validator(mode="after")
    def _embeddings_can_be_tied(self) -> Self:
        _check_ties(self)
        return self


ModelConfig = Annotated[RNNConfig | TransformerConfig, Field(discriminator="type")]


def _replaced(config: RNNConfig | TransformerConfig) -> dict[str, str]:
    """The keys that ``encoder`` replaces, each with the reason."""
    if config.encoder is None:
        return {}
    found = {"encoder_layers": f"encoder ({config.encoder.type}) has its number of layers in encoder.num_layers"}
    if isinstance(config, RNNConfig):
        found["bidirectional"] = f"encoder ({config.encoder.type}) replaces the layers that it describes"
    return found


def _check_ties(config: RNNConfig | TransformerConfig) -> None:
    width, encoder = config.d_model, config.encoder
    if encoder is not None and encoder.d_model != width and config.tie_embeddings == "all":
        raise ValueError(
            f"tie_embeddings: all needs one width of embeddings, but d_model is {width} and encoder.d_model "
            f"{encoder.d_model}; set encoder.d_model: {width}, or tie_embeddings: decoder"
        )
