"""JSON lines: two keys of each object hold a pair."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from itertools import islice
from typing import Any

from nmt.config.sources import JsonlSource
from nmt.data.lines import UNREADABLE
from nmt.data.sources.base import (
    BadRows,
    Pairs,
    Reading,
    describe_files,
    file_lines,
    first_file,
    lookup,
    one_line,
    read_files,
)
from nmt.data.sources.headings import columns
from nmt.data.sources.table import tell_columns
from nmt.errors import DataError, SettingsError

_CORRECT = "; correct the line, or set on_bad_row: skip"


def read(source: JsonlSource, reading: Reading) -> Pairs:
    return read_files(source, reading, _pairs)


describe, name = describe_files, first_file


def _pairs(path: str, source: JsonlSource, reading: Reading, bad: BadRows) -> Pairs:
    keys: tuple[str, str] | None = None
    for number, line in enumerate(file_lines(path, reading.counts, bad), 1):
        if not line.strip() or line == UNREADABLE:
            continue
        where = f"{path}:{number}"
        try:
            row = _object(line, where, _one_value(path, line, reading) if keys is None else _CORRECT)
            keys = keys or _choose_keys(row, source, reading, where)
            pair = _text(row, keys[0], where), _text(row, keys[1], where)
            if source.weight_key is not None:
                reading.beside.set(where, _weight(row, source.weight_key, where))
        except DataError as error:
            if isinstance(error, SettingsError) and not bad.skip:
                raise
            bad(str(error))
            continue
        yield pair


def _choose_keys(row: dict[str, Any], source: JsonlSource, reading: Reading, where: str) -> tuple[str, str]:
    """The keys of source and target, by the first object where the configuration names none."""
    given = (source.src_key, source.tgt_key)
    keys = [key or language for key, language in zip(given, reading.languages, strict=True)]
    if given == (None, None) and not all(_has(row, key) for key in keys):
        src, tgt = columns(list(_keys(row, "")), reading.languages)
        if src and tgt:
            tell_columns(where, (src, tgt), reading.languages)
            return src, tgt
    return keys[0], keys[1]


def _has(row: dict[str, Any], key: str) -> bool:
    try:
        lookup(row, key)
    except KeyError:
        return False
    return True


def _object(line: str, where: str, advice: str) -> dict[str, Any]:
    """The object on a line; ``advice`` is for a line that is something else."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not valid JSON: {error.msg} (column {error.colno}){advice}") from None
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise DataError(f"{where}: not valid JSON: {reason}") from None
    if not isinstance(row, dict):
        kind = "an array" if isinstance(row, list) else "a single value"
        raise DataError(f"{where}: is {kind}, not an object with keys{advice}")
    return row


def _one_value(path: str, line: str, reading: Reading) -> str:
    """Advice for a file whose first line is not a JSON object."""
    start = line.strip()[0]
    if start not in "[{":
        return "; tab-separated files are kind: tsv" if "\t" in line else _CORRECT
    if re.match(r"\s*\{\s*'", line):
        return "; it is a dictionary of Python: write the rows by json.dumps"
    name, query = shlex.quote(path), "'.[]'" if start == "[" else "."
    if re.match(r'\s*\[\s*"', line):  # an array of sentences on each line
        query = shlex.quote("{{{}: .[0], {}: .[1]}}".format(*(json.dumps(code) for code in reading.languages)))
    return f"; JSON lines have one object on each line, converted by: jq -c {query} {name} > {name}.jsonl"


def _weight(row: dict[str, Any], key: str, where: str) -> Any:
    try:
        value = lookup(row, key)
    except KeyError:
        raise DataError(f"{where}: no key '{key}', which weight_key names") from None
    return "null" if value is None else value


def _text(row: dict[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if value is None:
        try:
            value = lookup(row, key)
        except KeyError:
            there = ", ".join(islice(_keys(row, ""), 20))
            raise SettingsError(f"{where}: no key '{key}'; there is: {there}; set src_key and tgt_key") from None
    if not isinstance(value, str):
        advice = 'write "" for an empty sentence' if value is None else "write each sentence in quotation marks"
        raise DataError(f"{where}: key '{key}' is {json.dumps(value)[:40]}, which is not text; {advice}")
    return checked_line(value, key, where)


def checked_line(value: str, key: str, where: str) -> str:
    """The text of a key as one line.

    Raises:
        DataError: it has NUL, or half of a surrogate pair.
    """
    try:
        value.encode()
    except UnicodeEncodeError as error:
        code = f"\\u{ord(value[error.start]):04x}"
        raise DataError(
            f"{where}: key '{key}' contains {code}, half of a surrogate pair and no character; remove it"
        ) from None
    if "\0" in value:
        raise DataError(f"{where}: key '{key}' contains a NUL character; remove it")
    return one_line(value)


def _keys(row: dict[str, Any], path: str) -> Iterator[str]:
    """The keys of an object; the keys of an object in it are dotted."""
    for key, value in row.items():
        if isinstance(value, dict) and value and not path:
            yield from _keys(value, f"{key}.")
        else:
            yield f"{path}{key}"
