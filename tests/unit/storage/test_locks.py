"""One writer at a time, with and without locks of the file system."""

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import time

import pytest

from nmt.errors import RunError
from nmt.storage import locks
from nmt.storage.locks import RunLock


@pytest.fixture(params=["flock", "lock file"])
def kind(request, monkeypatch):
    if request.param == "lock file":
        no_flock(monkeypatch, errno.ENOLCK)
    return request.param


def no_flock(monkeypatch, number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)


def test_a_second_one_is_refused_and_told_who_holds_it(tmp_path, kind):
    lock = RunLock(tmp_path)
    with pytest.raises(RunError, match=rf"is in use by process {os.getpid()} on .*; wait for it or stop it"):
        RunLock(tmp_path)
    lock.check()
    lock.close()
    RunLock(tmp_path).close()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_flock_a_lock_file_is_used_and_said(tmp_path, monkeypatch, caplog, number):
    no_flock(monkeypatch, number)
    lock = RunLock(tmp_path)
    assert len(caplog.messages) == 1
    assert f"there are no file locks here ({os.strerror(number)})" in caplog.messages[0]
    assert (tmp_path / ".lock.claim").exists()
    lock.close()
    assert not (tmp_path / ".lock.claim").exists()


def test_another_error_of_flock_is_told(tmp_path, monkeypatch):
    no_flock(monkeypatch, errno.EIO)
    with pytest.raises(RunError, match=f"cannot be written to: {os.strerror(errno.EIO)}"):
        RunLock(tmp_path)


def test_a_killed_process_does_not_block(tmp_path, kind):
    code = (
        "import errno, fcntl, os, sys; from pathlib import Path; from nmt.storage.locks import RunLock\n"
        "def fail(*_): raise OSError(errno.ENOLCK, 'No locks available')\n"
        "if sys.argv[2] == 'lock file': fcntl.flock = fail\n"
        "RunLock(Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path), kind], check=False, capture_output=True)
    assert (tmp_path / ".lock").exists()
    assert (tmp_path / ".lock.claim").exists() == (kind == "lock file")
    lock = RunLock(tmp_path)
    lock.check()
    lock.close()


def claim(folder, age=0.0, **changes):
    account = {"process": 1, "host": "other", "started": "1", "system": "another boot", "token": "x", **changes}
    path = folder / ".lock.claim"
    path.write_text(json.dumps(account))
    os.utime(path, (time.time() - age,) * 2)


def test_a_claim_of_another_machine_is_believed_until_it_gives_no_sign_of_life(tmp_path, monkeypatch):
    no_flock(monkeypatch, errno.ENOLCK)
    claim(tmp_path, age=locks.STALE - 60)
    with pytest.raises(RunError, match="is in use by process 1 on other"):
        RunLock(tmp_path)
    claim(tmp_path, age=locks.STALE + 60)
    RunLock(tmp_path).close()


def test_a_claim_of_a_process_number_that_was_given_again_is_dead(tmp_path, monkeypatch):
    no_flock(monkeypatch, errno.ENOLCK)
    claim(tmp_path, process=os.getpid(), system=locks._system(), started="1")
    RunLock(tmp_path).close()


@pytest.mark.parametrize("content", ["", "{", "[1]", "null", "5", '{"process": "x", "system": 5}'])
def test_a_claim_that_says_nothing_is_dead_after_a_while(tmp_path, monkeypatch, content):
    no_flock(monkeypatch, errno.ENOLCK)
    path = tmp_path / ".lock.claim"
    path.write_text(content)
    with pytest.raises(RunError, match="is in use by"):
        RunLock(tmp_path)
    os.utime(path, (1, 1))
    RunLock(tmp_path).close()


def test_the_holder_gives_signs_of_life(tmp_path, monkeypatch):
    no_flock(monkeypatch, errno.ENOLCK)
    monkeypatch.setattr(locks, "REFRESH", 0.01)
    lock = RunLock(tmp_path)
    path = tmp_path / ".lock.claim"
    os.utime(path, (1, 1))
    deadline = time.monotonic() + 10
    while path.stat().st_mtime == 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert path.stat().st_mtime > 1
    lock.close()


def test_a_lock_file_that_cannot_be_written_is_not_left(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    no_flock(monkeypatch, errno.ENOLCK)
    with monkeypatch.context() as patch:
        patch.setattr(json, "dump", full)
        with pytest.raises(RunError, match="cannot be written to: No space left on device"):
            RunLock(tmp_path)
    RunLock(tmp_path).close()


def test_a_lock_and_a_lock_file_exclude_each_other(tmp_path, monkeypatch):
    """Of two machines, one may see the locks of a shared file system and the other none."""
    claim(tmp_path)
    with pytest.raises(RunError, match="is in use by process 1 on other"):
        RunLock(tmp_path)
    claim(tmp_path, age=locks.STALE + 60)
    lock = RunLock(tmp_path)
    lock.check()
    with monkeypatch.context() as patch:
        no_flock(patch, errno.ENOLCK)
        other = RunLock(tmp_path)
    with pytest.raises(RunError, match="was removed, renamed or replaced"):
        lock.check()
    other.check()
    lock.close()
    other.close()


def test_a_holder_that_was_taken_for_dead_notices(tmp_path, monkeypatch):
    no_flock(monkeypatch, errno.ENOLCK)
    lock = RunLock(tmp_path)
    claim(tmp_path)
    with pytest.raises(RunError, match="was removed, renamed or replaced"):
        lock.check()
    lock.close()
    assert (tmp_path / ".lock.claim").exists()  # the other's


@pytest.mark.parametrize("change", ["removed", "made again", "renamed", "replaced", "lock removed", "lock made again"])
def test_a_folder_that_is_another_one_is_noticed(tmp_path, kind, change):
    folder = tmp_path / "run"
    folder.mkdir()
    lock = RunLock(folder)
    lock.check()
    other = None
    if change == "renamed":
        folder.rename(tmp_path / "other")
    elif change == "replaced":
        shutil.copytree(folder, tmp_path / "copy")
        folder.rename(tmp_path / "other")
        (tmp_path / "copy").rename(folder)
    elif change.startswith("lock"):
        (folder / ".lock").unlink()
        (folder / ".lock.claim").unlink(missing_ok=True)
    else:
        shutil.rmtree(folder)
    if change.endswith("again"):
        folder.mkdir(exist_ok=True)
        other = RunLock(folder)
    with pytest.raises(RunError, match="the run directory was removed, renamed or replaced"):
        lock.check()
    lock.close()
    if other is not None:
        other.check()
        other.close()


def test_links_are_not_followed(tmp_path):
    (tmp_path / "precious").write_text("precious")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".lock").symlink_to("../precious")
    with pytest.raises(RunError, match=r"\.lock: is not a regular file; remove it"):
        RunLock(folder)
    (folder / ".lock").unlink()
    os.link(tmp_path / "precious", folder / ".lock")
    lock = RunLock(folder)
    lock.check()
    lock.close()
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises(RunError, match=r"\.lock: is not a regular file; remove it"):
        RunLock(tmp_path)


def test_without_flock_in_the_operating_system(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    lock = RunLock(tmp_path)
    lock.check()
    with pytest.raises(RunError, match="is in use by"):
        RunLock(tmp_path)
    lock.close()
