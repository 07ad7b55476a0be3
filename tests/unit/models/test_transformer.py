"""The Transformer against PyTorch's own layers with the same weights."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nmt.config.model import TransformerConfig
from nmt.models.build import build_model
from nmt.models.scaled_dot import short_attention
from nmt.models.transformer import DecoderLayer
from nmt.models.transformer_layers import (
    EncoderLayer,
    MultiHeadAttention,
    added_positions,
    rotate,
    sinusoidal_positions,
)


def config(**changes):
    return TransformerConfig(
        **{"type": "transformer", "d_model": 16, "d_ff": 24, "num_heads": 4, "dropout": 0.0} | changes
    )


@torch.no_grad()
def copy_attention(theirs: nn.MultiheadAttention, ours: MultiHeadAttention) -> None:
    if ours.query is None:
        ours.project_in.weight.copy_(theirs.in_proj_weight)
        ours.project_in.bias.copy_(theirs.in_proj_bias)
    else:
        d = ours.query.weight.size(0)
        ours.query.weight.copy_(theirs.in_proj_weight[:d])
        ours.query.bias.copy_(theirs.in_proj_bias[:d])
        ours.project_in.weight.copy_(theirs.in_proj_weight[d:])
        ours.project_in.bias.copy_(theirs.in_proj_bias[d:])
    ours.project_out.load_state_dict(theirs.out_proj.state_dict())


def shake(module: nn.Module) -> None:
    """Biases and norms start at 0 and 1, where a mistake could hide."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)


def same_gradients(got: torch.Tensor, ours: nn.Module, expected: torch.Tensor, theirs: nn.Module) -> None:
    """Of every weight, in the names of PyTorch's layer."""
    weights = torch.randn_like(expected)
    (got * weights).sum().backward()
    (expected * weights).sum().backward()
    found = {name: p.grad for name, p in ours.named_parameters()}

    def attention(name: str) -> dict[str, torch.Tensor]:
        parts = [f"{name}.query", f"{name}.project_in"] if f"{name}.query.weight" in found else [f"{name}.project_in"]
        return {
            **{
                f"in_proj_{kind}": torch.cat([found[f"{part}.{kind}"] for part in parts]) for kind in ("weight", "bias")
            },
            **{f"out_proj.{kind}": found[f"{name}.project_out.{kind}"] for kind in ("weight", "bias")},
        }

    renamed = {f"self_attn.{key}": grad for key, grad in attention("self_attention").items()}
    if hasattr(theirs, "multihead_attn"):
        renamed |= {f"multihead_attn.{key}": grad for key, grad in attention("cross_attention").items()}
    for kind in ("weight", "bias"):
        renamed |= {f"linear1.{kind}": found[f"feed_forward.inner.{kind}"]}
        renamed |= {f"linear2.{kind}": found[f"feed_forward.outer.{kind}"]}
        for number in range(3 if hasattr(theirs, "norm3") else 2):
            renamed[f"norm{number + 1}.{kind}"] = found[f"residuals.{number}.norm.{kind}"]
    for name, parameter in theirs.named_parameters():
        assert torch.allclose(renamed.pop(name), parameter.grad, atol=1e-4), name
    assert not renamed


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_encoder_layer_equals_pytorch(norm, activation):
    torch.manual_seed(1)
    theirs = nn.TransformerEncoderLayer(16, 4, 24, 0.0, activation, batch_first=True, norm_first=norm == "pre").eval()
    shake(theirs)
    ours = EncoderLayer(config(norm=norm, activation=activation)).eval()
    copy_attention(theirs.self_attn, ours.self_attention)
    ours.feed_forward.inner.load_state_dict(theirs.linear1.state_dict())
    ours.feed_forward.outer.load_state_dict(theirs.linear2.state_dict())
    for residual, norm_ in zip(ours.residuals, [theirs.norm1, theirs.norm2], strict=True):
        residual.norm.load_state_dict(norm_.state_dict())
    x, mask = torch.randn(2, 5, 16), torch.arange(5) < torch.tensor([[5], [3]])
    expected = theirs(x, src_key_padding_mask=~mask)
    got = ours(x, mask)
    assert torch.allclose(got[mask], expected[mask], atol=1e-5)
    same_gradients(got[mask], ours, expected[mask], theirs)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_decoder_layer_equals_pytorch(norm):
    torch.manual_seed(2)
    theirs = nn.TransformerDecoderLayer(16, 4, 24, 0.0, batch_first=True, norm_first=norm == "pre").eval()
    shake(theirs)
    ours = DecoderLayer(config(norm=norm), d_memory=16).eval()
    copy_attention(theirs.self_attn, ours.self_attention)
    copy_attention(theirs.multihead_attn, ours.cross_attention)
    ours.feed_forward.inner.load_state_dict(theirs.linear1.state_dict())
    ours.feed_forward.outer.load_state_dict(theirs.linear2.state_dict())
    for residual, norm_ in zip(ours.residuals, [theirs.norm1, theirs.norm2, theirs.norm3], strict=True):
        residual.norm.load_state_dict(norm_.state_dict())
    x, memory, mask = torch.randn(2, 4, 16), torch.randn(2, 5, 16), torch.arange(5) < torch.tensor([[5], [3]])
    causal = torch.triu(torch.ones(4, 4, dtype=torch.bool), 1)
    expected = theirs(x, memory, tgt_mask=causal, memory_key_padding_mask=~mask)
    got = ours(x, memory, mask)
    assert torch.allclose(got, expected, atol=1e-5)
    same_gradients(got, ours, expected, theirs)


def test_cross_attention_over_states_of_another_width_equals_pytorch():
    torch.manual_seed(3)
    theirs = nn.MultiheadAttention(16, 4, kdim=10, vdim=10, batch_first=True)
    ours = MultiHeadAttention(config(), d_memory=10)
    shake(theirs)
    with torch.no_grad():
        ours.query.weight.copy_(theirs.q_proj_weight)
        ours.project_in.weight.copy_(torch.cat([theirs.k_proj_weight, theirs.v_proj_weight]))
        ours.query.bias.copy_(theirs.in_proj_bias[:16])
        ours.project_in.bias.copy_(theirs.in_proj_bias[16:])
        ours.project_out.load_state_dict(theirs.out_proj.state_dict())
    x, memory, mask = torch.randn(2, 4, 16), torch.randn(2, 5, 10), torch.arange(5) < torch.tensor([[5], [3]])
    expected = theirs(x, memory, memory, key_padding_mask=~mask)[0]
    got = ours.cross_attention(x, ours.project_memory(memory), mask)
    assert torch.allclose(got, expected, atol=1e-5)


def test_sinusoidal_positions_by_hand():
    table = sinusoidal_positions(3, 2, 4, torch.zeros(1))
    for row, position in enumerate([3, 4]):
        slow = position / 10_000 ** (2 / 4)
        expected = [math.sin(position), math.cos(position), math.sin(slow), math.cos(slow)]
        assert table[row].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("kind", "slowest"), [("sinusoidal_halves", 10_000 ** (2 / 3)), ("sinusoidal_marian", 10_000)])
def test_half_sinusoidal_positions_by_hand(kind, slowest):
    """The sines of three rates, then their cosines; Marian's last rate is 1/10000."""
    table = added_positions(kind, 3, 2, torch.zeros(6))
    for row, position in enumerate([3, 4]):
        angles = [position, position / slowest**0.5, position / slowest]
        expected = [function(angle) for function in (math.sin, math.cos) for angle in angles]
        assert table[row].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("ties", ["all", "decoder", "none"])
def test_a_decoder_that_starts_with_zeros_is_never_trained_to_start_otherwise(ties):
    torch.manual_seed(4)
    model = build_model(config(start="zero", tie_embeddings=ties, output_bias=True), 9, 9, 0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    src, tgt_in = torch.tensor([[4, 5, 3]]), torch.tensor([[2, 6, 7]])
    before = model.tgt_embedding.weight.detach().clone()
    for _ in range(3):
        hidden = model(src, torch.ones_like(src, dtype=torch.bool), tgt_in)
        F.cross_entropy(model.project(hidden)[0], torch.tensor([6, 7, 3])).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert (model.tgt_embedding.weight[2] == 0).all()
    assert (model.tgt_embedding.weight[6] != before[6]).all()


def test_a_preset_fills_in_what_is_omitted():
    marian = config(preset="marian", activation="relu")
    assert (marian.norm, marian.positions, marian.start, marian.output_bias) == (
        "post",
        "sinusoidal_marian",
        "zero",
        True,
    )
    assert (marian.activation, marian.d_model) == ("relu", 16)


def test_rotary_products_depend_on_the_distance_alone():
    q, k = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 1, 8)
    near = (rotate(q, 7, 1) * rotate(k, 4, 1)).sum()
    far = (rotate(q, 103, 1) * rotate(k, 100, 1)).sum()
    assert torch.allclose(near, far, atol=1e-4)
    assert torch.allclose(rotate(q, 0, 1), q)
    assert torch.allclose(rotate(q, 9, 1).norm(), q.norm())


@pytest.mark.parametrize("case", ["all", "masked", "causal"])
def test_short_attention_equals_pytorchs(case):
    torch.manual_seed(0)
    q, k, v = (torch.randn(3, 2, length, 8, requires_grad=True) for length in (5, 5, 5))
    mask = (torch.arange(5) < torch.tensor([[5], [3], [1]]))[:, None, None, :] if case == "masked" else None
    found = []
    for attend in (
        lambda: short_attention(q, k, v, mask, 0.0, case == "causal"),
        lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=case == "causal"),
    ):
        out = attend()
        found.append([out, *torch.autograd.grad((out * out).sum(), (q, k, v))])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_short_attention_drops_weights():
    torch.manual_seed(0)
    q, k, v = torch.zeros(100, 2, 9, 4), torch.zeros(100, 2, 10, 4), torch.ones(100, 2, 10, 1)
    out = short_attention(q, k, v, None, 0.3, False)  # each weight is 1/10, dropped or scaled by 1/0.7
    assert out.mean().item() == pytest.approx(1, abs=0.02)
    assert out.std().item() == pytest.approx((0.3 / 0.7 / 10) ** 0.5, rel=0.1)
