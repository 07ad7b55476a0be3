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
from nmt.config.data import KIND_NAMES, AutoSource, PlainSource, Source
from nmt.config.load import validate_config
from nmt.config.recipes import FEWEST
from nmt.data.sources import read_pairs, reader
from nmt.data.sources.auto import files_of, kind_ending, resolve
from nmt.data.sources.base import Reading, open_file
from nmt.data.sources.language_pairs import language_of, language_pairs
from nmt.errors import BadRowError, DataError, SettingsError
from nmt.runtime.progress import counted

SAMPLE = 100_000  # pairs that are kept, to measure with

_ROLES = {  # words of the names of files
    "train": {"train", "training"},
    "valid": {"valid", "val", "validation", "dev", "devel", "development", "tune"},
    "test": {"test", "testing", "eval", "devtest"},
}

Pair = tuple[str, str]


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


def parts_of(words: Sequence[str], languages: Languages) -> dict[str, list[tuple[str, str]]]:
    """The pairs of text files of a folder whose names say what they are for: ``train``, ``valid`` and ``test``.

    Empty unless there are training files, others, and no file whose name says nothing.
    """
    if len(words) != 1 or not os.path.isdir(words[0]):
        return {}
    found: dict[str, list[tuple[str, str]]] = {}
    for pair in language_pairs(files_of(words[0]), (languages.src, languages.tgt)):
        stem = os.path.basename(language_of(pair[0])[0]).lower()
        roles = [role for role, names in _ROLES.items() if names & set(re.split(r"[\W\d_]+", stem))]
        if len(roles) != 1:
            return {}
        found.setdefault(roles[0], []).append(pair)
    return {role: found[role] for role in _ROLES if role in found} if "train" in found and len(found) > 1 else {}


def text_source(pairs: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The source of some pairs of text files."""
    src, tgt = ([pair[side] for pair in pairs] for side in (0, 1))
    return {"kind": "text", "src": src if len(pairs) > 1 else src[0], "tgt": tgt if len(pairs) > 1 else tgt[0]}


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


def advised(error: SettingsError, source: Any, languages: Languages) -> SettingsError:
    """The error with how to give the keys that it names to ``nmt init``, unless the source has keys already."""
    try:
        kind = resolve(AutoSource(kind="auto", path=source), languages.reading).kind
    except (DataError, ValidationError):
        return error
    key = "on_bad_row: skip" if isinstance(error, BadRowError) else "KEY: VALUE"
    what = "to leave out such rows, write" if isinstance(error, BadRowError) else "write keys with"
    path = json.dumps(source, ensure_ascii=False)
    return SettingsError(f"{error}; {what} the data as '{{kind: {kind}, path: {path}, {key}}}'")


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
    if pairs < FEWEST:
        raise DataError(
            f"{name}: {pairs} pair(s) are too few to train a model; give at least {FEWEST}, better some thousands"
        )
    sample.sort(key=lambda numbered: numbered[0])
    return Material(source, name, pairs, (lengths[0] / pairs, lengths[1] / pairs), sample)


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
        raise DataError(f"{name}: contains no sentence pairs")
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
