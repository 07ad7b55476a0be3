"""Configurations of OpusTrainer, as sections of ours.

OpusTrainer feeds a trainer with lines of several datasets, stage by stage. Its datasets become those of ``data.train``,
its stages ``data.stages``. Its ``seed`` and ``trainer`` have no meaning here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from nmt.config.modifiers import Modifier, ModifierConfig, check_modifiers

MAX_BYTES = 1 << 20
MAX_MODIFIERS = 100  # of a stage: aliases of aliases stand for any number
KEYS = {"version", "datasets", "stages", "modifiers", "seed", "trainer", "num_fields"}
# Keys of Tags that convert word alignments to subwords for Marian. A training of nmt converts them itself.
FOR_MARIAN = "spm_vocab", "spm_vocab_src", "spm_vocab_trg"
DETOKENIZERS = "custom_detok_src", "custom_detok_trg"  # keys of Tags


def read_opustrainer(path: str) -> dict[str, Any]:
    """The keys ``train`` and ``stages`` of the section ``data`` for a configuration file of OpusTrainer.

    Raises:
        ValueError: the file cannot be read, or has something that is not known here.
    """
    try:
        return _Curriculum(path, _load(path)).sections()
    except RecursionError:
        raise ValueError(f"{path}: an alias contains itself") from None


def _load(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
        found = yaml.safe_load(content.decode("utf-8-sig")) if len(content) <= MAX_BYTES else None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path}: is not a configuration of OpusTrainer (a mapping with datasets and stages)")
    return found


class _Curriculum:
    def __init__(self, path: str, raw: dict[str, Any]):
        self.path, self.raw = path, raw
        # Check the keys.
        names = raw.get("stages")
        if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
            raise self._error("stages", "must be a list of names of stages")
        for key in raw.keys() - KEYS - set(names):
            if not _is_stage(raw[key]):  # OpusTrainer allows stages that are not used
                known = ", ".join(sorted(KEYS))
                raise self._error(key, f"unknown key; known are {known} and the names of stages")
        self.names: list[str] = names
        if str(raw.get("version", "1")) != "1":
            raise self._error("version", f"{raw['version']} is not known; 1 is")
        if not isinstance(raw.get("datasets"), dict) or not raw["datasets"]:
            raise self._error("datasets", "must be a mapping of names to files")

    def sections(self) -> dict[str, Any]:
        stages = [self._stage(name) for name in self.names]
        modifiers = self._modifiers(self.raw, "modifiers")
        given = [*modifiers, *(one for stage in stages for one in stage["modifiers"] or [])]
        more: dict[str, Any] = {"alignment_column": 2} if any("Tags" in one for one in given) else {}
        if self.raw.get("num_fields") is not None:  # OpusTrainer leaves out rows with fewer fields
            more["on_bad_row"] = "skip"
        used = {name for stage in stages for name, weight in stage["weights"].items() if weight}
        datasets = []
        for name, given_files in self.raw["datasets"].items():
            files = given_files if isinstance(given_files, list) else [given_files]
            if not files or not all(isinstance(file, str) for file in files):
                raise self._error(f"datasets.{name}", "must be the path of a file, or a list of such paths")
            if str(name) in used:
                places = [str(Path(self.path).parent / file) for file in files]
                path = places if len(places) > 1 else places[0]
                source = {"kind": "tsv", "path": path, "header": False, **more}
                datasets.append({"name": str(name), "source": source, "modifiers": modifiers})
        # Leave out what a stage does not read.
        for stage in stages:
            stage["weights"] = {name: weight for name, weight in stage["weights"].items() if name in used}
        return {"train": {"kind": "mixture", "datasets": datasets}, "stages": stages}

    def _stage(self, name: str) -> dict[str, Any]:
        """One stage: ``[DATASET WEIGHT, ..., until DATASET EPOCHS]``, or a mapping with that as ``mix``."""
        # Form
        raw = self.raw.get(name)
        if raw is None:
            raise self._error(name, "the stage is not described")
        mix = raw
        if isinstance(raw, dict):
            for key in raw.keys() - {"mix", "modifiers"}:
                raise self._error(f"{name}.{key}", "unknown key; known are mix and modifiers")
            mix = raw.get("mix")
        if not isinstance(mix, list) or len(mix) < 2 or not all(isinstance(line, str) for line in mix):
            raise self._error(name, "must be a list: DATASET WEIGHT, ..., until DATASET EPOCHS")
        # Weights
        weights: dict[str, float] = {}
        for line in mix[:-1]:
            dataset, weight = self._words(name, line, 2)
            if dataset not in self.raw["datasets"]:
                raise self._error(name, f"no dataset {dataset} in datasets")
            weights[dataset] = weights.get(dataset, 0.0) + self._number(name, weight)
        # End
        until, dataset, epochs = self._words(name, mix[-1], 3)
        if until != "until" or not (epochs == "inf" or (epochs.isdecimal() and int(epochs) > 0)):
            raise self._error(name, f"the last line must be 'until DATASET EPOCHS', not {mix[-1]!r}")
        if not weights.get(dataset):
            raise self._error(name, f"{mix[-1]!r} would never end the stage, which does not read {dataset}")
        own = isinstance(raw, dict) and "modifiers" in raw
        return {
            "name": name,
            "weights": weights,
            "epochs": None if epochs == "inf" else int(epochs),
            "epoch_of": dataset,
            "modifiers": self._modifiers(raw, f"{name}.modifiers") if own else None,
        }

    def _modifiers(self, section: Any, where: str) -> list[Any]:
        found = []
        for modifier in _flatten(section.get("modifiers") or []):
            if not isinstance(modifier, dict) or not modifier:
                raise self._error(where, "must be a list of modifiers, such as UpperCase: 0.1")
            found.append(self._modifier(modifier, where))
            if len(found) > MAX_MODIFIERS:
                raise self._error(where, f"more than {MAX_MODIFIERS} modifiers")
        try:
            check_modifiers([_MODIFIER.validate_python(modifier) for modifier in found])
        except ValueError as error:
            raise self._error(where, str(error)) from None
        return found

    def _modifier(self, raw: dict[str, Any], where: str) -> dict[str, Any]:
        """A modifier without the keys that have no meaning here."""
        name = str(next(iter(raw)))
        if name == "Retokenize":
            raise self._error(
                where, "Retokenize: is not needed, alignments of words become those of subwords; remove it"
            )
        if name == "Tags":
            for key in DETOKENIZERS:
                if raw.get(key) not in (None, "spaces"):
                    text = (
                        f"Tags.{key}: {raw[key]!r}: only words between spaces can be read; give the text as it is, with"
                    )
                    raise self._error(where, f"{text} alignments of such words, and remove the key")
            raw = {key: value for key, value in raw.items() if key not in (*DETOKENIZERS, *FOR_MARIAN)}
        try:
            _MODIFIER.validate_python(raw)
        except ValidationError as error:
            raise self._error(where, f"{name}{_reason(error.errors()[0])}") from None
        return raw

    def _words(self, name: str, line: str, count: int) -> list[str]:
        words = line.split()
        if len(words) != count:
            raise self._error(name, f"{line!r} must be {'DATASET WEIGHT' if count == 2 else 'until DATASET EPOCHS'}")
        return words

    def _number(self, name: str, text: str) -> float:
        try:
            weight = float(text)
        except ValueError:
            weight = -1.0
        if not 0.0 <= weight < float("inf"):
            raise self._error(name, f"{text!r} is not a weight")
        return weight

    def _error(self, where: Any, problem: str) -> ValueError:
        return ValueError(f"{self.path}: {where}: {problem}")


_MODIFIER: TypeAdapter[Modifier] = TypeAdapter(ModifierConfig)
_SECTIONS = {get_args(section.model_fields["name"].annotation)[0]: section for section in get_args(Modifier)}


def _reason(error: ErrorDetails) -> str:
    """What is wrong with a modifier, as the words after its name."""
    name, *keys = error["loc"] or ("",)
    if error["type"].startswith("union_tag"):
        return f": unknown modifier; known are {', '.join(_SECTIONS)}"
    if error["type"] == "value_error":
        return f": {error['ctx']['error']}"
    key = "" if keys == ["probability"] else "".join(f".{key}" for key in keys)
    if error["type"] == "extra_forbidden":
        return f"{key}: unknown key; known are {', '.join(list(_SECTIONS[str(name)].model_fields)[2:])}"
    return f"{key}: {error['input']!r}: {error['msg'].replace('Input should', 'must')}"


def _is_stage(value: Any) -> bool:
    mix = value.get("mix") if isinstance(value, dict) else value
    return isinstance(mix, list) and bool(mix) and isinstance(mix[-1], str) and mix[-1].startswith("until ")


def _flatten(items: Any) -> Iterator[Any]:
    for item in items if isinstance(items, list) else [items]:
        if isinstance(item, list):
            yield from _flatten(item)
        else:
            yield item
