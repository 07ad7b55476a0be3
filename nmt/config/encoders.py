"""The section ``model.encoder``: an encoder of another family, or of other sizes, than the decoder's."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from nmt.config.base import Positive, Probability, Section

# Values of model_type in config.json: encoders that read embeddings and a mask, and have no decoder.
PRETRAINED = ("bert", "camembert", "distilbert", "electra", "roberta", "xlm-roberta")
OFFSET_POSITIONS = ("camembert", "roberta", "xlm-roberta")  # whose first position is pad_token_id + 1


class EncoderSection(Section):
    """What every section of an encoder has; ``d_model`` is the width of the source embeddings."""

    type: str
    d_model: Positive

    @property
    def max_source_tokens(self) -> int | None:
        """Number of positions that the encoder has, eos counted; None if any length fits."""
        return None


class RecurrentStack(Section):
    """Sizes and options of recurrent layers, for the encoder and the decoder."""

    type: str
    cell: Literal["gru", "lstm"] = Field(
        "gru", description="gru (Cho et al. 2014) or lstm (Hochreiter and Schmidhuber 1997)"
    )
    d_model: Positive = Field(256, description="width of the embeddings")
    d_hidden: Positive = Field(256, description="width of the recurrent state")
    bidirectional: Literal["all", "first"] = Field(
        "all",
        description="layers of the encoder that read in both directions; with first (Wu et al. 2016), the second has no"
        " residual connection, as its input is wider than its output",
    )
    residual: bool = Field(False, description="add the input of each layer above the first to its output")
    residual_from: Annotated[int, Field(ge=2)] = Field(
        2, description="lowest layer with a residual connection; 3 in Wu et al. 2016"
    )
    forget_bias: float = Field(
        1.0,
        description="added to the initial bias of the LSTM's forget gates (Gers et al. 2000; Jozefowicz et al. 2015)",
    )
    dropout: Probability = Field(0.2, description="dropout on embeddings and on the output of each layer")

    @property
    def highest_residual(self) -> int:
        """The highest layer that can have a residual connection; 1 if none can."""
        raise NotImplementedError

    def unused(self) -> dict[str, str]:
        found = {}
        if not self.residual:
            found["residual_from"] = "residual: false adds no input to an output"
        elif (highest := self.highest_residual) < self.residual_from:
            reason = f"the highest layer that can have a residual connection is layer {highest}"
            reason = reason if highest > 1 else "it takes two layers, or three with bidirectional: first"
            found |= dict.fromkeys(("residual", "residual_from"), reason)
        return found | ({"forget_bias": "cell: gru has no forget gate; lstm has"} if self.cell == "gru" else {})


class RecurrentEncoderConfig(RecurrentStack, EncoderSection):
    """Recurrent layers, all or the first of them bidirectional (Schuster and Paliwal 1997)."""

    type: Literal["recurrent"] = Field(description="recurrent layers, bidirectional")
    d_model: Positive = Field(256, description="width of the source embeddings")
    d_hidden: Positive = Field(256, description="width of the recurrent state in each direction")
    num_layers: Positive = Field(1, description="layers of the encoder")

    @property
    def highest_residual(self) -> int:
        return 1 if self.num_layers == 2 and self.bidirectional == "first" else self.num_layers

    def unused(self) -> dict[str, str]:
        first = {"bidirectional": "the encoder has one layer, the first"} if self.num_layers == 1 else {}
        return super().unused() | first


class TransformerStack(Section):
    """Sizes and options of Transformer layers (Vaswani et al. 2017), for the encoder and the decoder."""

    type: str
    d_model: Positive = Field(512, description="width of the model")
    d_ff: Positive = Field(2048, description="inner width of the feed-forward layers")
    num_heads: Positive = Field(8, description="attention heads; divides d_model")
    norm: Literal["pre", "post"] = Field("pre", description="norm before each sublayer, or after its residual")
    norm_type: Literal["layer", "rms", "scale"] = Field(
        "layer",
        description="layer norm (Ba et al. 2016); rms: RMSNorm, without mean and bias (Zhang and Sennrich 2019); scale:"
        " ScaleNorm, with one learned length for all coordinates (Nguyen and Salazar 2019)",
    )
    qk_norm: Literal["none", "l2", "layer"] = Field(
        "none",
        description="norm of the queries and keys of each head; l2: vectors of length one, with a learned scale of the"
        " scores (Henry et al. 2020); layer: layer norms without bias (Dehghani et al. 2023)",
    )
    activation: Literal["relu", "gelu", "swish", "swiglu"] = Field(
        "relu",
        description="activation of the feed-forward layers; swish: x times its sigmoid, also called SiLU (Ramachandran"
        " et al. 2017); swiglu: swish times a gate, which is a third matrix (Shazeer 2020)",
    )
    positions: Literal["sinusoidal", "sinusoidal_halves", "sinusoidal_marian", "learned", "rotary"] = Field(
        "sinusoidal",
        description="sinusoidal and learned are added to the embeddings (Vaswani et al. 2017); sinusoidal_halves: all"
        " sines before all cosines, as in Hugging Face's MarianMTModel; sinusoidal_marian: the same, with rates from 1"
        " to 1/10000, as in Marian and Tensor2Tensor; rotary rotates queries and keys of self-attention (Su et al."
        " 2021)",
    )
    max_positions: Positive = Field(1024, description="longest sequence of learned positions")
    attention_window: Positive | None = Field(
        None,
        description="self-attention sees only positions less than this many positions away (Beltagy et al. 2020), in"
        " memory linear in the length; null: all positions",
    )
    dropout: Probability = Field(0.1, description="dropout on embeddings and on each sublayer's output")
    attention_dropout: Probability = Field(0.0, description="dropout on attention weights; 0 allows fused kernels")
    activation_dropout: Probability = Field(0.0, description="dropout inside the feed-forward layers")
    layer_drop: Probability = Field(
        0.0, description="LayerDrop: probability that a batch of the training skips a layer (Fan et al. 2020)"
    )

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
        if self.positions.startswith("sinusoidal") and self.d_model % 2:
            raise ValueError(f"sinusoidal positions need an even d_model, not {self.d_model}")
        return self


class TransformerEncoderConfig(TransformerStack, EncoderSection):
    """Self-attentional layers (Vaswani et al. 2017)."""

    type: Literal["transformer"] = Field(description="Transformer layers")
    d_model: Positive = Field(512, description="width of the source embeddings and of the encoder")
    num_layers: Positive = Field(6, description="layers of the encoder")

    @property
    def max_source_tokens(self) -> int | None:
        return self.max_positions if self.positions == "learned" else None


class ConvolutionalEncoderConfig(EncoderSection):
    """Gated convolutions with residual connections (Gehring et al. 2017)."""

    type: Literal["convolutional"] = Field(description="gated convolutions")
    d_model: Positive = Field(256, description="width of the source embeddings and of the states")
    d_hidden: Positive = Field(256, description="width of the convolutions")
    num_layers: Positive = Field(4, description="convolutions; each lets a state see (kernel - 1) / 2 tokens further")
    kernel: Positive = Field(3, description="tokens that a convolution reads at once; odd")
    positions: Literal["learned", "sinusoidal", "none"] = Field(
        "learned",
        description="positions added to the embeddings; none: only the edges of a sentence show where a token is",
    )
    max_positions: Positive = Field(1024, description="longest sequence of learned positions")
    dropout: Probability = Field(0.2, description="dropout on embeddings and on the input of each convolution")

    @property
    def max_source_tokens(self) -> int | None:
        return self.max_positions if self.positions == "learned" else None

    def unused(self) -> dict[str, str]:
        if self.positions != "learned":
            return {"max_positions": f"positions: {self.positions} has no longest sequence; learned has"}
        return {}

    @model_validator(mode="after")
    def _tokens_have_a_centre(self) -> Self:
        if self.kernel % 2 == 0:
            raise ValueError(
                f"kernel ({self.kernel}) must be odd, to read as many tokens before each as after it; near it: "
                f"{self.kernel - 1}, {self.kernel + 1}"
            )
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise ValueError(f"sinusoidal positions need an even d_model, not {self.d_model}")
        return self


class PretrainedEncoderConfig(EncoderSection):
    """An encoder of Hugging Face with its weights and its tokenizer, such as BERT (Devlin et al. 2019)."""

    type: Literal["pretrained"] = Field(description="an encoder of Hugging Face: BERT, RoBERTa, DistilBERT, XLM-R")
    weights: Annotated[str, Field(min_length=1)] = Field(
        description="folder with config.json, weights and tokenizer, or hf:ORG/NAME of the hub (hf:ORG/NAME@REVISION)"
    )
    freeze: bool = Field(False, description="freeze the encoder: no gradient, no dropout, no optimizer state")
    lr_factor: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        1.0, description="factor of the learning rate for the encoder, whose weights need smaller steps than new ones"
    )
    d_model: Positive = Field(description="width of the embeddings; read from config.json of the weights")
    architecture: dict[str, Any] = Field(description="config.json of the weights, by default read from there")

    @property
    def max_source_tokens(self) -> int | None:
        positions = int(self.architecture["max_position_embeddings"])
        if self.architecture["model_type"] in OFFSET_POSITIONS:
            positions -= int(self.architecture.get("pad_token_id", 1)) + 1
        return positions - 1  # one is that of the token before the sentence

    def unused(self) -> dict[str, str]:
        return {"lr_factor": "freeze: true trains nothing of the encoder"} if self.freeze else {}


EncoderConfig = Annotated[
    RecurrentEncoderConfig | TransformerEncoderConfig | ConvolutionalEncoderConfig | PretrainedEncoderConfig,
    Field(discriminator="type"),
]
