"""The count of operations agrees with PyTorch's counter of what is executed."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.backends import mkldnn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nmt.config.model import RNNConfig, TransformerConfig
from nmt.models.build import build_model

FILE = Path(__file__).parents[3] / "benchmarks" / "contestants" / "flops.py"
BATCH, SRC, TGT, VOCAB, WIDTH = 3, 7, 5, 40, 16


@pytest.fixture(scope="module")
def flops():
    spec = importlib.util.spec_from_file_location("flops", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def executed(config) -> int:
    """Of a forward pass over sentences without padding, output layer included, as PyTorch counts them."""
    model = build_model(config, VOCAB, VOCAB, 0)
    src, tgt_in = torch.ones(BATCH, SRC, dtype=torch.long), torch.ones(BATCH, TGT, dtype=torch.long)
    # Plain attention and an LSTM without oneDNN: products that the counter knows.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), mkldnn.flags(enabled=False):
        model.project(model(src, src.bool(), tgt_in))
    return counter.get_total_flops()


def lengths(count):
    return np.full(BATCH, count)


@pytest.mark.parametrize("activation", ["relu", "swiglu"])
def test_transformer(flops, activation):
    config = TransformerConfig(
        type="transformer", d_model=WIDTH, d_ff=24, num_heads=2, encoder_layers=3, decoder_layers=2,
        activation=activation,
    )  # fmt: skip
    expected = executed(config)
    assert flops.forward_flops(config.model_dump(), VOCAB, lengths(SRC), lengths(TGT)) == expected
    assert flops.training_flops(config.model_dump(), VOCAB, lengths(SRC), lengths(TGT)) == 3 * expected


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_recurrent(flops, cell):
    config = RNNConfig(type="rnn", cell=cell, d_model=WIDTH, d_hidden=12, d_attention=10)
    scores = 2 * config.d_attention * BATCH * SRC * TGT  # matrix by vector, which the counter leaves out
    expected = executed(config) + scores
    assert flops.forward_flops(config.model_dump(), VOCAB, lengths(SRC), lengths(TGT)) == expected
