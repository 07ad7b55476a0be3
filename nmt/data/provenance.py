"""What a corpus is made of: its files by SHA-256, wherever they stand, and the settings that shape it.

:func:`describe` lists what a source consists of, :func:`corpus_key` names the content of a corpus, and
:func:`differences` says which files are not those that a run was started with.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from nmt.config.base import Section
from nmt.config.compare import digest
from nmt.config.data import (
    DataConfig,
    DemoSource,
    HoldoutSource,
    HubSource,
    JsonlSource,
    TextSource,
    TsvSource,
    as_list,
)
from nmt.config.experiment import FORMER_DEFAULTS
from nmt.data.hub import check_card, load_hub
from nmt.data.lines import cannot_open, check_regular
from nmt.data.sources import Source
from nmt.errors import DataError
from nmt.storage.atomic import sha256, write_json

Entry = dict[str, Any]
GRAIN = 2 * 10**9  # nanoseconds within which a file may change twice and show one time (FAT; others are finer)


# -------------------------------------------------------------------------------------------------------------- hashes


class FileHashes:
    """SHA-256 of files, remembered in the store as long as size, times and inode of a file stay."""

    def __init__(self, store: Path):
        self.path = store / "file-hashes.json"
        try:
            known = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            known = None
        # Size, modification time, SHA-256, change time, inode. Entries of other versions lack the last two.
        entries = known.items() if isinstance(known, dict) else ()
        self.known = {name: e for name, e in entries if isinstance(e, list) and len(e) == 5}
        self.seen: dict[str, tuple[list[int], str, bool]] = {}
        self.changed = False

    def sha256(self, path: str | Path) -> str:
        """The SHA-256 of a file, from memory where the file has not changed.

        Raises:
            OSError: it cannot be read.
            DataError: it changes at this moment.
        """
        name = os.path.abspath(path)
        stamp, now = _stamp(path), time.time_ns()
        size, modified, changed, inode = stamp
        old = self.known.get(name)
        if old is not None and [*old[:2], *old[3:]] == stamp and isinstance(old[2], str):
            found = old[2]
        else:
            found = sha256(Path(path))
            if _stamp(path) != stamp:
                raise DataError(_changing(path))
        # A file as young as the clock's grain may change without a new time: not remembered yet.
        young = now - max(modified, changed) < GRAIN
        if not young and old != (entry := [size, modified, found, changed, inode]):
            self.known[name], self.changed = entry, True
        self.seen[str(path)] = stamp, found, young
        return found

    def entry(self, path: str) -> Entry:
        """Path, size in bytes and SHA-256 of a file.

        Raises:
            DataError: it cannot be read.
        """
        try:
            check_regular(path, os.stat(path).st_mode)
            return {"path": path, "sha256": self.sha256(path), "bytes": self.seen[path][0][0]}
        except OSError as error:
            raise DataError(cannot_open(path, error)) from None

    def check_unchanged(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Make sure, after files were read, that they are those that were hashed.

        Raises:
            DataError: one has changed meanwhile.
        """
        for path in [entry["path"] for entry in entries if is_file_entry(entry)]:
            stamp, found, young = self.seen[path]
            try:
                same = _stamp(path) == stamp and (not young or sha256(Path(path)) == found)
            except OSError:
                same = False
            if not same:
                raise DataError(_changing(path))

    def verify(self, folder: Path, sums: Mapping[str, str]) -> None:
        """Compare the files of a folder of the store with the checksums that its manifest recorded.

        Raises:
            DataError: one is missing or damaged.
        """
        for name, expected in sums.items():
            path = folder / name
            try:
                reason = None if self.sha256(path) == expected else "is damaged (its SHA-256 is not the recorded one)"
            except OSError as error:
                missing = isinstance(error, FileNotFoundError)
                reason = "is missing" if missing else f"cannot be read: {error.strerror or error}"
            if reason:
                raise DataError(f"{path}: {reason}; delete the folder {folder} and run again")

    def save(self) -> None:
        """Remember the hashes in the store. A store that can only be read is still good for what it holds."""
        if self.changed:
            with suppress(OSError):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_json(self.path, {name: e for name, e in self.known.items() if os.path.exists(name)})
            self.changed = False


def verify_entry(folder: Path, store: Path) -> None:
    """Compare the files of an entry of the store with the checksums in its manifest, where it has one.

    Raises:
        DataError: one is missing or damaged.
    """
    if (folder / "manifest.json").is_file():
        hashes = FileHashes(store)
        hashes.verify(folder, read_manifest(folder).get("files", {}))
        hashes.save()


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a prepared folder.

    Raises:
        DataError: it is missing or damaged.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if not isinstance(manifest, dict) or not isinstance(manifest.get("files", {}), dict):
            raise ValueError("not a manifest")
    except (OSError, ValueError, RecursionError) as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else "is damaged"
        path = folder / "manifest.json"
        raise DataError(f"{path}: {reason}; delete the folder {folder} and run again") from None
    return manifest


def _stamp(path: str | Path) -> list[int]:
    stat = os.stat(path)
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _changing(path: str | Path) -> str:
    return f"{path}: changed while it was read; run again when no other program writes to it"


# ------------------------------------------------------------------------------------------------------------ contents


def describe(source: Source | HoldoutSource, hashes: FileHashes, lenient: bool = False) -> list[Entry]:
    """What a source consists of: an entry for each file, or one for all of a source that has none.

    Args:
        lenient: see ``data.reading``.
    """
    if isinstance(source, TextSource):
        return [hashes.entry(path) for path in [*as_list(source.src), *as_list(source.tgt)]]
    if isinstance(source, TsvSource | JsonlSource):
        return [hashes.entry(path) for path in as_list(source.path)]
    entry = key_settings(source)
    if isinstance(source, DemoSource):  # its content is that of the grammar: another version makes another corpus
        files = sorted(Path(__file__).with_name("demo").glob("*.py"))
        return [{**entry, "grammar": digest([sha256(file) for file in files])}]
    if not isinstance(source, HubSource):
        return [entry]
    if os.path.isfile(source.path):
        return [entry, hashes.entry(source.path)]
    if os.path.isdir(source.path):
        return [entry, *(hashes.entry(path) for path in _folder_files(source))]
    pinned = source.revision is not None and len(source.revision) == 40
    # A commit cannot change, so a prepared corpus of one is found again without the hub.
    return [entry if pinned else {**entry, "fingerprint": load_hub(source, lenient=lenient)._fingerprint}]


def _folder_files(source: HubSource) -> list[str]:
    """The files of a local folder, and those elsewhere on this machine that its README names as data.

    Raises:
        DataError: the README names data elsewhere on the network.
    """
    folder = Path(source.path)
    files = sorted(str(p) for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))
    if not (folder / "README.md").is_file():
        return files
    check_card(source.path)
    import datasets

    try:
        named = datasets.load_dataset_builder(source.path, name=source.name).config.data_files or {}
    except Exception:  # load_hub, which reads the folder next, says what is wrong with it
        return files
    inside = {os.path.realpath(path) for path in files}
    others = {str(path) for paths in named.values() for path in paths}
    return [*files, *sorted(p for p in others if os.path.isfile(p) and os.path.realpath(p) not in inside)]


def is_file_entry(entry: Mapping[str, Any]) -> bool:
    return "sha256" in entry


def without_paths(entries: Sequence[Mapping[str, Any]]) -> list[Any]:
    """What is left of a source's entries when its files stand elsewhere: their SHA-256, and in a folder their names."""
    files = [entry for entry in entries if is_file_entry(entry)]
    folder = [entry for entry in entries if not is_file_entry(entry)]
    if not folder:
        return [entry["sha256"] for entry in files]
    about = dict(folder[0])
    top = str(about.pop("path", "")) if files else ""
    return [about, *([os.path.relpath(entry["path"], top), entry["sha256"]] for entry in files)]


def differences(name: str, there: Sequence[Mapping[str, Any]], here: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which files of a part are not those recorded ``there``, in words; empty where the content is the same.

    Settings of a source that one side does not know are not compared: of a run, they are compared elsewhere.
    """
    if len(there) != len(here):
        return [f"data.{name} has {len(here)} file(s), {len(there)} then"]
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

# Keys that the names of the store have held since version 1 of the defaults, whatever their value. A later key is
# added where its value is not what the first version did, so that what it made is found.
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
_NOT_CONTENT = {"data.store"}


def key_settings(section: Section, path: str = "", first: bool = False) -> dict[str, Any]:
    """The settings that name an entry of the store. They stay the same when keys or defaults are added to nmt.

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
        if where not in _NOT_CONTENT and (
            name in known or (not first and value != _first_default(where, field.default))
        ):
            settings[name] = plain[name]
    return settings


def _first_default(path: str, default: Any) -> Any:
    return next((FORMER_DEFAULTS[n][path] for n in sorted(FORMER_DEFAULTS) if path in FORMER_DEFAULTS[n]), default)


def parts(data: DataConfig) -> dict[str, Source | HoldoutSource]:
    """The sources of a corpus by the name of the part: ``train``, ``valid``, ``test.NAME``."""
    return {"train": data.train, "valid": data.valid, **{f"test.{name}": source for name, source in data.test.items()}}


def corpus_key(data: DataConfig, inputs: Mapping[str, Sequence[Entry]], version: int) -> str:
    """The name of a corpus: of its settings and of the content of its files, wherever they stand."""
    settings = key_settings(data, "data")
    contents = {}
    for name, source in parts(data).items():
        shape = {k: v for k, v in key_settings(source).items() if k not in ("src", "tgt", "path")}
        contents[name] = [shape, without_paths(inputs[name])]
    return digest({k: v for k, v in settings.items() if k not in ("train", "valid", "test")}, contents, version)


def first_corpus_key(data: DataConfig, inputs: Mapping[str, Sequence[Mapping[str, Any]]]) -> str | None:
    """The name that version 0.1 gave a corpus, paths included; None where that version had no such settings."""
    settings = key_settings(data, "data", first=True)
    if settings != key_settings(data, "data"):
        return None
    plain = {name: [{k: v for k, v in e.items() if k != "lines"} for e in entries] for name, entries in inputs.items()}
    return digest(settings, plain, 1)


def moved_from(manifest: Mapping[str, Any], data: DataConfig, inputs: Mapping[str, Sequence[Entry]]) -> bool:
    """Whether a corpus of version 0.1 is the one of ``data``, its files standing elsewhere then."""
    there = manifest.get("inputs")
    if not isinstance(there, dict) or there.keys() != inputs.keys():
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
