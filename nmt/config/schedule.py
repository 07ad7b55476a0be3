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
class Update:
    """An update after the warmup, as a schedule sees it.

    Attributes:
        step: its number, from 1.
        peak: ``optimizer.lr``.
        end: step at which a schedule with ``total_steps`` reaches its lowest rate.
        cuts: number of plateaus so far, see ``schedule.patience``.
    """

    step: int
    peak: float
    end: int
    cuts: int


def inverse_sqrt(config: ScheduleConfig, update: Update) -> float:
    """peak · √(warmup_steps / step) (Vaswani et al. 2017, eq. 3)."""
    return max(config.min_lr, update.peak * math.sqrt(max(config.warmup_steps, 1) / max(update.step, 1)))


def cosine(config: ScheduleConfig, update: Update) -> float:
    """Half a period of a cosine (Loshchilov and Hutter 2017, eq. 5)."""
    share = 0.5 * (1 + math.cos(math.pi * _done(config, update)))
    return config.min_lr + (update.peak - config.min_lr) * share


def linear(config: ScheduleConfig, update: Update) -> float:
    return config.min_lr + (update.peak - config.min_lr) * (1 - _done(config, update))


def constant(config: ScheduleConfig, update: Update) -> float:
    return update.peak


def plateau(config: ScheduleConfig, update: Update) -> float:
    """Multiplied by ``factor`` at each plateau of the validation score."""
    return max(config.min_lr, update.peak * config.factor**update.cuts)


def _done(config: ScheduleConfig, update: Update) -> float:
    """The share of the way from the end of the warmup, 0, to the end of the schedule, 1."""
    return min(1.0, (update.step - config.warmup_steps) / max(1, update.end - config.warmup_steps))


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
    "cosine": Schedule(cosine, keys=("total_steps", "min_lr")),
    "linear": Schedule(linear, keys=("total_steps", "min_lr")),
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
        "inverse_sqrt", description="shape of the learning rate after warmup"
    )
    warmup_steps: Annotated[int, Field(ge=0)] = Field(1000, description="steps of the linear rise from 0")
    total_steps: Positive | None = Field(
        None,
        description=_described(
            "total_steps",
            "step at which the lowest rate is reached; default: train.max_steps as it is at the first start, which a"
            " later start with another train.max_steps does not change",
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
        """Whether the rate reaches its lowest value at a step that is known beforehand."""
        return "total_steps" in SCHEDULES[self.name].keys

    def rate(self, step: int, peak: float, end: int, cuts: int) -> float:
        """Learning rate of an update, in the warmup or after it; see :class:`Update`."""
        if step < self.warmup_steps:
            return peak * step / self.warmup_steps
        return SCHEDULES[self.name].rate(self, Update(step, peak, end, cuts))

    def unused(self) -> dict[str, str]:
        users = {key: _users(key) for key in type(self).model_fields}
        return {
            key: f"the {self.name} schedule does not use it; {_listed(names)} {'do' if len(names) > 1 else 'does'}"
            for key, names in users.items()
            if names and self.name not in names
        }
