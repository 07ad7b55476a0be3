"""Weights of self-attention equal those of PyTorch's own multi-head attention."""

import pytest
import torch
import torch.nn.functional as F

from nmt.config.model import RNNConfig, TransformerConfig
from nmt.models.build import build_model
from nmt.models.maps import self_attention_maps

PAD, BOS, VOCAB = 0, 2, 13
TRANSFORMER = {"type": "transformer", "d_model": 8, "d_ff": 12, "num_heads": 2, "encoder_layers": 2,
               "decoder_layers": 3, "dropout": 0.3}  # fmt: skip


def batch(source: int = 5, target: int = 4):
    torch.manual_seed(1)
    src, tgt_in = torch.randint(4, VOCAB, (2, source)), torch.randint(4, VOCAB, (2, target))
    src[1, source // 2 :] = PAD
    return src, src != PAD, tgt_in


def expected(attention, x, mask):
    """The weights from PyTorch's function, given the same matrices."""
    hidden = None if mask is None else ~mask
    later = torch.ones(x.size(1), x.size(1)).triu(1).bool() if mask is None else None
    x = x.transpose(0, 1)
    _, weights = F.multi_head_attention_forward(
        x, x, x, x.size(2), attention.heads, attention.project_in.weight, attention.project_in.bias, None, None, False,
        0.0, attention.project_out.weight, attention.project_out.bias, False, hidden, True, later,
        average_attn_weights=False,
    )  # fmt: skip
    return weights


@torch.no_grad()
@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("sizes", [(5, 4), (140, 130)], ids=["short", "long"])  # two ways to compute attention
def test_weights_are_those_of_pytorch(norm, sizes):
    torch.manual_seed(0)
    model = build_model(TransformerConfig(**TRANSFORMER, norm=norm), VOCAB, VOCAB, PAD).eval()
    src, mask, tgt_in = batch(*sizes)
    maps = self_attention_maps(model, src, mask, tgt_in)
    assert {part: weights.shape for part, weights in maps.items()} == {
        "encoder": (2, 2, 2, sizes[0], sizes[0]),
        "decoder": (3, 2, 2, sizes[1], sizes[1]),
    }
    # The first layer of each side reads the embeddings, which need no other layer.
    embedded = {}
    handles = [
        layers[0].register_forward_pre_hook(lambda _, given, side=side: embedded.update({side: given[0]}))
        for side, layers in (("encoder", model.encoder), ("decoder", model.decoder))
    ]
    model(src, mask, tgt_in)
    for handle in handles:
        handle.remove()
    for side, layers in (("encoder", model.encoder), ("decoder", model.decoder)):
        x = layers[0].residuals[0].norm(embedded[side]) if norm == "pre" else embedded[side]
        weights = expected(layers[0].self_attention, x, mask if side == "encoder" else None)
        assert torch.allclose(maps[side][0], weights, atol=1e-5), side


@torch.no_grad()
def test_rows_are_distributions_over_what_a_position_sees():
    config = TransformerConfig(**TRANSFORMER, positions="rotary", attention_dropout=0.5)
    model = build_model(config, VOCAB, VOCAB, PAD).eval()
    src, mask, tgt_in = batch()
    maps = self_attention_maps(model, src, mask, tgt_in)
    for weights in maps.values():
        assert torch.allclose(weights.sum(-1), torch.ones(weights.shape[:-1]), atol=1e-5)
    assert maps["encoder"][:, 1, :, :, 2:].abs().max() == 0
    assert maps["decoder"].triu(1).abs().max() == 0


@torch.no_grad()
@pytest.mark.parametrize("sizes", [(20, 15), (200, 150)], ids=["one block", "blocks"])
def test_a_window_shows_in_the_weights(sizes):
    torch.manual_seed(0)
    config = TransformerConfig(**TRANSFORMER, attention_window=4, qk_norm="l2")
    model = build_model(config, VOCAB, VOCAB, PAD).eval()
    src, mask, tgt_in = batch(*sizes)
    for weights in self_attention_maps(model, src[:1], mask[:1], tgt_in[:1]).values():
        size = weights.size(-1)
        distance = (torch.arange(size)[:, None] - torch.arange(size)).abs()
        assert torch.allclose(weights.sum(-1), torch.ones(weights.shape[:-1]), atol=1e-5)
        assert weights[..., distance >= 4].abs().max() == 0
        assert (weights[..., distance == 3].amax(-1) > 0).all()


@torch.no_grad()
def test_a_side_without_self_attention_has_no_maps():
    small = {"type": "rnn", "d_model": 8, "d_hidden": 6, "d_attention": 5}
    inputs = batch()
    assert self_attention_maps(build_model(RNNConfig(**small), VOCAB, VOCAB, PAD).eval(), *inputs) == {}
    encoder = {"type": "transformer", "d_model": 8, "d_ff": 12, "num_heads": 2, "num_layers": 2}
    mixed = build_model(RNNConfig.model_validate({**small, "encoder": encoder}), VOCAB, VOCAB, PAD).eval()
    assert {part: weights.shape for part, weights in self_attention_maps(mixed, *inputs).items()} == {
        "encoder": (2, 2, 2, 5, 5)
    }


@torch.no_grad()
def test_reading_maps_changes_nothing():
    model = build_model(TransformerConfig(**TRANSFORMER), VOCAB, VOCAB, PAD).eval()
    inputs = batch()
    before = model(*inputs)
    self_attention_maps(model, *inputs)
    assert torch.equal(model(*inputs), before)
    assert not any(layer._forward_pre_hooks for layer in model.modules())
