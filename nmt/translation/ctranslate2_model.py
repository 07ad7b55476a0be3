"""A Transformer written as a CTranslate2 model, through CTranslate2's own specification (``ctranslate2.specs``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from nmt.models.norms import EPS, ScaleNorm, UnitEmbedding
from nmt.models.rnn import RNN
from nmt.models.transformer import Transformer
from nmt.models.transformer_layers import (
    EncoderLayer,
    EncoderLayers,
    FeedForward,
    MultiHeadAttention,
    added_positions,
)

if TYPE_CHECKING:
    from nmt.data.tokenizer import Tokenizer

Array = npt.NDArray[np.float32]
INT8_LEVELS = 64  # the largest int8 weight; see round_to_int8
TINY = 1e-30  # a row of smaller weights is stored as zeros: float32 could not hold its scale


def write_model(model: Transformer, tokenizer: Tokenizer, positions: int, folder: Path, quantize: str | None) -> None:
    """Write model, vocabulary and settings into ``folder``.

    CTranslate2 adds eos to the source and starts the target with bos by itself, as this package does.

    Args:
        positions: how many positions of either side a table of sinusoidal ones is to hold. (CTranslate2 would compute
            them by another formula: another layout, from 1, other rates.)
        quantize: a type of weights that CTranslate2 knows, such as ``int8``; None keeps float32.
    """
    from ctranslate2.specs import TransformerDecoderSpec, TransformerEncoderSpec, TransformerSpec

    config = model.config
    shared: dict[str, Any] = {
        "pre_norm": config.norm == "pre",
        "activation": _activation(config.activation),
        "ffn_glu": config.activation == "swiglu",
        "rms_norm": config.norm_type != "layer",
    }
    if config.positions == "rotary":
        shared |= {"rotary_dim": config.d_model // config.num_heads, "rotary_interleave": True}
    spec = TransformerSpec(
        TransformerEncoderSpec(config.encoder_layers, config.num_heads, **shared),
        TransformerDecoderSpec(config.decoder_layers, config.num_heads, **shared),
    )
    encoder, decoder = spec.encoder, spec.decoder  # both scale embeddings by the root of their width, as we do
    encoder.embeddings[0].weight = _rows(model.src_embedding)
    decoder.embeddings.weight = _rows(model.tgt_embedding)
    decoder.projection.weight = _array(model.output.weight)
    if model.output.bias is not None:
        decoder.projection.bias = _array(model.output.bias)
    if config.positions.startswith("sinusoidal"):
        table = _array(added_positions(config.positions, 0, positions, torch.empty(config.d_model)))
        encoder.position_encodings.encodings = decoder.position_encodings.encodings = table
    elif model.src_positions is not None and model.tgt_positions is not None:
        encoder.position_encodings.encodings = _array(model.src_positions.weight)
        decoder.position_encodings.encodings = _array(model.tgt_positions.weight)
    assert isinstance(model.encoder, EncoderLayers)  # as check_expressible has found
    for target, encoder_layer in zip(encoder.layer, model.encoder, strict=True):
        assert isinstance(encoder_layer, EncoderLayer)
        _attention(target.self_attention, encoder_layer.self_attention, encoder_layer.residuals[0].norm)
        _feed_forward(target.ffn, encoder_layer.feed_forward, encoder_layer.residuals[1].norm)
    for target, decoder_layer in zip(decoder.layer, model.decoder, strict=True):
        _attention(target.self_attention, decoder_layer.self_attention, decoder_layer.residuals[0].norm)
        _attention(target.attention, decoder_layer.cross_attention, decoder_layer.residuals[1].norm)
        _feed_forward(target.ffn, decoder_layer.feed_forward, decoder_layer.residuals[2].norm)
    for target, norm in ((encoder, model.encoder_norm), (decoder, model.decoder_norm)):
        if config.norm == "pre":
            _norm(target.layer_norm, norm)

    spec.register_source_vocabulary(tokenizer.src_pieces(range(tokenizer.src_vocab_size)))
    spec.register_target_vocabulary(tokenizer.tgt_pieces(range(tokenizer.tgt_vocab_size)))
    unk, bos, eos = tokenizer.tgt_pieces([tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id])
    spec.config.unk_token, spec.config.bos_token, spec.config.eos_token = unk, bos, eos
    spec.config.decoder_start_token, spec.config.add_source_eos = bos, True
    spec.config.layer_norm_epsilon = 1e-12 if config.norm_type == "scale" else EPS
    spec.validate()
    _optimize(spec, quantize)
    spec.save(str(folder))


def _optimize(spec: Any, quantize: str | None) -> None:
    """Let equal matrices (tied embeddings) be stored once, and all in the type ``quantize``."""
    spec.optimize(quantization=None if quantize == "int8" else quantize)
    if quantize == "int8":
        round_to_int8(spec)


def round_to_int8(spec: Any) -> None:
    """Replace the matrices of a validated ``spec`` by int8 values from -64 to 64, and set the scale of each row.

    CTranslate2 rounds to -127 to 127. On processors without VNNI, its products add two terms of an unsigned and a
    signed byte in 16 bits. The sum can overflow: 2 · 255 · 127 > 32,767. With 64 it cannot: 2 · 255 · 64 = 32,640.
    """
    from ctranslate2.specs.model_spec import NumpyVariable, visit_spec

    def replace(layer: Any, name: str, value: Any) -> None:
        key = name.rsplit("/", 1)[-1]
        if not hasattr(layer, f"{key}_scale") or isinstance(value, str):  # no matrix, or the name of an equal one
            return
        rows = value.numpy()
        largest = np.abs(rows).max(axis=1)
        scale = INT8_LEVELS / np.where(largest > TINY, largest, 1)
        setattr(layer, key, NumpyVariable(np.rint(rows * scale[:, None]).astype(np.int8)))
        setattr(layer, f"{key}_scale", NumpyVariable(scale.astype(np.float32)))

    visit_spec(spec, replace)


def _activation(name: str) -> Any:
    from ctranslate2.specs import Activation

    known = {"relu": Activation.RELU, "gelu": Activation.GELU, "swish": Activation.SWISH, "swiglu": Activation.SWISH}
    return known[name]


def _array(tensor: Tensor) -> Array:
    """A copy: CTranslate2 quantizes arrays in place, which must not reach the model."""
    return tensor.detach().float().cpu().clone().numpy()


def _rows(table: nn.Embedding) -> Array:
    """The rows of embeddings as they are looked up."""
    return _array(table.rows if isinstance(table, UnitEmbedding) else table.weight)


def _linear(spec: Any, weight: Tensor, bias: Tensor) -> None:
    spec.weight, spec.bias = _array(weight), _array(bias)


def _norm(spec: Any, norm: nn.Module) -> None:
    """ScaleNorm g x / ‖x‖ is RMSNorm with the weight g / √D of every coordinate."""
    if isinstance(norm, nn.LayerNorm):
        spec.gamma, spec.beta = _array(norm.weight), _array(norm.bias)
    elif isinstance(norm, nn.RMSNorm):
        spec.gamma = _array(norm.weight)
    else:
        assert isinstance(norm, ScaleNorm)
        spec.gamma = _array((norm.scale / norm.width**0.5).expand(norm.width))


def _attention(spec: Any, attention: MultiHeadAttention, norm: nn.Module) -> None:
    """Both sides fuse queries, keys and values (cross-attention: keys and values) in this order."""
    layers = [attention.query, attention.project_in, attention.project_out]
    for there, layer in zip(spec.linear, [layer for layer in layers if layer is not None], strict=True):
        _linear(there, layer.weight, layer.bias)
    _norm(spec.layer_norm, norm)


def _feed_forward(spec: Any, layer: FeedForward, norm: nn.Module) -> None:
    # Of a gated layer: the half that goes through the activation, and its gate.
    inner = [spec.linear_0, spec.linear_0_noact] if layer.gated else [spec.linear_0]
    weights, biases = layer.inner.weight.chunk(len(inner)), layer.inner.bias.chunk(len(inner))
    for there, weight, bias in zip(inner, weights, biases, strict=True):
        _linear(there, weight, bias)
    _linear(spec.linear_1, layer.outer.weight, layer.outer.bias)
    _norm(spec.layer_norm, norm)


def largest_difference(model: Transformer, tokenizer: Tokenizer, folder: Path, positions: int = 41) -> float:
    """How far the log-probabilities of the model in ``folder`` are from those of ``model``, for single tokens.

    Both read random sentences of random lengths, in one batch, and compute in float32 whatever the type of the stored
    weights.

    Args:
        positions: that the model in ``folder`` has on each side.
    """
    import ctranslate2

    pairs = random_pairs(model, tokenizer, positions)
    translator = ctranslate2.Translator(str(folder), intra_threads=1, compute_type="float32")
    scored = translator.score_batch(
        [tokenizer.src_pieces(src) for src, _ in pairs], [tokenizer.tgt_pieces(tgt) for _, tgt in pairs]
    )
    expected = log_probs(model, tokenizer, pairs)
    return max(
        float((ours - torch.tensor(found.log_probs)).abs().max()) for ours, found in zip(expected, scored, strict=True)
    )


def random_pairs(
    model: Transformer | RNN, tokenizer: Tokenizer, positions: int = 41
) -> list[tuple[list[int], list[int]]]:
    """Eight sentence pairs of random ids and lengths, without bos and eos; with one of them, ``positions`` at most."""
    rng = np.random.default_rng(0)
    longest = min(positions, model.config.max_target_tokens or positions, 41) - 1
    lengths = [(1 + n * longest // 9, 1 + (7 * n % 8) * longest // 9) for n in range(8)]
    first = tokenizer.eos_id + 1  # of the ids that are not special
    return [
        (
            rng.integers(first, tokenizer.src_vocab_size, s).tolist(),
            rng.integers(first, tokenizer.tgt_vocab_size, t).tolist(),
        )
        for s, t in lengths
    ]


def log_probs(
    model: Transformer | RNN, tokenizer: Tokenizer, pairs: Sequence[tuple[list[int], list[int]]]
) -> list[Tensor]:
    """The log-probability of each target token and of eos, [T + 1] for each pair."""
    device, found = model.output.weight.device, []
    training = model.training
    model.eval()
    with torch.inference_mode():
        for src, tgt in pairs:
            ids = torch.tensor([[*src, tokenizer.eos_id]], device=device)
            tgt_in = torch.tensor([[tokenizer.bos_id, *tgt]], device=device)
            hidden = model(ids, torch.ones_like(ids, dtype=torch.bool), tgt_in)
            given = model.project(hidden)[0].float().log_softmax(-1).cpu()  # [T + 1, V]
            found.append(given.gather(1, torch.tensor([*tgt, tokenizer.eos_id]).unsqueeze(1))[:, 0])
    model.train(training)
    return found
