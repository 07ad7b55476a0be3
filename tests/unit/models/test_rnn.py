"""The recurrent parts against PyTorch's own, fused ones."""

import pytest
import torch
from torch import nn

from nmt.config.encoders import RecurrentEncoderConfig
from nmt.config.model import RNNConfig
from nmt.models.encoders.recurrent import RecurrentEncoder
from nmt.models.rnn import RNN, Cell


@pytest.mark.parametrize(("kind", "theirs"), [("gru", nn.GRUCell), ("lstm", nn.LSTMCell)])
def test_cell_equals_pytorch_on_the_concatenated_input(kind, theirs):
    torch.manual_seed(0)
    cell = theirs(5 + 4, 6)
    ours = Cell(kind, 5, 4, 6)
    with torch.no_grad():
        ours.known.weight.copy_(cell.weight_ih[:, :5])
        ours.context.weight.copy_(cell.weight_ih[:, 5:])
        ours.known.bias.copy_(cell.bias_ih)
        ours.hidden.weight.copy_(cell.weight_hh)
        ours.hidden.bias.copy_(cell.bias_hh)
    known, context = torch.randn(3, 5), torch.randn(3, 4)
    state = tuple(torch.randn(3, 6) for _ in range(2 if kind == "lstm" else 1))
    expected = cell(torch.cat([known, context], -1), state if kind == "lstm" else state[0])
    got = ours(ours.known(known), context, state)
    expected = expected if kind == "lstm" else (expected,)
    for one, other in zip(got, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    for tensors in (got, expected):
        sum((tensor * (1 + torch.arange(6))).sum() for tensor in tensors).backward()
    inputs = torch.cat([ours.known.weight.grad, ours.context.weight.grad], dim=1)
    for one, other in (
        (inputs, cell.weight_ih.grad),
        (ours.known.bias.grad, cell.bias_ih.grad),
        (ours.hidden.weight.grad, cell.weight_hh.grad),
        (ours.hidden.bias.grad, cell.bias_hh.grad),
    ):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize(("kind", "theirs"), [("gru", nn.GRU), ("lstm", nn.LSTM)])
def test_encoder_equals_pytorch_bidirectional_on_packed_sequences(kind, theirs):
    torch.manual_seed(0)
    config = RecurrentEncoderConfig(type="recurrent", cell=kind, d_model=5, d_hidden=4, num_layers=2, dropout=0.0)
    ours = RecurrentEncoder(config)
    net = theirs(5, 4, num_layers=2, bidirectional=True, batch_first=True)
    with torch.no_grad():
        for layer in range(2):
            for suffix, nets in (("", ours.forwards), ("_reverse", ours.backwards)):
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                    getattr(net, f"{name}_l{layer}{suffix}").copy_(getattr(nets[layer], f"{name}_l0"))
    lengths = torch.tensor([6, 2, 4])
    x, mask = torch.randn(3, 6, 5), torch.arange(6) < lengths[:, None]
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    output, last = net(packed)
    expected, _ = nn.utils.rnn.pad_packed_sequence(output, batch_first=True)
    memory = ours(x, mask)
    states, summary = memory.states, memory.vector()
    assert torch.allclose(states[mask], expected[mask], atol=1e-6)
    top = last[0] if kind == "lstm" else last
    assert torch.allclose(summary, torch.cat([top[-2], top[-1]], dim=-1), atol=1e-6)
    weights = torch.randn_like(expected)
    ((states * weights)[mask].sum() + summary.sum()).backward()
    ((expected * weights)[mask].sum() + top[-2:].sum()).backward()
    for layer in range(2):
        for suffix, nets in (("", ours.forwards), ("_reverse", ours.backwards)):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                found, wanted = getattr(nets[layer], f"{name}_l0").grad, getattr(net, f"{name}_l{layer}{suffix}").grad
                assert torch.allclose(found, wanted, atol=1e-5), (layer, suffix, name)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", ["gru", "lstm"])
@pytest.mark.parametrize(
    "variant",
    [{}, {"alignment": "local_predictive", "window": 1}, {"hops": 2, "input_feeding": True}],
    ids=["soft", "local", "hops-feeding"],
)
def test_the_decoder_s_loop_has_the_gradients_of_one_step_after_another(kind, layers, variant):
    """Training lifts what it can out of the loop over time; a search makes one whole step after another."""
    torch.manual_seed(0)
    config = RNNConfig(
        type="rnn", cell=kind, d_model=5, d_hidden=4, d_attention=3, decoder_layers=layers, dropout=0.0, **variant
    )
    model = RNN(config, 11, 11, 0)
    src, tgt_in = torch.tensor([[4, 5, 6], [7, 3, 0]]), torch.tensor([[2, 8, 9, 4], [2, 5, 6, 7]])
    grads = []
    for stepwise in (False, True):
        memory = model.encode(src, src != 0)
        if stepwise:
            state, steps = model.init_state(memory), []
            for tokens in tgt_in.unbind(1):
                logits, state = model.step(tokens, state)
                steps.append(logits)
            logits = torch.stack(steps, dim=1)
        else:
            logits = model.project(model.decode(memory, tgt_in))
        model.zero_grad()
        logits.log_softmax(-1)[..., 4].sum().backward()
        grads.append({name: p.grad.clone() for name, p in model.named_parameters()})
    for name, grad in grads[0].items():
        assert torch.allclose(grad, grads[1][name], atol=1e-5), name
    assert all(grad.any() for grad in grads[0].values())


@torch.no_grad()
@pytest.mark.parametrize("feeding", [False, True])
def test_hops_and_input_feeding_equal_a_plain_loop(feeding):
    """Every equation written down for one sentence, one hop and one step after another."""
    torch.manual_seed(0)
    config = RNNConfig(
        type="rnn", d_model=5, d_hidden=4, attention="dot", d_attention=3, hops=3, input_feeding=feeding, dropout=0.0
    )
    model = RNN(config, 11, 11, 0).eval()
    src, tgt_in = torch.tensor([[4, 5, 6]]), torch.tensor([[2, 8, 9, 4]])
    memory = model.encode(src, src != 0)
    found = model.decode(memory, tgt_in)[0]
    cell = nn.GRUCell(5 + 8 + 5 * feeding, 4)
    cell.load_state_dict({
        "weight_ih": torch.cat([model.first.known.weight, model.first.context.weight], dim=1),
        "bias_ih": model.first.known.bias,
        "weight_hh": model.first.hidden.weight,
        "bias_hh": model.first.hidden.bias,
    })  # fmt: skip
    states = memory.states[0]
    s, d = torch.tanh(model.initial(memory.summary))[0], torch.zeros(5)
    attentions = [model.attention, *(hop.attention for hop in model.hops)]
    for t, token in enumerate(tgt_in[0]):
        embedded, query = model.tgt_embedding.weight[token] * 5**0.5, s
        for number, attention in enumerate(attentions):
            scores = torch.stack([attention.query.weight @ query @ (attention.key.weight @ h) for h in states])
            context = sum(weight * h for weight, h in zip(scores.softmax(0), states, strict=True))
            if number < 2:
                query = query + model.hops[number].refine.weight @ context
        s = cell(torch.cat([embedded, context, d] if feeding else [embedded, context]), s)
        one, other = model.readout(torch.cat([s, embedded, context])).chunk(2)
        d = torch.maximum(one, other)
        assert torch.allclose(found[t], d, atol=1e-5), t
