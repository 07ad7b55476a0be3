"""Atomic files and folders: each is either complete or absent."""

from __future__ import annotations

import errno
import glob
import hashlib
import io
import json
import logging
import os
import re
import secrets
import shutil
import signal
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from nmt.errors import CheckpointError, DataError
from nmt.storage.locks import NO_FOLLOW, NoLocksError, flock

log = logging.getLogger(__name__)

_NAME_BYTES = 255  # longest file name on nearly all file systems
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.ENOSYS}
_NO_FILE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EINVAL, errno.ENAMETOOLONG}
_LEFT = re.compile(r"\.(?P<name>.+?)(?P<suffix>\.\d+-[0-9a-f]{8})?\.(?P<kind>old|tmp)")  # see _temporary


class UnreadableError(CheckpointError):
    """A file exists but cannot be read now; its content may be intact."""


class OtherFormatError(CheckpointError):
    """An intact folder that another version of nmt wrote."""


# -------------------------------------------------------------------------------------------------------------- reading


@contextmanager
def open_to_read(path: Path) -> Iterator[io.BufferedReader]:
    """Open a regular file for reading. Pipes and devices, which could be read for ever, are refused.

    Raises:
        OSError: the file cannot be opened, is a folder (EISDIR), or is not a regular file (EINVAL).
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        raise OSError(errno.EINVAL, "is not a regular file", str(path))
    with os.fdopen(descriptor, "rb") as file:
        yield file


def sha256(path: Path) -> str:
    with open_to_read(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def present(path: Path) -> bool:
    """Whether a file or folder exists. Unlike ``Path.exists``, an unreadable path is an error, not False.

    Raises:
        OSError: the file system cannot tell.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def same_files(one: Path, other: Path) -> bool:
    """Whether two folders hold files of the same names and contents, and no folders."""
    sums: list[dict[str, str]] = []
    for folder in (one, other):
        try:
            sums.append({file.name: sha256(file) for file in folder.iterdir()})
        except OSError:
            return False
    return sums[0] == sums[1]


# ---------------------------------------------------------------------------------------------------- sealed folders


def seal(folder: Path, account: str, state: Mapping[str, Any]) -> None:
    """Write the JSON file ``account`` with ``state``, the checksums of the folder's files, and its own checksum."""
    sums = {file.name: sha256(file) for file in sorted(folder.iterdir()) if file.name != account}
    state = {**state, "sha256": sums}
    write_json(folder / account, {**state, "checksum": content_hash(state)})


def content_hash(state: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def verified(folder: Path, account: str, version: int, needed: Collection[str]) -> dict[str, Any]:
    """Verify every checksum of a sealed folder and return the content of ``account``, as :func:`seal` wrote it.

    Args:
        version: format version; the folder's must be the same.
        needed: names of the files that a complete folder has at least.

    Raises:
        OtherFormatError: the folder has another format version.
        CheckpointError: a file is missing or damaged, or ``account`` names a file outside the folder.
        UnreadableError: a file cannot be read now.
    """
    # The account itself
    state = _read_account(folder, account)
    checksum, found = state.pop("checksum", None), state.get("format")
    if checksum not in (None, content_hash(state)):
        raise CheckpointError(f"{folder}: damaged: {account} does not match its checksum")
    if found != version:
        raise OtherFormatError(f"{folder}: has format {found}; this version of nmt reads format {version}")
    if checksum is None:
        raise CheckpointError(f"{folder}: damaged: {account} has no checksum of itself")
    # The files it lists
    sums = state.get("sha256")
    if not isinstance(sums, dict):
        raise CheckpointError(f"{folder}: damaged: {account} has no checksums")
    if missing := sorted(set(needed) - sums.keys()):
        raise CheckpointError(f"{folder}: damaged: {account} does not list {missing[0]}")
    for name, expected in sums.items():
        if not _is_file_name(name):
            raise CheckpointError(f"{folder}: damaged: {account} lists {name!r}, which is not a file of this folder")
        try:
            whole = sha256(folder / name) == expected
        except OSError as error:
            _raise_unread(folder, name, error)
        if not whole:
            raise CheckpointError(f"{folder}: damaged: {name} does not match its checksum")
    return state


def _is_file_name(name: str) -> bool:
    """Whether ``name`` is a plain file name: not a path, and not ``.`` or ``..``."""
    return name not in ("", ".", "..") and Path(name).name == name and "\0" not in name


def _read_account(folder: Path, account: str) -> dict[str, Any]:
    try:
        with open_to_read(folder / account) as file:
            state = json.loads(file.read().decode())
    except FileNotFoundError:
        raise CheckpointError(f"{folder}: damaged: {account} is missing") from None
    except OSError as error:
        _raise_unread(folder, account, error)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{folder}: damaged: {account} cannot be read ({error})") from None
    if not isinstance(state, dict):
        raise CheckpointError(f"{folder}: damaged: {account} is not a JSON object")
    return state


def _raise_unread(folder: Path, name: str, error: OSError) -> NoReturn:
    """Raise CheckpointError for a file that is missing or not a file, UnreadableError for a temporary failure."""
    if error.errno in _NO_FILE:
        raise CheckpointError(f"{folder}: damaged: {folder / name}: {error.strerror}") from None
    raise UnreadableError(
        f"{folder / name}: cannot be read: {error.strerror or error}; nothing was changed; run the same command again "
        "when it can be read"
    ) from None


# -------------------------------------------------------------------------------------------------------------- writing


def fsync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC or not path.is_dir():
            raise OSError(error.errno, error.strerror, str(path)) from None
        _warn_of_folders(error.strerror)
    finally:
        os.close(descriptor)


@cache
def _warn_of_folders(reason: str) -> None:
    log.warning(
        "the file system cannot flush a folder to disk (%s): after a power failure the last files written may be "
        "missing", reason,
    )  # fmt: skip


def write_text(path: Path, text: str) -> None:
    """Replace a file atomically: readers see the old text or the new one, also after a crash.

    Raises:
        OSError: the file cannot be written; the ``filename`` of the error is ``path``.
    """
    aside = _temporary(path, "tmp")
    try:
        with aside.open("x", encoding="utf-8", newline="\n") as file:
            _mark_in_use(file.fileno())
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        fsync(path.parent)
    except OSError as error:
        raise _named(error, aside, path) from error
    finally:
        with suppress(OSError):
            aside.unlink()


def unshare(path: Path) -> None:
    """Replace a file that has other hard links (``cp -l``) by a copy, so that it can be written to in place."""
    if present(path) and path.stat().st_nlink > 1:
        aside = _temporary(path, "tmp")
        try:
            shutil.copyfile(path, aside)
            aside.replace(path)
        finally:
            with suppress(OSError):
                aside.unlink()


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def replacing(path: Path, keep: Callable[[Path, Path], None] | None = None) -> Iterator[int]:
    """Yield a descriptor of a temporary file that replaces ``path`` on success and gets its owner and mode.

    The block closes the descriptor. On failure, and when SIGTERM or SIGHUP ends the process, the temporary file is
    removed.

    Args:
        keep: called with the temporary file and ``path`` when the block fails, before the temporary file is removed.
    """
    clear(path)
    aside = _temporary(path, "tmp")
    with signals_raise():
        try:
            before = path.stat() if present(path) else None
            descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666 if before is None else 0o600)
            _mark_in_use(descriptor)
            if before is not None:
                for owner, group in ((-1, before.st_gid), (before.st_uid, -1)):
                    with suppress(OSError):  # another's file in a shared folder
                        os.chown(descriptor, owner, group)
                with suppress(OSError):  # a file system without modes
                    os.chmod(descriptor, stat.S_IMODE(before.st_mode))
            yield descriptor
            aside.replace(path)
        except OSError as error:
            raise _named(error, aside, path) from error
        finally:
            with suppress(OSError):
                if keep is not None and aside.exists():
                    keep(aside, path)
            with suppress(OSError):
                aside.unlink()


@contextmanager
def signals_raise() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise SystemExit inside the block, so that temporary files are removed."""
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, _: Any) -> NoReturn:
        raise SystemExit(128 + number)

    numbers = [getattr(signal, name) for name in names]
    before = {n: signal.signal(n, end) for n in numbers if signal.getsignal(n) is signal.SIG_DFL}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _temporary(path: Path, kind: str) -> Path:
    """A hidden, unpredictable name beside ``path``, unique to this process and call."""
    suffix = f".{os.getpid()}-{secrets.token_hex(4)}.{kind}"
    name = os.fsencode(path.name)[: _NAME_BYTES - 1 - len(suffix)].decode(errors="ignore")
    return path.with_name(f".{name}{suffix}")


def _named(error: OSError, aside: Path, path: Path) -> OSError:
    """Replace the temporary name in an error by the final name."""
    for name in (error.filename2, error.filename):
        if isinstance(name, str | os.PathLike) and Path(name).is_relative_to(aside):
            path = path / Path(name).relative_to(aside)
            break
    else:
        if error.filename is not None:
            return error
    return OSError(error.errno, error.strerror or str(error), str(path))


@contextmanager
def new_directory(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary folder to fill; rename it to ``path`` on success, remove it on failure.

    Its files get the mode of any new file, whatever mode the library that writes them uses. The parent of ``path`` must
    exist.

    Args:
        replace: replace an existing folder at ``path``. It is first renamed, and :func:`recover` restores it if a crash
            comes between the two renames. If False, an existing folder stays and the new one is removed.

    Raises:
        OSError: writing failed; the ``filename`` of the error is the final name of the file.
    """
    aside = _temporary(path, "tmp")
    try:
        with _made(aside) as mode:
            yield aside
            _complete(aside, mode)
            _put_in_place(aside, path, replace)
            fsync(path.parent)
    except OSError as error:
        raise _named(error, aside, path) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _made(folder: Path) -> Iterator[int]:
    """Make a temporary folder that is marked as in use until the block ends; yield the mode that its files need."""
    folder.mkdir()
    descriptor = -1
    try:
        with suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            _mark_in_use(descriptor)
        yield folder.stat().st_mode & 0o666
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _complete(folder: Path, mode: int) -> None:
    """Give the files of a folder at least the permissions of ``mode``, and flush the folder to disk."""
    for file in folder.iterdir():
        with suppress(OSError):  # a file system without modes
            file.chmod(stat.S_IMODE(file.stat().st_mode) | mode)
        fsync(file)
    fsync(folder)


@contextmanager
def fill_in_place(folder: Path, account: str) -> Iterator[Path]:
    """As :func:`new_directory`, for a folder that cannot be renamed: a mount point, a working directory.

    The files are made in a temporary folder inside it. On success, the files that an earlier :func:`seal` lists are
    deleted and the new ones replace them, the account last. The next call replaces whatever a crash leaves in between.

    Args:
        account: the name under which the block seals the folder.
    """
    aside = _temporary(folder / account, "tmp")
    try:
        with _made(aside) as mode:
            try:
                yield aside
                _complete(aside, mode)
            except BaseException:
                shutil.rmtree(aside, ignore_errors=True)
                raise
            for name in {name for one in accounts(folder, account) for name in one["sha256"]}:
                (folder / name).unlink(missing_ok=True)
            for file in sorted(aside.iterdir(), key=lambda file: file.name == account):
                file.rename(folder / file.name)
            aside.rmdir()
            fsync(folder)
            clear(folder / account)
    except OSError as error:
        raise _named(error, aside, folder) from error


def accounts(folder: Path, account: str) -> list[dict[str, Any]]:
    """Read the intact accounts that :func:`seal` wrote in a folder, also those of a crashed :func:`fill_in_place`."""
    found = []
    for file in (folder / account, *folder.glob(f".{glob.escape(account)}.*.tmp/{glob.escape(account)}")):
        with suppress(CheckpointError):
            state = _read_account(file.parent, account)
            sums = state.get("sha256")
            sealed = state.pop("checksum", None) == content_hash(state)
            if sealed and isinstance(sums, dict) and all(map(_is_file_name, sums)):
                found.append(state)
    return found


def foreign(folder: Path, account: str, known: Sequence[Mapping[str, Any]]) -> str | None:
    """Name the first entry of a folder that none of these accounts lists, or that was altered since; else None."""
    for path in sorted(folder.iterdir()):
        match = _LEFT.fullmatch(path.name)
        if match is not None and match["name"] == account and match["suffix"]:
            continue
        if path.is_symlink() or not path.is_file():
            return path.name
        if path.name == account:
            if not known:
                return path.name
        elif not any(path.name in one["sha256"] for one in known):
            return path.name
        elif sha256(path) not in [one["sha256"].get(path.name) for one in known]:
            return f"{path.name} (altered)"
    return None


def _put_in_place(aside: Path, path: Path, replace: bool) -> None:
    """Rename ``aside`` to ``path``. With ``replace``, what exists at ``path`` is removed; otherwise it stays."""
    while True:
        try:
            aside.rename(path)
            return
        except OSError as error:
            occupied = error.errno in (errno.ENOTEMPTY, errno.EEXIST)
            if not occupied and not (error.errno == errno.ENOTDIR and os.path.lexists(path)):
                raise
            if not replace:
                if path.is_dir():
                    return
                raise
        old = _temporary(path, "old")
        with suppress(FileNotFoundError):  # another process is replacing it as well
            path.rename(old)
            remove(old)


def remove(path: Path) -> None:
    """Delete a file, a link (not its target) or a folder; ignore errors."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


@contextmanager
def build_once(path: Path) -> Iterator[Path]:
    """Yield a temporary folder to fill, and rename it to ``path`` on success.

    If another process has made ``path`` meanwhile, the new folder is removed: both have the same content. Leftovers of
    a killed process are removed after a day.

    Raises:
        DataError: the store cannot be written (permission, disk full).
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(".*.tmp"):
            with suppress(FileNotFoundError):  # another process has renamed or removed it meanwhile
                if time.time() - max(p.stat().st_mtime for p in [left, *left.glob("*")]) > 24 * 3600:
                    shutil.rmtree(left, ignore_errors=True)
        with new_directory(path, replace=False) as aside:
            yield aside
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{path}: cannot be written: {reason}; check space and permissions") from None


def recover(parent: Path, only: Collection[str] | None = None) -> None:
    """Restore or remove what a process killed inside :func:`new_directory` or :func:`write_text` has left.

    Args:
        parent: a folder in which only this program makes hidden files with such names.
        only: the final names whose leftovers are handled; None for all.
    """
    for left in sorted(parent.glob(".*")):
        match = _LEFT.fullmatch(left.name)
        if match is None or (only is not None and match["name"] not in only):
            continue
        path = left.with_name(match["name"])
        if match["kind"] == "old" and not os.path.lexists(path):
            left.rename(path)
        elif match["kind"] == "old" or not _in_use(left):
            remove(left)


def clear(path: Path) -> None:
    """Remove the temporary files and folders of ``path`` that killed processes have left beside it."""
    with suppress(OSError):
        for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
            match = _LEFT.fullmatch(left.name)
            if match is not None and match["name"] == path.name and match["suffix"] and not _in_use(left):
                remove(left)


def _mark_in_use(descriptor: int) -> None:
    """Mark a file or folder as in use while the descriptor is open, so that no other process clears it."""
    with suppress(NoLocksError, OSError):
        flock(descriptor)


def _in_use(path: Path) -> bool:
    """Whether a process is writing a temporary file or folder; without locks, assume so for a day."""
    try:
        descriptor = os.open(path, os.O_RDONLY | NO_FOLLOW | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return False
    try:
        return not flock(descriptor)
    except (NoLocksError, OSError):
        return time.time() - os.fstat(descriptor).st_mtime < 24 * 3600
    finally:
        os.close(descriptor)
