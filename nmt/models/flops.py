"""Floating-point operations needed to train a model on given sentences, independent of the implementation.

Only matrix products for tokens count (two operations per multiplication and addition). Padding does not count, so
computing it lowers the utilisation. The backward pass counts twice the forward pass. Attention counts in full, as in
the usual definition of model FLOPs utilisation (Chowdhery et al. 2022, appendix B), although causal attention masks
half of it; with ``attention_window``, only the positions in the window count. A second pass, which some terms of the
loss need, does not count.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from nmt.config.model import ModelConfig, RNNConfig, TransformerConfig

Lengths = npt.NDArray[np.int64]


def training_flops(model: ModelConfig, vocab_size: int, src: Lengths, tgt: Lengths) -> float | None:
    """One forward and backward pass over sentences of ``src`` and ``tgt`` tokens [B] (special symbols counted).

    Args:
        vocab_size: of the target.

    Returns:
        None for a model whose products are not counted: one with ``encoder`` or of another family, or an RNN of several
        layers, without additive attention, or with another alignment than soft.
    """
    forward = forward_flops(model, vocab_size, src, tgt)
    return None if forward is None else 3 * forward


def forward_flops(model: ModelConfig, vocab_size: int, src: Lengths, tgt: Lengths) -> float | None:
    """As :func:`training_flops`, of the forward pass alone."""
    if not is_counted(model):
        return None
    s, t = src.astype(float), tgt.astype(float)
    if isinstance(model, TransformerConfig):
        return 2 * _transformer(model, vocab_size, s, t)
    return 2 * _recurrent(model, vocab_size, s, t)


def is_counted(model: ModelConfig) -> bool:
    """Whether the products of a model are counted."""
    if model.encoder is not None or not isinstance(model, RNNConfig | TransformerConfig):
        return False
    if isinstance(model, TransformerConfig):
        return model.layer_drop == 0
    usual = RNNConfig(
        type="rnn", cell=model.cell, d_model=model.d_model, d_hidden=model.d_hidden, d_attention=model.d_attention,
        dropout=model.dropout, tie_embeddings=model.tie_embeddings, output_bias=model.output_bias,
        forget_bias=model.forget_bias,
    )  # fmt: skip
    return model == usual or model == usual.model_copy(update={"preset": model.preset})


def _transformer(model: TransformerConfig, vocab_size: int, src: Any, tgt: Any) -> float:
    """Multiplications. Per layer, self-attention has 4 D² per position for its projections. Cross-attention has 2 D²
    per target position (query, output) and 2 D² per source position (keys, values). Scores and weighted sums have 2 D
    per pair of positions."""
    d, feed = model.d_model, model.d_model * model.d_ff * (3 if model.activation == "swiglu" else 2)
    window = model.attention_window
    encoder = (4 * d * d + feed) * src.sum() + 2 * d * _pairs(src, window, causal=False).sum()
    decoder = (6 * d * d + feed) * tgt.sum() + 2 * d * d * src.sum()
    decoder += 2 * d * (_pairs(tgt, window, causal=True) + tgt * src).sum()
    return float(model.encoder_layers * encoder + model.decoder_layers * decoder + d * vocab_size * tgt.sum())


def _pairs(lengths: Any, window: int | None, causal: bool) -> Any:
    """Pairs of positions in self-attention of each sentence [B]: all, or with a window those less than it apart."""
    if window is None:
        return lengths * lengths
    reach = np.minimum(lengths, window)  # distances 0 to reach - 1
    before = (reach - 1) * lengths - reach * (reach - 1) / 2  # pairs at distances above 0, one order of the two
    return lengths + before * (1 if causal else 2)


def _recurrent(model: RNNConfig, vocab_size: int, src: Any, tgt: Any) -> float:
    """Multiplications of a one-layer encoder and decoder with additive attention (see nmt/models/rnn.py)."""
    d, h, a = model.d_model, model.d_hidden, model.d_attention
    gates, states = {"gru": (3, 1), "lstm": (4, 2)}[model.cell]
    encoder = (2 * gates * h * (d + h) + 2 * h * a) * src.sum()  # both directions; the keys
    initial = 2 * h * states * h * len(src)
    cell = gates * h * (d + 2 * h + h) * tgt.sum()
    attention = h * a * tgt.sum() + (a + 2 * h) * (src * tgt).sum()  # query; score and context
    read_out = (h + d + 2 * h) * 2 * d * tgt.sum()
    return float(encoder + initial + cell + attention + read_out + d * vocab_size * tgt.sum())
