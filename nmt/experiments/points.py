"""The points of a sweep: variants of a configuration times the values of a grid.

A point is trained with every seed. Points that differ only in the search share their trainings.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, PydanticUndefined

from nmt.advice import nearest
from nmt.config.base import Positive, Section, unused_keys
from nmt.config.compare import digest
from nmt.config.experiment import Config
from nmt.config.load import load_config, parse_value, read_mapping, search_overrides, validate_config
from nmt.errors import ConfigError, DataError, RunError
from nmt.run.directory import Run, load_experiment

log = logging.getLogger(__name__)

SEARCH = "search."
LONGEST = 80  # characters of the name of a run, without the seed; a longer name is cut, and ends in a digest


class Variant(Section):
    """A configuration, and settings that replace its own."""

    config: str | None = Field(None, description="configuration file; default: that of the experiment")
    set: list[str] = Field([], description="settings, as for nmt train --set")


class EqualTime(Section):
    """Every point trains for the time that ``steps`` updates of the point ``variant`` take."""

    variant: str = Field(description="label of a point")
    steps: Positive = Field(description="its updates")


class Experiment(Section):
    """The content of a file of ``configs/experiments/``.

    Paths of configurations are relative to the folder above the file.
    """

    test: str | None = Field(None, description="test set of the comparison; default: the first one")
    config: str | None = Field(None, description="configuration of variants that name none")
    set: list[str] = Field([], description="settings of all variants")
    seeds: Positive = Field(1, description="trainings of each point")
    equal_time: EqualTime | None = Field(None, description="train all points for the same time")
    variants: dict[str, Variant] = Field({}, description="variants by label")
    grid: dict[str, list[Any]] = Field({}, description="values by key; each combination is a point")


@dataclass(frozen=True)
class Training:
    """One run of a point.

    Attributes:
        config: configuration file.
        settings: overrides, with the name of the run and its seed.
        resolved: the configuration with its overrides.
    """

    config: Path
    settings: tuple[str, ...]
    resolved: Config

    @property
    def name(self) -> str:
        return self.resolved.name

    @property
    def run(self) -> Run:
        return Run(self.resolved.run_dir)


@dataclass(frozen=True)
class Point:
    """A point with its trainings, one a seed.

    Attributes:
        search: search settings that the trainings do not have; the trained runs are scored with them.
    """

    label: str
    trainings: tuple[Training, ...]
    search: dict[str, Any]


@dataclass(frozen=True)
class Sweep:
    """All points, and what to do with them.

    Attributes:
        name: beginning of the names of the runs.
        folder: of the runs.
        test: test set of the comparison.
        is_trained: whether the only run is one that was trained before.
        timed: the point whose time all points train for, and its updates; None: each trains as its settings say.
    """

    name: str
    folder: Path
    test: str
    points: tuple[Point, ...]
    timed: tuple[Point, int] | None = None
    is_trained: bool = False

    @property
    def trainings(self) -> list[Training]:
        """Each training once."""
        return list({one.run.path: one for point in self.points for one in point.trainings}.values())


# -------------------------------------------------------------------------------------------------------------- reading


def read_experiment(path: Path) -> Experiment | None:
    """The experiment in a file; None if the file is a configuration, or cannot be read.

    Raises:
        ConfigError: the file has keys of an experiment, and a mistake.
    """
    raw = read_mapping(path) if path.is_file() else None
    if raw is None:
        return None
    is_mixed = bool(Config.model_fields.keys() & raw.keys())
    if not ({"variants", "grid"} if is_mixed else Experiment.model_fields.keys()) & raw.keys():
        return None
    try:
        found = Experiment.model_validate(raw)
    except ValidationError as error:
        mistakes = (f"{'.'.join(map(str, one['loc'])) or '(top)'}: {_mistake(one)}" for one in error.errors())
        raise ConfigError(f"{path}: not an experiment: {'; '.join(mistakes)}") from None
    for label, variant in found.variants.items():
        if variant.config is None and found.config is None:
            raise ConfigError(f"{path}: variants.{label}: has no config; name a configuration there or at the top")
    if not found.variants and found.config is None:
        raise ConfigError(f"{path}: has neither variants nor config; name the configuration to train")
    return found


def _mistake(error: ErrorDetails) -> str:
    """What is wrong with a value, in plain words where a newcomer meets it."""
    where, kind = error["loc"], error["type"]
    if kind == "extra_forbidden":
        inner = {"variants": Variant.model_fields, "equal_time": EqualTime.model_fields}
        known = Experiment.model_fields if len(where) == 1 else inner[str(where[0])]
        near = nearest(str(where[-1]), known)
        return f"unknown key; did you mean {near}?" if near else f"unknown key; valid here: {', '.join(known)}"
    forms = dict.fromkeys(("dict_type", "model_type"), "must be a mapping of keys to values")
    forms["list_type"] = "must be a list, such as [a, b]"
    return forms.get(kind, error["msg"])


def parse_grid(words: Sequence[str]) -> dict[str, list[Any]]:
    """Values by key from texts such as ``model.attention=dot,general``; commas inside brackets separate nothing.

    Raises:
        ConfigError: a text is not key=value,value, or a key comes twice.
    """
    found: dict[str, list[Any]] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not all(key.split(".")) or not text.strip():
            raise ConfigError(f"--grid {word}: must be key=value,value, such as model.attention=additive,dot")
        if key in found:
            raise ConfigError(f"--grid {word}: {key} is given twice; give all its values at once: {key}=a,b")
        inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
        found[key] = parse_value(f"[{inner}]", f"--grid {word}")
    return found


def check_grid(grid: Mapping[str, Sequence[Any]], settings: Sequence[str]) -> None:
    """Refuse a grid that has no or equal values, or whose keys the sweep or other settings decide.

    Raises:
        ConfigError: see above.
    """
    given = {setting.partition("=")[0] for setting in settings}
    for key, values in grid.items():
        texts = [_text(value) for value in values]
        if not values:
            raise ConfigError(f"--grid {key}: has no values; give some: {key}=a,b")
        if twice := [text for i, text in enumerate(texts) if text in texts[:i]]:
            raise ConfigError(f"--grid {key}: the value {twice[0]} is given twice; give each once")
        if key in ("name", "runs"):
            raise ConfigError(f"--grid {key}: the sweep names its runs; use --set {key}=... for all of them")
        if key == "seed":
            raise ConfigError("--grid seed: use --seeds N, which trains every point with N seeds")
        if key in given:
            raise ConfigError(f"--grid {key}: --set has the same key; give it once")


# --------------------------------------------------------------------------------------------------------------- points


def plan(
    config: str,
    overrides: Sequence[str] = (),
    grid: Mapping[str, Sequence[Any]] | None = None,
    seeds: int | None = None,
    test: str | None = None,
    only: Sequence[str] = (),
) -> Sweep:
    """The points of a configuration or of an experiment, all of them checked.

    Args:
        config: a configuration, an experiment, or a trained run, whose search alone can change.
        overrides: settings of all points.
        grid: values by key, beside those of an experiment.
        seeds: trainings of each point; default: those of the experiment, else 1.
        test: test set of the comparison; default: that of the experiment, else the first of the configuration.
        only: labels of the points to keep; default: all.

    Raises:
        ConfigError: a key, a value, a label or a combination is wrong.
        RunError: a run of the sweep exists with another configuration.
    """
    # Read
    path = Path(config)
    if (path / "config.yaml").is_file():
        return _plan_of_run(Run(path), overrides, grid or {}, seeds, test, only)
    experiment = read_experiment(path) or Experiment(variants={"": Variant(config=config)})
    is_file = "" not in experiment.variants
    grid = {**experiment.grid, **(grid or {})}
    check_grid(grid, overrides)
    # Combine
    settings = [*experiment.set, *overrides]
    named = [setting.removeprefix("name=") for setting in settings if setting.startswith("name=")]
    prefix = named[-1] if named else path.stem if is_file else load_experiment(config, settings).name
    points: list[Point] = []
    for label, variant in (experiment.variants or {"": Variant()}).items():
        file = path.parent.parent / (variant.config or experiment.config or "") if is_file else path
        for values in product(*grid.values()):
            chosen = dict(zip(grid, values, strict=True))
            own = [*settings, *variant.set]
            points.append(_point(prefix, label, file, own, chosen, seeds or experiment.seeds))
    _check_labels(only, points, "--only")
    timed = None
    if (equal := experiment.equal_time) is not None:
        _check_labels([equal.variant], points, f"{path}: equal_time.variant")
        timed = next(point for point in points if point.label == equal.variant), equal.steps
    # Check
    kept = [point for point in points if not only or point.label in only]
    first = kept[0].trainings[0].resolved
    name = test or experiment.test or next(iter(first.data.test), "valid")
    for point in kept:
        _check_set(point, name)
        for one in point.trainings:
            one.run.check(one.resolved)
    _check_names(kept)
    return Sweep(prefix, Path(first.runs), name, tuple(kept), timed)


def _plan_of_run(
    run: Run,
    overrides: Sequence[str],
    grid: Mapping[str, Sequence[Any]],
    seeds: int | None,
    test: str | None,
    only: Sequence[str],
) -> Sweep:
    """The searches of a trained run.

    Raises:
        RunError: the run has no final model.
        ConfigError: the grid or the settings concern the training.
    """
    if not run.has_model:
        raise RunError(f"{run.path}: is not finished; nmt train {run.path / 'config.yaml'} resumes it")
    changed = [*grid, *(setting.partition("=")[0] for setting in overrides)]
    if others := [key for key in changed if not key.startswith(SEARCH)]:
        raise ConfigError(f"{others[0]}: {run.path} is trained; its search alone can change, such as search.beam_size")
    if seeds not in (None, 1) or only:
        raise ConfigError(f"{run.path}: is one run; --seeds and --only need a configuration")
    check_grid(grid, overrides)
    named = {"name": run.path.resolve().name, "runs": str(run.path.resolve().parent)}
    config = run.load_config().model_copy(update=named)
    common, points = search_overrides(overrides), []
    for values in product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        search = {**common, **{key.removeprefix(SEARCH): value for key, value in chosen.items()}}
        validate_config(
            {**config.model_dump(mode="json"), "search": {**config.search.model_dump(), **search}}, str(run.path)
        )
        label = ", ".join(f"{key.removeprefix(SEARCH)}={_text(value)}" for key, value in chosen.items())
        points.append(Point(label or config.name, (Training(run.config_path, (), config),), search))
    name = test or next(iter(config.data.test), "valid")
    for point in points:
        _check_set(point, name)
    return Sweep(config.name, Path(config.runs), name, tuple(points), is_trained=True)


def _point(
    prefix: str, label: str, file: Path, settings: Sequence[str], chosen: Mapping[str, Any], seeds: int
) -> Point:
    """A point with a training for each seed; ``chosen`` are the values of the grid."""
    texts = {key: _text(value) for key, value in chosen.items()}
    short = _short_names(list(chosen))
    parts = [f"{short[key]}={text}" for key, text in texts.items()]
    # The name of a run says what it was trained with; the search is no part of it
    trained = [key for key in chosen if not key.startswith(SEARCH)]
    words = [prefix, label, *(f"{short[key]} {texts[key]}" for key in trained)]
    stem = re.sub("[^A-Za-z0-9_.]+", "-", " ".join(filter(None, words))).strip("-.")
    if len(stem) > LONGEST:
        stem = f"{stem[:LONGEST]}-{digest([label, *(f'{key}={texts[key]}' for key in trained)])[:6]}"
    own = [*settings, *(f"{key}={json.dumps(chosen[key], ensure_ascii=False)}" for key in trained)]
    name = ", ".join(filter(None, [label, *parts]))
    if left_out := _unused(file, own) - _unused(file, settings):
        log.info("%s: without %s, which would have no effect", name, ", ".join(sorted(key for key, _ in left_out)))
        own += [f"{key}={default}" for key, default in sorted(left_out)]
    search = {key.removeprefix(SEARCH): value for key, value in chosen.items() if key.startswith(SEARCH)}
    shown = [*own, *(f"{SEARCH}{key}={json.dumps(value, ensure_ascii=False)}" for key, value in search.items())]
    base = load_experiment(file, shown)  # refuses a mistake of the search, too
    trainings = []
    for seed in range(base.seed, base.seed + seeds):
        final = (*own, f"seed={seed}", f"name={stem}-seed{seed}")
        trainings.append(Training(file, final, load_experiment(file, final)))
    return Point(name or base.name, tuple(trainings), search)


def _unused(file: Path, settings: Sequence[str]) -> set[tuple[str, str]]:
    """The keys that a configuration file sets without effect under ``settings``, each with its default as JSON.

    So a grid may have values under which a key of the file means nothing, such as ``model.d_attention`` with general
    attention. Keys that ``settings`` name are not among them: the configuration refuses them.
    """
    try:
        config = load_config(file, [*settings, "defaults=1"])  # version 1 of the defaults does not refuse them
    except ConfigError:
        return set()  # the caller reports the mistake
    given, found = {setting.partition("=")[0] for setting in settings}, set()
    for path, section, key, _ in unused_keys(config):
        default = type(section).model_fields[key].default
        if f"{path}.{key}" not in given and getattr(section, key) != default and default is not PydanticUndefined:
            found.add((f"{path}.{key}", TypeAdapter(Any).dump_json(default).decode()))
    return found


def _short_names(keys: Sequence[str]) -> dict[str, str]:
    """The last part of each key; the whole key where two end alike."""
    last = [key.rpartition(".")[2] for key in keys]
    return {key: end if last.count(end) == 1 else key for key, end in zip(keys, last, strict=True)}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _check_labels(labels: Sequence[str], points: Sequence[Point], where: str) -> None:
    """
    Raises:
        ConfigError: no point has one of the labels.
    """
    there = [point.label for point in points]
    if unknown := [label for label in labels if label not in there]:
        raise ConfigError(f"{where}: {unknown[0]}: no such point; there are: {', '.join(there)}")


def _check_names(points: Sequence[Point]) -> None:
    """
    Raises:
        ConfigError: two different trainings would have one name.
    """
    seen: dict[Path, tuple[str, Training]] = {}
    for point in points:
        for one in point.trainings:
            label, other = seen.setdefault(one.run.path, (point.label, one))
            if other.resolved != one.resolved:
                raise ConfigError(f"{label} and {point.label}: both would train the run {one.name}; rename one of them")


def _check_set(point: Point, test: str) -> None:
    """
    Raises:
        DataError: the configuration has no such test set.
    """
    for one in point.trainings:
        sets = [*one.resolved.data.test, "valid"]
        if test not in sets:
            raise DataError(f"{point.label}: no test set {test}; there are: {', '.join(sets)}")
