"""Deep recurrent layers, as in GNMT (Wu et al. 2016), and the forget bias of LSTMs."""

import pytest
import torch
from torch import nn

from nmt.config.encoders import RecurrentEncoderConfig
from nmt.config.model import RNNConfig
from nmt.models.encoders.recurrent import RecurrentEncoder
from nmt.models.layers import raise_forget_bias
from nmt.models.rnn import RNN, Cell


def test_one_bidirectional_layer_equals_pytorch_layers_one_above_another():
    """Wu et al. 2016, figure 1: a bidirectional layer, four of one direction, residual connections from the third."""
    torch.manual_seed(0)
    config = RecurrentEncoderConfig(
        type="recurrent", cell="lstm", d_model=5, d_hidden=4, num_layers=5, dropout=0.0,
        bidirectional="first", residual=True, residual_from=3,
    )  # fmt: skip
    ours = RecurrentEncoder(config)
    bottom = nn.LSTM(5, 4, bidirectional=True, batch_first=True)
    layers = [nn.LSTM(width, 4, batch_first=True) for width in (8, 4, 4, 4)]
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    pairs = [(bottom, f"{name}_l0", ours.forwards[0], f"{name}_l0") for name in names]
    pairs += [(bottom, f"{name}_l0_reverse", ours.backwards[0], f"{name}_l0") for name in names]
    pairs += [(one, f"{name}_l0", ours.forwards[i], f"{name}_l0") for i, one in enumerate(layers, 1) for name in names]
    with torch.no_grad():
        for theirs, their_name, our_layer, our_name in pairs:
            getattr(theirs, their_name).copy_(getattr(our_layer, our_name))
    assert len(pairs) == len(list(ours.parameters()))

    # Their outputs, one sentence at a time, without padding.
    lengths = [6, 2, 4]
    x, mask = torch.randn(3, 6, 5), torch.arange(6) < torch.tensor(lengths)[:, None]
    memory, weights, total = ours(x, mask), torch.randn(3, 6, 4), torch.zeros(())
    assert (ours.d_out, ours.d_summary) == (4, 4)
    for row, length in enumerate(lengths):
        second = layers[0](bottom(x[row : row + 1, :length])[0])[0]
        third = second + layers[1](second)[0]
        fourth = third + layers[2](third)[0]
        output = layers[3](fourth)[0]
        top = (fourth + output)[0]
        assert torch.allclose(memory.states[row, :length], top, atol=1e-6)
        assert torch.allclose(memory.vector()[row], output[0, -1], atol=1e-6)  # the state of the top layer
        total = total + (top * weights[row, :length]).sum() + output[0, -1].sum()
    total.backward()
    ((memory.states * weights)[mask].sum() + memory.vector().sum()).backward()
    for theirs, their_name, our_layer, our_name in pairs:
        assert torch.allclose(getattr(our_layer, our_name).grad, getattr(theirs, their_name).grad, atol=1e-5), our_name


@pytest.mark.parametrize("residual_from", [2, 3])
def test_decoder_layers_have_residual_connections_from_the_given_one_and_all_read_the_context(residual_from):
    """Wu et al. 2016, eq. 6 and figure 1: the bottom layer attends, every layer above it reads the same context."""
    torch.manual_seed(0)
    config = RNNConfig(
        type="rnn", cell="lstm", d_model=5, d_hidden=4, d_attention=3, decoder_layers=4, dropout=0.0, residual=True,
        residual_from=residual_from, bidirectional="first", encoder_layers=3,
    )  # fmt: skip
    model = RNN(config, 11, 11, 0)
    seen = []
    for layer in model.upper:
        layer.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output[0])))
    queries, contexts = [], []
    model.attention.register_forward_hook(lambda _, inputs, output: queries.append(inputs[0][:, 0]))
    model.first.register_forward_hook(lambda _, inputs, output: contexts.append(inputs[1]))
    src = torch.tensor([[4, 5, 6], [7, 3, 0]])
    model(src, src != 0, torch.tensor([[2, 8, 9], [2, 5, 6]]))
    assert all(torch.equal(x[..., 4:], torch.stack(contexts, dim=1)) for x, _ in seen)
    bottom = seen[0][0][..., :4]
    # The query of a step is the output of the bottom layer one step before.
    assert all(torch.equal(queries[t + 1], bottom[:, t]) for t in range(2))
    (x2, y2), (x3, y3), (x4, _) = ((x[..., :4], y) for x, y in seen)
    assert torch.equal(x3, x2 + y2 if residual_from == 2 else y2)
    assert torch.equal(x4, x3 + y3)


def test_a_forget_bias_of_one_keeps_a_cell_by_the_sigmoid_of_one():
    """With all other parameters 0, nothing is written to the cell: its input is tanh(0)."""
    layer, cell, ones = nn.LSTM(2, 3, batch_first=True), Cell("lstm", 2, 2, 3), torch.ones(1, 3)
    for module, bias in ((layer, "bias_ih_l0"), (cell, "known.bias")):
        for parameter in module.parameters():
            nn.init.zeros_(parameter)
        raise_forget_bias(module.get_parameter(bias), 1.0)
    _, (_, kept) = layer(torch.randn(1, 1, 2), (ones[None], ones[None]))
    _, kept_too = cell(cell.known(torch.randn(1, 2)), torch.randn(1, 2), (ones, ones))
    assert torch.allclose(kept[0], ones * 0.7310586)
    assert torch.allclose(kept_too, ones * 0.7310586)


@pytest.mark.parametrize("bias", [0.0, 1.0, 2.5])
def test_the_two_biases_of_every_forget_gate_sum_to_the_configured_value(bias):
    """Up to PyTorch's own initial values, of which each is within 1/√400."""
    config = RNNConfig(
        type="rnn", cell="lstm", d_model=400, d_hidden=400, d_attention=3, encoder_layers=2, decoder_layers=2,
        forget_bias=bias,
    )  # fmt: skip
    named = dict(RNN(config, 11, 11, 0).named_parameters())
    pairs = [(name, name.replace("bias_ih", "bias_hh")) for name in named if "bias_ih" in name]
    pairs.append(("first.known.bias", "first.hidden.bias"))
    assert len(pairs) == 2 * 2 + 2  # encoder layers in two directions, two of the decoder
    for one, other in pairs:
        i, f, g, o = (named[one] + named[other]).detach().chunk(4)
        assert (f - bias).abs().max() < 2 / 20
        assert torch.cat([i, g, o]).abs().max() < 2 / 20
