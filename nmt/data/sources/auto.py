"""A file or a folder whose kind its name tells, or a dataset of the Hugging Face hub."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from itertools import islice
from pathlib import PurePath
from typing import Any

from pydantic import TypeAdapter, ValidationError

from nmt.config.sources import AutoSource, PlainSource, Source, as_list
from nmt.data.file_hashes import Entry, FileHashes, is_file_entry
from nmt.data.lines import cannot_open, filter_command
from nmt.data.sources import reader
from nmt.data.sources.base import Pairs, Reading, file_lines
from nmt.data.sources.headings import columns
from nmt.data.sources.language_pairs import language_of, language_pairs, role_of, unpacked_name, without_partner
from nmt.data.sources.table import tell_columns
from nmt.errors import DataError, SettingsError

log = logging.getLogger(__name__)

KINDS = {
    ".tsv": "tsv", ".tab": "tsv", ".csv": "csv", ".xlsx": "xlsx", ".xlsm": "xlsx", ".jsonl": "jsonl",
    ".ndjson": "jsonl", ".parquet": "parquet", ".json": "hub", ".arrow": "hub", ".tmx": "tmx", ".zip": "zip",
}  # fmt: skip
_ADDRESS = re.compile(r"[a-z][a-z0-9+]*://", re.I)
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_RENAMED = {"jsonl": {"src_column": "src_key", "tgt_column": "tgt_key"}}  # keys of a kind, by those of kind: auto


def read(source: AutoSource, reading: Reading) -> Pairs:
    found = resolve(source, reading)
    log.info("%s: read as kind: %s (%s)", source.path, found.kind, reader(found).name(found))
    files: Any = getattr(found, "src", None) or getattr(found, "path", source.path)
    _tell_parts(source.path, as_list(files))
    yield from reader(found).read(found, reading)


def _tell_parts(path: str, files: list[str]) -> None:
    """Warn if the files of a folder are of several parts by their names, and all of them are read."""
    roles = [role_of(file) for file in files]
    other = next((file for file, role in zip(files, roles, strict=True) if role in ("valid", "test")), None)
    if other is not None and "train" in roles:
        what = "is for validation or test by its name, and is read as well; name the files of each part"
        log.warning("warning: %s: %s %s", path, other, what)


def describe(source: AutoSource, hashes: FileHashes, reading: Reading) -> list[Entry]:
    """The entries of the source of the detected kind; the kind of each file is part of its entry."""
    found = resolve(source, reading)
    entries = reader(found).describe(found, hashes, reading)
    known = [entry for entry in entries if not is_file_entry(entry)]
    return entries if known else [{**entry, "kind": found.kind} for entry in entries]


def name(source: AutoSource) -> str:
    return source.path


def resolve(source: AutoSource, reading: Reading) -> Source:
    """The source of the detected kind.

    Raises:
        DataError: the kind is not known, or has no such settings.
    """
    kind, fields = _kind(source.path, reading)
    if kind == "tsv" and source.header is not False and source.src_column is None and source.tgt_column is None:
        fields |= tsv_columns(as_list(fields["path"])[0], reading, source.skip_rows)
    given = source.model_dump(exclude={"kind", "path"}, exclude_defaults=True)
    renamed = _RENAMED.get(kind, {})
    fields |= {renamed.get(key, key): value for key, value in given.items()}
    try:
        found: Source = TypeAdapter(PlainSource).validate_python({"kind": kind, **fields})
    except ValidationError as error:
        first = error.errors()[0]
        key = next(key for key in given if renamed.get(key, key) in first["loc"])
        problem = f"which has no {key}; remove {key}, or set another kind"
        if first["type"] != "extra_forbidden":
            problem = f"whose columns have names and no numbers; set {key} to a name"
        raise DataError(f"{source.path}: is read as kind: {kind}, {problem}") from None
    return found


def _kind(path: str, reading: Reading) -> tuple[str, dict[str, Any]]:
    """The kind of a path, and its files.

    Raises:
        DataError: the kind is not known.
    """
    if os.path.isdir(path):
        return _kind_of_folder(path, reading)
    if os.path.isfile(path):
        return _kind_of_file(path, reading)
    if _ADDRESS.match(path):
        raise DataError(f"{path}: is an address; download the file, and name it")
    folder, stem = os.path.split(path)
    near = [file for file in files_of(folder) if os.path.basename(file).startswith(f"{stem}.")] if stem else []
    if found := [pair for pair in language_pairs(near, reading.languages) if language_of(pair[0])[0] == path]:
        return "text", _text(found)
    if not os.path.exists(path) and _HUB_ID.fullmatch(path) and not os.path.exists(folder) and not kind_ending(path):
        return "hub", {"path": path}
    raise DataError(cannot_open(path, FileNotFoundError()))


def kind_ending(path: str) -> str:
    """The ending of a name that tells the kind; empty if none does."""
    inner = PurePath(unpacked_name(path))
    ending = inner.suffix.lower()
    return ending if ending in KINDS else ""


def _kind_of_folder(path: str, reading: Reading) -> tuple[str, dict[str, Any]]:
    files = files_of(path)
    found = language_pairs(files, reading.languages)
    alone = without_partner(files, reading.languages)
    if alone and (found or not any(map(kind_ending, files))):
        name, other = alone
        raise DataError(
            f"{path}: {name} has no partner that ends in .{other}; add it, move the file elsewhere, or name the pairs: "
            "{kind: text, src: [FILES], tgt: [FILES]}"
        )
    if found:
        return "text", _text(found)
    by_kind: dict[str, list[str]] = {}
    for file in files:
        if ending := kind_ending(file):
            by_kind.setdefault(KINDS[ending], []).append(file)
    kind = next(iter(by_kind)) if len(by_kind) == 1 else ""
    if kind in ("tmx", "zip", "xlsx", "tsv"):
        return kind, {"path": by_kind[kind]}
    if set(by_kind) & {"tmx", "zip", "xlsx"}:
        shown = ", ".join(file for named in by_kind.values() for file in named[:2])
        raise DataError(f"{path}: contains files of several kinds; name one of them, such as {shown}")
    if not by_kind and not _has_tables(path):
        src, tgt = reading.languages
        raise DataError(
            f"{path}: contains no parallel text: no files that end in .{src} and .{tgt}, and none that ends in "
            f"{', '.join(KINDS)}; name two files of text, or another folder"
        )
    return "hub", {"path": path}  # which knows folders of Parquet, CSV and JSON files, and their splits


def _kind_of_file(path: str, reading: Reading) -> tuple[str, dict[str, Any]]:
    # An archive of one table is read by the datasets library.
    if path.lower().endswith(".zip") and kind_ending(path[: -len(".zip")]) in (".csv", ".json", ".jsonl", ".parquet"):
        return "hub", {"path": path}
    if ending := kind_ending(path):
        return KINDS[ending], {"path": path}
    for pair in language_pairs(files_of(os.path.dirname(path)), reading.languages):
        if path in pair:
            return "text", _text([pair])
    # Otherwise the first lines tell.
    first = [line for line in islice(file_lines(path), 20) if line.strip()]
    if first and all("\t" in line for line in first):
        return "tsv", {"path": path}
    if first and all(line.startswith("{") for line in first):
        return "jsonl", {"path": path}
    if first and all(" ||| " in line for line in first):
        command = filter_command(path, r"sed 's/ ||| /\t/g'", "tsv")
        raise DataError(f"{path}: its sentences are separated by |||; convert it to tab-separated text: {command}")
    src, tgt = reading.languages
    raise SettingsError(
        f"{path}: its ending does not tell its kind, and no file ends in .{src} or .{tgt} beside it; set kind, or name "
        "two files of text: {kind: text, src: FILE, tgt: FILE}"
    )


def _has_tables(folder: str) -> bool:
    """Whether a folder may be a dataset: it has a dataset card, or files of tables at any depth."""
    for _, _, names in os.walk(folder):
        if any(kind_ending(name) or name in ("README.md", ".huggingface.yaml") for name in names):
            return True
    return False


def files_of(folder: str) -> list[str]:
    """The paths of the files of a folder, but hidden ones; none if the folder cannot be read."""
    try:
        with os.scandir(folder or ".") as entries:
            return sorted(os.path.join(folder, entry.name) for entry in entries if _is_visible_file(entry))
    except OSError:
        return []


def _is_visible_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file() and not entry.name.startswith(".")
    except OSError:  # a link to itself, or into a folder that cannot be read
        return False


def _text(found: list[tuple[str, str]]) -> dict[str, Any]:
    return {"src": [src for src, _ in found], "tgt": [tgt for _, tgt in found]}


def tsv_columns(path: str, reading: Reading, skip: int = 0) -> Mapping[str, Any]:
    """The columns of a TSV file whose headings mean the source and the target.

    Args:
        skip: number of first lines that are not read.
    """
    row = next((line for line in islice(file_lines(path), skip, None) if line.strip()), "").split("\t")
    src, tgt = columns(row, reading.languages)
    if not src or not tgt:
        return {}
    tell_columns(path, (src, tgt), reading.languages)
    return {"src_column": src, "tgt_column": tgt}
