"""The count of operations agrees with PyTorch's counter of what is executed."""

import numpy as np
import pytest
import torch
from torch.backends import mkldnn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nmt.config.model import RNNConfig, TransformerConfig
from nmt.models import flops
from nmt.models.build import build_model

BATCH, SRC, TGT, VOCAB, WIDTH = 3, 7, 5, 40, 16


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
def test_transformer(activation):
    config = TransformerConfig(
        type="transformer", d_model=WIDTH, d_ff=24, num_heads=2, encoder_layers=3, decoder_layers=2,
        activation=activation,
    )  # fmt: skip
    expected = executed(config)
    assert flops.forward_flops(config, VOCAB, lengths(SRC), lengths(TGT)) == expected
    assert flops.training_flops(config, VOCAB, lengths(SRC), lengths(TGT)) == 3 * expected


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_recurrent(cell):
    config = RNNConfig(type="rnn", cell=cell, d_model=WIDTH, d_hidden=12, d_attention=10)
    scores = 2 * config.d_attention * BATCH * SRC * TGT  # matrix by vector, which the counter leaves out
    expected = executed(config) + scores
    assert flops.forward_flops(config, VOCAB, lengths(SRC), lengths(TGT)) == expected


@pytest.mark.parametrize("window", [1, 3, 50])
def test_a_window_counts_the_pairs_in_it(window):
    lengths_src, lengths_tgt = np.array([1, 2, 7]), np.array([4, 1, 9])
    sizes = {"d_model": WIDTH, "d_ff": 24, "num_heads": 2, "encoder_layers": 3, "decoder_layers": 2}
    config = TransformerConfig(type="transformer", attention_window=window, **sizes)
    whole = TransformerConfig(type="transformer", **sizes)

    def pairs(n, causal):
        """The pairs outside of the window, one by one."""
        inside = sum(abs(i - j) < window and (not causal or j <= i) for i in range(n) for j in range(n))
        return n * n - inside

    outside = sum(3 * pairs(n, False) for n in lengths_src) + sum(2 * pairs(n, True) for n in lengths_tgt)
    counts = [flops.forward_flops(one, VOCAB, lengths_src, lengths_tgt) for one in (whole, config)]
    assert counts[0] - counts[1] == 2 * 2 * WIDTH * outside


@pytest.mark.parametrize("more", [{"hops": 2}, {"attention": "dot"}, {"decoder_layers": 2}, {"alignment": "hard"}])
def test_what_is_not_counted_is_none(more):
    config = RNNConfig(type="rnn", d_model=WIDTH, d_hidden=12, d_attention=12, **more)
    assert flops.training_flops(config, VOCAB, lengths(SRC), lengths(TGT)) is None
