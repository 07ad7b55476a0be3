"""An update that does not fit into memory."""

import weakref
from types import SimpleNamespace

import pytest
import torch

from nmt import pipeline
from nmt.run import Run


@pytest.fixture
def trainers(task):
    """Two trainers of one task, without dropout."""
    config = task.config("transformer", model={"dropout": 0.0})
    prepared = pipeline.prepare(config)
    return [
        pipeline.build_trainer(config, Run.of(config), prepared, torch.device("cpu"), torch.float32) for _ in range(2)
    ]


def test_an_update_out_of_memory_is_made_of_halves(trainers, monkeypatch):
    ours, plain = trainers
    ours.model.load_state_dict(plain.model.state_dict())
    forward, made, alive = ours._forward, [], []

    def short_of_memory(batch):
        alive.append([made_before() is not None for made_before in made])
        result = forward(batch)
        if not made:
            made.extend(map(weakref.ref, result))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return result

    monkeypatch.setattr(ours, "_forward", short_of_memory)
    said = []
    monkeypatch.setattr(ours, "reporter", SimpleNamespace(line=said.append), raising=False)
    batch = ours.reader.read(ours.order.updates(0)[0][0])
    ours._update([batch])
    plain._update([batch])
    assert alive == [[], [False, False], [False, False]]  # what the failed pass had made is given back before
    assert "out of memory; the batch is split" in said[0]
    for one, other in zip(ours.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)
