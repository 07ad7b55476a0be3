"""The captured update makes the updates of the eager one, and its making leaves no trace.

A graph is stood for by the function that it would record; replays of real ones need a CUDA device.
"""

import gc
import weakref
from contextlib import nullcontext

import pytest
import torch

from nmt import pipeline
from nmt.errors import TrainingError
from nmt.run.directory import Run
from nmt.runtime.device import Place
from nmt.training import updater
from nmt.training.captured import Graphs


class Functions:
    """As :class:`Graphs`, without a device."""

    def __init__(self, device):
        self.device = device

    def warm_up(self, body):
        body()

    def record(self, body):
        """Nothing runs, and what is returned stays at its place, as with a graph."""
        place = []

        def replay():
            result = body()
            if result is None:
                return None
            if not place:
                place.append(result)
            place[0].copy_(result)
            return place[0]

        return replay


@pytest.fixture
def make(task, monkeypatch):
    """Trainers of packed batches, without and with a capture."""
    monkeypatch.setattr(updater, "Graphs", Functions)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda *_: torch.get_rng_state())
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, *_: torch.set_rng_state(state))

    def trainer(captured: bool, accumulate: int = 1, layer_drop: float = 0.0, **terms):
        train = {"batching": "packed", "accumulate": accumulate, "max_steps": 10, "terms": terms}
        config = task.config("transformer", train=train, model={"layer_drop": layer_drop})
        prepared = pipeline.prepare(config)
        made = pipeline.build_trainer(config, Run(config.run_dir), prepared, Place(torch.device("cpu"), torch.float32))
        made.updater.tell = print
        made.model.train()
        made.updater.capturable = captured
        return made

    return trainer


def capture(trainer):
    trainer.updater.capture(trainer.order.longest_batch(), trainer.window)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("accumulate", "terms"),
    [(1, {}), (3, {}), (3, {"r_drop": {}, "word_dropout": {}, "z_loss": 0.01}), (1, {"cutoff": {"kind": "span"}})],
)
def test_captured_updates_are_those_of_the_eager_trainer(make, accumulate, terms):
    states = []
    for captured in (False, True):
        trainer = make(captured, accumulate, **terms)
        torch.manual_seed(5)
        before = [p.detach().clone() for p in trainer.updater.parameters]
        capture(trainer)
        assert (trainer.updater.captured is not None) == captured
        assert all(torch.equal(p, old) for p, old in zip(trainer.updater.parameters, before, strict=True))
        assert trainer.window.tolist() == [0] * (9 + len(terms.keys() - {"word_dropout"}))
        updates = trainer.order.updates(0)
        for i in (0, 1, len(updates) - 1):  # the last one may have fewer batches
            trainer.update([trainer.reader.read(rows) for rows in updates[i]])
        states.append(
            (
                [p.detach() for p in trainer.updater.parameters],
                trainer.window.sums,
                [ok for _, ok in trainer.updater.recent],
            )
        )
    (eager, counted, finite), (captured, counted_too, finite_too) = states
    assert all(torch.allclose(one, other, atol=1e-7) for one, other in zip(eager, captured, strict=True))
    assert torch.allclose(counted, counted_too)
    assert [bool(ok) for ok in finite] == [bool(ok) for ok in finite_too] == [True] * 3


def test_an_update_that_is_not_finite_is_skipped(make):
    trainer = make(True)
    capture(trainer)
    batches = [trainer.reader.read(rows) for (rows,) in list(trainer.order.updates(0))[:3]]
    trainer.update([batches[0]])
    bias = trainer.model.decoder[0].feed_forward.inner.bias
    kept = bias[0].item()
    with torch.no_grad():
        bias[0] = torch.nan
    before = [p.detach().clone() for p in trainer.updater.parameters]
    trainer.update([batches[1]])
    with torch.no_grad():
        bias[0] = kept
    trainer.update([batches[2]])
    assert [bool(ok) for _, ok in trainer.updater.recent] == [True, False, True]
    assert trainer.window.sums[4] == 1
    assert trainer.window.sums[5] == batches[0].tgt_tokens + batches[2].tgt_tokens
    assert all(torch.isfinite(p).all() for p in trainer.updater.parameters)
    assert not torch.equal(before[0], trainer.updater.parameters[0])


def test_what_cannot_be_captured_runs_operation_by_operation(make, monkeypatch, capsys):
    trainer = make(True)

    def refused(*_):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(Functions, "record", refused)
    state = torch.get_rng_state()
    capture(trainer)
    assert trainer.updater.captured is None
    assert "was not captured as a CUDA graph and runs operation by operation: operation not" in capsys.readouterr().out
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in trainer.updater.parameters)

    def short_of_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Functions, "warm_up", short_of_memory)
    with pytest.raises(
        TrainingError, match=r"does not fit into the memory of cpu as one CUDA graph\. Lower train\.bat"
    ):
        capture(trainer)


def test_an_update_that_skips_layers_is_not_captured(make, capsys):
    trainer = make(True, layer_drop=0.5)
    capture(trainer)
    assert trainer.updater.captured is None
    assert capsys.readouterr().out == (
        "the update is not captured as a CUDA graph and runs operation by operation: model.layer_drop skips other "
        "layers in each batch\n"
    )
    trainer.update([trainer.reader.read(next(iter(trainer.order.updates(0)))[0])])
    assert trainer.window.sums[4] == 0


def test_graphs_have_these_methods():
    assert {name for name in vars(Functions) if name[0] != "_"} == {name for name in vars(Graphs) if name[0] != "_"}


def test_a_graph_keeps_what_its_function_refers_to(monkeypatch):
    """Its replays write there: if the memory were freed, a later tensor would be overwritten, or its bits counted."""

    class Graph:
        def replay(self):
            pass

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda *_, **__: nullcontext())

    def recorded():
        sums = torch.zeros(3)
        return Graphs(torch.device("cpu")).record(lambda: sums.add_(1).sum()), weakref.ref(sums)

    replay, sums = recorded()
    gc.collect()
    assert sums() is not None
    assert replay().item() == 3
