"""Sections of the configuration, and the types that they share."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field

RESUMABLE: dict[str, Any] = {"resumable": True}  # json_schema_extra of a key that may differ when a run is resumed


class Section(BaseModel):
    """A part of the configuration: frozen, no unknown keys, no silent conversion between types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def unused(self) -> dict[str, str]:
        """Keys without an effect beside the values of other keys of this section, each with the reason."""
        return {}


Probability = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[int, Field(gt=0)]


def sections(section: Section, path: str = "") -> Iterator[tuple[str, Section]]:
    """Yield a section and all sections in it, each with its dotted path."""
    yield path, section
    for name in type(section).model_fields:
        value = getattr(section, name)
        inner = value.items() if isinstance(value, dict) else [("", value)]
        if isinstance(value, list):
            inner = [(getattr(part, "name", str(number)), part) for number, part in enumerate(value)]
        for key, part in inner:
            if isinstance(part, Section):
                yield from sections(part, ".".join(filter(None, (path, name, key))))


def unused_keys(section: Section) -> list[tuple[str, Section, str, str]]:
    """Find the keys without an effect: the dotted path of their section, the section, the key, and the reason."""
    found = []
    for path, each in sections(section):
        for dotted_key, why in each.unused().items():
            *inner, key = dotted_key.split(".")  # of a section inside, whose keys depend on this one
            owner = functools.reduce(getattr, inner, each)
            found.append((".".join([path, *inner]), owner, key, why))
    return found


def section_types(annotation: Any) -> Iterator[type[Section]]:
    """Yield the sections that a value of this type may be."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for inner in get_args(annotation):
        yield from section_types(inner)
