"""Whether limits and schedule fit each other, and what to raise so that a finished run trains further."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nmt.config import TrainConfig
from nmt.errors import ConfigError
from nmt.training.optim import learning_rate

if TYPE_CHECKING:
    from nmt.training.progress import Progress

LIMITS = ("max_steps", "max_epochs", "max_minutes", "patience")
FEW_LINES = 200  # of validation, below which BLEU moves by several points from chance
_HIGH = 0.1  # of the peak: a learning rate that a schedule with an end should not end at


def planned_steps(config: TrainConfig, epoch_steps: int) -> int | None:
    """The step at which the run ends at the latest; None where only time or patience ends it."""
    limits = [config.max_steps, config.max_epochs and config.max_epochs * epoch_steps]
    return min((limit for limit in limits if limit), default=None)


def end_of_schedule(config: TrainConfig) -> int | None:
    """The step at which the lowest rate is reached; None for a schedule without an end."""
    if config.schedule.name not in ("cosine", "linear"):
        return None
    return config.schedule.total_steps or config.max_steps


def mismatches(config: TrainConfig, steps: int | None, why: str = "") -> list[str]:
    """What does not fit, where a run ends after ``steps``.

    Args:
        why: how that is known, such as " (20 epochs of 15 steps)".
    """
    schedule, end = config.schedule, end_of_schedule(config)
    if steps is None:
        return []
    share = learning_rate(steps, config) / config.optimizer.lr
    lowest = schedule.min_lr / config.optimizer.lr
    if schedule.warmup_steps > steps:
        return [
            f"warning: train.schedule.warmup_steps ({schedule.warmup_steps:,}) is longer than the run, {steps:,} steps"
            f"{why}: the learning rate reaches {share:.0%} of its peak. Set it to about {max(1, steps // 10):,}"
        ]
    if end is not None and steps < end and share > max(_HIGH, 2 * lowest):
        return [
            f"warning: the {schedule.name} schedule ends at step {end:,}, but the run at step {steps:,}{why}: the "
            f"learning rate will still be {share:.0%} of its peak. Set train.schedule.total_steps to {steps:,}"
        ]
    if end is not None and steps > end:
        effect = f"the learning rate is {schedule.min_lr:.2e}" if schedule.min_lr else "they change nothing"
        return [
            f"warning: the {schedule.name} schedule ends at step {end:,}, but the run at step {steps:,}{why}; in the "
            f"steps between {effect}. Set train.schedule.total_steps to {steps:,}"
        ]
    return []


def expected(config: TrainConfig, epoch_steps: int, valid_lines: int) -> list[str]:
    """What is known to go wrong before the first step."""
    steps, why = planned_steps(config, epoch_steps), ""
    if steps is not None and steps != config.max_steps:
        why = f" ({config.max_epochs} epochs of {epoch_steps:,} steps)"
    found = mismatches(config, steps, why)
    if valid_lines < FEW_LINES:
        found.append(
            f"warning: the validation set has {valid_lines} lines: on fewer than {FEW_LINES}, BLEU moves by several "
            "points from chance, and it chooses the best checkpoint. Give data.valid more lines"
        )
    return found


def forecast(config: TrainConfig, progress: Progress, epoch_steps: int, steps_per_second: float) -> list[str]:
    """What ``max_minutes`` will do to the schedule at the speed so far."""
    if config.max_minutes is None:
        return []
    left = max(0.0, 60 * config.max_minutes - progress.seconds)
    steps = progress.step + int(left * steps_per_second)
    if steps >= (planned_steps(config, epoch_steps) or steps + 1):
        return []
    why = f" (max_minutes: {config.max_minutes:g}, at {steps_per_second:.3g} steps/s)"
    return [line for line in mismatches(config, steps, why) if steps <= (end_of_schedule(config) or steps)]


def result(config: TrainConfig, step: int) -> list[str]:
    """What the schedule had not done when the training ended."""
    share, end = learning_rate(step, config) / config.optimizer.lr, end_of_schedule(config)
    if step < config.schedule.warmup_steps:
        return [
            f"warning: the training ended in the warm-up (step {step:,} of {config.schedule.warmup_steps:,}): the "
            f"learning rate reached {share:.0%} of its peak"
        ]
    if end is not None and step < end and share > max(_HIGH, 2 * config.schedule.min_lr / config.optimizer.lr):
        return [
            f"warning: the learning rate was still {share:.0%} of its peak at the end: the {config.schedule.name} "
            f"schedule ends at step {end:,}"
        ]
    return []


def check_resumed(before: TrainConfig, now: TrainConfig, given: int | None, step: int) -> str | None:
    """Find what a resume does to the schedule; returns a line for people where it changes.

    Args:
        before: the settings of the run's last start, with the end of its schedule.
        now: the settings of this start, with the same end unless another was given.
        given: ``schedule.total_steps`` as the user gave it.

    Raises:
        ConfigError: a limit was raised, but the schedule has ended at rate 0, so that further steps change nothing.
    """
    old, end = end_of_schedule(before), end_of_schedule(now)
    if old is None or end is None:
        return None
    if old != end:
        return (
            f"warning: train.schedule.total_steps is {old:,} in the run, {end:,} now: the learning rate of step "
            f"{step + 1:,} is {learning_rate(step + 1, now):.2e} instead of {learning_rate(step + 1, before):.2e}; the "
            "steps already taken keep theirs"
        )
    raised = [key for key in LIMITS if getattr(before, key) != getattr(now, key)]
    beyond = given is None and now.max_steps is not None and now.max_steps > end
    if now.schedule.min_lr == 0 and (beyond or (raised and step >= end)):
        longer = now.max_steps if now.max_steps and now.max_steps > end else 2 * max(step, end)
        rate, key = learning_rate(step + 1, with_end(now, longer)), raised[0] if raised else "max_steps"
        raise ConfigError(
            f"train.{key}: the {now.schedule.name} schedule of this run ends at step {end:,} with a rate of 0: later "
            f"steps change nothing. To train further, stretch it with --set train.schedule.total_steps={longer}: "
            f"the rate of step {step + 1:,} is then {rate:.2e}, and the steps already taken keep theirs"
        )
    return None


def further(config: TrainConfig, progress: Progress) -> list[str]:
    """Overrides with which a training that has ended goes on: each limit that holds it, doubled."""
    raised: dict[str, float] = {}
    if config.max_steps and progress.step >= config.max_steps:
        raised["train.max_steps"] = 2 * progress.step
    if config.max_epochs and progress.epoch >= config.max_epochs:
        raised["train.max_epochs"] = 2 * progress.epoch
    if config.max_minutes and progress.seconds >= 60 * config.max_minutes:
        raised["train.max_minutes"] = math.ceil(20 * progress.seconds / 60) / 10
    if config.patience and progress.stale_validations >= config.patience:
        raised["train.patience"] = 2 * progress.stale_validations
    end, last = end_of_schedule(config), max(config.max_steps or 0, int(raised.get("train.max_steps", 0)))
    if end is not None and (progress.step >= end or last > end):
        raised["train.schedule.total_steps"] = max(last, 2 * progress.step) if progress.step >= end else last
    return [f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in raised.items()]


def with_end(config: TrainConfig, end: int) -> TrainConfig:
    return config.model_copy(update={"schedule": config.schedule.model_copy(update={"total_steps": end})})
