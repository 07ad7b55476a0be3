"""The model variants whose results on the GPU are compared with those of the CPU."""

from __future__ import annotations

from typing import Any

from .parts import recurrent, transformer


def transformers(size: str) -> dict[str, dict[str, Any]]:
    """Transformers by what is special about them; all of them can be trained on packed batches."""
    options: dict[str, dict[str, Any]] = {
        "post": {},
        "pre, gelu, untied": {"norm": "pre", "activation": "gelu", "tie_embeddings": "none"},
        "rotary, swiglu, rms": {"norm": "pre", "positions": "rotary", "activation": "swiglu", "norm_type": "rms"},
        "learned positions, output bias": {"positions": "learned", "output_bias": True},
        "scale norm, fix norm": {"norm": "pre", "norm_type": "scale", "fix_norm": True},
        "qk norm l2": {"qk_norm": "l2"},
        "qk norm layer, rotary": {"qk_norm": "layer", "positions": "rotary"},
        "window 8": {"attention_window": 8},
        "window 8, rotary, pre": {"attention_window": 8, "positions": "rotary", "norm": "pre"},
    }
    return {f"Transformer, {name}": transformer(size, **more) for name, more in options.items()}


def mixed(size: str) -> dict[str, dict[str, Any]]:
    """Models whose encoder belongs to another family."""
    d = recurrent(size)["d_model"]
    recurrence = {"type": "recurrent", "d_model": d, "d_hidden": d}
    convolutions = {"type": "convolutional", "d_model": d, "d_hidden": d, "num_layers": 2}
    layers = {"type": "transformer", "d_model": d, "d_ff": 2 * d, "num_heads": 2, "num_layers": 2}
    return {
        "recurrent encoder, Transformer decoder": transformer(size, encoder=recurrence),
        "convolutional encoder, Transformer decoder": transformer(size, encoder=convolutions),
        "convolutional encoder, RNN": recurrent(size, encoder=convolutions),
        "Transformer encoder, RNN": recurrent(size, encoder=layers),
    }


def rnns(size: str) -> dict[str, dict[str, Any]]:
    """RNNs: each score, each alignment, and the options of the decoder."""
    scores = {f"RNN, {score}": {"attention": score} for score in SCORES}
    options: dict[str, dict[str, Any]] = {
        "lstm, 2 layers, residual": {"cell": "lstm", "encoder_layers": 2, "decoder_layers": 2, "residual": True},
        "hard, REINFORCE": {"alignment": "hard"},
        "hard, Gumbel": {"alignment": "hard", "hard": {"estimator": "gumbel"}},
        "local monotonic": {"alignment": "local_monotonic", "window": 3},
        "local predictive": {"alignment": "local_predictive", "window": 3},
        "input feeding": {"input_feeding": True},
        "two hops": {"hops": 2},
        "hard, two hops, input feeding": {"alignment": "hard", "hops": 2, "input_feeding": True},
        "GNMT": {"cell": "lstm", "encoder_layers": 3, "decoder_layers": 3, "bidirectional": "first", "residual": True,
                 "residual_from": 3},
    }  # fmt: skip
    return {
        name: recurrent(size, **more) for name, more in (scores | {f"RNN, {k}": v for k, v in options.items()}).items()
    }


SCORES = ("additive", "general", "dot", "scaled_dot", "euclidean", "none")


def every(size: str) -> dict[str, dict[str, Any]]:
    return transformers(size) | mixed(size) | rnns(size)
