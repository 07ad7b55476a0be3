"""Write docs/reference.md: every key of the configuration, with type, default and description, from the code.

scripts/reference.py            write the file
scripts/reference.py --check    exit with 1 if the file is not what would be written
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from nmt.cli.errors import guarded
from nmt.config.base import Section, section_types
from nmt.config.experiment import Config
from nmt.errors import DataError

PAGE = Path(__file__).parents[1] / "docs" / "reference.md"
SOURCES = ("data.train", "data.valid", "data.test.NAME")
TAGS = ("type", "kind")  # keys that choose a variant of a section
HEAD = """# Reference of all keys

Written by `scripts/reference.py` from the code. A configuration states only what differs from these defaults;
`nmt config CONFIG` prints all values of a configuration. A key marked with ↻ may change when a run is resumed.
"""
NAMES = {int: "whole number", float: "number", str: "text", bool: "true, false", type(None): "null"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="only compare")
    arguments = parser.parse_args()
    text = HEAD + "".join(tables(Config, "", set()))
    if not arguments.check:
        PAGE.write_text(text, encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != text:
        raise DataError(f"{PAGE}: is not what the code says; run scripts/reference.py")


def tables(section: type[Section], path: str, seen: set[type[Section]]) -> Iterator[str]:
    """A table of the section's keys, then those of the sections in it."""
    yield f"\n## {heading(section, path)}\n"
    if section.__doc__ and section.__doc__.strip() != (Section.__doc__ or "").strip():
        yield "\n" + " ".join(section.__doc__.split("\n\n")[0].split()).replace("``", "`") + "\n"
    yield "\n| key | value | default | meaning |\n|---|---|---|---|\n"
    for name, field in section.model_fields.items():
        mark = " ↻" if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("resumable") else ""
        cells = f"`{name}`{mark}", kinds(field.annotation), default(field), field.description or ""
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"
    for name, field in section.model_fields.items():
        free = ".NAME" if get_origin(field.annotation) is dict else ""
        inner = f"{path}.{name}{free}".lstrip(".")
        for each in section_types(field.annotation):
            if each not in seen:
                seen.add(each)
                yield from tables(each, inner, seen)


def heading(section: type[Section], path: str) -> str:
    """``path``, and the value of the tag that chooses this variant."""
    if not path:
        return "The top of the file"
    path = "A source (`data.train`, `data.valid`, `data.test.NAME`)" if path in SOURCES else f"`{path}`"
    for tag in TAGS:
        field = section.model_fields.get(tag)
        if field is not None and get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1:
            return f"{path} with `{tag}: {get_args(field.annotation)[0]}`"
    return path


def kinds(annotation: Any) -> str:
    """What a value may be, in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kinds(inner[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(kinds(each) for each in inner))
    if origin is list:
        return f"list of {kinds(inner[0])}"
    if origin is dict:
        return f"by name: {kinds(inner[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return "section"
    return NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined or isinstance(value, Section):
        return ""
    return f"`{json.dumps(value) if value is None or isinstance(value, bool) else value}`"


if __name__ == "__main__":
    sys.exit(guarded("reference", main))
