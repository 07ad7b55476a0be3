"""Check that limits and schedule fit each other, and find the limits to raise so that a finished run trains further."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from nmt.config.schedule import Descent
from nmt.config.train import TrainConfig
from nmt.errors import ConfigError
from nmt.numbers import count_of, plain

if TYPE_CHECKING:
    from nmt.data.order import TrainingOrder
    from nmt.training.progress import Progress

LIMITS = ("max_steps", "max_epochs", "max_minutes", "patience")
FEW_LINES = 200  # of validation, below which BLEU varies by several points by chance
POINTS = (0.02, 0.05, *(n / 10 for n in range(1, 10)), 0.95)  # of max_minutes, at which the last step is estimated
_HIGH = 0.1  # of the peak: a learning rate that a schedule with an end should not end at


@dataclass(frozen=True)
class Pace:
    """Progress of a training, from which the step follows at which a limit will end it.

    Attributes:
        epoch_steps: updates per epoch; of a mixture, of the present epoch.
        epoch_start: step at which epoch 0 would have begun with updates of this size; 0 unless the size has changed.
        step: updates so far.
        seconds: training time so far.
        total: counts the updates of the first n epochs of a mixture, whose epochs differ; None: all epochs are alike.
    """

    epoch_steps: int
    epoch_start: int = 0
    step: int = 0
    seconds: float = 0.0
    total: Callable[[int], int] | None = None

    @classmethod
    def of(cls, progress: Progress, order: TrainingOrder) -> Pace:
        """Compute the pace.

        Args:
            order: of the training, whose ``accumulate`` batches are an update, over all ranks.
        """
        steps, mixed = order.length(progress.epoch)[0], order.examples is not None
        before = order.steps(progress.epoch) if mixed else progress.epoch * steps
        taken = before + math.ceil(progress.position / order.accumulate)
        return cls(steps, progress.step - taken, progress.step, progress.seconds, order.steps if mixed else None)

    def end(self, epochs: int) -> int:
        """The step at which ``epochs`` epochs end."""
        return self.epoch_start + (epochs * self.epoch_steps if self.total is None else self.total(epochs))


def planned_steps(config: TrainConfig, pace: Pace) -> int | None:
    """The last step that the limits allow; None if only time or patience ends the run."""
    limits = [config.max_steps, config.max_epochs and pace.end(config.max_epochs)]
    return min((limit for limit in limits if limit), default=None)


@dataclass(frozen=True)
class Outlook:
    """The progress of a training towards the limit that will end it.

    Attributes:
        share: of the way to that limit, between 0 and 1; None if only ``patience`` ends the training.
        text: what is done of how much, such as ``step 900 of 2,000``.
        left: seconds to the limit at the pace of this start; None if that is not known.
    """

    share: float | None
    text: str
    left: float | None


def outlook(config: TrainConfig, last: int | None, step: int, seconds: float, rate: float) -> Outlook:
    """Compute the progress of a training.

    Args:
        last: the last step that ``max_steps`` and ``max_epochs`` allow, see :func:`planned_steps`.
        seconds: training time so far, with validations.
        rate: steps per second of this start, with validations; 0 if that is not known.
    """
    found: list[Outlook] = []
    if last is not None:
        last = max(last, step)
        left = (last - step) / rate if rate > 0 else None
        found.append(Outlook(step / last if last else 1.0, f"step {step:,} of {last:,}", left))
    if config.max_minutes is not None:
        limit = 60 * config.max_minutes
        left = max(0.0, limit - seconds)
        text = f"step {step:,}, {min(seconds, limit) / 60:.1f} of {plain(config.max_minutes, 6)} min"
        found.append(Outlook(min(1.0, seconds / limit), text, left))
    if not found:
        return Outlook(None, f"step {step:,}", None)
    return min(found, key=lambda one: math.inf if one.left is None else one.left)


def with_known_end(config: TrainConfig, steps: Callable[[int], int]) -> TrainConfig:
    """Fill in the end of a schedule that ends with the run, where ``max_steps`` or ``max_epochs`` gives it.

    Args:
        steps: counts the updates of the first n epochs; called only if the number is needed.
    """
    schedule = config.schedule
    if not schedule.ends or schedule.end != "run" or schedule.total_steps is not None:
        return config
    ends = [config.max_steps, steps(config.max_epochs) if config.max_epochs else None]
    end = min((end for end in ends if end), default=None)
    return with_end(config, max(end, schedule.warmup_steps)) if end else config


def aim(config: TrainConfig, step: int, seconds: float, descent: Descent | None) -> Descent | None:
    """Let a schedule end where the run does: with ``max_minutes`` at the pace so far, or before at ``schedule_end``.

    The learning rate does not jump: the share that is done at ``step`` stays, and the rest of the way changes.

    Args:
        step, seconds: progress of the training, both above 0.
        descent: the present one; None for the one to ``schedule_end``.
    """
    ends = [config.schedule_end]
    if config.max_minutes is not None:
        left = max(0.0, 60 * config.max_minutes - seconds)
        ends.append(step + max(1, round(left * step / seconds)))
    end = min((end for end in ends if end), default=None)
    present = descent or config.descent
    if end is None or (present is not None and present.end == end):
        return descent
    start = max(step, config.schedule.warmup_steps)
    done = present.at(start) if present is not None else 0.0
    return Descent(start, done, max(end, start + 1), config.max_minutes)


@dataclass(frozen=True)
class Replay:
    """The recorded decays of a schedule that followed the clock, for a training that is repeated.

    Attributes:
        descents: each begins at its ``step``; before the end of the warmup none has an effect.
        has_end: whether the schedule had an end before the first of them, or has none at all.
    """

    descents: Sequence[Descent] = ()
    has_end: bool = True

    def at(self, step: int) -> Descent | None:
        """The decay after ``step`` updates; None for that of the configuration."""
        if found := [one for one in self.descents if one.step <= step]:
            return found[-1]
        return None if self.has_end else Descent(step + 1, 0.0, step + 2)  # nothing of the way is done


def aim_is_due(max_minutes: float, before: float, now: float) -> bool:
    """Whether one of ``POINTS`` lies between two training times, in seconds."""
    return any(before < 60 * max_minutes * point <= now for point in POINTS)


def expected_end(config: TrainConfig, pace: Pace, patience: bool) -> int:
    """Estimate the step at which a resumed run ends; it is later than ``pace.step``.

    ``max_minutes`` is converted at the speed so far.

    Args:
        patience: whether only ``patience`` ended the run or is raised; then twice the steps so far are expected.
    """
    ends = [planned_steps(config, pace)]
    if config.max_minutes and pace.seconds > 0:
        ends.append(int(pace.step * 60 * config.max_minutes / pace.seconds))
    if patience or not any(ends):
        ends.append(2 * pace.step)
    return max(pace.step + 1, min(end for end in ends if end))


def mismatches(config: TrainConfig, steps: int | None, why: str = "") -> list[str]:
    """Warn of a warmup or a schedule that does not fit a run of ``steps``.

    Args:
        why: the origin of ``steps``, such as " (20 epochs of 15 steps)".
    """
    schedule, end = config.schedule, config.schedule_end
    if steps is None:
        return []
    share = config.learning_rate(steps) / config.optimizer.lr
    lowest = schedule.min_lr / config.optimizer.lr
    # Warm-up or schedule longer than the run, or run longer than the schedule
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


def both_directions(config: TrainConfig, pace: Pace, steps: int | None, why: str) -> list[str]:
    """Warn of a run of ``steps`` without an epoch from source to target alone; ``why`` as in :func:`mismatches`."""
    epochs = config.bidirectional_epochs
    if epochs is None or steps is None or steps > (end := pace.end(epochs)):
        return []
    return [
        f"warning: train.bidirectional_epochs ({epochs}) last until step {end:,}, and the run ends at step {steps:,}"
        f"{why}: no epoch is left for source to target alone. Lower it, to about a third of the run"
    ]


def unread(config: TrainConfig, pace: Pace, stages: Sequence[tuple[str, int]]) -> list[str]:
    """Warn of a stage that would begin after the end of the run; ``stages`` have a name and a first epoch each."""
    if (last := planned_steps(config, pace)) is None:
        return []
    late = ((name, step) for name, epoch in stages if epoch and (step := pace.end(epoch)) >= last)
    return [
        f"warning: stage {name} would begin at step {step:,}, but the run ends at step {last:,}: it is never read. "
        "Shorten the stages before it, or train longer"
        for name, step in islice(late, 1)
    ]


def expected(config: TrainConfig, pace: Pace, valid_lines: int, stages: Sequence[tuple[str, int]] = ()) -> list[str]:
    """Warn, before the first step, of a schedule, stages, directions or a validation set that do not fit.

    Args:
        stages: of a mixture: their names and first epochs.
    """
    steps, why = planned_steps(config, pace), ""
    if steps is not None and steps != config.max_steps:
        why = f" ({count_of(config.max_epochs or 0, 'epoch')}{'' if pace.total else f' of {pace.epoch_steps:,} steps'})"
    found = mismatches(config, steps, why) + both_directions(config, pace, steps, why) + unread(config, pace, stages)
    if valid_lines < FEW_LINES:
        found.append(
            f"warning: the validation set has {count_of(valid_lines, 'line')}: with fewer than {FEW_LINES}, BLEU "
            "varies by several points by chance, and BLEU chooses the best checkpoint. Give data.valid more lines"
        )
    return found


def forecast(config: TrainConfig, pace: Pace, steps_per_second: float, follows_clock: bool = False) -> list[str]:
    """Warn of a schedule, or of epochs in both directions, that ``max_minutes`` will cut short at this start's speed.

    Args:
        follows_clock: the schedule ends with ``max_minutes``; only its warmup may be too long.
    """
    if config.max_minutes is None:
        return []
    left = max(0.0, 60 * config.max_minutes - pace.seconds)
    steps = pace.step + int(left * steps_per_second)
    if steps >= (planned_steps(config, pace) or steps + 1):
        return []
    why = f" (max_minutes: {plain(config.max_minutes, 6)}, at {plain(steps_per_second)} steps/s)"
    found = both_directions(config, pace, steps, why)
    if follows_clock and steps > config.schedule.warmup_steps:
        return found
    return found + [line for line in mismatches(config, steps, why) if steps <= (config.schedule_end or steps)]


def result(config: TrainConfig, step: int, descent: Descent | None = None) -> list[str]:
    """Warn of a schedule that had not come to its end when the training ended."""
    share = config.learning_rate(step, descent=descent) / config.optimizer.lr
    end = descent.end if descent is not None else config.schedule_end
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


def check_resumed(
    before: TrainConfig, now: TrainConfig, given: int | None, pace: Pace, descent: Descent | None = None
) -> str | None:
    """Check what a resume does to the schedule; return a warning where it changes.

    Args:
        before: the settings of the run's last start, with the end of its schedule.
        now: the settings of this start, with the same end unless another was given.
        given: ``schedule.total_steps`` as the user gave it.
        descent: that of the last checkpoint, if it follows ``max_minutes``.

    Raises:
        ConfigError: a limit was raised, but the schedule has ended at rate 0, so that further steps change nothing.
    """
    step, old, end = pace.step, before.schedule_end, now.schedule_end
    if descent is not None:
        old = descent.end
        end = end if given is not None else old
    if old is None or end is None:
        return None
    if old != end:
        former = before.learning_rate(step + 1, descent=descent)
        return (
            f"warning: train.schedule.total_steps is {old:,} in the run, {end:,} now: the learning rate of step "
            f"{step + 1:,} is {now.learning_rate(step + 1):.2e} instead of {former:.2e}; the steps already taken keep "
            "theirs"
        )
    # The same end, but more steps, because a limit was raised or the updates are smaller. Without a raised limit, allow
    # for epochs of large corpora, which differ by some batches, and of mixtures, which are estimated.
    raised = [key for key in LIMITS if getattr(before, key) != getattr(now, key)]
    tolerance = 1.0 if raised else 1.01 if pace.total is None else math.inf
    beyond = given is None and descent is None and (planned_steps(now, pace) or 0) > tolerance * end
    timed_out = descent is not None and pace.seconds >= 60 * (before.max_minutes or math.inf)
    if now.schedule.min_lr == 0 and (beyond or (raised and (step >= end or timed_out))):
        longer = expected_end(now, pace, raised == ["patience"])
        rate, key = with_end(now, longer).learning_rate(step + 1), raised[0] if raised else "max_steps"
        raise ConfigError(
            f"train.{key}: the {now.schedule.name} schedule of this run ends at step {end:,} with a rate of 0: later "
            f"steps change nothing. To train further, stretch it with --set train.schedule.total_steps={longer}: "
            f"the rate of step {step + 1:,} is then {rate:.2e}, and the steps already taken keep theirs"
        )
    return None


def further(config: TrainConfig, progress: Progress, pace: Pace) -> list[str]:
    """Overrides with which a finished training resumes: each limit that was reached, doubled.

    A cosine or linear schedule that has ended, or would end before the run, is extended to the new end of the run.
    """
    raised: dict[str, Any] = {}
    if config.max_steps and progress.step >= config.max_steps:
        raised["max_steps"] = 2 * progress.step
    if config.max_epochs and progress.epoch >= config.max_epochs:
        raised["max_epochs"] = 2 * progress.epoch
    if config.max_minutes and progress.seconds >= 60 * config.max_minutes:
        raised["max_minutes"] = math.ceil(20 * progress.seconds / 60) / 10
    if config.patience and progress.stale_validations >= config.patience:
        raised["patience"] = 2 * progress.stale_validations
    end = progress.descent.end if progress.descent is not None else config.schedule_end
    last = expected_end(config.model_copy(update=raised), pace, "patience" in raised)
    if end is not None and (progress.step >= end or last > end):
        raised["schedule.total_steps"] = last
    return [
        f"train.{key}={value:.12g}" if isinstance(value, float) else f"train.{key}={value}"
        for key, value in raised.items()
    ]


def with_end(config: TrainConfig, end: int) -> TrainConfig:
    return config.model_copy(update={"schedule": config.schedule.model_copy(update={"total_steps": end})})
