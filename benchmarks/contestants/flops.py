"""Floating-point operations needed to train a model on given sentences, independent of the implementation.

Only matrix products for tokens count (two operations per multiplication and addition). Padding does not count, so
computing it lowers the utilisation. The backward pass counts twice the forward pass. Attention counts in full, as in
the usual definition of model FLOPs utilisation (Chowdhery et al. 2022, appendix B), although causal attention masks
half of it.
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
    """Multiplications. Per layer, self-attention has 4 D² per position for its projections. Cross-attention has 2 D²
    per target position (query, output) and 2 D² per source position (keys, values). Scores and weighted sums have 2 D
    per pair of positions."""
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
