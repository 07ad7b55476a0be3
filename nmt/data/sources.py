"""Sentence pairs from every kind of source: text, TSV and JSON lines files, datasets of the hub, the demo corpus."""

from __future__ import annotations

import gzip
import itertools
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc

from nmt.config import DemoSource, HubSource, JsonlSource, TextSource, TsvSource, as_list
from nmt.data.lines import read_lines
from nmt.errors import DataError

Source = TextSource | TsvSource | JsonlSource | HubSource | DemoSource
Pairs = Iterator[tuple[str, str]]


# ------------------------------------------------------------------------------------------------------ files


@contextmanager
def _open(path: str) -> Iterator[IO[bytes]]:
    """Open a file for :func:`read_lines`, unpacking ``.gz``."""
    try:
        file = open(path, "rb")  # noqa: SIM115  (closed below; an error while reading is another one)
    except OSError as error:
        raise DataError(cannot_open(path, error)) from None
    with file:
        yield gzip.GzipFile(fileobj=file) if path.endswith(".gz") else file  # type: ignore[misc]


def cannot_open(path: str, error: OSError) -> str:
    match error:
        case FileNotFoundError():
            other = path.removesuffix(".gz") if path.endswith(".gz") else f"{path}.gz"
            advice = f"did you mean {other}?" if Path(other).is_file() else "check the path"
            return f"{path}: no such file; {advice}"
        case IsADirectoryError():
            return f"{path}: is a folder; name a file in it"
        case PermissionError():
            return f"{path}: no permission to read it; check its owner and mode"
        case _:
            return f"{path}: cannot be read: {error.strerror or error}"


def _file_lines(path: str, counts: dict[str, int] | None) -> Iterator[str]:
    number = 0
    with _open(path) as file:
        for number, line in enumerate(read_lines(file, path), 1):  # noqa: B007  (counted to the end)
            yield line
    if counts is not None:
        counts[path] = number


# ------------------------------------------------------------------------------------------------------ pairs


def read_pairs(source: Source, src_lang: str, tgt_lang: str, counts: dict[str, int] | None = None) -> Pairs:
    r"""The sentence pairs of a source, in order.

    A sentence is one line: a newline inside one (JSON and parquet allow it) becomes a space.

    Args:
        counts: filled with the number of lines of each file read to its end.

    Raises:
        DataError: something is missing, unreadable or inconsistent; the message names file and line.
    """
    if isinstance(source, TextSource):
        for src, tgt in zip(as_list(source.src), as_list(source.tgt), strict=True):
            yield from _text_pairs(src, tgt, counts)
    elif isinstance(source, TsvSource):
        for path in as_list(source.path):
            yield from _tsv_pairs(path, source.src_column, source.tgt_column, counts)
    elif isinstance(source, JsonlSource):
        keys = (source.src_key or src_lang, source.tgt_key or tgt_lang)
        for path in as_list(source.path):
            yield from _jsonl_pairs(path, keys, counts)
    elif isinstance(source, HubSource):
        yield from _hub_pairs(source, source.src_column or src_lang, source.tgt_column or tgt_lang)
    else:
        from nmt.data import demo

        for pair in demo.generate(source.seed)[source.part]:
            yield pair.src, pair.tgt


def _text_pairs(src_path: str, tgt_path: str, counts: dict[str, int] | None) -> Pairs:
    src_lines, tgt_lines = _file_lines(src_path, counts), _file_lines(tgt_path, counts)
    for number, (src, tgt) in enumerate(itertools.zip_longest(src_lines, tgt_lines)):
        if src is None or tgt is None:
            rest = 1 + sum(1 for _ in (tgt_lines if src is None else src_lines))
            src_count, tgt_count = (number, number + rest) if src is None else (number + rest, number)
            raise DataError(
                f"{src_path} has {src_count} lines but {tgt_path} has {tgt_count}; "
                "line n of one must translate line n of the other"
            )
        yield src, tgt


def _tsv_pairs(path: str, src_column: int, tgt_column: int, counts: dict[str, int] | None) -> Pairs:
    for number, line in enumerate(_file_lines(path, counts), 1):
        cells = line.split("\t")
        if len(cells) <= max(src_column, tgt_column):
            raise DataError(
                f"{path}:{number}: has {len(cells)} tab-separated column(s), but src_column is {src_column} "
                f"and tgt_column {tgt_column}, counted from 0"
            )
        yield cells[src_column], cells[tgt_column]


def _jsonl_pairs(path: str, keys: tuple[str, str], counts: dict[str, int] | None) -> Pairs:
    for number, line in enumerate(_file_lines(path, counts), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{where}: not valid JSON: {error.msg} (column {error.colno})") from None
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise DataError(f"{where}: not valid JSON: {reason}") from None
        yield _json_text(row, keys[0], where), _json_text(row, keys[1], where)


def _json_text(row: Any, key: str, where: str) -> str:
    value = row
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            there = f"there is: {', '.join(value)}" if isinstance(value, dict) else "it is not in an object"
            raise DataError(f"{where}: no key '{key}'; {there}; set src_key and tgt_key")
        value = value[part]
    if not isinstance(value, str):
        raise DataError(f"{where}: key '{key}' holds {json.dumps(value)[:40]}, which is not text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        code = f"\\u{ord(value[error.start]):04x}"
        raise DataError(
            f"{where}: key '{key}' holds {code}, half of a surrogate pair and no character; remove it"
        ) from None
    if "\0" in value:
        raise DataError(f"{where}: key '{key}' holds a NUL character; remove it")
    return _one_line(value)


def _one_line(text: str) -> str:
    return text.replace("\r\n", " ").replace("\n", " ") if "\n" in text else text


# -------------------------------------------------------------------------------------------------------- hub


def load_hub(source: HubSource) -> Any:
    """The ``datasets.Dataset`` of a source. Code that comes with a dataset is never run."""
    import datasets

    # The library's cache knows local files by their times; the store asks only when a content is new to it.
    fresh = "force_redownload" if os.path.exists(source.path) else None
    try:
        return datasets.load_dataset(
            source.path, name=source.name, split=source.split, revision=source.revision, download_mode=fresh
        )
    except Exception as error:  # it raises everything from ValueError to errors of its many backends
        cause = error.__cause__ if isinstance(error, datasets.exceptions.DatasetGenerationError) else None
        reason = " ".join(str(cause or error).split()).rstrip(".") or type(error).__name__
        reason = reason if len(reason) <= 300 else f"{reason[:297]}..."
        if "scripts are no longer supported" in reason:
            advice = "give the revision refs/convert/parquet, which most such datasets have"
        elif isinstance(error, datasets.exceptions.DatasetNotFoundError):
            advice = "check the id (owner/name) and, for a gated dataset, that you are logged in"
        elif isinstance(error, ConnectionError) or "ffline" in type(error).__name__:
            advice = "connect to the network once to fetch it, or name a local folder"
        elif isinstance(error, FileNotFoundError):
            advice = "name a folder with parquet, JSON or CSV files, or a hub id"
        else:
            advice = "check path, name, split and revision"
        raise DataError(f"{source.path}: cannot be loaded: {reason}; {advice}") from None


def _hub_pairs(source: HubSource, src_column: str, tgt_column: str) -> Pairs:
    """An empty (null) cell is an empty sentence, as it is in CSV files."""
    row = 0
    for table in load_hub(source).with_format("arrow").iter(batch_size=8192):
        sides = [_hub_column(table, column, source.path).to_pylist() for column in (src_column, tgt_column)]
        for src, tgt in zip(*sides, strict=True):
            row += 1
            src, tgt = src or "", tgt or ""
            if "\0" in src or "\0" in tgt:
                raise DataError(f"{source.path}: row {row} of {source.split} holds a NUL character")
            yield _one_line(src), _one_line(tgt)


def _hub_column(table: pa.Table, column: str, where: str) -> pa.ChunkedArray:
    found = None
    if column in table.column_names:
        found = table[column]
    elif "translation" in table.column_names:
        translation = table["translation"]
        if pa.types.is_struct(translation.type) and translation.type.get_field_index(column) >= 0:
            found = pc.struct_field(translation, column)
    if found is None:
        there = ", ".join(
            f"{field.name} ({', '.join(inner.name for inner in field.type)})"
            if pa.types.is_struct(field.type)
            else field.name
            for field in table.schema
        )
        raise DataError(f"{where}: no column '{column}'; there is: {there}; set src_column and tgt_column")
    if not (pa.types.is_string(found.type) or pa.types.is_large_string(found.type)):
        kind = f"holds {found.type}, not text"
        raise DataError(f"{where}: column '{column}' {kind}; set src_column and tgt_column")
    return found
