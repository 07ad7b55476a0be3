"""Read the data that a configuration is written for, and collect statistics."""

from __future__ import annotations

import json
import os
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from nmt.advice import KINDS
from nmt.config.data import CleaningConfig
from nmt.config.load import validate_config
from nmt.config.recipes import FEWEST
from nmt.config.sources import KIND_NAMES, AutoSource, PlainSource, Source
from nmt.data.sources import read_pairs, reader
from nmt.data.sources.auto import KINDS as KIND_OF
from nmt.data.sources.auto import files_of, kind_ending, resolve, tsv_columns
from nmt.data.sources.base import Reading, open_file
from nmt.data.sources.language_pairs import language_of, language_pairs, role_of
from nmt.errors import BadRowError, DataError, SettingsError
from nmt.numbers import count_of
from nmt.runtime.progress import counted

SAMPLE = 100_000  # pairs that are kept, to measure with
LONGEST = int(CleaningConfig.model_fields["max_chars"].default)

Pair = tuple[str, str]
Files = tuple[str, ...]  # one of both languages, or one for each


@dataclass(frozen=True)
class Languages:
    """The languages of source and target."""

    src: str
    tgt: str

    @property
    def reading(self) -> Reading:
        return Reading((self.src, self.tgt))


@dataclass(frozen=True)
class Material:
    """Statistics of the training data.

    Attributes:
        source: the data as the value of ``data.train``: a name, or a mapping.
        name: what messages call the data.
        pairs: number of sentence pairs.
        characters: mean number of characters of source and target.
        sample: at most :data:`SAMPLE` random pairs, in the order of the data, each with its number from 1.
    """

    source: Any
    name: str
    pairs: int
    characters: tuple[float, float]
    sample: Sequence[tuple[int, Pair]]

    def shown(self) -> list[tuple[int, Pair]]:
        """Three pairs, from the start, the middle and the end."""
        return [self.sample[int(place * (len(self.sample) - 1))] for place in (0.0, 0.5, 1.0)]

    def alphabet(self, coverage: float) -> int:
        """The number of the most frequent characters that make up this share of the sample's text."""
        sizes = sorted(self._characters.values(), reverse=True)
        total = coverage * sum(sizes)
        return 1 + sum(so_far < total for so_far in accumulate(sizes))

    @cached_property
    def _characters(self) -> Counter[str]:
        counts = Counter[str]()
        for _, (src, tgt) in self.sample:
            counts.update(src)
            counts.update(tgt)
        return counts


def source_of(words: Sequence[str], languages: Languages) -> Any:
    """The value of ``data.train`` for what a user names: one file, folder or hub id, two text files, or a mapping.

    Raises:
        DataError: there are more than two names, or two that are swapped, equal, or no files of text.
    """
    if "" in words:
        raise DataError("DATA: a name is empty; name a file, a folder or a hub id")
    if len(words) == 1 and words[0].startswith("{"):
        return _mapping(words[0])
    if len(words) == 1:
        word = words[0]
        return {"kind": "auto", "path": word} if word in KIND_NAMES or word.lower() in KINDS else word
    if len(words) > 2:
        raise DataError(
            f"{len(words)} names of data: give one file, folder or hub id, or two text files: the source and the target"
        )
    src, tgt = words
    if src == tgt:
        raise DataError(f"{src}: is given as source and as target; name the file of each language")
    ends = [language_of(word)[1] for word in words]
    if ends == [languages.tgt.lower(), languages.src.lower()] and ends[0] != ends[1]:
        raise DataError(f"{src} and {tgt}: the source comes first: write {tgt} {src}, or --langs {ends[0]}-{ends[1]}")
    for word in words:
        with open_file(word):
            pass  # a missing file is named as such
    if all(map(kind_ending, words)):
        raise DataError(f"{src} and {tgt}: two names mean two files of text; give one, or a folder that holds both")
    return {"kind": "text", "src": src, "tgt": tgt}


def parts_of(words: Sequence[str], languages: Languages) -> dict[str, list[Files]]:
    """The files of a folder whose names say what they are for: ``train``, ``valid`` and ``test``.

    Empty unless there are training files, others, files of one kind only, and no file whose name says nothing.
    """
    if len(words) != 1 or not os.path.isdir(words[0]):
        return {}
    files = files_of(words[0])
    units: list[Files] = [*language_pairs(files, (languages.src, languages.tgt))]
    if not units:
        units = [(file,) for file in files if kind_ending(file)]
        kinds = {KIND_OF[kind_ending(file)] for (file,) in units}
        if len(kinds) != 1 or "hub" in kinds or os.path.exists(os.path.join(words[0], "README.md")):  # a dataset card
            return {}
    found: dict[str, list[Files]] = {"train": [], "valid": [], "test": [], "": []}
    for unit in units:
        found[role_of(unit[0])].append(unit)
    if found[""] or not found["train"] or not (found["valid"] or found["test"]):
        return {}
    return {role: named for role, named in found.items() if named}


def files_source(units: Sequence[Files], languages: Languages) -> Any:
    """The source of some files of :func:`parts_of`."""
    sides = [paths if len(paths) > 1 else paths[0] for paths in map(list, zip(*units, strict=True))]
    if len(sides) == 2:
        return {"kind": "text", "src": sides[0], "tgt": sides[1]}
    if len(units) == 1:
        return sides[0]
    kind = KIND_OF[kind_ending(units[0][0])]
    columns = tsv_columns(units[0][0], languages.reading) if kind == "tsv" else {}
    return {"kind": kind, "path": sides[0], **columns}


def _mapping(text: str) -> dict[str, Any]:
    """A source written as in a configuration: ``{kind: csv, path: a.csv, header: true}``.

    Raises:
        DataError: it is no mapping.
    """
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise DataError(f"{text}: is not a mapping; write a source as '{{kind: csv, path: FILE, header: true}}'")
    return {"kind": "auto", **found}


def advised(error: DataError, source: Any, languages: Languages) -> DataError:
    """The error with how to give the kind or the keys that it names to ``nmt init``, unless the source has keys."""
    text = source.get("kind") == "text" if isinstance(source, dict) else False
    names = [source["src"], source["tgt"]] if text else [source]
    file = next((name for name in names if isinstance(name, str) and str(error).startswith(f"{name}:")), None)
    try:
        own = "text" if text else resolve(AutoSource(kind="auto", path=source), languages.reading).kind
    except (DataError, ValidationError):
        own = ""
    # Another kind, which the message names
    kind = next((found for found in re.findall(r"\bkind: ([a-z]+)", str(error)) if found not in (own, "text")), None)
    if kind is not None and file is not None and not isinstance(error, BadRowError):
        return DataError(f"{error}; write the data as '{{kind: {kind}, path: {_quoted(file)}}}'")
    # Keys of its kind
    if not isinstance(error, SettingsError) or text or not own:
        return error
    key = "on_bad_row: skip" if isinstance(error, BadRowError) else _keys_named(str(error))
    what = "to skip such rows, write" if isinstance(error, BadRowError) else "write keys with"
    return SettingsError(f"{error}; {what} the data as '{{kind: {own}, path: {_quoted(source)}, {key}}}'")


def _keys_named(message: str) -> str:
    """The keys that a message names, with their values if it has them."""
    if text := re.search(r"columns of text: (\d+), (\d+)\)", message):
        header = ", header: true" if "header: true" in message else ""
        return f"src_column: {text[1]}, tgt_column: {text[2]}{header}"
    if text := re.search(r"set (skip_rows: \d+)", message):
        return text[1]
    return "header: true" if "set header: true" in message else "KEY: VALUE"


def _quoted(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)


def read_material(source: Any, languages: Languages) -> Material:
    """Read training data once, to its end.

    Raises:
        DataError: the data cannot be read, or have fewer than :data:`nmt.config.recipes.FEWEST` pairs.
    """
    section, draw = validated(source), random.Random(1)
    name = reader(section).name(section)
    pairs, lengths = 0, [0, 0]
    sample: list[tuple[int, Pair]] = []
    for pair in counted(read_pairs(section, languages.reading), f"reading {name}", "pairs"):
        pairs += 1
        lengths[0] += len(pair[0])
        lengths[1] += len(pair[1])
        # Algorithm R (Vitter 1985): each pair is in the sample with the same probability
        if pairs <= SAMPLE:
            sample.append((pairs, pair))
        elif (place := draw.randrange(pairs)) < SAMPLE:
            sample[place] = (pairs, pair)
    if not pairs:
        raise DataError(f"{name}: contains no sentence pairs; name another file")
    if pairs < FEWEST:
        raise DataError(
            f"{name}: {count_of(pairs, 'pair')}, too few to train a model; give at least {FEWEST}, better some "
            "thousands"
        )
    if len(usable := _usable(sample)) < min(FEWEST, len(sample)):
        raise DataError(
            f"{name}: without equal pairs, empty sides and sides of over {LONGEST:,} characters, {len(usable):,} of "
            f"{len(sample):,} pairs are left, too few to train a model; give at least {FEWEST}, of a sentence each"
        )
    sample.sort(key=lambda numbered: numbered[0])
    return Material(source, name, pairs, (lengths[0] / pairs, lengths[1] / pairs), sample)


def _usable(sample: Sequence[tuple[int, Pair]]) -> set[Pair]:
    """The pairs that cleaning by default keeps at most."""
    stripped = ((src.strip(), tgt.strip()) for _, (src, tgt) in sample)
    return {(src, tgt) for src, tgt in stripped if src and tgt and max(len(src), len(tgt)) <= LONGEST}


def count_pairs(source: Any, languages: Languages, material: Material) -> int:
    """The number of pairs of a validation or test set.

    Raises:
        DataError: the set cannot be read, is empty, or has mostly pairs of the training data.
    """
    section = validated(source)
    name, known = reader(section).name(section), {pair for _, pair in material.sample}
    count = shared = 0
    for pair in read_pairs(section, languages.reading):
        count += 1
        shared += pair in known
    if not count:
        raise DataError(f"{name}: contains no sentence pairs; name another file")
    if 2 * shared > count:
        raise DataError(f"{name}: {shared:,} of its {count:,} pairs are training pairs; name other data, or none")
    return count


def validated(source: Any) -> Source:
    """The section of a source, with its kind found where only a name is given.

    Raises:
        ConfigError: the source has a mistake, or its kind cannot be told.
    """
    try:
        return TypeAdapter[Source](PlainSource).validate_python(source)
    except ValidationError:
        # The message is that for a configuration with this source.
        data = {"src_lang": "en", "tgt_lang": "de", "train": source, "valid": {"kind": "holdout", "fraction": 0.1}}
        validate_config({"name": "data", "data": data, "model": {"type": "rnn"}, "train": {"max_steps": 1}}, "DATA")
        raise
