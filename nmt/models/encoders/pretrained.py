"""A pretrained encoder of Hugging Face, such as BERT (Devlin et al. 2019), as the encoder of any decoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from nmt.advice import install
from nmt.config.encoders import PretrainedEncoderConfig
from nmt.errors import ConfigError
from nmt.models.encoders.base import Encoder
from nmt.models.seq2seq import Memory


def import_transformers() -> Any:
    """The package, which is an optional one.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(
            f"model.encoder.type: pretrained needs the package transformers, which cannot be imported ({error}); "
            f"install it: {install('nmt-trainer[pretrained]')}"
        ) from None
    return transformers


class PretrainedEncoder(Encoder):
    """The layers of the model; the table of its embeddings is the model's source embedding.

    The token that the model was trained to read before each sentence ([CLS], <s>) is added here, with the embedding
    ``begin`` [D_in]. Its state is the summary of the sentence; the states are those of the tokens of the source.
    """

    def __init__(self, config: PretrainedEncoderConfig):
        transformers = import_transformers()
        kind = config.architecture["model_type"]
        settings = transformers.AutoConfig.for_model(**config.architecture)
        width = settings.dim if kind == "distilbert" else settings.hidden_size
        super().__init__(config.d_model, width)
        self.model: Any = transformers.AutoModel.from_config(settings)
        self.model.set_input_embeddings(nn.Identity())
        if hasattr(self.model, "pooler"):  # a layer for classification
            self.model.pooler = None
        self.begin = nn.Parameter(torch.zeros(config.d_model))
        self.frozen, self.lr_factor = config.freeze, config.lr_factor
        if config.freeze:
            self.requires_grad_(False)

    def forward(self, x: Tensor, src_mask: Tensor) -> Memory:
        begin = self.begin.expand(len(x), 1, -1)  # [B, 1, D_in]
        inputs = torch.cat([begin, x / self.d_in**0.5], dim=1)  # [B, 1 + S, D_in]
        mask = torch.cat([src_mask.new_ones(len(x), 1), src_mask], dim=1)
        states = self.model(inputs_embeds=inputs, attention_mask=mask.long()).last_hidden_state
        return Memory(states[:, 1:], src_mask, states[:, 0])

    def train(self, mode: bool = True) -> PretrainedEncoder:
        """A frozen encoder has no dropout in training either."""
        super().train(mode and not self.frozen)
        return self
