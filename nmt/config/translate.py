"""The section ``translate``: what commands that translate do with text, beside the search."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from nmt.config.base import Section

Kind = Literal["code", "urls", "emails", "tags", "entities", "variables", "numbers"]


class TranslateConfig(Section):
    protect: list[Kind] = Field(
        [],
        description="kinds of placeholders that translations keep, as nmt translate --protect; evaluations ignore the"
        " key",
    )
    split: bool = Field(
        False, description="split each line into sentences, as nmt translate --split; evaluations ignore the key"
    )

    @field_validator("protect")
    @classmethod
    def _once(cls, kinds: list[Kind]) -> list[Kind]:
        if len(set(kinds)) < len(kinds):
            raise ValueError("names a kind twice")
        return kinds
