"""A packed batch gives the same loss and gradients as the padded one of the same sentences."""

import itertools

import numpy as np
import pytest
import torch

from nmt.config.model import TransformerConfig
from nmt.data.batch import collate
from nmt.data.packing import Packing
from nmt.models.build import build_model
from nmt.models.packed import kernel, packed_cross_attention, packed_self_attention
from nmt.sentences import Sentences
from nmt.training.loss import projected_cross_entropy

VOCABULARY, PAD, BOS, EOS = 50, 0, 2, 3
BASE = {
    "type": "transformer", "d_model": 16, "d_ff": 32, "num_heads": 2, "encoder_layers": 2, "decoder_layers": 2,
    "dropout": 0.0,
}  # fmt: skip
VARIANTS = [
    {"norm": "post"},
    {"norm": "pre", "activation": "swiglu", "positions": "rotary"},
    {"norm": "pre", "activation": "gelu", "positions": "learned", "max_positions": 20},
    {"norm": "post", "positions": "rotary", "tie_embeddings": "none"},
    {"norm": "pre", "tie_embeddings": "decoder"},
    {"norm_type": "rms", "qk_norm": "l2", "output_bias": True},
    {"norm_type": "scale", "qk_norm": "layer", "positions": "rotary", "fix_norm": True},
    {"preset": "marian"},
    {"positions": "sinusoidal_halves", "activation": "swish"},
    {"attention_window": 3},
    {"attention_window": 2, "positions": "rotary", "norm": "post"},
]


def random_pairs(count=9, longest=14, seed=0):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest, (count, 2))
    return [tuple(rng.integers(4, VOCABULARY, n) for n in pair) for pair in lengths.tolist()]


def packing_of(pairs, budget=None):
    lengths = np.array([[len(src), len(tgt)] for src, tgt in pairs], np.int32).T
    return Packing.measure([lengths], budget or int((lengths + 1).sum(axis=1).max()) + 40)


def loss_and_gradients(model, batch, smoothing=0.1):
    model.zero_grad()
    hidden = batch.at_targets(model(*batch.inputs))
    loss = projected_cross_entropy(hidden, model.output, batch.targets, smoothing, weights=batch.weights)
    (loss.smoothed / batch.tgt_tokens).backward()
    return loss, {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: " ".join(map(str, v.values())))
def test_packed_equals_padded(variant):
    torch.manual_seed(1)
    model = build_model(TransformerConfig(**BASE, **variant), VOCABULARY, VOCABULARY, PAD)
    pairs, rows = random_pairs(), np.arange(9)
    padded = collate(pairs, rows, PAD, BOS, EOS)
    packed = packing_of(pairs).collate(pairs, rows, PAD, BOS, EOS)
    assert (packed.src_tokens, packed.tgt_tokens) == (padded.src_tokens, padded.tgt_tokens)
    (expected, gradients), (found, others) = (loss_and_gradients(model, batch) for batch in (padded, packed))
    assert torch.allclose(found.smoothed, expected.smoothed, rtol=1e-5)
    assert torch.allclose(found.nll, expected.nll, rtol=1e-5)
    for name, gradient in gradients.items():
        assert torch.allclose(others[name], gradient, rtol=1e-4, atol=1e-6), name


def test_other_sentences_and_their_order_change_nothing():
    torch.manual_seed(1)
    model = build_model(TransformerConfig(**BASE), VOCABULARY, VOCABULARY, PAD).eval()
    pairs = random_pairs()
    packing = packing_of(pairs)

    def hidden(chosen):
        batch = packing.collate([pairs[i] for i in chosen], np.array(chosen), PAD, BOS, EOS)
        states = model(*batch.inputs).split(
            [len(pairs[i][1]) + 1 for i in chosen] + [0, packing.tgt - batch.tgt_tokens]
        )
        return dict(zip(chosen, states, strict=False))

    whole, shuffled, few = hidden(range(9)), hidden([4, 8, 0, 2, 1, 7, 3, 6, 5]), hidden([5, 2])
    for i in range(9):
        assert torch.allclose(shuffled[i], whole[i], atol=1e-6)
    for i in (5, 2):
        assert torch.allclose(few[i], whole[i], atol=1e-6)


def test_a_batch_without_targets_has_no_gradient():
    model = build_model(TransformerConfig(**BASE), VOCABULARY, VOCABULARY, PAD)
    pairs = random_pairs()
    batch = packing_of(pairs).collate(pairs, np.arange(9), PAD, BOS, EOS).without_targets()
    assert (batch.tgt_tokens, len(batch.rows)) == (0, 0)
    loss = projected_cross_entropy(model(*batch.inputs), model.output, batch.targets, 0.1, weights=batch.weights)
    loss.smoothed.backward()
    assert loss.smoothed == 0
    assert all((p.grad == 0).all() for p in model.parameters())


def test_kernels_by_device_width_and_precision(monkeypatch):
    monkeypatch.setattr("nmt.models.packed.HAS_TRITON", True)
    cuda, half, single = torch.device("cuda"), torch.bfloat16, torch.float32
    assert kernel(torch.device("cpu"), single, 7) == "loop"
    assert kernel(torch.device("mps"), half, 64) is None
    assert [kernel(cuda, half, width) for width in (20, 128, 136, 200, 132, 512)] == [
        "triton", "triton", "flash", "flash", None, None,
    ]  # fmt: skip
    assert kernel(cuda, single, 64) == "triton"
    assert kernel(cuda, single, 256) is None
    assert [kernel(cuda, half, width, window=5) for width in (64, 136)] == ["triton", None]
    monkeypatch.setattr("nmt.models.packed.HAS_TRITON", False)
    assert kernel(cuda, half, 64) == "flash"
    assert kernel(cuda, half, 64, window=5) is None
    assert kernel(torch.device("cpu"), single, 64, window=5) == "loop"
    assert kernel(cuda, single, 64) is None


def dense_attention(query, keys, values, starts, starts_of_keys, causal):
    """All rows at once, with a mask of who sees whom."""

    def where(starts, rows):
        starts = starts.tolist()
        return torch.tensor([next(i for i, end in enumerate(starts[1:]) if row < end) for row in range(rows)])

    sentence, other = where(starts, len(query)), where(starts_of_keys, len(keys))
    seen = sentence[:, None] == other
    if causal:
        seen = seen & (torch.arange(len(query))[:, None] >= torch.arange(len(keys)))
    scores = torch.einsum("nhk,mhk->hnm", query, keys) / query.size(-1) ** 0.5
    return torch.einsum("hnm,mhk->nhk", scores.masked_fill(~seen, -torch.inf).softmax(-1), values)


def sentences(lengths, longest=256):
    starts = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32)
    return Sentences(starts, torch.cat([torch.arange(n) for n in lengths]).int(), longest)


@pytest.mark.parametrize("causal", [True, False])
def test_the_loop_is_attention_with_a_mask(causal):
    torch.manual_seed(1)
    lengths = [3, 1, 5, 2, 0, 0]
    of_keys = lengths if causal else [2, 4, 1, 6, 0, 0]
    query = torch.randn(11, 2, 4)
    keys, values = torch.randn(2, sum(of_keys), 2, 4)
    one, other = sentences(lengths), sentences(of_keys)
    if causal:
        found = packed_self_attention(torch.stack([query, keys, values], dim=1), one, True)
    else:
        found = packed_cross_attention(query, torch.stack([keys, values], dim=1), one, other)
    expected = dense_attention(query, keys, values, one.starts, other.starts, causal)
    assert torch.allclose(found, expected, atol=1e-6)
