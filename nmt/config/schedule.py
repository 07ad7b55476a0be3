"""The section ``train.schedule``: the learning rate over steps."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from nmt.config.base import RESUMABLE, Positive, Section


class ScheduleConfig(Section):
    """Learning rate over steps; each schedule starts with a linear warmup from 0 to ``optimizer.lr``."""

    name: Literal["inverse_sqrt", "cosine", "linear", "constant", "plateau"] = Field(
        "inverse_sqrt", description="shape of the learning rate after warmup"
    )
    warmup_steps: Annotated[int, Field(ge=0)] = Field(1000, description="steps of the linear rise from 0")
    total_steps: Positive | None = Field(
        None,
        description="cosine, linear: step at which the lowest rate is reached; default: train.max_steps as it is at the"
        " first start, which a later start with another train.max_steps does not change",
        json_schema_extra=RESUMABLE,
    )
    min_lr: Annotated[float, Field(ge=0.0)] = Field(0.0, description="floor of the learning rate")
    factor: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(0.5, description="plateau: what the rate is multiplied by")
    patience: Annotated[int, Field(ge=0)] = Field(2, description="plateau: validations without progress before that")

    def unused(self) -> dict[str, str]:
        owners = {"total_steps": ("cosine", "linear"), "factor": ("plateau",), "patience": ("plateau",)}
        return {
            key: f"the {self.name} schedule does not use it; {' and '.join(names)} {'do' if len(names) > 1 else 'does'}"
            for key, names in owners.items()
            if self.name not in names
        }
