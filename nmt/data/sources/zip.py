"""ZIP archives: pairs of text files (Moses), or translation memories."""

from __future__ import annotations

import zipfile
from contextlib import ExitStack
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from nmt.config.sources import ZipSource
from nmt.data.lines import read_lines
from nmt.data.sources import text, tmx
from nmt.data.sources.archives import open_member, open_zip
from nmt.data.sources.base import BadRows, Pairs, Reading, describe_files, first_file, read_files
from nmt.data.sources.language_pairs import language_pairs, unpacked_name, without_partner
from nmt.errors import DataError

SHOWN = 10  # members that a message names
TABLES = (".tsv", ".tab", ".csv", ".xlsx", ".jsonl", ".parquet", ".json")


def read(source: ZipSource, reading: Reading) -> Pairs:
    return read_files(source, reading, _pairs)


describe, name = describe_files, first_file


def _pairs(path: str, source: ZipSource, reading: Reading, bad: BadRows) -> Pairs:
    with open_zip(path) as archive:
        yield from _members(archive, path, source.members, reading, bad)


def _members(archive: zipfile.ZipFile, path: str, pattern: str, reading: Reading, bad: BadRows) -> Pairs:
    there = [entry.filename for entry in archive.infolist() if not entry.is_dir() and not _hidden(entry.filename)]
    names = [name for name in there if fnmatchcase(name, pattern)]
    texts = language_pairs(names, reading.languages)
    memories = [name for name in names if unpacked_name(name).lower().endswith(".tmx")]
    if bool(texts) == bool(memories):
        src, tgt = reading.languages
        what = (
            "contains both text files and translation memories"
            if texts
            else f"contains no files that end in .{src} and .{tgt}, and no .tmx file"
        )
        shown = ", ".join(there[:SHOWN]) + (f" and {len(there) - SHOWN} more" if len(there) > SHOWN else "")
        if "[Content_Types].xml" in there:
            raise DataError(f"{path}: is an Office document; an Excel workbook (XLSX) is kind: xlsx")
        advice = "set members to those to read" if texts else "check the languages (src_lang, tgt_lang) and members"
        tables = [name for name in there if unpacked_name(name).lower().endswith(TABLES)]
        if tables and not texts and not memories:
            advice = f"unpack it, and name {tables[0]}"
        raise DataError(f"{path}: {what}; {advice}; it contains: {shown or 'no files'}")
    if texts and (alone := without_partner(names, reading.languages)):
        member, other = alone
        raise DataError(f"{path}: {member} has no partner that ends in .{other}; set members to those to read")
    for src, tgt in texts:
        with ExitStack() as opened:
            sides = [_side(archive, member, path, bad, opened) for member in (src, tgt)]
            yield from text.pairs(sides[0], sides[1], reading)
    for member in memories:
        entry, where = archive.getinfo(member), f"{path}: {member}"
        with open_member(archive, entry, where) as file:
            yield from tmx.pairs(file, where, reading, bad, entry.file_size)


def _side(archive: zipfile.ZipFile, member: str, path: str, bad: BadRows, opened: ExitStack) -> text.Side:
    entry, where = archive.getinfo(member), f"{path}: {member}"
    file = opened.enter_context(open_member(archive, entry, where))
    return text.Side(where, read_lines(file, where, None, bad if bad.skip else None, entry.file_size), bad)


def _hidden(name: str) -> bool:
    """Whether a member was added by an operating system, such as macOS."""
    return name.startswith("__MACOSX/") or PurePosixPath(name).name.startswith(".")
