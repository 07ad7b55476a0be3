"""The section ``train.schedule``: the learning rate over steps.

To add a schedule, write its function, and name it in ``SCHEDULES`` and in ``ScheduleConfig.name``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from nmt.config.base import RESUMABLE, Positive, Section


@dataclass(frozen=True)
class Descent:
    """The decay of a schedule: the share ``done`` of it at ``step``, 1 at ``end``, and linear in between.

    Attributes:
        max_minutes: the limit that ``end`` was estimated from; None for an end in steps or epochs.
    """

    step: int
    done: float
    end: int
    max_minutes: float | None = None

    def at(self, step: int) -> float:
        """The share of the decay that is done at a step from ``step`` on."""
        return self.done + (1.0 - self.done) * min(1.0, (step - self.step) / max(1, self.end - self.step))


@dataclass(frozen=True)
class Update:
    """An update after the warmup, as a schedule sees it.

    Attributes:
        step: its number, from 1.
        peak: ``optimizer.lr``.
        done: the share of the way to the lowest rate, of a schedule that has an end.
        cuts: number of plateaus so far, see ``schedule.patience``.
    """

    step: int
    peak: float
    done: float
    cuts: int


def inverse_sqrt(config: ScheduleConfig, update: Update) -> float:
    """peak · √(warmup_steps / step) (Vaswani et al. 2017, eq. 3)."""
    return max(config.min_lr, update.peak * math.sqrt(max(config.warmup_steps, 1) / max(update.step, 1)))


def cosine(config: ScheduleConfig, update: Update) -> float:
    """Half a period of a cosine (Loshchilov and Hutter 2017, eq. 5)."""
    share = 0.5 * (1 + math.cos(math.pi * update.done))
    return config.min_lr + (update.peak - config.min_lr) * share


def linear(config: ScheduleConfig, update: Update) -> float:
    return config.min_lr + (update.peak - config.min_lr) * (1 - update.done)


def constant(config: ScheduleConfig, update: Update) -> float:
    return update.peak


def plateau(config: ScheduleConfig, update: Update) -> float:
    """Multiplied by ``factor`` at each plateau of the validation score."""
    return max(config.min_lr, update.peak * config.factor**update.cuts)


@dataclass(frozen=True)
class Schedule:
    """A learning rate after the warmup.

    Attributes:
        rate: the learning rate of an update.
        keys: the keys that this schedule uses, of those that not every schedule does.
    """

    rate: Callable[[ScheduleConfig, Update], float]
    keys: tuple[str, ...] = ()


SCHEDULES = {
    "inverse_sqrt": Schedule(inverse_sqrt, keys=("min_lr",)),
    "cosine": Schedule(cosine, keys=("end", "total_steps", "min_lr")),
    "linear": Schedule(linear, keys=("end", "total_steps", "min_lr")),
    "constant": Schedule(constant),
    "plateau": Schedule(plateau, keys=("min_lr", "factor", "patience")),
}


def _users(key: str) -> list[str]:
    """The schedules that use a key; none for a key that all of them use, such as ``warmup_steps``."""
    return [name for name, schedule in SCHEDULES.items() if key in schedule.keys]


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _described(key: str, text: str) -> str:
    return f"{', '.join(_users(key))}: {text}"


class ScheduleConfig(Section):
    """Learning rate over steps; each schedule starts with a linear warmup from 0 to ``optimizer.lr``."""

    name: Literal["inverse_sqrt", "cosine", "linear", "constant", "plateau"] = Field(
        "cosine",
        description="shape of the learning rate after warmup; cosine and linear end with the run, see end, which they"
        " need to know; of an end that is missed by 5% of the way, cosine leaves 0.6% of the peak, linear 5%",
    )
    warmup_steps: Annotated[int, Field(ge=0)] = Field(1000, description="steps of the linear rise from 0")
    end: Literal["run", "max_steps"] = Field(
        "run",
        description=_described(
            "end",
            "where the lowest rate is reached. run: where the first of max_steps, max_epochs (at the steps of epoch 0)"
            " and max_minutes ends the training; the step at which max_minutes does is estimated from the pace so far,"
            " at 2, 5, 10, 20, ... 90 and 95% of the time, and stored in checkpoints. max_steps: there alone",
        ),
    )
    total_steps: Positive | None = Field(
        None,
        description=_described(
            "total_steps",
            "step at which the lowest rate is reached, instead of end; default: that of max_steps and max_epochs as"
            " they are at the first start, which a later start with others does not change",
        ),
        json_schema_extra=RESUMABLE,
    )
    min_lr: Annotated[float, Field(ge=0.0)] = Field(0.0, description=_described("min_lr", "lowest learning rate"))
    factor: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        0.5, description=_described("factor", "multiplies the rate at each plateau")
    )
    patience: Annotated[int, Field(ge=0)] = Field(
        2, description=_described("patience", "validations without progress before a plateau")
    )

    @property
    def ends(self) -> bool:
        """Whether the schedule reaches its lowest rate at a known step."""
        return "total_steps" in SCHEDULES[self.name].keys

    def rate(self, step: int, peak: float, descent: Descent | None, cuts: int) -> float:
        """Learning rate of an update, in the warmup or after it; see :class:`Update`."""
        if step < self.warmup_steps:
            return peak * step / self.warmup_steps
        return SCHEDULES[self.name].rate(self, Update(step, peak, descent.at(step) if descent else 0.0, cuts))

    def unused(self) -> dict[str, str]:
        users = {key: _users(key) for key in type(self).model_fields}
        return {
            key: f"the {self.name} schedule does not use it; {_listed(names)} {'do' if len(names) > 1 else 'does'}"
            for key, names in users.items()
            if names and self.name not in names
        }
