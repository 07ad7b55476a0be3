"""Captured steps give what steps one by one give: with graphs that are emulated on the CPU, operator by operator."""

from __future__ import annotations

import inspect
import random
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nmt.config.encoders import RecurrentEncoderConfig, TransformerEncoderConfig
from nmt.config.model import RNNConfig, TransformerConfig
from nmt.config.search import SearchConfig
from nmt.errors import DeviceError, TrainingError
from nmt.models.build import build_model
from nmt.models.ensemble import Ensemble
from nmt.runtime.device import Place, check_lstm
from nmt.search.beam import Advance
from nmt.translation.batches import search_batches
from nmt.translation.captured import CapturedSteps, batch_count, batch_size, leaves, source_room
from nmt.translation.pytorch import TorchEngine, cast_products

PAD, UNK, BOS, EOS, VOCAB = 0, 1, 2, 3, 23
RNN = {"type": "rnn", "d_model": 8, "d_hidden": 6, "d_attention": 5, "dropout": 0.3}
TRANSFORMER = {
    "type": "transformer", "d_model": 8, "d_ff": 12, "num_heads": 2, "encoder_layers": 2, "decoder_layers": 2,
    "dropout": 0.3,
}  # fmt: skip
SELF_ATTENTION = TransformerEncoderConfig(type="transformer", d_model=6, d_ff=10, num_heads=3, num_layers=1)
CONFIGS = {
    "rnn-additive": RNNConfig(**RNN),
    "rnn-none": RNNConfig(**RNN, attention="none"),
    "rnn-lstm-deep": RNNConfig(**RNN, attention="general", cell="lstm", decoder_layers=3, residual=True),
    "rnn-hard": RNNConfig(**RNN, alignment="hard"),
    "rnn-local-monotonic-hops": RNNConfig(**RNN, alignment="local_monotonic", window=2, hops=2),
    "rnn-local-predictive-input-feeding": RNNConfig(**RNN, alignment="local_predictive", window=2, input_feeding=True),
    "transformer": TransformerConfig(**TRANSFORMER),
    "transformer-post-learned": TransformerConfig(**TRANSFORMER, norm="post", positions="learned"),
    "transformer-rotary": TransformerConfig(**TRANSFORMER, activation="swiglu", positions="rotary"),
    "transformer-marian": TransformerConfig(**TRANSFORMER, preset="marian"),
    "transformer-rms-l2": TransformerConfig(**TRANSFORMER, norm_type="rms", qk_norm="l2", attention_window=5),
    "transformer-scale-fixed": TransformerConfig(
        **TRANSFORMER, norm_type="scale", fix_norm=True, qk_norm="layer", positions="rotary", tie_embeddings="none"
    ),
    "transformer-fixed-bias": TransformerConfig(**TRANSFORMER, fix_norm=True, output_bias=True, qk_norm="l2"),
    "transformer-post-window": TransformerConfig(**TRANSFORMER, norm="post", norm_type="rms", attention_window=2),
    "recurrent-to-transformer": TransformerConfig(
        **TRANSFORMER, tie_embeddings="decoder", encoder=RecurrentEncoderConfig(type="recurrent", d_model=6, d_hidden=5)
    ),
    "transformer-to-rnn": RNNConfig(**RNN, encoder=SELF_ATTENTION),
    "transformer-to-rnn-none": RNNConfig(**RNN, encoder=SELF_ATTENTION, attention="none"),
    "transformer-to-transformer": TransformerConfig(**TRANSFORMER, tie_embeddings="decoder", encoder=SELF_ATTENTION),
}
READING = ("_local_scalar_dense", "nonzero", "item", "equal", "masked_select", "unique")  # they wait for the device


class Recorder(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        assert not any(word in func.__name__ for word in READING), f"{func} reads from the device"
        assert func is not torch.ops.aten.index.Tensor or all(
            index is None or index.dtype != torch.bool for index in args[1]
        ), "an index by a mask reads from the device"
        out = func(*args, **kwargs)
        self.calls.append((func, args, kwargs, out))
        return out


class FakeGraph:
    """What a CUDA graph promises, on a CPU: the same operators on the same memory, and Python is not asked again.

    As in a capture nothing is done at first: the buffers get back what they held.
    """

    made = 0

    def __init__(self, other=None):
        assert other is None or isinstance(other, FakeGraph)
        FakeGraph.made += 1
        self.replayed = 0

    def capture(self, work):
        buffers = list(leaves(variables(work)["beam"])) + list(leaves(variables(work)["state"]))
        held = [buffer.clone() for buffer in buffers]
        with Recorder() as recorder:
            work()
        self.calls = recorder.calls
        for buffer, value in zip(buffers, held, strict=True):
            buffer.copy_(value)

    def replay(self):
        self.replayed += 1
        for func, args, kwargs, recorded in self.calls:
            again = func(*args, **kwargs)
            for before, now in zip(leaves(recorded), leaves(again), strict=True):
                if before.data_ptr() != now.data_ptr():  # neither a view nor a change in place
                    before.copy_(now)


def variables(work):
    """What a function takes from around it."""
    return inspect.getclosurevars(work).nonlocals


def model_of(name):
    torch.manual_seed(3)
    if name == "ensemble":
        return Ensemble([model_of("rnn-local-predictive-input-feeding"), model_of("transformer-rotary")]).eval()
    model = build_model(CONFIGS[name], VOCAB, VOCAB, PAD).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0)
    return model


def engine(model, captured, precision=None, **search):
    tokenizer = SimpleNamespace(pad_id=PAD, bos_id=BOS, eos_id=EOS, unk_id=UNK)
    made = TorchEngine(model, tokenizer, SearchConfig(**search), torch.device("cpu"), precision, keep=True)
    if captured:
        made.captured = CapturedSteps(FakeGraph, 1 << 30)
    return made


def task(count, seed=0, longest=20):
    rng = random.Random(seed)
    sources = [[rng.randrange(4, VOCAB) for _ in range(rng.randint(1, longest))] for _ in range(count)]
    return sources, [40 if i == 5 else rng.choice([0, 3, 6, len(source)]) for i, source in enumerate(sources)]


def assert_same(found, expected):
    assert [[h.tokens for h in row] for row in found] == [[h.tokens for h in row] for row in expected]
    for row, other in zip(found, expected, strict=True):
        assert [h.log_prob for h in row] == pytest.approx([h.log_prob for h in other], abs=1e-4)
        assert [h.score for h in row] == pytest.approx([h.score for h in other], abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "width", "nbest"),
    [
        *((name, 3, 2) for name in CONFIGS),
        ("ensemble", 3, 2),
        ("ensemble", 1, 1),
        ("transformer", 1, 1),
        ("rnn-additive", 1, 1),
        ("transformer", 5, 5),
    ],
)
def test_captured_search_finds_the_same(name, width, nbest):
    """A batch of 50 sentences, filled up to 64, that becomes one of 32; more than 32 positions."""
    model, (sources, limits) = model_of(name), task(50)
    options = {"beam_size": width, "batch_tokens": 64 * width * 21, "alpha": 0.8}
    plain = engine(model, False, **options).search(sources, limits, nbest)
    quick = engine(model, True, **options)
    assert_same(quick.search(sources, limits, nbest), plain)
    assert len(quick.captured.captured) >= 3
    assert sum(each.graph.replayed for each in quick.captured.captured.values()) > 30
    assert {len(h.tokens) for row in plain for h in row} > {0, 3}


@pytest.mark.parametrize("name", ["transformer", "rnn-lstm-deep"])
def test_captured_search_with_prefixes_finds_the_same(name):
    model, (sources, limits) = model_of(name), task(4, longest=8)
    prefixes = [source[: min(n % 5, limit)] for n, (source, limit) in enumerate(zip(sources, limits, strict=True))]
    options = {"beam_size": 2, "batch_tokens": 10_000, "alpha": 0.8}
    plain = engine(model, False, **options).search(sources, limits, 2, prefixes)
    assert all(h.tokens[: len(p)] == p for row, p in zip(plain, prefixes, strict=True) for h in row)
    quick = engine(model, True, **options)
    assert_same(quick.search(sources, limits, 2, prefixes), plain)
    made = FakeGraph.made
    assert_same(quick.search(sources[:3], limits[:3], 2, prefixes[:3]), plain[:3])
    assert FakeGraph.made == made  # the second search uses the graphs of the first


@pytest.mark.parametrize("name", ["transformer", "rnn-lstm-deep"])
def test_other_batches_use_the_same_graphs(name):
    model, options = model_of(name), {"beam_size": 2, "batch_tokens": 10_000}
    quick, made = engine(model, True, **options), FakeGraph.made
    for seed in (0, 1, 0):
        sources, limits = task(20, seed)
        assert_same(quick.search(sources, limits, 1), engine(model, False, **options).search(sources, limits, 1))
    assert FakeGraph.made == made + 2  # for up to 32 positions and for up to 64


def test_no_position_after_the_last_learned_one_is_asked_for():
    config = TransformerConfig(**TRANSFORMER, positions="learned", max_positions=18)
    model = build_model(config, VOCAB, VOCAB, PAD).eval()
    found = engine(model, True, beam_size=2).search([[5] * 17, [6]], [17, 1], 1)  # 18 with eos, filled up to 24
    assert_same(found, engine(model, False, beam_size=2).search([[5] * 17, [6]], [17, 1], 1))


def test_one_short_sentence_and_no_sentence():
    model = model_of("transformer")
    for sources, limits in [([[5]], [0]), ([[5, 6]], [1]), ([], [])]:
        found = engine(model, True, beam_size=4).search(sources, limits, 1)
        assert_same(found, engine(model, False, beam_size=4).search(sources, limits, 1))


def test_memory_of_graphs_is_bounded_and_freed_after_a_search():
    model, (sources, limits) = model_of("transformer"), task(50)
    quick = engine(model, True, beam_size=3, batch_tokens=64 * 3 * 21)
    quick.captured.most = 1
    plain = engine(model, False, beam_size=3).search(sources, limits, 1)
    assert_same(quick.search(sources, limits, 1), plain)
    assert len(quick.captured.captured) == 1
    model.train()
    quick.keep = False
    assert_same(quick.search(sources, limits, 1), plain)
    assert model.training
    assert not quick.captured.captured


def test_without_memory_for_a_capture_the_batch_is_halved():
    class Full(FakeGraph):
        def capture(self, work):
            if len(variables(work)["beam"].over) > 8:
                try:
                    raise torch.OutOfMemoryError("CUDA out of memory")
                finally:
                    raise RuntimeError("operation failed due to a previous error during capture")
            super().capture(work)

    model, (sources, limits) = model_of("transformer"), task(16)
    quick = engine(model, True, beam_size=2)
    quick.captured.new_graph = Full
    searched = []
    quick.progress = searched.append
    assert_same(quick.search(sources, limits, 1), engine(model, False, beam_size=2).search(sources, limits, 1))
    assert searched == [8, 8]


def test_a_step_that_cannot_be_captured_is_taken_as_usual(caplog):
    class Broken(FakeGraph):
        def capture(self, work):
            raise RuntimeError("operation not permitted")

    model, (sources, limits) = model_of("transformer"), task(5)
    quick = engine(model, True, beam_size=2)
    quick.captured.new_graph = Broken
    assert_same(quick.search(sources, limits, 1), engine(model, False, beam_size=2).search(sources, limits, 1))
    assert [r.message for r in caplog.records] == [
        "a search step was not captured as a CUDA graph, which makes the search slower: operation not permitted"
    ]


def test_output_that_is_not_a_number_is_named():
    model, (sources, limits) = model_of("transformer"), task(5)
    with torch.no_grad():
        model.output.weight[7, 0] = torch.nan
    with pytest.raises(TrainingError, match=r"token 1 of a search"):
        engine(model, True, beam_size=2).search(sources, limits, 1)


@pytest.mark.parametrize("name", ["rnn-lstm-deep", "transformer-rotary", "transformer-fixed-bias"])
def test_weights_cast_once_give_the_same_bits_as_autocast(name):
    """Also after the weights have changed between two searches."""
    model, (sources, limits) = model_of(name).eval(), task(12)
    try:
        check_lstm(model, Place(torch.device("cpu"), torch.bfloat16))
    except DeviceError as error:
        pytest.skip(str(error))
    searched = engine(model, False, torch.bfloat16, beam_size=3)
    for _ in range(2):
        found = searched.search(sources, limits, 2)
        src = torch.tensor([[*sources[0], EOS]])
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            own, cast = (
                m.step(torch.tensor([BOS]), m.init_state(m.encode(src, src > 0)))[0] for m in (model, searched.searched)
            )
        assert own.dtype == torch.bfloat16
        assert torch.equal(own, cast)
        assert found != engine(model, False, beam_size=3).search(sources, limits, 2)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(-1.0)


def test_a_cast_model_shares_what_is_not_a_product():
    model = model_of("transformer")
    cast = cast_products(model, torch.bfloat16)
    assert cast.tgt_embedding.weight is model.tgt_embedding.weight  # though the tied output layer has its copy
    assert cast.output.weight.dtype == torch.bfloat16
    assert model.output.weight.dtype == torch.float32
    assert cast.decoder[0].residuals[0].norm.weight is model.decoder[0].residuals[0].norm.weight


def test_batches_fill_their_room_and_keep_the_budget():
    for count, most in [(1, 1), (5, 100), (31, 100), (33, 100), (40, 40), (48, 64), (49, 64), (100, 100), (1500, 1747)]:
        taken = batch_count(count, most)
        assert 1 <= taken <= count
        assert batch_size(taken) <= most or taken == batch_size(taken) <= most or most == 1
        assert taken <= 32 or 4 * taken > 3 * batch_size(taken)
    sources = [[1] * n for n in range(1, 60)]
    batches = list(search_batches(sources, 2, 600, batch_count))
    assert sorted(i for batch in batches for i in batch) == list(range(59))
    for batch in batches:
        assert len(batch) == 1 or batch_size(len(batch)) * 2 * (len(sources[batch[0]]) + 1) <= 600
    assert [source_room(n) for n in (1, 16, 17, 24, 25, 33, 49, 90, 97)] == [16, 16, 24, 24, 32, 48, 64, 96, 128]
    assert all(source_room(n) % 8 == 0 for n in range(1, 300))


def test_leaves_are_the_tensors_of_a_state():
    one, two, three = torch.zeros(1), torch.ones(2), torch.ones(3)
    assert [len(x) for x in leaves(([one, (two,)], {}, 3, Advance, three))] == [1, 2, 3]
