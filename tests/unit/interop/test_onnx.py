"""The two graphs of an export to ONNX, run by PyTorch, and the program that searches with them."""

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from nmt.config.search import SearchConfig
from nmt.data.sentencepiece_model import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from nmt.interop.onnx_graphs import NEXT, DecoderGraph, EncoderGraph, parts, write_graphs
from nmt.models.build import build_model
from nmt.translation.pytorch import TorchEngine
from tests.unit.models.test_seq2seq import CONFIGS, VOCAB, batch

EXPORTED = {name: config for name, config in CONFIGS.items() if "window" not in name and "options" not in name}
IDS = {"pad": PAD_ID, "unk": UNK_ID, "bos": BOS_ID, "eos": EOS_ID}


def model_of(config):
    torch.manual_seed(0)
    return build_model(config, VOCAB, VOCAB, PAD_ID).eval()


class Session:
    """A graph under the interface of ``onnxruntime.InferenceSession``."""

    def __init__(self, graph, inputs, outputs):
        self.graph, self.inputs, self.outputs = graph, inputs, outputs

    def get_inputs(self):
        return [SimpleNamespace(name=name) for name in self.inputs]

    def get_outputs(self):
        return [SimpleNamespace(name=name) for name in self.outputs]

    @torch.no_grad()
    def run(self, _, feed):
        given = [torch.from_numpy(np.ascontiguousarray(feed[name])) for name in self.inputs]
        if isinstance(self.graph, DecoderGraph):
            given = [*given[:2], given[2:]]
        return [tensor.numpy() for tensor in self.graph(*given)]


@pytest.fixture
def translate(monkeypatch):
    """The program of an export, without onnxruntime."""
    monkeypatch.setitem(sys.modules, "onnxruntime", sys.modules.get("onnxruntime") or ModuleType("onnxruntime"))
    from nmt.interop import onnx_translate

    return onnx_translate


def translator(translate, model, **search):
    given = parts(model)
    names, states = [part.name for part in given], [NEXT + part.name for part in given if part.changes]
    found = translate.Translator.__new__(translate.Translator)
    found.encoder = Session(EncoderGraph(model), ["src", "src_mask"], names)
    found.decoder = Session(DecoderGraph(model), ["tokens", "src_mask", *names], ["log_probs", *states])
    found.given, found.read = names, {"tokens", "src_mask", *names}
    found.written = ["log_probs", *states]
    found.about = {"ids": IDS, "max_target_tokens": model.config.max_target_tokens, "search": search}
    return found


@torch.no_grad()
@pytest.mark.parametrize("name", EXPORTED)
def test_steps_of_the_graphs_equal_teacher_forcing(translate, name):
    model = model_of(EXPORTED[name])
    src, src_mask, tgt_in = batch()
    expected = model.project(model(src, src_mask, tgt_in)).log_softmax(-1).numpy()  # [B, T, V]
    found = translator(translate, model)
    state = found.start([row[row != PAD_ID][:-1].tolist() for row in src])  # without eos
    for t in range(tgt_in.size(1)):
        log_probs = found.step(tgt_in[:, t].numpy(), state)
        np.testing.assert_allclose(log_probs, expected[:, t], atol=1e-5)


@pytest.mark.interop("onnx")
@pytest.mark.parametrize(
    "name", ["transformer-swiglu-rotary", "rnn-local-hops-input-feeding", "recurrent-lstm-deep-to-rnn"]
)
def test_onnxruntime_runs_the_graphs_with_any_sizes(tmp_path, name):
    import onnxruntime

    model = model_of(EXPORTED[name])
    fixed, changing = write_graphs(model, tmp_path)
    encoder, decoder = (onnxruntime.InferenceSession(tmp_path / f"{part}.onnx") for part in ("encoder", "decoder"))
    for rows, length, steps in ((1, 1, 1), (1, 9, 12), (5, 3, 2)):
        src, tgt_in = (torch.randint(4, VOCAB, (rows, size)) for size in (length, steps))
        mask = torch.ones_like(src, dtype=torch.bool)
        with torch.no_grad():
            expected = model.project(model(src, mask, tgt_in)).log_softmax(-1).numpy()
        outputs = encoder.run([*fixed, *changing], {"src": src.numpy(), "src_mask": mask.numpy()})
        state = {"src_mask": mask.numpy(), **dict(zip([*fixed, *changing], outputs, strict=True))}
        read = {each.name for each in decoder.get_inputs()}
        for t in range(steps):
            feed = {"tokens": tgt_in[:, t].numpy(), **{key: each for key, each in state.items() if key in read}}
            log_probs, *after = decoder.run(["log_probs", *(NEXT + each for each in changing)], feed)
            np.testing.assert_allclose(log_probs, expected[:, t], atol=1e-4)
            state.update(zip(changing, after, strict=True))


@pytest.mark.parametrize(("width", "penalty", "alpha"), [(1, "gnmt", 1.0), (2, "none", 0.0), (4, "average", 1.0)])
@pytest.mark.parametrize("name", ["transformer", "rnn-additive", "rnn-lstm-deep-input-feeding"])
def test_the_program_finds_what_the_run_finds(translate, name, width, penalty, alpha):
    model = model_of(EXPORTED[name])
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.7)  # far from uniform
    sources = [np.random.default_rng(n).integers(4, VOCAB, 1 + n % 6).tolist() for n in range(30)]
    limits = {"max_length_ratio": 2.0, "max_length_offset": 3}
    search = {"length_penalty": penalty, **({"alpha": alpha} if penalty != "none" else {})}
    config = SearchConfig(beam_size=width, **search, **limits)
    tokenizer = SimpleNamespace(pad_id=PAD_ID, unk_id=UNK_ID, bos_id=BOS_ID, eos_id=EOS_ID)
    found = translator(translate, model, length_penalty=penalty, alpha=alpha, **limits)
    longest = [found.longest(len(source)) for source in sources]
    assert longest[:2] == [5, 7]
    ours = TorchEngine(model, tokenizer, config, torch.device("cpu")).search(sources, longest, 1)
    theirs = found.search(sources, width)
    assert len({len(tokens) for tokens, _ in theirs}) > 3
    for [one], (tokens, score) in zip(ours, theirs, strict=True):
        assert one.tokens == tokens
        assert score == pytest.approx(one.score, abs=1e-5)
