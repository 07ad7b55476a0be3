"""Contributions of the source, against finite differences, a loop by hand and the sum that attention computes."""

from pathlib import Path

import pytest
import torch

from nmt.config.encoders import ConvolutionalEncoderConfig
from nmt.config.model import RNNConfig, TransformerConfig
from nmt.insight.attention import attention_map, method_weights, read_maps
from nmt.insight.explain import erasure, explain, input_times_gradient, shares
from nmt.models.build import build_model
from nmt.models.maps import value_norms

RNN = {"type": "rnn", "d_model": 8, "d_hidden": 8, "dropout": 0.2}
STACK = {"d_model": 12, "d_ff": 16, "num_heads": 3, "encoder_layers": 2, "decoder_layers": 2, "activation": "gelu"}
MODELS = {
    "rnn": RNNConfig(**RNN, d_attention=6, hops=2),
    "none": RNNConfig(**RNN, attention="none"),
    "transformer": TransformerConfig(type="transformer", **STACK),
    "post-norm": TransformerConfig(type="transformer", **STACK, norm="post", positions="rotary"),
    "convolutional": RNNConfig(
        **RNN, attention="dot", encoder=ConvolutionalEncoderConfig(type="convolutional", d_model=8, d_hidden=8)
    ),
}
SOURCE, TARGET = [4, 7, 7, 9], [5, 11, 6]


class Names:
    pad_id, unk_id, bos_id, eos_id = 0, 1, 2, 3

    @staticmethod
    def src_pieces(ids):
        return [f"s{i}" for i in ids]

    tgt_pieces = src_pieces


@pytest.fixture(params=MODELS)
def model(request):
    torch.manual_seed(3)
    found = build_model(MODELS[request.param], 15, 15, Names.pad_id)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.mul_(1.5)  # so that the source matters
    return found.train()  # which must not change what is computed


def log_probs(model, change=lambda x: x):
    """Log-probability of each target token, and of eos, when the embeddings of the source [1, S, D] are changed."""
    model.eval()
    src = torch.tensor([[*SOURCE, Names.eos_id]])
    tied = model.src_embedding is model.tgt_embedding
    calls = []

    def hook(module, inputs, output):
        calls.append(1)
        return change(output) if len(calls) == 1 or not tied else output  # the source is embedded first

    handle = model.src_embedding.register_forward_hook(hook)
    with torch.no_grad():
        memory = model.encode(src, torch.ones_like(src, dtype=torch.bool))
        hidden = model.decode(memory, torch.tensor([[Names.bos_id, *TARGET]]))
    handle.remove()
    model.train()
    targets = torch.tensor([*TARGET, Names.eos_id])
    return model.project(hidden)[0].log_softmax(-1).gather(-1, targets[:, None])[:, 0]


def scaled(position, factor):
    def change(x):
        x = x.clone()
        x[:, position] *= factor
        return x

    return change


def test_input_times_gradient_is_that_of_finite_differences(model):
    found = input_times_gradient(model, Names, SOURCE, TARGET)
    step = 1e-3
    columns = [
        (log_probs(model, scaled(place, 1 + step)) - log_probs(model, scaled(place, 1 - step))) / (2 * step)
        for place in range(len(SOURCE) + 1)
    ]
    assert found.shape == (4, 5)
    assert torch.allclose(found, torch.stack(columns, dim=1), atol=3e-3, rtol=1e-2)
    assert found.abs().max() > 1e-2
    assert model.training


def test_erasure_is_that_of_a_loop(model):
    found = erasure(model, Names, SOURCE, TARGET)
    whole = log_probs(model)
    columns = [whole - log_probs(model, scaled(place, 0.0)) for place in range(len(SOURCE) + 1)]
    assert torch.allclose(found, torch.stack(columns, dim=1), atol=1e-5)
    assert found.abs().max() > 1e-2


def test_pieces_of_a_batch_change_nothing(model, monkeypatch):
    whole = input_times_gradient(model, Names, SOURCE, TARGET), erasure(model, Names, SOURCE, TARGET)
    monkeypatch.setattr("nmt.insight.explain.POSITIONS", 8)
    parts = input_times_gradient(model, Names, SOURCE, TARGET), erasure(model, Names, SOURCE, TARGET)
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(whole, parts, strict=True))


@pytest.mark.parametrize("name", ["transformer", "post-norm"])
def test_norms_are_those_of_vectors_that_sum_to_what_attention_adds(name):
    torch.manual_seed(3)
    model = build_model(MODELS[name], 15, 15, Names.pad_id).eval()
    ids, tgt_in = torch.tensor([[*SOURCE, Names.eos_id]]), torch.tensor([[Names.bos_id, *TARGET]])
    mask = torch.ones_like(ids, dtype=torch.bool)
    layer, heads = model.decoder[1], MODELS[name].num_heads
    attention, seen = layer.cross_attention, []
    handle = attention.project_out.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.no_grad():
        norms, maps = value_norms(model, ids, mask), model.attention_maps(ids, mask, tgt_in)
        seen.clear()
        model.decode(memory := model.encode(ids, mask), tgt_in)
        values = attention.project_memory(memory.states)[1]
        added = torch.zeros(4, STACK["d_model"])
        for head in range(heads):
            width = STACK["d_model"] // heads
            for source in range(5):
                vector = attention.project_out.weight[:, head * width : (head + 1) * width] @ values[0, head, source]
                assert torch.isclose(vector.norm(), norms[1, 0, head, source], atol=1e-5)
                for target in range(4):
                    added[target] += maps[1, 0, head, target, source] * vector
    handle.remove()
    assert torch.allclose(added + attention.project_out.bias, seen[0][0], atol=1e-5)


def test_what_a_page_gets(model):
    found = explain(model, Names, SOURCE, TARGET, ["gradient", "erase", "norm"])
    attends = not (isinstance(model.config, RNNConfig) and model.config.attention == "none")
    assert set(found) == {"gradient", "erase", *(["norm"] if attends else [])}
    assert torch.allclose(found["gradient"].sum(-1), torch.ones(1, 1, 4))
    by_hand = erasure(model, Names, SOURCE, TARGET).clamp_min(0)
    assert torch.allclose(found["erase"][0, 0], by_hand / by_hand.sum(-1, keepdim=True).clamp_min(1e-30), atol=1e-6)
    if not attends:
        return
    [maps] = read_maps(model, Names, SOURCE, [TARGET], methods=["norm"])
    products = maps.cross * found["norm"][:, :, None]
    assert torch.allclose(method_weights(maps, "norm"), products / products.sum(-1, keepdim=True), atol=1e-6)
    weights, rows, columns = attention_map(model, Names, SOURCE, TARGET, "erase")
    assert torch.allclose(weights, found["erase"][0, 0])
    assert (rows, columns) == (["s4", "s7", "s7", "s9", "</s>"], ["s5", "s11", "s6", "</s>"])


def test_the_example_of_the_documentation():
    """The numbers of docs/explaining.md."""
    weights, vectors = torch.tensor([0.8, 0.2]), torch.tensor([[0.3, 0.4], [3.0, 4.0]])
    norms = weights * vectors.norm(dim=-1)
    assert torch.allclose(norms, torch.tensor([0.4, 1.0]))
    assert [round(share, 2) for share in shares(norms[None])[0].tolist()] == [0.29, 0.71]
    assert torch.allclose(weights @ vectors, torch.tensor([0.84, 1.12]))
    assert torch.allclose(weights[1] * vectors[1], torch.tensor([0.6, 0.8]))
    text = (Path(__file__).parents[3] / "docs/explaining.md").read_text(encoding="utf-8")
    for numbers in ("0.8 · 0.5 = 0.4", "0.2 · 5 = 1", "(0.29, 0.71)", "= (0.84, 1.12)", "adds (0.6, 0.8)"):
        assert numbers in text


def test_shares_of_a_row_of_zeros():
    assert shares(torch.tensor([[1.0, 3.0], [0.0, 0.0]])).tolist() == [[0.25, 0.75], [0.0, 0.0]]
