"""Limits and schedules that do not fit each other; expected rates by the formula of each schedule."""

import json
import math
from dataclasses import asdict
from types import SimpleNamespace

import pytest

from nmt.config.schedule import Descent, ScheduleConfig
from nmt.config.train import OptimizerConfig, TrainConfig
from nmt.errors import ConfigError
from nmt.training import plan
from nmt.training.plan import Pace
from nmt.training.progress import Progress


def config(name="cosine", warmup_steps=100, total_steps=None, min_lr=0.0, **limits):
    schedule = ScheduleConfig(name=name, warmup_steps=warmup_steps, total_steps=total_steps, min_lr=min_lr)
    return TrainConfig(optimizer=OptimizerConfig(lr=1e-3), schedule=schedule, **limits)


def at(step):
    return Pace(100, step=step)


def cosine(step, end, warmup=100):
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (end - warmup)))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"name": "inverse_sqrt", "warmup_steps": 1000, "max_epochs": 20},
         "warmup_steps (1,000) is longer than the run, 300 steps (20 epochs of 15 steps): the learning rate "
         "reaches 30%"),
        ({"name": "linear", "max_steps": 50}, "warmup_steps (100) is longer than the run, 50 steps: the learning rate "
         "reaches 50% of its peak. Set it to about 5"),
        ({"total_steps": 700, "max_epochs": 20}, "the cosine schedule ends at step 700, but the run at step 300 (20 "
         f"epochs of 15 steps): the learning rate will still be {cosine(300, 700):.0%} of its peak"),
        ({"total_steps": 200, "max_steps": 300}, "ends at step 200, but the run at step 300; in the steps between"),
        ({"max_steps": 300, "bidirectional_epochs": 20}, "bidirectional_epochs (20) last until step 300, and the run "
         "ends at step 300: no epoch is left for source to target alone"),
        ({"max_steps": 300, "bidirectional_epochs": 19}, None),
        ({"max_steps": 300}, None),
        ({"name": "inverse_sqrt", "max_steps": 300}, None),
        ({"total_steps": 310, "max_epochs": 20}, None),
        ({"total_steps": 700, "patience": 3}, None),
    ],
)  # fmt: skip
def test_what_is_known_before_the_first_step(settings, said):
    found = plan.expected(config(**settings), Pace(15), 1000)
    assert (said in found[0]) if said else not found


def test_few_validation_lines():
    assert "26 lines: with fewer than 200" in plan.expected(config(max_steps=300), Pace(15), 26)[0]


def test_a_time_limit_that_ends_before_the_schedule():
    limited = config(max_steps=1400, max_minutes=4)
    pace = Pace(100, step=50, seconds=15.0)
    [line] = plan.forecast(limited, pace, 3.0)  # 50 + 225 s * 3 = 725
    assert f"step 725 (max_minutes: 4, at 3 steps/s): the learning rate will still be {cosine(725, 1400):.0%}" in line
    assert plan.forecast(limited, pace, 100.0) == []
    both = config(max_minutes=4, bidirectional_epochs=8)
    [line] = plan.forecast(both, pace, 3.0, follows_clock=True)
    assert "(8) last until step 800, and the run ends at step 725 (max_minutes: 4, at 3 steps/s)" in line
    assert plan.forecast(config(max_minutes=4, bidirectional_epochs=7), pace, 3.0, follows_clock=True) == []
    assert plan.forecast(config(max_steps=1400), pace, 3.0) == []
    [line] = plan.forecast(config("inverse_sqrt", 1000, max_minutes=4), pace, 3.0)
    assert "warmup_steps (1,000) is longer than the run, 725 steps" in line


def test_what_the_schedule_had_not_done_at_the_end():
    [line] = plan.result(config(max_steps=1400), 725)
    assert f"still {cosine(725, 1400):.0%} of its peak" in line
    [line] = plan.result(config(max_steps=1400), 30)
    assert "ended in the warm-up (step 30 of 100): the learning rate reached 30% of its peak" in line
    assert plan.result(config(max_steps=1400), 1390) == []
    assert plan.result(config("inverse_sqrt", max_steps=1400), 725) == []


def test_a_schedule_at_rate_0_is_not_trained_further_without_a_choice():
    first, raised = config(total_steps=200, max_steps=200), config(total_steps=200, max_steps=400)
    with pytest.raises(ConfigError, match=r"later steps change nothing.*--set train.schedule.total_steps=400") as error:
        plan.check_resumed(first, raised, None, at(200))
    assert f"the rate of step 201 is then {1e-3 * cosine(201, 400):.2e}" in str(error.value)
    chosen = config(total_steps=400, max_steps=400)
    said = plan.check_resumed(first, chosen, 400, at(200))
    assert "total_steps is 200 in the run, 400 now" in said
    assert f"is {1e-3 * cosine(201, 400):.2e} instead of 0.00e+00" in said
    assert plan.check_resumed(first, first, None, at(100)) is None
    floor = [config(total_steps=200, max_steps=steps, min_lr=1e-5) for steps in (200, 400)]
    assert plan.check_resumed(*floor, None, at(200)) is None
    # A run that was started so resumes after an interruption.
    odd = config(total_steps=200, max_steps=400)
    assert plan.check_resumed(odd, odd, 200, at(300)) is None
    with pytest.raises(ConfigError, match=r"train\.max_minutes: the cosine"):
        plan.check_resumed(config(total_steps=200, max_minutes=1), config(total_steps=200, max_minutes=2), 200, at(200))


@pytest.mark.parametrize(
    ("before", "now", "pace", "end"),
    [
        # 20 epochs of 15 steps; max_steps is never reached
        ({"max_epochs": 10}, {"max_epochs": 20, "max_steps": 9000}, Pace(15, step=150), 300),
        ({"max_epochs": 10}, {"max_epochs": 20}, Pace(15, step=150), 300),
        ({"max_epochs": 10}, {"max_epochs": 20, "max_steps": 180}, Pace(15, step=150), 180),
        # 150 steps were 10 epochs of 15; another number of processes makes 30 of an epoch
        ({"max_epochs": 10}, {"max_epochs": 20}, Pace(30, epoch_start=-150, step=150), 450),
        # 150 steps took one minute
        ({"max_minutes": 1}, {"max_minutes": 3, "max_steps": 9000}, Pace(15, step=150, seconds=60.0), 450),
        ({"patience": 2, "max_steps": 9000}, {"patience": 4, "max_steps": 9000}, Pace(15, step=150), 300),
        ({"patience": 2, "max_steps": 200}, {"patience": 4, "max_steps": 200}, Pace(15, step=150), 200),
    ],
)
def test_a_schedule_is_stretched_to_the_step_at_which_the_run_will_end(before, now, pace, end):
    first, raised = (config(total_steps=140, **limits) for limits in (before, now))
    with pytest.raises(ConfigError, match=rf"--set train\.schedule\.total_steps={end}:"):
        plan.check_resumed(first, raised, None, pace)
    stretched = plan.with_end(raised, end)
    if "max_epochs" in now:  # the advice is not contradicted by the next start
        assert plan.expected(stretched, pace, 1000) == []


def test_a_schedule_that_ends_after_the_run_is_not_stretched():
    first, raised = config(total_steps=800, max_epochs=10), config(total_steps=800, max_epochs=20, max_steps=9000)
    assert plan.check_resumed(first, raised, None, Pace(15, step=150)) is None  # it ends at step 300


@pytest.mark.parametrize(
    ("settings", "progress", "expected"),
    [
        ({"name": "constant", "max_steps": 80}, {"step": 80}, ["train.max_steps=160"]),
        ({"name": "constant", "max_steps": 80, "patience": 2}, {"step": 12, "stale_validations": 2},
         ["train.patience=4"]),
        ({"name": "constant", "max_epochs": 3}, {"step": 12, "epoch": 3}, ["train.max_epochs=6"]),
        ({"name": "constant", "max_minutes": 0.5}, {"step": 12, "seconds": 31.0}, ["train.max_minutes=1.1"]),
        ({"max_steps": 800, "total_steps": 800}, {"step": 800},
         ["train.max_steps=1600", "train.schedule.total_steps=1600"]),
        ({"max_epochs": 8, "total_steps": 800}, {"step": 960, "epoch": 8},
         ["train.max_epochs=16", "train.schedule.total_steps=1920"]),
        ({"max_epochs": 8, "max_steps": 50000, "total_steps": 800}, {"step": 960, "epoch": 8},
         ["train.max_epochs=16", "train.schedule.total_steps=1920"]),
        ({"max_epochs": 8, "max_steps": 1500, "total_steps": 1500}, {"step": 960, "epoch": 8},
         ["train.max_epochs=16"]),
        ({"max_epochs": 8, "total_steps": 1500}, {"step": 960, "epoch": 8},
         ["train.max_epochs=16", "train.schedule.total_steps=1920"]),
        ({"max_minutes": 1, "max_steps": 50000, "total_steps": 800}, {"step": 900, "seconds": 60.0},
         ["train.max_minutes=2", "train.schedule.total_steps=1800"]),
        ({"patience": 1, "max_steps": 50000, "total_steps": 800}, {"step": 900, "stale_validations": 1},
         ["train.patience=2", "train.schedule.total_steps=1800"]),
        ({"max_steps": 800, "patience": 1}, {"step": 800, "stale_validations": 1},
         ["train.max_steps=1600", "train.patience=2", "train.schedule.total_steps=1600"]),
        ({"max_steps": 800, "patience": 1}, {"step": 300, "stale_validations": 1}, ["train.patience=2"]),
    ],
)  # fmt: skip
def test_what_to_raise(settings, progress, expected):
    reached = Progress(**progress)
    order = SimpleNamespace(length=lambda epoch: (120, True), accumulate=1, examples=None)
    assert plan.further(config(**settings), reached, Pace.of(reached, order)) == expected


def test_unequal_epochs_of_a_mixture_are_counted():
    lengths = [4, 20, 5, 6]
    order = SimpleNamespace(
        length=lambda epoch: (lengths[epoch], True), accumulate=2, examples=(), steps=lambda n: sum(lengths[:n])
    )
    for epoch, position, step in ((0, 0, 0), (1, 7, 8), (2, 0, 24), (3, 12, 35)):
        pace = Pace.of(Progress(step=step, epoch=epoch, position=position), order)
        assert pace.epoch_start == 0
        assert plan.planned_steps(config(max_epochs=4), pace) == 35
    first = config(max_epochs=4, total_steps=35)
    assert plan.check_resumed(first, first, None, Pace.of(Progress(step=8, epoch=1, position=7), order)) is None
    stages = [("a", 0), ("b", 1), ("c", 3)]
    assert plan.unread(config(max_epochs=4), Pace.of(Progress(), order), stages) == []
    [line] = plan.unread(config(max_steps=20), Pace.of(Progress(), order), stages)
    assert "stage c would begin at step 29, but the run ends at step 20" in line


@pytest.mark.parametrize(
    ("limits", "end"),
    [
        ({"max_steps": 900}, 900),
        ({"max_epochs": 20}, 300),  # 20 epochs of 15 steps
        ({"max_epochs": 20, "max_steps": 900}, 300),
        ({"max_epochs": 20, "max_steps": 200, "max_minutes": 1}, 200),
        ({"max_epochs": 2}, 100),  # 30 steps, within the warmup of 100
        ({"max_minutes": 1}, None),
        ({"max_epochs": 20, "total_steps": 700}, 700),
        ({"max_epochs": 20, "name": "constant"}, None),
    ],
)
def test_the_end_that_is_known_before_the_first_step(limits, end):
    assert plan.with_known_end(config(**limits), lambda epochs: 15 * epochs).schedule_end == end


def test_the_end_in_steps_is_that_of_max_steps_alone_where_this_is_asked_for():
    schedule = ScheduleConfig(name="cosine", end="max_steps")
    limited = TrainConfig(max_steps=900, max_epochs=20, max_minutes=1, schedule=schedule)
    assert plan.with_known_end(limited, lambda epochs: 15 * epochs).schedule_end == 900
    assert not limited.follows_clock
    assert config(max_steps=900, max_minutes=1).follows_clock
    assert not config(max_steps=900, max_minutes=1, total_steps=900).follows_clock
    assert not config("inverse_sqrt", max_minutes=1).follows_clock


def test_a_schedule_that_ends_with_the_time_is_aimed_without_a_jump():
    timed = config(max_minutes=2)
    assert timed.learning_rate(500) == 1e-3  # before the first estimate
    first = plan.aim(timed, 10, 2.0, None)  # 118 s left at 5 steps/s: the run ends at step 600
    assert first == Descent(100, 0.0, 600, 2)
    assert timed.learning_rate(350, descent=first) == pytest.approx(0.5e-3)  # halfway
    # Half the steps are made, but the pace has become slower: 350 steps in 80 s, 175 more in the 40 s left.
    second = plan.aim(timed, 350, 80.0, first)
    assert second == Descent(350, 0.5, 525, 2)
    assert timed.learning_rate(350, descent=second) == pytest.approx(0.5e-3)
    assert timed.learning_rate(525, descent=second) == pytest.approx(0.0, abs=1e-12)
    share = 0.5 + 0.5 * 35 / 175
    assert timed.learning_rate(385, descent=second) == pytest.approx(1e-3 * (1 + math.cos(math.pi * share)) / 2)
    assert plan.aim(timed, 525, 120.0, second) == Descent(525, 1.0, 526, 2)  # over


def test_the_first_limit_ends_the_schedule():
    both = config(max_steps=600, max_minutes=2)
    assert plan.aim(both, 10, 1.0, None) is None  # time for 1,200 steps: the end stays that of max_steps
    slow = plan.aim(both, 200, 60.0, None)  # time for 400
    assert slow == Descent(200, 0.2, 400, 2)
    assert plan.aim(both, 300, 70.0, slow) == Descent(300, pytest.approx(0.6), 514, 2)  # 50 s at 300/70 steps/s: 214
    assert plan.aim(both, 400, 60.0, slow).end == 600  # faster again


def test_the_end_is_estimated_at_few_points_of_the_time():
    due = [second for second in range(1, 101) if plan.aim_is_due(100 / 60, second - 1, second)]
    assert due == [2, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95]
    assert plan.aim_is_due(100 / 60, 3.0, 12.0)
    assert not plan.aim_is_due(100 / 60, 20.0, 20.0)


def test_a_schedule_that_ended_with_the_time_is_not_trained_further_without_a_choice():
    before, now, descent = config(max_minutes=1), config(max_minutes=2), Descent(300, 0.9, 410, 1)
    pace = Pace(100, step=400, seconds=60.0)
    with pytest.raises(ConfigError, match=r"train\.max_minutes: the cosine.*--set train\.schedule\.total_steps=800"):
        plan.check_resumed(before, now, None, pace, descent)
    said = plan.check_resumed(before, plan.with_end(now, 800), 800, pace, descent)
    assert "total_steps is 410 in the run, 800 now" in said
    assert f"instead of {before.learning_rate(401, descent=descent):.2e}" in said
    # In the middle of the run the schedule is aimed at the new limit instead.
    assert plan.check_resumed(before, now, None, Pace(100, step=300, seconds=40.0), descent) is None
    reached = Progress(step=400, seconds=60.0, descent=descent)
    assert plan.further(before, reached, pace) == ["train.max_minutes=2", "train.schedule.total_steps=800"]


def test_the_way_to_the_lowest_rate_is_kept_in_plain_data():
    progress = Progress(step=4, descent=Descent(2, 0.25, 9, 1.5))
    assert Progress(**json.loads(json.dumps(asdict(progress)))) == progress


def test_every_schedule_keeps_the_rates_of_the_steps_taken_when_max_steps_is_raised():
    for name in ("inverse_sqrt", "cosine", "linear", "constant", "plateau"):
        end = 200 if name in ("cosine", "linear") else None
        before, after = (config(name, total_steps=end, max_steps=steps) for steps in (200, 400))
        assert [before.learning_rate(s) for s in range(1, 201)] == [after.learning_rate(s) for s in range(1, 201)]


# ------------------------------------------------------------------------------------------------------------- outlook


@pytest.mark.parametrize(
    ("limits", "last", "state", "expected"),
    [
        # 900 of 2,000 steps at 10 a second: 110 s are left.
        ({"max_steps": 2000}, 2000, (900, 95.0, 10.0), (0.45, "step 900 of 2,000", 110.0)),
        # 60 of 240 s; the steps alone would take 110 s more.
        ({"max_steps": 2000, "max_minutes": 4}, 2000, (900, 60.0, 10.0), (0.45, "step 900 of 2,000", 110.0)),
        # The same at 2 steps a second: 550 s for the steps, so the time ends the run.
        ({"max_steps": 2000, "max_minutes": 4}, 2000, (900, 60.0, 2.0), (0.25, "step 900, 1.0 of 4 min", 180.0)),
        ({"max_minutes": 0.5}, None, (7, 45.0, 1.0), (1.0, "step 7, 0.5 of 0.5 min", 0.0)),
        # Only patience: no end is known.
        ({"name": "constant", "patience": 3}, None, (1234, 60.0, 10.0), (None, "step 1,234", None)),
        # No step yet in this start: only the time is known.
        ({"max_steps": 100, "max_minutes": 10}, 100, (50, 60.0, 0.0), (0.1, "step 50, 1.0 of 10 min", 540.0)),
        # An epoch had more steps than expected.
        ({"max_epochs": 2}, 100, (103, 60.0, 1.0), (1.0, "step 103 of 103", 0.0)),
    ],
)  # fmt: skip
def test_the_limit_that_ends_the_run_gives_the_bar_its_total(limits, last, state, expected):
    found = plan.outlook(config(**limits), last, *state)
    assert (found.share, found.text, found.left) == expected
