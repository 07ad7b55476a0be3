"""Floating-point operations that training a model on given sentences takes, whoever computes them.

Counted are the matrix products for real tokens (two operations a multiplication and addition); padding is not, so that
computing it counts as time lost. The backward pass takes twice the forward pass. Attention counts in full, as in the
usual definition of model FLOPs utilisation (Chowdhery et al. 2022, appendix B), although causal attention masks half.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Lengths = npt.NDArray[np.int64]


def training_flops(model: dict[str, Any], vocab_size: int, src: Lengths, tgt: Lengths) -> float:
    """One forward and backward pass over sentences of ``src`` and ``tgt`` tokens (special symbols counted)."""
    return 3 * forward_flops(model, vocab_size, src, tgt)


def forward_flops(model: dict[str, Any], vocab_size: int, src: Lengths, tgt: Lengths) -> float:
    count = {"transformer": _transformer, "rnn": _recurrent}[model["type"]]
    return 2 * count(model, vocab_size, src.astype(float), tgt.astype(float))


def _transformer(model: dict[str, Any], vocab_size: int, src: Any, tgt: Any) -> float:
    """Multiplications. Per layer: 4 D² of projections a position of self-attention; queries and output 2 D² a target
    and keys and values 2 D² a source position of cross-attention; scores and sums 2 D for each pair of positions."""
    d, feed = model["d_model"], model["d_model"] * model["d_ff"] * (3 if model["activation"] == "swiglu" else 2)
    encoder = (4 * d * d + feed) * src.sum() + 2 * d * (src * src).sum()
    decoder = (6 * d * d + feed) * tgt.sum() + 2 * d * d * src.sum() + 2 * d * (tgt * tgt + tgt * src).sum()
    return float(model["encoder_layers"] * encoder + model["decoder_layers"] * decoder + d * vocab_size * tgt.sum())


def _recurrent(model: dict[str, Any], vocab_size: int, src: Any, tgt: Any) -> float:
    """Multiplications of a one-layer encoder and decoder with additive attention (see nmt/models/rnn.py)."""
    d, h, a = model["d_model"], model["d_hidden"], model["d_attention"]
    gates, states = {"gru": (3, 1), "lstm": (4, 2)}[model["cell"]]
    encoder = (2 * gates * h * (d + h) + 2 * h * a) * src.sum()  # both directions; the keys
    initial = 2 * h * states * h * len(src)
    cell = gates * h * (d + 2 * h + h) * tgt.sum()
    attention = h * a * tgt.sum() + (a + 2 * h) * (src * tgt).sum()  # query; score and context
    read_out = (h + d + 2 * h) * 2 * d * tgt.sum()
    return float(encoder + initial + cell + attention + read_out + d * vocab_size * tgt.sum())
