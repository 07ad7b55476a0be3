"""Files that are either whole or not there."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nmt.errors import DataError


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync(path: Path) -> None:
    """Force a file, or the entries of a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step: a reader, or a crash, sees the old text or the new one."""
    aside = _aside(path)
    try:
        with aside.open("w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    fsync(path.parent)


def _aside(path: Path) -> Path:
    """A hidden name beside ``path`` that no other process or thread writes to."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def new_directory(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """A folder to fill, put in place whole when the block ends well and removed when it does not.

    Args:
        replace: a folder already at ``path`` is replaced by way of a second name, from which :func:`recover` brings it
            back should a crash come between the two renames. If False, one that is there by the end stays, and the new
            one is thrown away.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(path)
    old = path.with_name(f".{path.name}.old")
    aside.mkdir()
    try:
        yield aside
        for file in aside.iterdir():
            fsync(file)
        fsync(aside)
        if replace and path.exists():
            path.rename(old)
        try:
            aside.rename(path)
        except OSError:
            if replace or not path.is_dir():
                raise
        fsync(path.parent)
        if replace:
            shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def build_once(path: Path) -> Iterator[Path]:
    """A temporary folder to fill, put at ``path`` whole when the block ends well.

    If another process has put its own there meanwhile, that one stays and this is thrown away: both are made
    from the same content. What a killed process left is removed after a day.

    Raises:
        DataError: the store cannot be written (permission, disk full).
    """
    try:
        for left in path.parent.glob(".*.tmp"):
            with suppress(FileNotFoundError):  # another process is done with it, or clears it at the same time
                if time.time() - max(p.stat().st_mtime for p in [left, *left.glob("*")]) > 24 * 3600:
                    shutil.rmtree(left, ignore_errors=True)
        with new_directory(path, replace=False) as aside:
            yield aside
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{path}: cannot be written: {reason}; check space and permissions") from None


def recover(parent: Path) -> None:
    """Tidy up after a process that was killed inside :func:`new_directory` or :func:`write_text`.

    Only for a folder that one process at a time writes to: leftovers are taken for dead.
    """
    for left in sorted(parent.glob(".*.old")):
        path = left.with_name(left.name[1:].removesuffix(".old"))
        if path.exists():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.rename(path)
    for left in parent.glob(".*.tmp"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
