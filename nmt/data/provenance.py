"""The names of corpora in the store: keys of the settings that shape a corpus and of the content of its files.

:func:`corpus_key` names a corpus. :func:`differences` says which files are not those that a run was started with.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nmt.config.base import Section
from nmt.config.compare import digest
from nmt.config.data import DataConfig, MixtureSource
from nmt.config.experiment import FORMER_DEFAULTS
from nmt.config.sources import HoldoutSource, HubSource, JsonlSource, Source, TextSource, TsvSource
from nmt.data.file_hashes import Entry, is_file_entry
from nmt.numbers import count_of

# ------------------------------------------------------------------------------------------------------------ contents


def without_paths(entries: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The entries of a source, independent of where its files are: SHA-256 of files, and their names in a folder."""
    files = [entry for entry in entries if is_file_entry(entry)]
    folder = [entry for entry in entries if not is_file_entry(entry)]
    if not folder:
        # The kind of a file that ``kind: auto`` names: another kind reads other pairs from the same content.
        return [[entry["kind"], entry["sha256"]] if "kind" in entry else entry["sha256"] for entry in files]
    about = dict(folder[0])
    top = str(about.pop("path", "")) if files else ""
    return [about, *([os.path.relpath(entry["path"], top), entry["sha256"]] for entry in files)]


def differences(name: str, there: Sequence[Mapping[str, Any]], here: Sequence[Mapping[str, Any]]) -> list[str]:
    """Describe in words which files of a part are not those recorded ``there``; empty if the content is the same.

    Settings that only one side knows are not compared here. A run compares them with its configuration.
    """
    if len(there) != len(here):
        return [f"data.{name} has {count_of(len(here), 'file')}, {len(there)} then"]
    found = []
    for old, new in zip(there, here, strict=True):
        if is_file_entry(old) and is_file_entry(new):
            if old["sha256"] != new["sha256"]:
                moved = f" ({old['path']} then)" if old["path"] != new["path"] else ""
                found.append(f"{new['path']}{moved} has SHA-256 {new['sha256'][:8]}, {old['sha256'][:8]} then")
            continue
        keys = old.keys() & new.keys() - ({"path"} if len(here) > 1 else set())
        found += [f"data.{name}.{key} is {new[key]}, {old[key]} then" for key in sorted(keys) if old[key] != new[key]]
        if is_file_entry(old) != is_file_entry(new):
            found.append(f"data.{name} is of another kind")
    return found


# ---------------------------------------------------------------------------------------------------------------- keys

# Keys that are part of every name in the store since version 1 of the defaults, whatever their value. A later key is
# part of the name only if its value differs from what version 1 did, so that corpora of version 1 are found.
_FIRST_KEYS = {
    "DataConfig": "src_lang tgt_lang train valid test cleaning",
    "TextSource": "kind src tgt",
    "TsvSource": "kind path src_column tgt_column",
    "JsonlSource": "kind path src_key tgt_key",
    "HubSource": "kind path name split revision src_column tgt_column",
    "DemoSource": "kind part seed",
    "HoldoutSource": "kind fraction seed",
    "CleaningConfig": "max_chars max_ratio max_tokens drop_duplicates drop_overlap",
    "TokenizerConfig": "type vocab_size joint character_coverage byte_fallback normalization train_sentences sampling",
}
_NOT_CONTENT = {"data.store", "data.stages", "data.processes"}
_NOT_STORED = "references"  # of a source: the files are read when the set is scored
# Keys of a source that do not change the text of its pairs, or are known by the content of the files.
_NOT_TEXT = ("src", "tgt", "path", "tag", "alignments")
# How each kind of source is read, as a number; 1 where it is missing. A change by which the same file gives other pairs
# raises the number, so that corpora of these files are prepared again. 2: a row that looks like a header is no pair.
READING = {"tsv": 2, "csv": 2, "xlsx": 2}


def key_settings(section: Section, path: str = "", first: bool = False) -> dict[str, Any]:
    """The settings that are part of the name of an entry of the store. New keys and defaults of nmt do not change them.

    Args:
        path: dotted path of the section.
        first: leave out every key that the first version did not know.
    """
    known, settings = _FIRST_KEYS.get(type(section).__name__, "").split(), {}
    plain = section.model_dump(mode="json")
    for name, field in type(section).model_fields.items():
        value, where = getattr(section, name), f"{path}.{name}".lstrip(".")
        if isinstance(value, Section):
            plain[name] = key_settings(value, where, first)
        elif isinstance(value, dict):
            plain[name] = {key: key_settings(inner, f"{where}.{key}", first) for key, inner in value.items()}
        if (
            where not in _NOT_CONTENT
            and name != _NOT_STORED
            and (name in known or (not first and value != _first_default(where, field.default)))
        ):
            settings[name] = plain[name]
    return settings


def _first_default(path: str, default: Any) -> Any:
    return next((FORMER_DEFAULTS[n][path] for n in sorted(FORMER_DEFAULTS) if path in FORMER_DEFAULTS[n]), default)


def training_sources(data: DataConfig) -> dict[str, Source]:
    """The sources of the training pairs: ``train``, or of a mixture ``train.NAME`` for each dataset, in order."""
    if isinstance(data.train, MixtureSource):
        return {f"train.{dataset.name}": dataset.source for dataset in data.train.datasets}
    return {"train": data.train}


def held_sources(data: DataConfig) -> dict[str, Source | HoldoutSource]:
    """The sources of the other parts by their names: ``valid``, ``test.NAME``."""
    return {"valid": data.valid, **{f"test.{name}": source for name, source in data.test.items()}}


def origins(data: DataConfig) -> dict[str, Source | HoldoutSource]:
    """All sources of a corpus by name, see :func:`training_sources` and :func:`held_sources`."""
    return {**training_sources(data), **held_sources(data)}


def part_names(data: DataConfig) -> list[str]:
    """The names of the parts of a corpus: ``train``, ``valid``, ``test.NAME``."""
    return ["train", *held_sources(data)]


def corpus_key(data: DataConfig, inputs: Mapping[str, Sequence[Entry]], version: int) -> str:
    """The name of a corpus: a hash of its settings and of the content of its files, wherever the files are."""
    settings = key_settings(data, "data")
    contents = {}
    for name, source in origins(data).items():
        shape = {k: v for k, v in key_settings(source).items() if k not in _NOT_TEXT}
        number = _reading(source, inputs[name])
        contents[name] = [shape, without_paths(inputs[name]), *([number] if number > 1 else [])]
    return digest({k: v for k, v in settings.items() if k not in ("train", "valid", "test")}, contents, version)


def _reading(source: Source | HoldoutSource, entries: Sequence[Mapping[str, Any]]) -> int:
    """How the files of a source are read, see :data:`READING`; the entries have the kind that ``kind: auto`` found."""
    return max(READING.get(kind, 1) for kind in (source.kind, *(str(entry.get("kind")) for entry in entries)))


def first_corpus_key(data: DataConfig, inputs: Mapping[str, Sequence[Mapping[str, Any]]]) -> str | None:
    """The name that version 0.1 gave a corpus, paths included; None if that version had no such settings, or read a
    source in another way.
    """
    if isinstance(data.train, MixtureSource) or any(_reading(one, inputs[n]) > 1 for n, one in origins(data).items()):
        return None
    settings = key_settings(data, "data", first=True)
    if settings != key_settings(data, "data"):
        return None
    plain = {name: [{k: v for k, v in e.items() if k != "lines"} for e in entries] for name, entries in inputs.items()}
    return digest(settings, plain, 1)


def moved_from(manifest: Mapping[str, Any], data: DataConfig, inputs: Mapping[str, Sequence[Entry]]) -> bool:
    """Whether a corpus of version 0.1 is the one of ``data``, with its files in other places at that time."""
    there = manifest.get("inputs")
    if isinstance(data.train, MixtureSource) or not isinstance(there, dict) or there.keys() != inputs.keys():
        return False
    if any(differences(name, there[name], entries) for name, entries in inputs.items()):
        return False
    then = data.model_copy(
        update={
            "train": _at(data.train, there["train"]),
            "valid": _at(data.valid, there["valid"]),
            "test": {name: _at(source, there[f"test.{name}"]) for name, source in data.test.items()},
        }
    )
    return first_corpus_key(then, there) == manifest.get("key")


def _at(source: Any, entries: Sequence[Mapping[str, Any]]) -> Any:
    """The source with its paths as in ``entries``."""

    def like(given: str | list[str], paths: Iterable[str]) -> str | list[str]:
        found = list(paths)
        return found[0] if isinstance(given, str) else found

    paths = [entry["path"] for entry in entries if "path" in entry]
    if isinstance(source, TextSource):
        half = len(paths) // 2
        return source.model_copy(update={"src": like(source.src, paths[:half]), "tgt": like(source.tgt, paths[half:])})
    if isinstance(source, TsvSource | JsonlSource):
        return source.model_copy(update={"path": like(source.path, paths)})
    return source.model_copy(update={"path": paths[0]}) if isinstance(source, HubSource) else source
