"""SHA-256 of files: those that a corpus is made of, and those of the store."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from nmt.data.lines import cannot_open, check_regular
from nmt.errors import DataError
from nmt.runtime.progress import showing
from nmt.storage.atomic import sha256, write_json

Entry = dict[str, Any]  # of a manifest: a file by its SHA-256, or the settings of a source
GRAIN = 2 * 10**9  # nanoseconds within which a file may change twice and keep its time (FAT; others are finer)


class FileHashes:
    """SHA-256 of files, cached in the store until the size, times or inode of a file change."""

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
        """The SHA-256 of a file, cached while the file does not change.

        Raises:
            OSError: the file cannot be read.
            DataError: the file changes while it is read.
        """
        name = os.path.abspath(path)
        stamp, now = _stamp(path), time.time_ns()
        size, modified, changed, inode = stamp
        old = self.known.get(name)
        if old is not None and [*old[:2], *old[3:]] == stamp and isinstance(old[2], str):
            found = old[2]
        else:
            with showing(f"checksum of {os.path.basename(name)}", unit=""):
                found = sha256(Path(path))
            if _stamp(path) != stamp:
                raise DataError(_changing(path))
        # Do not cache a file younger than the clock's grain: the file may change and keep its time.
        young = now - max(modified, changed) < GRAIN
        if not young and old != (entry := [size, modified, found, changed, inode]):
            self.known[name], self.changed = entry, True
        self.seen[str(path)] = stamp, found, young
        return found

    def entry(self, path: str) -> Entry:
        """Path, size in bytes and SHA-256 of a file.

        Raises:
            DataError: the file cannot be read.
        """
        try:
            check_regular(path, os.stat(path).st_mode)
            return {"path": path, "sha256": self.sha256(path), "bytes": self.seen[path][0][0]}
        except OSError as error:
            raise DataError(cannot_open(path, error)) from None

    def check_unchanged(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Check, after files were read, that they are still those that were hashed.

        Raises:
            DataError: a file has changed meanwhile.
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
        """Compare the files of a folder of the store with the checksums in its manifest.

        Raises:
            DataError: a file is missing or damaged.
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
        """Write the cache to the store. A read-only store stays usable without it."""
        if self.changed:
            with suppress(OSError):
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_json(self.path, {name: e for name, e in self.known.items() if os.path.exists(name)})
            self.changed = False


def verify_entry(folder: Path, store: Path) -> None:
    """Compare the files of an entry of the store with the checksums in its manifest, if it has a manifest.

    Raises:
        DataError: a file is missing or damaged.
    """
    if (folder / "manifest.json").is_file():
        hashes = FileHashes(store)
        hashes.verify(folder, read_manifest(folder).get("files", {}))
        hashes.save()


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a prepared folder.

    Raises:
        DataError: the manifest is missing or damaged.
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


def is_file_entry(entry: Mapping[str, Any]) -> bool:
    return "sha256" in entry


def _stamp(path: str | Path) -> list[int]:
    stat = os.stat(path)
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _changing(path: str | Path) -> str:
    return f"{path}: changed while it was read; run again when no other program writes to it"
