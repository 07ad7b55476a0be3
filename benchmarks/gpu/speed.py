"""Speed of trainings and searches, and that of transformers with equal batches; ``train.compile``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from nmt.config.model import RNNConfig, TransformerConfig
from nmt.models.flops import training_flops
from nmt.training.utilisation import lengths_of, matrix_peak

from .parts import Pairs, Setting, Training, apart, deterministic, engine, need, recurrent, transformer
from .record import Record, check

sys.path.append(str(Path(__file__).parents[1] / "contestants"))


# ------------------------------------------------------------------------------------------------------------- training


def base(setting: Setting, record: Record) -> None:
    Speed(setting, record, "base", 32000, 25000, 40000).measure(marian=True)


def big(setting: Setting, record: Record) -> None:
    if setting.tiny and not setting.named:
        record.attempt("all", partial(need, False, "the tiny form is that of base"))
        return
    Speed(setting, record, "big", 32000, 25000, 40000).measure(marian=True)


def small(setting: Setting, record: Record) -> None:
    Speed(setting, record, "small", 8000, 4096, 8000).measure(marian=False)
    for budget in (4096, 25000):
        speed = Speed(setting, record, "small", 8000, budget, 8000, recurrent)
        record.attempt(f"RNN, padded, eager, batches of {budget:,} tokens", partial(speed.ours, batching="padded"))


class Speed:
    """Trainings of one model with the same sentences, timed one after another.

    Args:
        section: makes the section ``model`` of a size.
    """

    def __init__(
        self, setting: Setting, record: Record, size: str, vocab: int, budget: int, count: int,
        section: Callable[[str], dict[str, Any]] = transformer,
    ):  # fmt: skip
        if setting.tiny:
            size, vocab, budget, count = "tiny", 200, 160, 100
        self.setting, self.record, self.budget = setting, record, budget
        self.section, self.pairs = section(size), Pairs(count, vocab, 20 if setting.tiny else 199)
        kind = RNNConfig if section is recurrent else TransformerConfig
        self.config = kind.model_validate(self.section)
        self.updates = 3 if setting.tiny else 12 if budget > 5000 else 60
        self.peak = matrix_peak(setting.device, setting.half) if setting.cuda else 1e11

    def measure(self, marian: bool) -> None:
        attempt = self.record.attempt
        attempt("peak of a matrix product, TFLOP/s", lambda: round(self.peak / 1e12, 1))
        attempt("nmt, padded, eager", partial(self.ours, batching="padded"))
        attempt("nmt, packed, eager", partial(self.ours, batching="packed", capture=False))
        attempt("nmt, packed, one CUDA graph", partial(self.ours, batching="packed"))
        if marian:
            attempt("MarianMTModel, sdpa, eager", self.marian)
        attempt("nmt, packed, one CUDA graph, compiled", partial(self.ours, batching="packed", compile=True))

    def ours(self, batching: str, capture: bool = True, compile: bool = False) -> dict[str, Any]:
        need(self.setting.cuda or not (batching == "packed" and capture), "a CUDA graph takes CUDA")
        made = Training(self.setting, self.pairs, self.section, self.budget, batching=batching, compile=compile)
        batches = [made.batches(number) for number in range(self.updates)]
        self._start_memory()

        def first() -> None:
            if not capture:
                made.updater.capturable = False
            made.prepare()
            made.update(batches[0])

        seconds = self.setting.clock(first)
        check(not capture or batching == "padded" or made.updater.captured is not None, f"not captured: {made.said}")
        for batch in batches:
            made.update(batch)
        found = self._timed(lambda number: made.update(batches[number]), [batch[0] for batch in batches])
        check(made.loss < 20, f"loss {made.loss}")
        return {**found, "s to the first update": round(seconds, 1)}

    def marian(self) -> dict[str, Any]:
        """MarianMTModel with nmt's padded batches; its loop is the one of the other benchmarks."""
        peer_marian, worker = _peer("peer_marian"), _peer("worker")
        reader = Training(self.setting, self.pairs, self.section, self.budget, batching="padded")
        batches = [reader.batches(number)[0] for number in range(self.updates)]
        peer = peer_marian.Marian()
        peer.device = self.setting.device
        task = {
            "model": {**self.section, "attention_dropout": 0.0, "activation_dropout": 0.0}, "batches": "",
            "vocab_size": self.pairs.vocab, "pad_id": 0, "bos_id": 2, "eos_id": 3, "clip_norm": 1.0,
            "optimizer": {"lr": 1e-4, "betas": [0.9, 0.98], "eps": 1e-8, "weight_decay": 0.0},
            "label_smoothing": 0.1, "precision": "bf16" if self.setting.cuda else "fp32", "attention": "sdpa",
        }  # fmt: skip
        read, worker.read_batches = worker.read_batches, lambda _: batches
        try:
            peer.build(task)
        finally:
            worker.read_batches = read
        self._start_memory()
        for number in range(self.updates):
            peer.update(number)
        return self._timed(peer.update, batches)

    def _start_memory(self) -> None:
        if self.setting.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def _timed(self, update: Callable[[int], Any], batches: Sequence[Any]) -> dict[str, Any]:
        """Time an update of each batch; the better of two rounds."""

        def every() -> None:
            for number in range(len(batches)):
                update(number)

        seconds = min(self.setting.clock(every) for _ in range(1 if self.setting.tiny else 2))
        tokens = sum(batch.tgt_tokens for batch in batches)
        work = sum(training_flops(self.config, self.pairs.vocab, *lengths_of(batch)) or 0.0 for batch in batches)
        found = {
            "target tokens/s": round(tokens / seconds),
            "MFU %": round(100 * work / seconds / self.peak, 1),
            "ms an update": round(1e3 * seconds / len(batches), 1),
        }
        memory = {"GiB": round(torch.cuda.max_memory_allocated() / 2**30, 1)} if self.setting.cuda else {}
        return {**found, **memory}


# -------------------------------------------------------------------------------------------------------------- compile


def compiled(setting: Setting, record: Record, shard: int = 1, shards: int = 1) -> None:
    """``train.compile: true``: seconds to the first update, recompilations, and the gradients of the eager training."""
    size = "tiny" if setting.tiny else "small"
    kinds: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "Transformer, packed": (transformer(size, dropout=0.0), {"batching": "packed"}),
        "Transformer, padded": (transformer(size, dropout=0.0), {"batching": "padded"}),
        "Transformer, packed, window": (
            transformer(size, dropout=0.0, attention_window=8), {"batching": "packed"},
        ),
        "Transformer, packed, dropout, R-Drop": (transformer(size), {"batching": "packed", "terms": {"r_drop": {}}}),
        "Transformer, packed, twice the same bits": (transformer(size), {"batching": "packed", "twice": True}),
        "RNN": (recurrent("tiny", dropout=0.0), {"batching": "padded"}),
    }  # fmt: skip
    names = ["Transformer, packed, dropout, R-Drop"] if setting.tiny and not setting.named else list(kinds)
    for name in names[shard - 1 :: shards]:
        model, train = kinds[name]
        record.attempt(name, partial(_compare_compiled, setting, model, train))


def _compare_compiled(setting: Setting, model: dict[str, Any], train: dict[str, Any]) -> dict[str, Any]:
    pairs, budget = (Pairs(60, 60, 20), 160) if setting.tiny else (Pairs(2000, 1000, 60), 2048)
    if model["type"] == "rnn":  # a loop over time is compiled step by step
        pairs, budget = Pairs(100, 60, 8), 160
    train = dict(train)
    twice, count = train.pop("twice", False), 2 if setting.tiny else 6
    from torch._dynamo import reset
    from torch._dynamo.utils import counters

    found: dict[str, Any] = {}
    moments = []
    for compile in (twice, True):
        reset()
        counters.clear()
        torch.manual_seed(1)
        made = Training(setting, pairs, model, budget, torch.float32, compile=compile, **train)
        if compile and setting.tiny:  # a compiler takes a minute on a CPU
            made.updater.forward = torch.compile(made.model, backend="eager", dynamic=not made.updater.packed)

        def first(made: Training = made) -> None:
            made.prepare()
            made.update(made.batches(0))

        with deterministic() if twice else nullcontext():
            seconds = setting.clock(first)
            graphs, moments_of_one = counters["stats"]["unique_graphs"], made.moments
            made.run(count)
        if compile:
            found = {"s to the first update": round(seconds, 1), "graphs": graphs,
                     "recompilations": counters["stats"]["unique_graphs"] - graphs,
                     "captured": made.updater.captured is not None}  # fmt: skip
            breaks = sum(counters["graph_break"].values())
            found |= {"graph breaks": breaks} if breaks else {}
        # After several updates rounding has grown: a ReLU near 0 may have another side
        moments.append(made.moments if twice else moments_of_one)
    off = apart(moments[1], moments[0])
    check(bool(torch.isfinite(moments[1]).all()), "gradients are not finite")
    if twice:
        check(off == 0, f"gradients of two compiled trainings differ by {off:.1e}")
    elif model["dropout"] == 0:  # else the draws of compiled dropout are others
        check(off < 1e-3, f"gradients differ by {off:.1e} from those of the eager training")
    return {**found, "gradients apart": f"{off:.1e}"}


# ------------------------------------------------------------------------------------------------------------- decoding


def decode(setting: Setting, record: Record) -> None:
    """Beam search of width 5 on a Transformer base with random weights, as many steps as the source has tokens."""
    vocab, size, count = (200, "tiny", 12) if setting.tiny else (32000, "base", 6000)
    pairs = Pairs(count, vocab, 20 if setting.tiny else 199)
    made = Training(setting, pairs, transformer(size), 512 if setting.tiny else 4096, batching="padded")
    model = made.model.eval()
    sources = [x.tolist() for x in pairs.sources]
    precision = setting.half if setting.cuda else None
    budget = 512 if setting.tiny else 262144
    for name, captured, few in (
        ("captured", True, count // 4),
        ("captured", True, count),
        ("eager", False, count // 4),
    ):
        record.attempt(
            f"beam 5, {few:,} sentences, {name}",
            partial(_searched, setting, model, sources[:few], budget, precision, captured),
        )
    for batch in (4,) if setting.tiny else (64, 256):
        middle = sorted(sources, key=len)[len(sources) // 2 :][:batch]
        record.attempt(
            f"beam 5, {batch} sentences, against generate", partial(_generate, setting, model, middle, budget)
        )


def _searched(
    setting: Setting, model: Any, sources: list[list[int]], budget: int, precision: Any, captured: bool
) -> dict[str, Any]:
    need(setting.cuda or not captured, "a captured search takes CUDA")
    searcher, limits = engine(setting, model, budget, precision, captured), [len(x) for x in sources]
    found: list[Any] = []
    seconds = []
    for _ in range(1 if setting.tiny else 3 if captured else 2):
        found.clear()
        seconds.append(setting.clock(lambda: found.extend(searcher.search(sources, limits, 1))))
    tokens = sum(len(hypotheses[0].tokens) + 1 for hypotheses in found if hypotheses)
    return {"tokens/s": round(tokens / min(seconds[1:] or seconds)), "first call, tokens/s": round(tokens / seconds[0])}


def _generate(setting: Setting, model: Any, sources: list[list[int]], budget: int) -> dict[str, Any]:
    """The same sentences by ``MarianMTModel.generate``, as many steps for all as the longest has tokens."""
    peer_marian = _peer("peer_marian")
    config = SimpleNamespace(**model.config.model_dump())
    section = {**vars(config), "attention_dropout": 0.0, "activation_dropout": 0.0}
    peer = peer_marian.build(section, len(model.output.weight), 0, 2, 3).to(setting.device).eval()
    peer = peer.to(torch.bfloat16) if setting.cuda else peer
    longest = max(map(len, sources))
    src = torch.tensor([[*x, 3, *[0] * (longest - len(x))] for x in sources], device=setting.device)

    def generate() -> None:
        with torch.inference_mode():
            peer.generate(
                input_ids=src, attention_mask=src.ne(0).long(), num_beams=5, max_new_tokens=longest,
                min_new_tokens=longest, do_sample=False,
            )  # fmt: skip

    searcher, limits = engine(setting, model, budget, setting.half if setting.cuda else None), [longest] * len(sources)
    times = []
    for work in (generate, lambda: searcher.search(sources, limits, 1)):
        calls = [setting.clock(work) for _ in range(2)]
        times.append(calls[-1])
    tokens = (longest + 1) * len(sources)
    return {"nmt, tokens/s": round(tokens / times[1]), "generate, tokens/s": round(tokens / times[0]),
            "ratio": round(times[0] / times[1], 2)}  # fmt: skip


def _peer(name: str) -> Any:
    """A module of benchmarks/contestants.

    Raises:
        Skipped: transformers is not installed.
    """
    need(find_spec("transformers") is not None, "transformers is not installed")
    return import_module(name)


# ---------------------------------------------------------------------------------------------------------------- facts


def facts(setting: Setting, record: Record) -> None:
    """Versions, and the peak of a matrix product in each precision."""
    record.attempt("versions", partial(_versions, setting))
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        name = str(dtype).removeprefix("torch.")
        record.attempt(f"peak of a matrix product, {name}, TFLOP/s", partial(_peak, setting, dtype))


def _peak(setting: Setting, dtype: torch.dtype) -> dict[str, float]:
    need(setting.cuda, "measured on CUDA only")
    started = time.perf_counter()
    peak = matrix_peak(setting.device, dtype)
    return {"TFLOP/s": round(peak / 1e12, 1), "measured in ms": round(1e3 * (time.perf_counter() - started), 1)}


def _versions(setting: Setting) -> dict[str, Any]:
    import os
    import platform

    found = {"torch": torch.__version__, "python": platform.python_version(), "cores": os.cpu_count()}
    if setting.cuda:
        found |= {"card": torch.cuda.get_device_name(), "cuDNN": torch.backends.cudnn.version()}
    return found
