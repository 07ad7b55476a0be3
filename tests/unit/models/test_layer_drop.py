"""LayerDrop against a model without the layers that are dropped."""

import numpy as np
import pytest
import torch

from nmt.config.model import TransformerConfig
from nmt.data.packing import Packing
from nmt.models.build import build_model
from nmt.models.layer_drop import apply_layers

PAD, VOCAB = 0, 13
CONFIG = TransformerConfig(
    type="transformer", d_model=8, d_ff=12, num_heads=2, encoder_layers=4, decoder_layers=4, dropout=0.0,
    layer_drop=0.5,
)  # fmt: skip
SRC, TGT_IN = torch.tensor([[5, 6, 7, 8, 3]]), torch.tensor([[2, 4, 5, 6]])


def model_with_seed(seed):
    """A model, and which layers its next batch drops."""
    torch.manual_seed(0)
    model = build_model(CONFIG, VOCAB, VOCAB, PAD).train()
    torch.manual_seed(seed)
    draws = [torch.rand(4) < 0.5, torch.rand(4) < 0.5]
    torch.manual_seed(seed)
    return model, [draw.tolist() for draw in draws]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_dropped_layer_is_as_if_it_were_not_there(seed):
    model, dropped = model_with_seed(seed)
    assert 0 < sum(dropped[0] + dropped[1]) < 8
    hidden = model(SRC, SRC > 0, TGT_IN)
    hidden.square().sum().backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters()}

    model.zero_grad()
    whole = dict(model.named_parameters())
    for stack, drop in zip((model.encoder, model.decoder), dropped, strict=True):
        for index in reversed([i for i, gone in enumerate(drop) if gone]):
            for parameter in stack[index].parameters():
                parameter.grad = torch.zeros_like(parameter)
            del stack[index]
    expected = model.eval()(SRC, SRC > 0, TGT_IN)
    expected.square().sum().backward()
    assert torch.equal(hidden, expected)
    assert found.keys() == whole.keys()
    for name, gradient in found.items():
        assert torch.equal(gradient, whole[name].grad), name


@pytest.mark.parametrize("packed", [False, True])
def test_every_parameter_has_a_gradient_whatever_is_dropped(packed):
    """Also those of the encoder while no layer of the decoder reads it; DistributedDataParallel waits for all."""
    model = build_model(CONFIG.model_copy(update={"layer_drop": 0.99}), VOCAB, VOCAB, PAD).train()
    torch.manual_seed(0)
    inputs = packed_batch().inputs if packed else (SRC, SRC > 0, TGT_IN)
    model.project(model(*inputs)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert model.encoder[0].feed_forward.inner.weight.grad.abs().max() == 0
    assert model.tgt_embedding.weight.grad.abs().max() > 0


def packed_batch():
    lengths = np.array([[4], [3]], np.int32)
    return Packing.measure([lengths], 16).collate([([5, 6, 7, 8], [4, 5, 6])], [0], PAD, 2, 3)


def test_packed_batches_drop_the_same_layers():
    model, _ = model_with_seed(1)
    hidden = model(*packed_batch().inputs)[:4]
    torch.manual_seed(1)
    assert torch.allclose(hidden, model(SRC, SRC > 0, TGT_IN)[0], atol=1e-6)


def test_a_rate_is_the_share_of_dropped_layers():
    torch.manual_seed(0)
    layers, x = [torch.nn.Identity() for _ in range(1000)], torch.zeros(1)
    count = apply_layers(layers, x, 0.2, True, lambda layer, x: x + 1)
    assert 750 < count.item() < 850


def test_nothing_is_drawn_outside_training():
    model, _ = model_with_seed(1)
    before = torch.get_rng_state()
    model.eval()(SRC, SRC > 0, TGT_IN)
    assert torch.equal(torch.get_rng_state(), before)
