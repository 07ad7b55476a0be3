"""Exclusive access to a folder: locks of the system (``flock``), or a lock file if the file system has none."""

from __future__ import annotations

import errno
import json
import logging
import os
import secrets
import socket
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nmt.errors import RunError

log = logging.getLogger(__name__)

NO_FOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
# NFS without lockd, Lustre without -o flock, some FUSE file systems.
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}

REFRESH = 60.0  # seconds after which the holder of a lock file touches it
STALE = (
    600.0  # seconds after which a lock file that was not touched counts as that of a dead process on another machine
)


class NoLocksError(Exception):
    """The file system, or the operating system, has no ``flock``."""


def flock(descriptor: int, *, shared: bool = False, wait: bool = False) -> bool:
    """Lock an open file; the system drops the lock with the process.

    Returns:
        False if another process holds it (never with ``wait``).

    Raises:
        NoLocksError: the file system or the operating system has no ``flock``.
    """
    try:
        import fcntl  # not on Windows
    except ImportError:
        raise NoLocksError("the operating system has no flock") from None
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            raise NoLocksError(error.strerror) from None
        raise
    return True


@contextmanager
def waiting_lock(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock on a folder; wait until no other process holds it.

    Has no effect if the folder does not exist or its file system has no locks of folders.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        yield
        return
    try:
        with suppress(NoLocksError, OSError):
            flock(descriptor, shared=shared, wait=True)
        yield
    finally:
        os.close(descriptor)


def open_regular(path: Path, flags: int) -> int:
    """Open a regular file for writing. Links are not followed, and pipes are not waited for.

    Raises:
        OSError: ``path`` is a link (ELOOP) or no regular file (EINVAL), or cannot be opened.
    """
    descriptor = os.open(path, flags | NO_FOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0), 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is not a regular file", str(path))
    return descriptor


def cannot_write(folder: Path, error: OSError) -> RunError:
    """The error of a run directory that cannot be written to, with what to do about it."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    denied = error.errno in (errno.EACCES, errno.EPERM, errno.EROFS)
    first = "free disk space, or " if full else "check owner and mode, or " if denied else ""
    return RunError(
        f"{folder}: cannot be written to: {error.strerror}; {first}train in another folder (--set runs=FOLDER)"
    )


def in_use(folder: Path) -> bool:
    """Whether another process holds the :class:`RunLock` of a folder. Nothing is written.

    The lock is tried, shared and for an instant, only where the process that ``.lock`` names may be alive.
    """
    claim = _Claim(folder / ".lock.claim")
    try:
        if (account := claim._read(claim.path)) is not None:
            return claim.lives(account)
        descriptor = os.open(folder / ".lock", os.O_RDONLY | NO_FOLLOW | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return False
    try:
        words = os.pread(descriptor, 200, 0).decode(errors="replace").split()  # process N on HOST
        if len(words) == 4 and words[3] == socket.gethostname() and words[1].isdecimal() and _is_dead(int(words[1])):
            return False
        return not flock(descriptor, shared=True)
    except (NoLocksError, OSError):
        return False
    finally:
        os.close(descriptor)


def _is_dead(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        return False
    return False


class RunLock:
    """The exclusive right to write in a folder, held from construction to :meth:`close`.

    The lock is a ``flock`` on ``.lock`` in the folder, or a :class:`_Claim` where the file system has no ``flock``.

    Raises:
        RunError: another process holds the lock (the message names it), or the folder cannot be written to.
    """

    def __init__(self, folder: Path):
        self.folder, self.path = folder, folder / ".lock"
        self.claim: _Claim | None = None
        try:
            self._open()
            if os.fstat(self.descriptor).st_nlink > 1:  # a hard link (cp -l): writing would change the copy too
                self.path.unlink()
                self.close()
                self._open()
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EINVAL, errno.EISDIR):
                raise RunError(f"{self.path}: is not a regular file; remove it") from None
            raise cannot_write(folder, error) from None
        with suppress(OSError):  # the content is information for people only
            os.truncate(self.descriptor, 0)
            os.pwrite(self.descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)

    def _open(self) -> None:
        while True:
            self.descriptor = open_regular(self.path, os.O_RDWR | os.O_CREAT)
            try:
                self._acquire()
            except BaseException:
                os.close(self.descriptor)
                raise
            if self._in_place():
                return
            self.close()  # the file was replaced between opening and locking

    def _acquire(self) -> None:
        claim = _Claim(self.folder / ".lock.claim")
        try:
            if flock(self.descriptor):
                holder = claim.holder()  # a process on a machine without locks for this file system
                if holder is None:
                    return
            else:
                holder = os.pread(self.descriptor, 200, 0).decode(errors="replace").strip() or "another process"
        except NoLocksError as error:
            holder = claim.take()
            if holder is None:
                self.claim = claim
                log.warning(
                    "%s: there are no file locks here (%s); %s is used instead: after a kill or a crash on another "
                    "machine the run stays locked for %d minutes",
                    self.folder, error, claim.path, STALE // 60,
                )  # fmt: skip
                return
        raise RunError(f"{self.folder}: is in use by {holder}; wait for it or stop it")

    def _in_place(self) -> bool:
        """Whether the locked file is still the ``.lock`` of the folder."""
        try:
            there, here = os.stat(self.path, follow_symlinks=False), os.fstat(self.descriptor)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)

    def check(self) -> None:
        """Check that this process still holds the lock.

        Raises:
            RunError: the folder was replaced, or another process may have taken the lock.
        """
        with suppress(OSError):  # a path that cannot be read at the moment does not mean that the lock is lost
            claimed = os.path.lexists(self.folder / ".lock.claim")
            if not self._in_place() or (claimed if self.claim is None else not self.claim.held()):
                raise RunError(
                    f"{self.folder}: the run directory was removed, renamed or replaced, or its .lock was removed, "
                    "while this process was using it; nothing more is written there; start a run under another name "
                    "(--set name=...), or put the run directory back and run the same command again"
                )

    def close(self) -> None:
        if self.claim is not None:
            self.claim.release()
            self.claim = None
        os.close(self.descriptor)


class _Claim:
    """A lock file that only one process can create (``O_EXCL``), with a description of that process.

    A holder on this machine is dead if no process has its number and start time. A holder on another machine counts as
    dead if the file was not touched for :data:`STALE` seconds.
    """

    def __init__(self, path: Path):
        self.path = path
        self.account = {
            "process": os.getpid(), "host": socket.gethostname(), "started": _start_time(os.getpid()),
            "system": _system(), "token": secrets.token_hex(8),
        }  # fmt: skip
        self.released = threading.Event()

    def holder(self) -> str | None:
        """Describe the other process that holds the claim, or None. The claim of a dead process is removed."""
        while (other := self._read(self.path)) is not None:
            if self._alive(other):
                return f"process {other.get('process', '?')} on {other.get('host', 'an unknown host')}"
            self._remove(other)
        return None

    def take(self) -> str | None:
        """Take the claim until :meth:`release` and return None; or return the other holder, as :meth:`holder`."""
        while not self._create():
            if (other := self.holder()) is not None:
                return other
        threading.Thread(target=self._refresh, daemon=True, name="nmt lock").start()
        return None

    def _create(self) -> bool:
        try:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_FOLLOW, 0o666)
        except FileExistsError:
            return False
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(self.account, file)
        except OSError:  # a full disk
            self.path.unlink()
            raise
        return True

    @staticmethod
    def _read(path: Path) -> dict[str, Any] | None:
        """The description in a claim, empty if it cannot be read; None if there is no claim."""
        try:
            account = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError:  # its process has not written it yet, or died before that
            return {}
        return account if isinstance(account, dict) else {}

    def _alive(self, other: dict[str, Any]) -> bool:
        if other.get("system") is not None and other["system"] == self.account["system"]:
            return _start_time(other.get("process", 0)) == other.get("started", "")
        return self._age() < STALE

    def lives(self, other: dict[str, Any]) -> bool:
        """As :meth:`_alive`, on the clock of this machine: the file system is only read."""
        if other.get("system") is not None and other["system"] == self.account["system"]:
            return _start_time(other.get("process", 0)) == other.get("started", "")
        try:
            return time.time() - self.path.stat().st_mtime < STALE
        except OSError:
            return False

    def _age(self) -> float:
        """Seconds since the claim was touched, on the clock of the file system."""
        probe = self.path.with_name(f"{self.path.name}.{secrets.token_hex(4)}.tmp")
        try:
            probe.touch()
            return probe.stat().st_mtime - self.path.stat().st_mtime
        except FileNotFoundError:
            return 0.0
        finally:
            probe.unlink(missing_ok=True)

    def _remove(self, dead: dict[str, Any]) -> None:
        """Remove the claim of a dead process, unless another process has already replaced it."""
        temporary = self.path.with_name(f"{self.path.name}.{secrets.token_hex(4)}.tmp")
        try:
            self.path.rename(temporary)
        except FileNotFoundError:
            return
        if self._read(temporary) != dead:
            temporary.rename(self.path)
        else:
            temporary.unlink()

    def _refresh(self) -> None:
        while not self.released.wait(REFRESH):
            with suppress(OSError):
                if self.held():
                    os.utime(self.path)

    def held(self) -> bool:
        return self._read(self.path) == self.account

    def release(self) -> None:
        self.released.set()
        with suppress(OSError):
            if self.held():
                self.path.unlink()


def _system() -> str | None:
    """Identify this boot of this machine and its PID namespace; None if the system does not provide them."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return None


def _start_time(process: int) -> str | None:
    """Start time of a process of this machine, in clock ticks since the boot; None if the process does not run."""
    try:
        text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
        state, *rest = text.rpartition(")")[2].split()
        return None if state in "ZX" else rest[18]
    except (OSError, IndexError, ValueError):
        return None
