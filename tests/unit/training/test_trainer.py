"""An update that does not fit into memory."""

import weakref

import pytest
import torch

from nmt import pipeline
from nmt.errors import TrainingError
from nmt.run.directory import Run
from nmt.runtime.device import Place


@pytest.fixture
def trainers(task):
    """Two trainers of one task, without dropout, with a term of the loss."""
    config = task.config("transformer", model={"dropout": 0.0}, train={"terms": {"z_loss": 0.01}})
    prepared = pipeline.prepare(config)
    place = Place(torch.device("cpu"), torch.float32)
    return [pipeline.build_trainer(config, Run(config.run_dir), prepared, place) for _ in range(2)]


def test_an_update_out_of_memory_is_made_of_halves(trainers, monkeypatch):
    ours, plain = trainers
    ours.model.load_state_dict(plain.model.state_dict())
    forward, made, alive = ours.updater.loss, [], []

    def short_of_memory(batch):
        alive.append([made_before() is not None for made_before in made])
        result = forward(batch)
        if not made:
            made.extend(map(weakref.ref, result))
            raise torch.OutOfMemoryError("CUDA out of memory")
        return result

    monkeypatch.setattr(ours.updater, "loss", short_of_memory)
    said = []
    monkeypatch.setattr(ours.updater, "tell", said.append)
    batch = ours.reader.read(ours.order.updates(0)[0][0])
    ours.update([batch])
    plain.update([batch])
    assert alive == [[], [False, False], [False, False]]  # what the failed pass had made is given back before
    assert "out of memory; the batch is split" in said[0]
    for one, other in zip(ours.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_the_longest_batch_is_tried_beside_the_optimizer_s_moments_and_leaves_no_trace(trainers, monkeypatch):
    trainer, _ = trainers
    for name in ("get_rng_state", "set_rng_state"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: None)
    before = [p.detach().clone() for p in trainer.updater.parameters]
    generator = torch.get_rng_state()
    tensors = []
    make = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda p: tensors.append(weakref.ref(t := make(p))) or t)
    forward = trainer.updater.loss

    def seen(batch):
        assert batch.rows.tolist() == trainer.order.longest_batch().tolist()
        assert sum(ref().numel() for ref in tensors) == 2 * sum(p.numel() for p in trainer.updater.parameters)
        return forward(batch)

    monkeypatch.setattr(trainer.updater, "loss", seen)
    trainer.updater.try_longest_batch(trainer.order.longest_batch())
    assert all(ref() is None for ref in tensors)
    assert all(p.grad is None for p in trainer.updater.parameters)
    assert all(torch.equal(p, old) for p, old in zip(trainer.updater.parameters, before, strict=True))
    assert not trainer.updater.optimizer.state
    assert torch.equal(torch.get_rng_state(), generator)

    def short_of_memory(batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(trainer.updater, "loss", short_of_memory)
    with pytest.raises(TrainingError, match="the longest batch does not fit into the memory of cpu"):
        trainer.updater.try_longest_batch(trainer.order.longest_batch())
