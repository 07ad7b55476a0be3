"""The section ``model``: a model family and its sizes."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from nmt.config.base import Positive, Probability, Section

TieEmbeddings = Literal["all", "decoder", "none"]
TIE_HELP = "all: source, target and output share one matrix; decoder: target and output; none: three matrices"


class HardAttentionConfig(Section):
    """Training of hard attention (Xu et al. 2015, section 4.1)."""

    estimator: Literal["reinforce", "gumbel"] = Field(
        "reinforce",
        description="of the gradient through a draw: reinforce (Williams 1992), or gumbel, straight-through"
        " (Jang et al. 2017)",
    )
    reinforce_weight: Annotated[float, Field(gt=0.0)] = Field(
        1.0, description="factor of the REINFORCE term; 1 is the gradient of the expected log-likelihood"
    )
    entropy_weight: Annotated[float, Field(ge=0.0)] = Field(
        0.01, description="reward of the entropy of the distribution drawn from, for each target token"
    )
    baseline_decay: Probability = Field(
        0.9, description="of the moving average of the log-likelihood, which REINFORCE subtracts as its baseline"
    )
    expected_context: Probability = Field(
        0.5, description="probability that a training sentence uses soft weights instead of draws"
    )
    temperature: Annotated[float, Field(gt=0.0)] = Field(
        1.0, description="of the softmax that gives gumbel its gradient"
    )

    def unused(self) -> dict[str, str]:
        if self.estimator == "reinforce":
            return {"temperature": "estimator: reinforce has no temperature; gumbel has"}
        keys = ("reinforce_weight", "entropy_weight", "baseline_decay", "expected_context")
        return dict.fromkeys(keys, "estimator: gumbel has no such term; reinforce has")


class RNNConfig(Section):
    """Recurrent encoder–decoder with attention (Bahdanau et al. 2015)."""

    type: Literal["rnn"] = Field(description="recurrent encoder and decoder with attention")
    cell: Literal["gru", "lstm"] = Field(
        "gru", description="gru (Cho et al. 2014) or lstm (Hochreiter and Schmidhuber 1997)"
    )
    d_model: Positive = Field(256, description="width of the embeddings and of the deep output")
    d_hidden: Positive = Field(256, description="width of the recurrent state; the encoder has it in each direction")
    encoder_layers: Positive = Field(1, description="layers of the encoder")
    decoder_layers: Positive = Field(1, description="layers of the decoder")
    residual: bool = Field(False, description="add the input of each layer above the first to its output")
    attention: Literal["additive", "general", "dot", "scaled_dot", "euclidean", "none"] = Field(
        "additive", description="score of the alignment; none: the decoder sees the source as one vector"
    )
    d_attention: Positive = Field(256, description="width of the space in which queries and keys are compared")
    alignment: Literal["soft", "hard", "local_monotonic", "local_predictive"] = Field(
        "soft",
        description="soft: weights over the source; hard: one position a step (Xu et al. 2015); local: a window"
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
    dropout: Probability = Field(0.2, description="on embeddings, between layers and on the deep output")
    tie_embeddings: TieEmbeddings = Field("decoder", description=TIE_HELP)

    @property
    def max_target_tokens(self) -> None:
        """None: the decoder can take any number of steps."""

    def unused(self) -> dict[str, str]:
        found = {}
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


class TransformerConfig(Section):
    """Transformer encoder–decoder (Vaswani et al. 2017)."""

    type: Literal["transformer"] = Field(description="Transformer encoder and decoder")
    d_model: Positive = Field(512, description="width of the model")
    d_ff: Positive = Field(2048, description="inner width of the feed-forward layers")
    num_heads: Positive = Field(8, description="attention heads; divides d_model")
    encoder_layers: Positive = Field(6, description="layers of the encoder")
    decoder_layers: Positive = Field(6, description="layers of the decoder")
    norm: Literal["pre", "post"] = Field("pre", description="layer norm before each sublayer, or after its residual")
    activation: Literal["relu", "gelu", "swiglu"] = Field(
        "relu", description="of the feed-forward layers; swiglu has a third matrix (Shazeer 2020)"
    )
    positions: Literal["sinusoidal", "learned", "rotary"] = Field(
        "sinusoidal",
        description="sinusoidal and learned are added to the embeddings (Vaswani et al. 2017); rotary rotates queries"
        " and keys of self-attention (Su et al. 2021)",
    )
    max_positions: Positive = Field(1024, description="longest sequence of learned positions")
    dropout: Probability = Field(0.1, description="on embeddings and on each sublayer's output")
    attention_dropout: Probability = Field(0.0, description="on attention weights; 0 lets fused kernels run")
    activation_dropout: Probability = Field(0.0, description="inside the feed-forward layers")
    tie_embeddings: TieEmbeddings = Field("all", description=TIE_HELP)

    @property
    def max_target_tokens(self) -> int | None:
        """Number of positions that the decoder has; None if any length fits."""
        return self.max_positions if self.positions == "learned" else None

    def unused(self) -> dict[str, str]:
        if self.positions != "learned":
            return {"max_positions": f"{self.positions} positions have no longest sequence; learned ones do"}
        return {}

    @model_validator(mode="after")
    def _widths_divide(self) -> Self:
        if self.d_model % self.num_heads:
            near = [h for h in range(1, self.d_model + 1) if self.d_model % h == 0]
            near = sorted(sorted(near, key=lambda h: abs(h - self.num_heads))[:3])
            raise ValueError(
                f"num_heads ({self.num_heads}) must divide d_model ({self.d_model}); near it: "
                + ", ".join(map(str, near))
            )
        if self.positions == "rotary" and (self.d_model // self.num_heads) % 2:
            raise ValueError(f"rotary positions need an even head width, not {self.d_model // self.num_heads}")
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise ValueError(f"sinusoidal positions need an even d_model, not {self.d_model}")
        return self


ModelConfig = Annotated[RNNConfig | TransformerConfig, Field(discriminator="type")]
