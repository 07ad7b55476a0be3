"""Norms against their formulas, for outputs and gradients."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nmt.config.model import TransformerConfig
from nmt.models.build import build_model, count_parameters
from nmt.models.norms import NORMS
from nmt.models.transformer_layers import MultiHeadAttention

PAD, VOCAB = 0, 13
BASE = {
    "type": "transformer", "d_model": 8, "d_ff": 12, "num_heads": 2, "encoder_layers": 1, "decoder_layers": 1,
    "dropout": 0.0,
}  # fmt: skip


def same(found, expected, inputs):
    """Equal, with equal gradients of a random function of them."""
    weights = torch.randn_like(expected)
    torch.testing.assert_close(found, expected)
    ours, theirs = (torch.autograd.grad((out * weights).sum(), inputs) for out in (found, expected))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def by_hand(kind, norm, x):
    if kind == "rms":
        return norm.weight * x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    if kind == "scale":
        return norm.scale * x / x.pow(2).sum(-1, keepdim=True).sqrt()
    centred = x - x.mean(-1, keepdim=True)
    return norm.weight * centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() + norm.bias


@pytest.mark.parametrize("kind", NORMS)
def test_norms_follow_their_formulas(kind):
    torch.manual_seed(0)
    norm, x = NORMS[kind](8), torch.randn(3, 5, 8, requires_grad=True)
    first = norm(x)
    assert torch.allclose(first.pow(2).mean(-1), torch.ones(3, 5), atol=1e-3)  # of order one at first
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.add_(torch.randn_like(parameter))
    same(norm(x), by_hand(kind, norm, x), [x, *norm.parameters()])


def test_rms_norm_is_pytorchs():
    torch.manual_seed(0)
    norm, theirs, x = NORMS["rms"](8), nn.RMSNorm(8, eps=1e-5), torch.randn(4, 8, requires_grad=True)
    same(norm(x), theirs(x), [x])


def test_a_vector_of_zeros_has_a_finite_norm_and_gradient():
    for kind, make in NORMS.items():
        x = torch.zeros(2, 8, requires_grad=True)
        out = make(8)(x)
        out.sum().backward()
        assert (out == 0).all(), kind
        assert x.grad.isfinite().all(), kind


def attention_by_hand(layer, x, memory, kind):
    """Self-attention of x [B, T, D] over all positions, or with ``memory`` [B, S, D] cross-attention."""
    cross = memory is not None
    keys_of = memory if cross else x
    if cross:
        projections = [layer.query.weight, *layer.project_in.weight.chunk(2)]
        biases = [layer.query.bias, *layer.project_in.bias.chunk(2)]
    else:
        projections, biases = layer.project_in.weight.chunk(3), layer.project_in.bias.chunk(3)
    outs = []
    for head in range(2):
        rows = slice(4 * head, 4 * head + 4)
        q, k, v = (
            source @ w[rows].t() + b[rows]
            for source, w, b in zip((x, keys_of, keys_of), projections, biases, strict=True)
        )
        if kind == "l2":
            scores = layer.qk_norm.scale * torch.stack(
                [F.cosine_similarity(q, one, dim=-1) for one in k.split(1, 1)], 2
            )
        else:
            q = F.layer_norm(q, (4,), layer.qk_norm.query.weight)
            k = F.layer_norm(k, (4,), layer.qk_norm.key.weight)
            scores = q @ k.transpose(1, 2) / math.sqrt(4)
        outs.append(scores.softmax(-1) @ v)
    return layer.project_out(torch.cat(outs, -1))


@pytest.mark.parametrize("cross", [False, True])
@pytest.mark.parametrize("kind", ["l2", "layer"])
def test_norms_of_queries_and_keys(kind, cross):
    torch.manual_seed(0)
    layer = MultiHeadAttention(TransformerConfig(**BASE, qk_norm=kind), 8 if cross else None)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    x, memory = torch.randn(2, 5, 8, requires_grad=True), torch.randn(2, 6, 8) if cross else None
    if memory is None:
        found = layer.self_attention(x, torch.ones(2, 5, dtype=torch.bool))
    else:
        found = layer.cross_attention(x, layer.project_memory(memory), torch.ones(2, 6, dtype=torch.bool))
    same(found, attention_by_hand(layer, x, memory, kind), [x, *layer.parameters()])


@pytest.mark.parametrize("ties", ["all", "decoder", "none"])
def test_fix_norm_divides_rows_of_embeddings_and_output_by_their_length(ties):
    torch.manual_seed(0)
    model = build_model(TransformerConfig(**BASE, fix_norm=True, tie_embeddings=ties), VOCAB, VOCAB, PAD)
    plain = build_model(TransformerConfig(**BASE, tie_embeddings=ties), VOCAB, VOCAB, PAD)
    assert count_parameters(model) == count_parameters(plain)
    src, tgt_in = torch.tensor([[5, 6, 7, 3]]), torch.tensor([[2, 8, 9]])
    own = dict(model.named_parameters())
    tables = {"all": ["tgt_embedding.weight"], "decoder": ["tgt_embedding.weight", "src_embedding.weight"]}.get(
        ties, ["tgt_embedding.weight", "src_embedding.weight", "output.parametrizations.weight.original"]
    )
    with torch.no_grad():
        for name in tables:
            own[name].mul_(torch.rand(VOCAB, 1) + 0.5)
    logits = model.project(model(src, src > 0, tgt_in))
    # The same of a plain model whose rows have length one.
    renamed = {name.replace("parametrizations.weight.original", "weight"): p for name, p in own.items()}
    rows = {
        name: p / p.pow(2).sum(-1, keepdim=True).sqrt() if p.shape == (VOCAB, 8) else p for name, p in renamed.items()
    }
    rows.setdefault("src_embedding.weight", rows["tgt_embedding.weight"])
    rows.setdefault("output.weight", rows["tgt_embedding.weight"])
    hidden = torch.func.functional_call(plain, rows, (src, src > 0, tgt_in), tie_weights=False)
    same(logits, hidden @ rows["output.weight"].t(), [own[name] for name in tables])
