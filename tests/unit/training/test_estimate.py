"""The cost and the end of a training, against hand calculation and against the files of a run."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nmt import pipeline
from nmt.config.load import load_config
from nmt.config.train import TrainConfig
from nmt.run.directory import Run
from nmt.starting.measure import Measured
from nmt.training import estimate
from nmt.training.estimate import Cost, End
from nmt.training.plan import Pace

COST = Cost(
    parameters=10, memory=100, step_seconds=0.5, share=1.0, epoch_steps=60, validation_seconds=10.0,
    longest_validation=10.0, pictures=0.5, validation_lines=100, checkpoint=30, disk=100,
)  # fmt: skip


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        # 3 validations: after 100, 200 and the last step; 250 * 0.5 + 3 * 10 seconds
        ({"max_steps": 250, "validate_every": 100}, End(250, 3, 155.0)),
        # Each epoch has 60 steps
        ({"max_epochs": 2, "validate_every": "epoch"}, End(120, 2, 80.0)),
        # 100 steps and a validation take 60 seconds: 5 times in 5 minutes
        ({"max_minutes": 5.0, "validate_every": 100}, End(500, 5, 300.0)),
        # 90 seconds: 100 steps, a validation, 60 steps; then the validation of the last step
        ({"max_minutes": 1.5, "validate_every": 100}, End(160, 2, 100.0)),
        # The steps come first
        ({"max_minutes": 5.0, "max_steps": 100, "validate_every": 100}, End(100, 1, 60.0)),
        # 119 seconds: the time ends in the second validation
        ({"max_minutes": 119 / 60, "validate_every": 100}, End(200, 2, 120.0)),
        ({"max_epochs": None, "patience": 3, "schedule": {"name": "inverse_sqrt"}}, None),
    ],
)
def test_the_first_limit_ends_the_training(limits, expected):
    config = TrainConfig(**limits)
    found = estimate.end(config, Pace(COST.epoch_steps), COST)
    if expected is None:
        assert found is None
        return
    assert (found.steps, found.validations) == (expected.steps, expected.validations)
    assert found.seconds == pytest.approx(expected.seconds)


class Shaped:
    """A batch of a length."""

    def __init__(self, length):
        self.inputs = (torch.zeros(2, length), None)


@pytest.mark.parametrize(("device", "expected"), [("cpu", 7_000), ("cuda", 0)])
def test_memory_grows_like_the_root_of_the_number_of_shapes(monkeypatch, device, expected):
    """1,000 bytes for each unit of the root: 7,000 more from 9 to 100 shapes. Known shapes add nothing."""
    growth = estimate._Growth(torch.device(device))
    monkeypatch.setattr(estimate, "peak_memory", lambda _: 50_000 + 1000 * math.sqrt(len(growth.shapes)))
    for length in (1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9, 9):
        growth.add([Shaped(length)])
    assert growth.until(100) == pytest.approx(expected, abs=1)
    assert growth.until(5) == 0


def test_too_few_updates_say_nothing_of_the_growth(monkeypatch):
    growth = estimate._Growth(torch.device("cpu"))
    monkeypatch.setattr(estimate, "peak_memory", lambda _: 10**6 * len(growth.shapes))
    for length in (1, 2):
        growth.add([Shaped(length)])
    assert growth.until(100) == 0


def trainer(config, folder):
    place = pipeline.set_up(config.train, pipeline.ALONE)
    return pipeline.build_trainer(config, Run(Path(folder) / "run"), pipeline.prepare(config), place)


def test_the_sizes_are_those_of_the_files_of_a_run(place, tmp_path):
    cost = estimate.measure(trainer(load_config("c.yaml"), tmp_path))
    [folder] = sorted(Path("runs/c/checkpoints").glob("step-*"))[-1:]
    real = sum((folder / f"{name}.safetensors").stat().st_size for name in ("model", "ema", "optimizer"))
    assert cost.checkpoint == pytest.approx(real, rel=0.2)  # a tiny model: the names of its tensors take space
    assert cost.checkpoint < real
    # 2 best, 2 last, and one more while it is written; then the final model
    weights = 4 * cost.parameters
    assert cost.disk == 5 * cost.checkpoint + weights
    assert cost.memory > 50 << 20
    assert 0 < cost.step_seconds < 10
    assert 0 < cost.share <= 1
    assert cost.validation_lines == len(Path("valid.src").read_text(encoding="utf-8").splitlines())


def test_hypotheses_of_the_measured_search_are_as_long_as_their_references(place, tmp_path):
    """Also of a model that ends each hypothesis at once."""
    config = load_config("c.yaml")
    made = trainer(config.model_copy(update={"train": config.train.model_copy(update={"samples": 3})}), tmp_path)
    lengths: list[int] = []
    engine = type(made.validate.translator(made.model).engine)
    search = engine.search

    def noting(self, sources, limits, nbest):
        found = search(self, sources, limits, nbest)
        lengths.extend(len(hypotheses[0].tokens) for hypotheses in found)
        return found

    output, eos = made.model.output, made.validate.tokenizer.eos_id
    output.register_forward_hook(lambda module, inputs, logits: logits.index_fill(-1, torch.tensor(eos), 1e4))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "search", noting)
        cost = estimate.measure(made)
    assert len(output._forward_hooks) == 1
    assert sorted(lengths) == sorted(made.validate.lengths[1].tolist())
    assert 0 < cost.pictures < cost.validation_seconds < cost.longest_validation


def test_the_first_validation_may_last_until_the_limit_of_length():
    slow = replace(COST, longest_validation=16.0)
    config = TrainConfig(max_steps=250, validate_every=100)
    assert estimate.end(config, Pace(COST.epoch_steps), slow) == End(250, 3, 161.0)
    # 6 seconds more leave 96 s of 102: 100 steps, a validation of 10 s and 72 steps, then the last validation
    config = TrainConfig(max_minutes=102 / 60, validate_every=100)
    found = estimate.end(config, Pace(COST.epoch_steps), slow)
    assert (found.steps, found.validations, round(found.seconds, 3)) == (172, 2, 112.0)


def test_pictures_cost_the_same_for_any_validation_set():
    cost = replace(COST, validation_seconds=10.5, pictures=0.5)  # of 100 lines
    assert Measured(cost, 1.0, 100).validation_seconds(1000) == pytest.approx(100.5)
