"""Explain mistakes in a configuration: one line for each, with its place and the nearest valid key or value."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from nmt.advice import KEYS, KINDS, minutes_of, nearest, value_for
from nmt.config.experiment import Config, all_keys
from nmt.numbers import plain

MAX_PROBLEMS = 20  # shown of one configuration
Key = tuple[str | int, ...]  # as the user writes it: ("data", "train", "src", 0)
Location = tuple[str | int, ...]  # of a mistake, as pydantic gives it: a key and tags of unions


def explain(error: ValidationError, where: str, places: Mapping[Key, str]) -> str:
    """One line for each mistake, and the number of those beyond :data:`MAX_PROBLEMS`.

    Args:
        where: name of the configuration, for a mistake whose key has no place.
        places: file and line of each key, or the option that it came from.
    """
    # pydantic reports a value that fits no member of a union once for each member: join a literal to another report.
    errors = error.errors(include_url=False)
    paths = [_user_path(one["loc"]) for one in errors]
    reports = Counter(paths)
    literals: dict[Key, str] = {}
    shown = []
    for path, one in zip(paths, errors, strict=True):
        if one["type"] == "literal_error":
            literals[path] = one["ctx"]["expected"]
        if one["type"] != "literal_error" or reports[path] == 1:
            shown.append((path, one))

    # Show each line once.
    lines = []
    for path, one in shown[:MAX_PROBLEMS]:
        other = None if one["type"] == "literal_error" else literals.get(path)
        lines.append(_line(one, where, places, f", or {other}" if other else ""))
    more = [f"{where}: {len(shown) - MAX_PROBLEMS:,} more mistakes"] if len(shown) > MAX_PROBLEMS else []
    return "\n".join([*dict.fromkeys(lines), *more])


def _line(error: ErrorDetails, where: str, places: Mapping[Key, str], other: str) -> str:
    """One line for one mistake; ``other`` names further values that the key takes."""
    path, context = _user_path(error["loc"]), error.get("ctx", {})
    if error["type"] in ("union_tag_invalid", "union_tag_not_found"):  # the mistake is at the tag
        path = (*path, context["discriminator"].strip("'"))
    written = _as_written(path, places)
    at = written
    if error["type"] == "value_error" and not path:  # such an error may begin with the key
        at = tuple(str(context["error"]).split(":")[0].split(" ")[0].split("."))
    place = next((places[at[:n]] for n in range(len(at), 0, -1) if at[:n] in places), where)
    if error["type"] == "value_error":
        place = _options(written, str(context["error"]), where, places) or place
        if not path:
            return f"{place}: {context['error']}"
    reason = _reason(error, path, other)
    if written != path:
        reason = reason.replace("data.train.datasets[", "data.train[")
    return f"{place}: {dotted(written)}: {reason}"


def _options(path: Key, text: str, where: str, places: Mapping[Key, str]) -> str:
    """The options that set keys below ``path`` named in an error of several keys, such as ``--set and --grid``."""
    is_line, found = re.compile(rf"{re.escape(where)}:\d+"), []
    for key, place in places.items():
        if len(key) > len(path) and key[: len(path)] == path and not is_line.fullmatch(place):
            word = rf"\b{re.escape(str(key[-1]))}\b" if len(key) > 1 else rf"\b{re.escape(str(key[0]))}[.:]"
            found += [place] if re.search(word, text) else []
    return " and ".join(dict.fromkeys(found))


def _as_written(path: Key, places: Mapping[Key, str]) -> Key:
    """The path of a key below a list of ``data.train``, which stands for the ``datasets`` of a mixture."""
    listed = any(key[:2] == ("data", "train") and isinstance(key[2], int) for key in places if len(key) > 2)
    return path[:2] + path[3:] if listed and path[:3] == ("data", "train", "datasets") else path


def _reason(error: ErrorDetails, path: Key, other: str) -> str:
    """What is wrong at the key ``path``, and what to write instead."""
    loc, value, context = error["loc"], error.get("input"), error.get("ctx", {})
    match error["type"]:
        # The key.
        case "extra_forbidden":
            return f"unknown key; {_key_advice(loc)}"
        case "missing":
            return "missing; it has no default"
        case "union_tag_not_found":
            return f"missing; one of: {', '.join(_tags(loc))}"
        # A word.
        case "union_tag_invalid":
            return f"{_show(context['tag'])} is not known; {_tag_advice(str(context['tag']), path, _tags(loc))}"
        case "literal_error":
            text = json.dumps(value) if isinstance(value, bool | int) else str(value)  # false, as it was written
            near = value_for(dotted(path), text, re.findall(r"'([^']+)'", context["expected"]))
            hint = f" (did you mean {near}?)" if near else _default_advice(value, loc)
            return f"{_show(value)} is not one of {context['expected']}{hint}"
        case "string_pattern_mismatch":
            return f"{_show(value)} must be letters, digits, '_', '-' and '.', not starting with '.' or '-'"
        # A section or a list.
        case "model_type" | "model_attributes_type" | "dict_type":
            found = _show(value) if isinstance(value, dict | list | None) else f"{_show(value)} ({kind(value)})"
            return f"must be a mapping of keys to values, not {found}{_section_advice(error)}"
        case "too_short":
            return f"must have at least {context['min_length']} items, not {context['actual_length']}"
        case "too_long":
            return f"must have at most {context['max_length']} items, not {context['actual_length']}"
        # A rule of a section, or any other value.
        case "value_error":
            return str(context["error"])
    message = error["msg"].removeprefix("Input should be ").replace("a valid ", "a ").replace("a integer", "an integer")
    advice = _number_advice(error) or _default_advice(value, loc)
    return f"{_show(value)} ({kind(value)}) should be {message}{other}{advice}"


def dotted(path: Iterable[str | int]) -> str:
    """``("train", "betas", 0)`` as ``train.betas[0]``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".") or "(top)"


def kind(value: Any) -> str:
    """The type of a value, as YAML's users call it."""
    names = {dict: "mapping", list: "list", str: "text", bool: "truth value", int: "integer", float: "number"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


def _show(value: Any) -> str:
    if isinstance(value, dict | list):
        return f"a {kind(value)}"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def _key_advice(loc: Location) -> str:
    """What to write instead of an unknown key, with its section."""
    *section, unknown = _user_path(loc)
    word = str(unknown)
    valid = _valid_keys(loc[:-1])
    known = _known_keys()
    written = dotted((*section, unknown))
    if owners := {tag for tag, keys in _variants(loc[:-1]).items() if word in keys}:
        return f"it belongs to {' and '.join(sorted(owners))}; remove it, or start from a configuration of that type"
    # A near key of the same section, a key of another toolkit, the same key of another section, any near key.
    near = nearest(word, valid, 0.75)
    habit = _habit(section, word, valid)
    elsewhere = [key for key in known if key.rpartition(".")[2] == word]
    if near is None and habit is not None and habit != written:
        return f"did you mean {habit}?"
    if near is None and elsewhere:
        return f"did you mean {' or '.join(elsewhere[:3])}?"
    near = near or nearest(word, valid, 0.5)
    if near is not None:
        return f"did you mean {dotted((*section, near))}?"
    near = nearest(word, {key.rpartition(".")[2] for key in known}, 0.8)
    if near is not None:
        return f"did you mean {next(key for key in known if key.rpartition('.')[2] == near)}?"
    return "valid here: " + ", ".join(valid)


def _habit(section: Sequence[str | int], word: str, valid: Iterable[str]) -> str | None:
    """The key for a word of another toolkit: the one in the section where it was written, if there is such a key."""
    name = word.lower().replace("-", "_")
    key = KEYS.get(f"{dotted(section[-1:])}.{name}") or KEYS.get(name)
    if key is not None and (last := key.rpartition(".")[2]) in valid:
        return dotted((*section, last))
    return key


def _tag_advice(found: str, path: Key, tags: list[str]) -> str:
    """The tag of a union to write instead of ``found``."""
    if path[-1] == "kind" and found.lower() in KINDS:
        return KINDS[found.lower()]
    near = value_for(dotted(path), found, tags)
    return f"did you mean {near}?" if near else f"one of: {', '.join(tags)}"


def _section_advice(error: ErrorDetails) -> str:
    """For ``schedule: cosine``, the key of the section that takes such a word."""
    path, value = _user_path(error["loc"]), error.get("input")
    union = _schema_at(error["loc"]).get("discriminator", {}).get("propertyName")
    if isinstance(value, list) and union == "kind":
        return "; several files need their kind: {kind: tsv, path: [FILE, FILE]}"
    if not isinstance(value, str):
        return ""
    for tag in [union] if union else ["name", "type"]:
        if tag == "kind" and value.lower() in KINDS:
            return f"; {KINDS[value.lower()]}"
        allowed = _tags(error["loc"]) if union else _schema_at((*error["loc"], tag)).get("enum", [])
        if near := value_for(dotted((*path, tag)), value, allowed):
            return f"; did you mean {dotted((*path, tag))}: {near}?"
    return ""


def _number_advice(error: ErrorDetails) -> str:
    """For ``4,000``, ``4k``, ``30%`` or ``0,001``, the number as YAML has it."""
    text, number = error.get("input"), ""
    if not isinstance(text, str) or not error["type"].startswith(("int_", "float_")):
        return ""
    if scaled := re.fullmatch(r"([0-9]+(?:\.[0-9]+)?) ?([kKmM%])", text):
        number = f"{float(scaled[1]) * {'k': 1e3, 'm': 1e6, '%': 0.01}[scaled[2].lower()]:.12g}"
    elif re.fullmatch(r"[1-9][0-9]{0,2}([, '\u00a0\u202f][0-9]{3})+", text):
        number = re.sub("[^0-9]", "", text)
    elif re.fullmatch("[0-9]+,[0-9]+", text):
        number = text.replace(",", ".")
    return f"; write {number}" if number.isdecimal() or (number and error["type"].startswith("float_")) else ""


def _default_advice(value: Any, loc: Location) -> str:
    """For ``auto``, that leaving the key out takes the default; for a time, its minutes; for 0, what turns off."""
    if isinstance(value, str) and loc and "minutes" in str(loc[-1]) and (minutes := minutes_of(value)):
        return f"; write the minutes: {plain(minutes, 6)}"
    if value == 0 and not isinstance(value, bool):
        schema = _schema_at(loc)
        optional = schema.get("default") is not None and {"type": "null"} in schema.get("anyOf", [])
        return "; null turns it off" if optional else ""
    if not isinstance(value, str) or value.lower() not in ("auto", "default"):
        return ""
    schema = _schema_at(loc)
    default = f", {json.dumps(schema['default'])}" if schema.get("default") is not None else ""
    return f"; for the default{default}, remove the key"


def _known_keys() -> list[str]:
    """All dotted keys, each once; those with fewer sections around them first."""
    return sorted(dict.fromkeys(key for key, _ in all_keys()), key=lambda key: key.count("."))


def key_for(word: str) -> str | None:
    """The dotted key that was probably meant by ``word``, a key without its section or with a wrong one."""
    known = _known_keys()
    last = word.replace("-", "_").rpartition(".")[2]
    if word in known or (word := word.replace("-", "_")) in known:
        return word
    if last.lower() in KEYS:
        return KEYS[last.lower()]
    near = next((key for key in known if key.rpartition(".")[2] == last), None)
    return near or nearest(word, known, 0.8)


# --------------------------------------------------------------------------------- the JSON schema of the configuration

# Names that pydantic puts into a path for the members of a plain union that are not sections.
_MEMBER_NAMES = (
    "str", "int", "float", "bool", "list[str]",
    "constrained-int", "constrained-float", "list[constrained-str]", "literal['epoch']", "one", "each",
)  # fmt: skip


@cache
def _schema() -> dict[str, Any]:
    return Config.model_json_schema()


def _resolve(node: Any) -> Any:
    """Follow references to the schemas of sections; a union of sections or null is the union."""
    while "$ref" in node:
        node = _schema()["$defs"][node["$ref"].rsplit("/", 1)[1]]
    unions = [option for option in node.get("anyOf", []) if "discriminator" in option]
    return unions[0] if len(unions) == 1 else node


def _locate(loc: Location) -> tuple[Key, Any]:
    """The keys that the user wrote along a path of pydantic, and the schema at its end.

    pydantic puts the tag of a union into the path (``model.transformer.d_model``), which the user never wrote.
    """
    node: Any = _schema()
    written = []
    for part in loc:
        node, is_key = _below(node, part)
        node = _resolve(node)
        if is_key:
            written.append(part)
    return tuple(written), node


def _below(node: Any, part: str | int) -> tuple[Any, bool]:
    """The schema at ``part`` of a schema, and whether the user wrote ``part``."""
    if "discriminator" in node and part in (tags := node["discriminator"]["mapping"]):
        return {"$ref": tags[part]}, False
    if isinstance(part, str) and part in node.get("properties", {}):
        return node["properties"][part], True
    if part == "[key]":  # pydantic's word for "the key itself is wrong"
        return node, False
    if isinstance(values := _values(node), dict):
        return values, True
    if isinstance(part, int):
        return next((option["items"] for option in [node, *node.get("anyOf", [])] if "items" in option), {}), True

    # The node is a plain union: the part is a key of a member, or the name that pydantic gives the member.
    members = [_resolve(option) for option in _members(node)]
    for member in members:
        if part in member.get("properties", {}):
            return member["properties"][part], True
    named = next((member for member in members if member.get("title") == part), None)
    if named is not None or part in _MEMBER_NAMES:
        return named or node, False
    return {}, True


def _members(union: Any) -> list[Any]:
    """The schemas of the members of a union, which has no discriminator or one that is a function."""
    found: list[Any] = union.get("anyOf") or union.get("oneOf") or []
    return found


def _values(mapping: Any) -> Any:
    """The schema of the values of a mapping with free keys."""
    return next(iter(mapping.get("patternProperties", {}).values()), mapping.get("additionalProperties"))


def _user_path(loc: Location) -> Key:
    return _locate(loc)[0]


def _schema_at(loc: Location) -> Any:
    return _locate(loc)[1]


def _valid_keys(loc: Location) -> list[str]:
    node = _schema_at(loc)
    sections = [node, *(_resolve(option) for option in _members(node))]
    return [key for section in sections for key in section.get("properties", {})]


def _variants(loc: Location) -> dict[str, list[str]]:
    """For a section inside a union, the keys of the other variants, by ``type: NAME``."""
    if not loc:
        return {}
    union = _schema_at(loc[:-1]).get("discriminator", {})
    return {
        f"{union['propertyName']}: {tag}": list(_resolve({"$ref": ref})["properties"])
        for tag, ref in union.get("mapping", {}).items()
        if tag != loc[-1]
    }


def _tags(loc: Location) -> list[str]:
    return list(_schema_at(loc).get("discriminator", {}).get("mapping", {}))
