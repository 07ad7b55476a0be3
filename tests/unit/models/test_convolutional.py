"""The convolutional encoder against PyTorch's convolution, one window after another."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nmt.config.encoders import ConvolutionalEncoderConfig
from nmt.models.encoders.convolutional import ConvolutionalEncoder


def encoder_of(**keys) -> ConvolutionalEncoder:
    torch.manual_seed(0)
    section = {"type": "convolutional", "d_model": 6, "d_hidden": 5, "num_layers": 3, "dropout": 0.0, **keys}
    return ConvolutionalEncoder(ConvolutionalEncoderConfig(**section))


def convolutions(encoder: ConvolutionalEncoder) -> list[nn.Conv1d]:
    """PyTorch's convolutions with the weights of the encoder's layers."""
    found = []
    for layer in encoder.layers:
        weight = layer.window.weight.detach()
        d_hidden = weight.size(0) // 2
        convolution = nn.Conv1d(d_hidden, 2 * d_hidden, layer.kernel)
        with torch.no_grad():
            convolution.weight.copy_(weight.view(2 * d_hidden, layer.kernel, d_hidden).transpose(1, 2))
            convolution.bias.copy_(layer.window.bias)
        found.append(convolution)
    return found


def encode_sentence(encoder: ConvolutionalEncoder, layers: list[nn.Conv1d], embedded: torch.Tensor) -> torch.Tensor:
    """The states [S, D] of one sentence [S, D] without padding, position by position."""
    z = embedded @ encoder.project_in.weight.T + encoder.project_in.bias
    for convolution in layers:
        half = convolution.kernel_size[0] // 2
        edge = torch.zeros(half, z.size(1))
        rows, output = torch.cat([edge, z, edge]), []
        for i in range(z.size(0)):
            window = rows[i : i + 2 * half + 1].T.unsqueeze(0)  # [1, Hid, k]
            output.append((F.glu(convolution(window)[0, :, 0], dim=0) + z[i]) * math.sqrt(0.5))
        z = torch.stack(output)
    return (z @ encoder.project_out.weight.T + encoder.project_out.bias + embedded) * math.sqrt(0.5)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_states_and_gradients_are_those_of_a_loop_over_windows(kernel):
    encoder = encoder_of(kernel=kernel, positions="learned", max_positions=9)
    with torch.no_grad():
        for layer in encoder.layers:
            layer.window.bias.normal_()  # so that a state at padding is not 0
        encoder.project_in.bias.normal_()
    layers, lengths = convolutions(encoder), [7, 2, 4]
    x, mask = torch.randn(3, 7, 6), torch.arange(7) < torch.tensor(lengths)[:, None]
    weights = torch.randn(3, 7, 6)

    memory = encoder(x, mask)
    assert memory.summary is None
    (memory.states * weights)[mask].sum().backward()
    found = [layer.window.weight.grad for layer in encoder.layers], encoder.positions.weight.grad.clone()
    encoder.zero_grad()

    total = torch.zeros(())
    for row, length in enumerate(lengths):
        states = encode_sentence(encoder, layers, x[row, :length] + encoder.positions.weight[:length])
        torch.testing.assert_close(memory.states[row, :length], states, atol=1e-5, rtol=1e-5)
        total = total + (states * weights[row, :length]).sum()
    total.backward()
    for gradient, convolution in zip(found[0], layers, strict=True):
        expected = convolution.weight.grad.transpose(1, 2).flatten(1)
        torch.testing.assert_close(gradient, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[1], encoder.positions.weight.grad, atol=1e-5, rtol=1e-5)


def test_a_state_sees_the_tokens_of_its_receptive_field_alone():
    """Three convolutions of width 3 read three tokens on each side."""
    encoder = encoder_of(kernel=3, positions="none")
    x = torch.randn(1, 12, 6, requires_grad=True)
    states = encoder(x, torch.ones(1, 12, dtype=torch.bool)).states
    states[0, 5].sum().backward()
    assert [i for i in range(12) if x.grad[0, i].any()] == [2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("p", [0.0, 0.4])
def test_the_initial_weights_keep_the_variance_through_many_layers(p):
    """Gehring et al. 2017, section 3.5: at any depth, the variance stays of the order of the input's."""
    encoder = encoder_of(d_model=64, d_hidden=64, num_layers=12, dropout=p, positions="none")
    z = torch.randn(8, 40, 64) * 0.5
    tokens = torch.ones(8, 40, 1, dtype=torch.bool)
    for layer in encoder.layers:
        z = layer(z, tokens)
    assert 0.25 < z.std() / 0.5 < 4
    std = encoder.layers[0].window.weight.std().item()
    assert std == pytest.approx(math.sqrt(4 * (1 - p) / (3 * 64)), rel=0.03)


def test_dropout_falls_on_embeddings_and_on_the_input_of_each_convolution():
    encoder = encoder_of(d_model=64, d_hidden=64, num_layers=1, dropout=0.5)
    x, mask = torch.ones(2, 9, 64), torch.ones(2, 9, dtype=torch.bool)
    zeros = {}
    for name in ("dropout", "layers.0.dropout"):
        encoder.get_submodule(name).register_forward_hook(
            lambda _, inputs, output, name=name: zeros.update({name: (output == 0).float().mean().item()})
        )
    one, other = encoder(x, mask).states, encoder(x, mask).states
    assert not torch.equal(one, other)
    assert zeros == {"dropout": pytest.approx(0.5, abs=0.08), "layers.0.dropout": pytest.approx(0.5, abs=0.08)}
    encoder.eval()
    assert torch.equal(encoder(x, mask).states, encoder(x, mask).states)
