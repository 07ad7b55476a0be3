"""The names of the weights of a Marian model: ours, of Hugging Face's ``MarianMTModel``, and of Marian's ``.npz``.

One table serves both directions: :func:`to_ours` reads a model of either program, :func:`from_ours` writes one. Rows of
embeddings and of the output bias are in the order of the vocabulary that the caller has; see
:mod:`nmt.pretrained.vocabulary` for the order of another program's ids.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Program = Literal["huggingface", "marian"]


class Weight(NamedTuple):
    """One tensor of another program, and the part of ours that it is.

    Attributes:
        ours: name of our parameter.
        part, parts: which of ``parts`` equal blocks of rows of it.
        huggingface, marian: names there.
        matrix: whether it is the matrix of a linear layer: [out, in] with us and with Hugging Face, [in, out] in
            Marian, whose vectors are [1, N].
    """

    ours: str
    part: int
    parts: int
    huggingface: str
    marian: str
    matrix: bool

    def named(self, program: Program) -> str:
        return self.huggingface if program == "huggingface" else self.marian


def layers(encoder_layers: int, decoder_layers: int) -> Iterator[Weight]:
    """The weights of all layers: of attention, feed-forward layers and norms."""
    for side, count in (("encoder", encoder_layers), ("decoder", decoder_layers)):
        for number in range(count):
            ours, theirs = f"{side}.{number}", f"model.{side}.layers.{number}"
            marian, self_norm, last = f"{side}_l{number + 1}", "self_attn_layer_norm", 1
            fused = [f"{ours}.self_attention.project_in"] * 3
            yield from _attention(fused, f"{ours}.self_attention", f"{theirs}.self_attn", f"{marian}_self")
            yield from _norm(f"{ours}.residuals.0.norm", f"{theirs}.{self_norm}", f"{marian}_self_Wo_ln")
            if side == "decoder":
                cross, last = f"{ours}.cross_attention", 2
                apart = [f"{cross}.query", f"{cross}.project_in", f"{cross}.project_in"]
                yield from _attention(apart, cross, f"{theirs}.encoder_attn", f"{marian}_context")
                norm = f"{theirs}.encoder_attn_layer_norm"
                yield from _norm(f"{ours}.residuals.1.norm", norm, f"{marian}_context_Wo_ln")
            for inner, fc, n in (("inner", "fc1", 1), ("outer", "fc2", 2)):
                feed = f"{ours}.feed_forward.{inner}"
                yield from _linear(feed, 0, 1, f"{theirs}.{fc}", f"{marian}_ffn_W{n}", f"{marian}_ffn_b{n}")
            yield from _norm(f"{ours}.residuals.{last}.norm", f"{theirs}.final_layer_norm", f"{marian}_ffn_ffn_ln")


def _attention(inputs: list[str], ours: str, huggingface: str, marian: str) -> Iterator[Weight]:
    """Queries, keys and values, which ``inputs`` hold, and the projection of the output."""
    for number, (name, letter) in enumerate(zip(inputs, "qkv", strict=True)):
        parts = inputs.count(name)
        part = number - inputs.index(name)
        theirs = f"{huggingface}.{letter}_proj"
        yield from _linear(name, part, parts, theirs, f"{marian}_W{letter}", f"{marian}_b{letter}")
    yield from _linear(f"{ours}.project_out", 0, 1, f"{huggingface}.out_proj", f"{marian}_Wo", f"{marian}_bo")


def _linear(ours: str, part: int, parts: int, huggingface: str, weight: str, bias: str) -> Iterator[Weight]:
    yield Weight(f"{ours}.weight", part, parts, f"{huggingface}.weight", weight, True)
    yield Weight(f"{ours}.bias", part, parts, f"{huggingface}.bias", bias, False)


def _norm(ours: str, huggingface: str, marian: str) -> Iterator[Weight]:
    yield Weight(f"{ours}.weight", 0, 1, f"{huggingface}.weight", f"{marian}_scale", False)
    yield Weight(f"{ours}.bias", 0, 1, f"{huggingface}.bias", f"{marian}_bias", False)


def tables(ties: str) -> dict[str, dict[Program, str]]:
    """The embeddings, the output layer and its bias by our names, and their names there.

    Args:
        ties: ``model.tie_embeddings``. All tables are [V, D], the bias is [1, V] there.
    """
    target: dict[Program, str] = {"huggingface": "model.decoder.embed_tokens.weight", "marian": "decoder_Wemb"}
    found: dict[str, dict[Program, str]] = {"tgt_embedding.weight": target}
    if ties == "all":
        found["tgt_embedding.weight"] = {"huggingface": "model.shared.weight", "marian": "Wemb"}
    else:
        found["src_embedding.weight"] = {"huggingface": "model.encoder.embed_tokens.weight", "marian": "encoder_Wemb"}
    if ties == "none":
        found["output.weight"] = {"huggingface": "lm_head.weight", "marian": "decoder_ff_logit_out_Wt"}
    found["output.bias"] = {"huggingface": "final_logits_bias", "marian": "decoder_ff_logit_out_b"}
    return found


def to_ours(
    theirs: Mapping[str, Tensor], program: Program, encoder_layers: int, decoder_layers: int, ties: str
) -> dict[str, Tensor]:
    """The weights of another program under our names, in float32.

    Raises:
        KeyError: a weight is missing; the name is that of the other program.
    """
    blocks: dict[str, dict[int, Tensor]] = {}
    for weight in layers(encoder_layers, decoder_layers):
        tensor = theirs[weight.named(program)].float()
        if program == "marian":
            tensor = tensor.t() if weight.matrix else tensor.flatten()
        blocks.setdefault(weight.ours, {})[weight.part] = tensor
    found = {name: torch.cat([parts[n] for n in sorted(parts)]).contiguous() for name, parts in blocks.items()}
    for name, names in tables(ties).items():
        tensor = theirs[names[program]].float()
        found[name] = (tensor.flatten() if name == "output.bias" else tensor).contiguous()
    return found


def from_ours(
    ours: Mapping[str, Tensor], program: Program, encoder_layers: int, decoder_layers: int, ties: str
) -> dict[str, Tensor]:
    """Our weights under the names and in the shapes of another program; the inverse of :func:`to_ours`."""
    found = {}
    for weight in layers(encoder_layers, decoder_layers):
        tensor = ours[weight.ours].chunk(weight.parts)[weight.part]
        if program == "marian":
            tensor = tensor.t() if weight.matrix else tensor.unsqueeze(0)
        found[weight.named(program)] = tensor.contiguous()
    for name, names in tables(ties).items():
        tensor = ours[name].unsqueeze(0) if name == "output.bias" else ours[name]
        found[names[program]] = tensor.contiguous()
    return found
