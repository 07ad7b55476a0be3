"""Read YAML files and ``--set`` overrides, and validate them as a configuration."""

from __future__ import annotations

import codecs
import difflib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from pydantic import ValidationError

from nmt.config.experiment import Config
from nmt.config.explain import Key, dotted, explain, kind
from nmt.config.pretrained import inherit
from nmt.config.pretrained_encoder import describe
from nmt.errors import ConfigError

MAX_BYTES = 1 << 20  # of a configuration file
MAX_NODES = 10_000  # values and keys of a configuration, those that aliases repeat counted each time


def load_config(
    path: str | Path, overrides: Sequence[str] = (), origins: Mapping[str, str] = MappingProxyType({})
) -> Config:
    """Read a YAML file, apply ``key.path=value`` overrides (values are YAML) and validate.

    A name without an ending, such as ``demo``, means ``configs/demo.yaml`` or the configuration installed with nmt.

    Args:
        origins: where the user wrote an override, by its key; default: ``--set``.

    Raises:
        ConfigError: the file is missing or is not YAML, or a key, type or value is wrong; one line for each mistake.
    """
    path = config_path(path)
    raw, lines = _read_mapping(path)

    # Apply the overrides.
    raw.setdefault("name", path.stem)
    places = {key: f"{path}:{line}" for key, line in lines.items()}
    for override in overrides:
        origin = origins.get(override.partition("=")[0], "--set")
        key, value = _parse_override(override, origin)
        _apply_override(raw, key, value, f"{origin} {override}", places, origin)
    inherit(raw)
    describe(raw)
    return validate_config(raw, str(path), places)


def read_mapping(path: Path) -> dict[str, Any]:
    """The content of a YAML file that holds a mapping, not validated.

    Raises:
        ConfigError: the file is missing, is not YAML, or is no mapping.
    """
    return _read_mapping(path)[0]


def parse_value(text: str, where: str) -> Any:
    """A value that a user wrote as YAML.

    Raises:
        ConfigError: the text is not YAML.
    """
    return _parse_given(text, where)[0]


def _read_mapping(path: Path) -> tuple[dict[str, Any], dict[Key, int]]:
    """A mapping, and the line of every key in it."""
    try:
        text = _read_bounded(path).decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such configuration file{_nearest_config(path)}") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder; name a YAML file in it") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        wide = error.object[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        what = "is UTF-16" if wide else f"not UTF-8 text (byte {error.start})"
        raise ConfigError(f"{path}: {what}; save it as UTF-8") from None
    raw, lines = _parse_given(text, str(path))
    if raw is None:
        raise ConfigError(f"{path}: is empty; start from a file in configs/")
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: must be a mapping of keys to values, not a {kind(raw)}")
    return raw, lines


def validate_config(raw: Mapping[str, Any], where: str, places: Mapping[Key, str] | None = None) -> Config:
    """Validate plain data.

    Args:
        where: the origin of ``raw``, for messages.
        places: file and line of each key, where they are known.

    Raises:
        ConfigError: a key, type or value is wrong; one line for each mistake.
    """
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(explain(error, where, places or {})) from None
    except RecursionError:
        raise ConfigError(f"{where}: an alias contains itself") from None


def _parse_override(override: str, origin: str) -> tuple[list[str], Any]:
    key, equals, value = override.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"{origin} {override}: must be key=value, such as train.max_steps=100")
    return key.split("."), _parse_given(value, f"{origin} {override}")[0]


def search_overrides(overrides: Sequence[str], option: str = "--search") -> dict[str, Any]:
    """Values of the section ``search`` by key, from ``key=value`` texts.

    Args:
        option: that the texts were given with.

    Raises:
        ConfigError: a text is not ``key=value``.
    """
    found = {}
    for override in overrides:
        key, equals, value = override.removeprefix("search.").partition("=")
        if not equals or not key or "." in key:
            example = "alpha=0.6" if option == "--search" else "search.alpha=0.6"
            raise ConfigError(f"{option} {override}: must be key=value of the section search, such as {example}")
        found[key] = _parse_given(value, f"{option} {override}")[0]
    return found


def _apply_override(
    raw: dict[str, Any], key: list[str], value: Any, written: str, places: dict[Key, str], origin: str
) -> None:
    """Put ``value`` at ``key``; the place of ``key``, and of all keys below it, becomes ``origin``.

    Args:
        written: the override, for messages.
    """
    for depth, part in enumerate(key[:-1], 1):
        if part not in raw:
            places[tuple(key[:depth])] = origin
        raw = raw.setdefault(part, {})
        if not isinstance(raw, dict):
            is_list = isinstance(raw, list)
            text = "is a list, which is set as a whole, such as [A, B]" if is_list else "has no keys below it"
            raise ConfigError(f"{written}: {dotted(key[:depth])} {text}")
    raw[key[-1]] = value
    for replaced in [k for k in places if list(k[: len(key)]) == key]:
        del places[replaced]
    places[tuple(key)] = origin


def config_path(given: str | Path) -> Path:
    """The file that ``given`` names: itself, ``configs/GIVEN.yaml`` here, or a configuration installed with nmt."""
    path = Path(given)
    if path.exists() or path.suffix or len(path.parts) != 1:
        return path
    here = Path("configs") / f"{path}.yaml"
    return here if here.is_file() else built_in_configs().get(str(path), path)


def built_in_configs() -> dict[str, Path]:
    """The configurations that are installed with nmt, by name."""
    folder = Path(__file__).parents[1] / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"), key=lambda path: path.stem)}


def _nearest_config(path: Path) -> str:
    """What to write instead of a path that does not exist."""
    known = built_in_configs()
    if path.stem in known:
        return f"; nmt has a built-in one of that name: {path.stem}"
    for candidate in (path.with_name(f"{path.name}.yaml"), path.with_name(f"{path.name}.yml")):
        if candidate.is_file():
            return f"; did you mean {candidate}?"
    here = sorted(str(p) for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
    if near := difflib.get_close_matches(str(path), [*here, *known], 1):
        return f"; did you mean {near[0]}?"
    return f"; built-in ones: {', '.join(known)}" if not path.suffix and len(path.parts) == 1 else ""


# ------------------------------------------------------------------------------------------------------------ YAML text


class _Loader(yaml.SafeLoader):
    """``yaml.safe_load`` with the scalars of YAML 1.2: ``1e-4`` is a number, ``no`` (Norwegian) is text.

    Raises:
        yaml.MarkedYAMLError: the text has more than :data:`MAX_NODES` nodes.
    """

    nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise yaml.MarkedYAMLError(problem=_TOO_MANY, problem_mark=self.peek_event().start_mark)
        return super().compose_node(parent, index)


_TOO_MANY = f"more than {MAX_NODES:,} keys and values; a configuration has a few hundred"

_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in [
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:[0-9][0-9_]*\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),
]:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)


def load_stored_yaml(path: Path) -> Any:
    """The value of a YAML file that nmt wrote, within the same bounds as a configuration.

    Raises:
        OSError, ValueError, yaml.YAMLError, RecursionError: it cannot be read.
        ConfigError: it is too large.
    """
    return _parse_yaml(_read_bounded(path).decode(), str(path))[0]


def _read_bounded(path: Path) -> bytes:
    """The content of a file of at most :data:`MAX_BYTES`; a device such as ``/dev/zero`` is refused too."""
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path}: is larger than {MAX_BYTES:,} bytes; name a YAML file of settings")
    return content


def _parse_yaml(text: str, where: str) -> tuple[Any, dict[Key, int]]:
    """The value of ``text``, and the line (from 1) of every key in it.

    Raises:
        ValueError, yaml.YAMLError, RecursionError: not valid YAML.
        ConfigError: too large, or not a configuration.
    """
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None, {}
        lines: dict[Key, int] = {}
        _collect_lines(root, (), lines, where)
        return loader.construct_document(root), lines
    finally:
        loader.dispose()


def _parse_given(text: str, where: str) -> tuple[Any, dict[Key, int]]:
    """As :func:`_parse_yaml`, for text that a user wrote: every error is a ConfigError of one line."""
    if odd := re.search(r"(?m)^ *([^\S \t\r\n])", text):
        number = text.count("\n", 0, odd.start()) + 1
        raise ConfigError(f"{where}:{number}: is indented with the space U+{ord(odd[1]):04X}; indent with plain spaces")
    try:
        return _parse_yaml(text, where)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        hint = "; indent with spaces, not tabs" if "\\t" in str(error.problem) else ""
        raise ConfigError(f"{where}{line}: not valid YAML: {error.problem or error.context}{hint}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        if reason.startswith("Exceeds the limit (4300 digits)"):
            reason = "a number has more than 4,300 digits"
        raise ConfigError(f"{where}: not valid YAML: {reason}") from None


def _collect_lines(node: yaml.Node, path: Key, lines: dict[Key, int], where: str) -> None:
    """Fill ``lines`` with the line (from 1) of ``node`` and of every key below it."""
    if path in lines:  # an alias that contains itself leads back here
        return
    lines[path] = node.start_mark.line + 1
    # Limits
    if len(path) > 32:
        raise ConfigError(f"{where}:{node.start_mark.line + 1}: nested too deeply; a configuration has few levels")
    if len(lines) > MAX_NODES:  # aliases of aliases: a few bytes stand for any number of values
        raise ConfigError(f"{where}:{node.start_mark.line + 1}: not valid YAML: {_TOO_MANY}")
    # Keys and items below
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ConfigError(f"{where}:{key.start_mark.line + 1}: a key must be a word, not a {key.id}")
            name = str(key.value)
            if node.flow_style and ":" in name and key.style is None and value.value == "":
                first, _, rest = name.partition(":")
                raise ConfigError(
                    f"{where}:{key.start_mark.line + 1}: {name}: a space is missing after the colon: {first}: {rest}"
                )
            if name in seen and name != "<<":
                raise ConfigError(f"{where}:{key.start_mark.line + 1}: {dotted((*path, name))}: given twice; keep one")
            seen.add(name)
            _collect_lines(value, (*path, name), lines, where)
            lines[(*path, name)] = key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _collect_lines(value, (*path, index), lines, where)
