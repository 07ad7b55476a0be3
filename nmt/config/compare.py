"""Which settings of a run must stay the same from its first step to its last, and which of them differ."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel

from nmt.config.base import unused_keys
from nmt.config.experiment import FORMER_DEFAULTS, Config, all_keys


def flatten(value: Any, path: str = "") -> dict[str, Any]:
    """Flatten nested mappings: ``{"train": {"seed": 1}}`` becomes ``{"train.seed": 1}``.

    A list of mappings is one by their names, or their numbers.
    """
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        value = {str(item.get("name", number)): item for number, item in enumerate(value)}
    if not isinstance(value, dict) or not value:
        return {path: value}
    return {k: v for key, inner in value.items() for k, v in flatten(inner, f"{path}.{key}".lstrip(".")).items()}


def digest(value: Any, *more: Any) -> str:
    """A short stable name, 16 hex digits of SHA-256, for plain data and sections."""

    def plain(item: Any) -> Any:
        return item.model_dump(mode="json") if isinstance(item, BaseModel) else item

    text = json.dumps([plain(item) for item in (value, *more)], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def _resumable_keys() -> re.Pattern[str]:
    """A pattern of the dotted keys that may differ when a run is resumed, and of all keys below them."""
    marked = {
        re.escape(key).replace(r"\*", ".+")  # keys that the user chooses, such as names of test sets
        for key, field in all_keys()
        if isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("resumable")
    }
    return re.compile(rf"(?:{'|'.join(sorted(marked))})(?:\..*)?")


def _fixed(settings: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """``settings`` without those that may differ on resume, or have no effect in ``config``."""
    unused = {f"{path}.{key}" for path, _, key, _ in unused_keys(config)}
    return {k: v for k, v in settings.items() if k not in unused and not _resumable_keys().fullmatch(k)}


def fixed_settings(config: Config) -> dict[str, Any]:
    """Dotted keys and values of all settings that must stay the same from a run's first step to its last."""
    return _fixed(flatten(config.model_dump(mode="json", exclude={"name"})), config)


def config_diff(before: Mapping[str, Any], config: Config) -> str:
    """Say which fixed settings differ from those stored ``before``; empty where none does.

    A stored setting that may differ on resume, or has no effect, is left out. A key that ``before`` does not know was
    added to nmt later: it differs only if its value is not the default.
    """
    before, now = _fixed(before, config), fixed_settings(config)
    # Compare the test sets that both sides have; others may come and go.
    both = {k.rpartition(".")[0] for k in before} & {k.rpartition(".")[0] for k in now}
    before, now = (
        {
            k: v
            for k, v in side.items()
            if not f"{k}.".startswith("data.test.") or k.rpartition(".")[0] in both - {"data"}
        }
        for side in (before, now)
    )
    # Leave out later keys at the default that the run's version of the defaults gives them.
    changed = flatten(config.model_dump(mode="json", exclude_defaults=True))
    former = FORMER_DEFAULTS.get(config.defaults, {})
    added = {k for k in now.keys() - before.keys() if k not in changed or (k in former and now[k] == former[k])}
    # Name the first differences.
    differing = [
        f"{key} is {json.dumps(before.get(key))} in the run, {json.dumps(now.get(key))} in your configuration"
        for key in sorted((before.keys() | now.keys()) - added)
        if before.get(key) != now.get(key)
    ]
    return "; ".join(differing[:5]) + (f"; and {len(differing) - 5} more" if len(differing) > 5 else "")
