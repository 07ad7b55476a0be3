"""Learning rates by hand."""

import math

import pytest

from nmt.config.schedule import SCHEDULES, ScheduleConfig
from nmt.config.train import OptimizerConfig, TrainConfig


def rate(step, name, cuts=0, **schedule):
    config = TrainConfig(
        max_steps=1000,
        optimizer=OptimizerConfig(lr=0.01),
        schedule=ScheduleConfig(name=name, warmup_steps=100, **schedule),
    )
    return config.learning_rate(step, cuts)


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_warms_up_linearly_to_the_peak(name):
    assert rate(1, name) == pytest.approx(0.0001)
    assert rate(50, name) == pytest.approx(0.005)
    assert rate(100, name) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("name", "step", "expected"),
    [
        ("inverse_sqrt", 400, 0.005),
        ("inverse_sqrt", 10_000, 0.001),
        ("linear", 550, 0.005),
        ("linear", 1000, 0.0),
        ("linear", 5000, 0.0),
        ("cosine", 550, 0.005),
        ("cosine", 325, 0.01 * (1 + math.cos(math.pi / 4)) / 2),
        ("constant", 900, 0.01),
    ],
)
def test_schedules_by_hand(name, step, expected):
    assert rate(step, name) == pytest.approx(expected, abs=1e-12)


def test_plateau_cuts_and_floor():
    assert rate(500, "plateau", cuts=2) == pytest.approx(0.0025)
    assert rate(500, "plateau", cuts=20, min_lr=1e-5) == 1e-5
    assert rate(1000, "cosine", min_lr=1e-4) == pytest.approx(1e-4)
