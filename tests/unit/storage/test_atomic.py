"""Files and folders that are whole or absent, whatever happens to the program or the file system."""

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import threading

import pytest

from nmt.errors import CheckpointError
from nmt.storage import atomic


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def fill(path, content="new", **options):
    with atomic.new_directory(path, **options) as folder:
        (folder / "file").write_text(content)
        atomic.seal(folder, "account.json", {"format": 1})


def failing(monkeypatch, name, number, when=lambda *_: True):
    """Let a function of ``os`` fail where ``when`` says so."""
    original = getattr(os, name)

    def replaced(*arguments, **options):
        if when(*arguments):
            raise OSError(number, os.strerror(number))
        return original(*arguments, **options)

    monkeypatch.setattr(os, name, replaced)


def is_folder(descriptor):
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


# ---------------------------------------------------------------------------------------------------- new_directory


@pytest.mark.parametrize("left", [".x.old", ".x.123-0123abcd.old"])
@pytest.mark.parametrize("there", [True, False])
def test_what_a_kill_left_is_recovered_and_blocks_nothing(tmp_path, left, there):
    fill(tmp_path / "x", "old")
    if there:
        fill(tmp_path / left, "older")
    else:
        (tmp_path / "x").rename(tmp_path / left)
    fill(tmp_path / "y")
    atomic.recover(tmp_path)
    assert names(tmp_path) == ["x", "y"]
    assert (tmp_path / "x" / "file").read_text() == "old"
    for _ in range(2):
        fill(tmp_path / "x")
    assert names(tmp_path) == ["x", "y"]
    assert (tmp_path / "x" / "file").read_text() == "new"


def test_leftovers_of_earlier_versions_do_not_block_a_replacement(tmp_path):
    fill(tmp_path / "x", "old")
    fill(tmp_path / ".x.old", "older")
    fill(tmp_path / "x")
    assert (tmp_path / "x" / "file").read_text() == "new"


def test_recovery_touches_no_other_hidden_files(tmp_path):
    for name in (".gitignore", ".config.bak", "notes.old", "notes.tmp"):
        (tmp_path / name).write_text(name)
    (tmp_path / ".mine.old").write_text("mine")
    atomic.recover(tmp_path, ["x"])
    assert names(tmp_path) == [".config.bak", ".gitignore", ".mine.old", "notes.old", "notes.tmp"]


def test_what_another_process_is_writing_is_not_cleared(tmp_path):
    code = (
        "import sys; from pathlib import Path; from nmt.storage.atomic import new_directory\n"
        "with new_directory(Path(sys.argv[1])): print('ready', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "x")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"ready\n"
    (left,) = names(tmp_path)
    atomic.recover(tmp_path)
    atomic.clear(tmp_path / "x")
    assert names(tmp_path) == [left]
    process.kill()
    process.wait()
    atomic.clear(tmp_path / "y")
    assert names(tmp_path) == [left]
    atomic.clear(tmp_path / "x")
    assert names(tmp_path) == []


def test_many_threads_replace_one_folder(tmp_path):
    failures = []

    def work(number):
        try:
            for _ in range(20):
                fill(tmp_path / "x", str(number))
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    atomic.verified(tmp_path / "x", "account.json", 1, ["file"])
    assert names(tmp_path) == ["x"]


def test_a_vanished_parent_is_not_made_again(tmp_path):
    with pytest.raises(FileNotFoundError):
        fill(tmp_path / "gone" / "x")
    assert names(tmp_path) == []


def test_a_link_is_replaced_and_what_it_leads_to_is_left(tmp_path):
    fill(tmp_path / "elsewhere", "precious")
    (tmp_path / "x").symlink_to("elsewhere")
    fill(tmp_path / "x")
    assert not (tmp_path / "x").is_symlink()
    assert (tmp_path / "elsewhere" / "file").read_text() == "precious"


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_modes_follow_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        with atomic.new_directory(tmp_path / "x") as folder:
            (folder / "private").touch(mode=0o600)  # as safetensors makes its files
        atomic.write_text(tmp_path / "text", "text")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x" / "private").stat().st_mode) == 0o666 & ~umask
    assert stat.S_IMODE((tmp_path / "text").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_an_error_names_the_file_by_its_final_name(tmp_path, monkeypatch, number):
    with pytest.raises(OSError, match=os.strerror(number)) as caught, atomic.new_directory(tmp_path / "x") as folder:
        raise OSError(number, os.strerror(number), str(folder / "file"))
    assert caught.value.filename == str(tmp_path / "x" / "file")
    with monkeypatch.context() as patch:
        failing(patch, "fsync", number)
        with pytest.raises(OSError, match=os.strerror(number)) as caught:
            atomic.write_text(tmp_path / "text", "text")
    assert caught.value.filename == str(tmp_path / "text")
    assert names(tmp_path) == []


def test_names_as_long_as_a_file_system_allows(tmp_path):
    for name in ("x" * 255, "ü" * 127):
        atomic.write_text(tmp_path / name, "text")
        fill(tmp_path / f"{name[:100]}-folder")
        with atomic.replacing(tmp_path / name) as descriptor:
            os.write(descriptor, b"other")
        assert (tmp_path / name).read_text() == "other"
    assert len(names(tmp_path)) == 4


# -------------------------------------------------------------------------------------------------------------- fsync


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP, errno.EBADF])
def test_a_file_system_that_cannot_sync_folders_is_said_once_and_used(tmp_path, monkeypatch, caplog, number):
    atomic._warn_of_folders.cache_clear()
    failing(monkeypatch, "fsync", number, is_folder)
    fill(tmp_path / "x")
    atomic.write_text(tmp_path / "text", "text")
    assert names(tmp_path) == ["text", "x"]
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"the file system cannot flush a folder to disk ({os.strerror(number)})")


def test_a_folder_that_fails_to_sync_otherwise_is_an_error(tmp_path, monkeypatch):
    failing(monkeypatch, "fsync", errno.EIO, is_folder)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        fill(tmp_path / "x")


def test_a_file_that_cannot_be_synced_is_an_error(tmp_path, monkeypatch):
    failing(monkeypatch, "fsync", errno.EINVAL, lambda descriptor: not is_folder(descriptor))
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        fill(tmp_path / "x")


# ------------------------------------------------------------------------------------------------------------- sealed


def test_a_sealed_folder_is_verified(tmp_path):
    fill(tmp_path / "x")
    assert atomic.verified(tmp_path / "x", "account.json", 1, ["file"])["format"] == 1
    with pytest.raises(CheckpointError, match="does not list other"):
        atomic.verified(tmp_path / "x", "account.json", 1, ["other"])
    with pytest.raises(atomic.OtherFormatError, match="has format 1; this version of nmt reads format 2"):
        atomic.verified(tmp_path / "x", "account.json", 2, ["file"])
    (tmp_path / "x" / "file").unlink()
    with pytest.raises(CheckpointError, match=r"damaged: .*No such file or directory"):
        atomic.verified(tmp_path / "x", "account.json", 1, ["file"])


@pytest.mark.parametrize("name", ["/dev/zero", "../outside", "a/b", "", ".", "a\0b"])
def test_an_account_names_files_of_its_folder_alone(tmp_path, name):
    fill(tmp_path / "x")
    state = {"format": 1, "sha256": {name: "0"}}
    atomic.write_json(tmp_path / "x" / "account.json", {**state, "checksum": atomic.content_hash(state)})
    with pytest.raises(CheckpointError, match="damaged"):
        atomic.verified(tmp_path / "x", "account.json", 1, [])
    assert atomic.accounts(tmp_path / "x", "account.json") == []


@pytest.mark.parametrize("content", ["[1]", "null", "5", '"x"', "{}", "{", "[" * 100_000, '{"sha256": [1]}'])
def test_an_account_of_another_kind_is_damaged(tmp_path, content):
    fill(tmp_path / "x")
    (tmp_path / "x" / "account.json").write_text(content)
    with pytest.raises(CheckpointError):
        atomic.verified(tmp_path / "x", "account.json", 1, ["file"])
    assert atomic.accounts(tmp_path / "x", "account.json") == []


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
@pytest.mark.parametrize("name", ["file", "account.json"])
def test_what_is_no_file_is_damaged_and_not_waited_for(tmp_path, kind, name):
    fill(tmp_path / "x")
    path = tmp_path / "x" / name
    path.unlink()
    {"pipe": lambda: os.mkfifo(path), "device": lambda: path.symlink_to("/dev/zero"), "folder": path.mkdir}[kind]()
    with pytest.raises(CheckpointError, match=f"damaged: .*{name}: (is not a regular file|Is a directory)"):
        atomic.verified(tmp_path / "x", "account.json", 1, ["file"])


@pytest.mark.parametrize(
    "number", [errno.EIO, errno.ESTALE, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM]
)
@pytest.mark.parametrize("name", ["file", "account.json"])
def test_what_cannot_be_read_now_is_not_called_damaged(tmp_path, monkeypatch, number, name):
    fill(tmp_path / "x")
    failing(monkeypatch, "open", number, lambda path, *_: str(path).endswith(name))
    with pytest.raises(atomic.UnreadableError, match=f"{name}: cannot be read: {os.strerror(number)}"):
        atomic.verified(tmp_path / "x", "account.json", 1, ["file"])


# ---------------------------------------------------------------------------------------------------- fill_in_place


def refill(folder, content="new", extra="only new"):
    with atomic.fill_in_place(folder, "account.json") as inside:
        (inside / "file").write_text(content)
        (inside / extra).write_text(content)
        atomic.seal(inside, "account.json", {"format": 1})


def test_a_folder_filled_in_place_stays_the_same_folder(tmp_path):
    inode = tmp_path.stat().st_ino
    refill(tmp_path, "old", "only old")
    refill(tmp_path)
    assert names(tmp_path) == ["account.json", "file", "only new"]
    atomic.verified(tmp_path, "account.json", 1, ["file", "only new"])
    assert tmp_path.stat().st_ino == inode


def test_a_failure_leaves_the_folder_as_it_was(tmp_path):
    def fail():
        with atomic.fill_in_place(tmp_path, "account.json") as inside:
            (inside / "file").write_text("new")
            raise ValueError("no")

    refill(tmp_path, "old")
    with pytest.raises(ValueError, match="no"):
        fail()
    assert names(tmp_path) == ["account.json", "file", "only new"]
    assert (tmp_path / "file").read_text() == "old"


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(8))
def test_a_kill_at_any_moment_of_the_exchange_is_made_up_for(tmp_path, moment):
    refill(tmp_path, "old", "only old")
    code = (
        "import os, sys; from pathlib import Path; sys.path.insert(0, sys.argv[3])\n"
        "from tests.unit.storage.test_atomic import refill\n"
        "left = [int(sys.argv[2])]\n"
        "def count(event, arguments):\n"
        "    if event in ('os.remove', 'os.rename', 'os.rmdir') and str(arguments[0]).startswith(sys.argv[1]):\n"
        "        if left[0] == 0: os.kill(os.getpid(), 9)\n"
        "        left[0] -= 1\n"
        "sys.addaudithook(count)\n"
        "refill(Path(sys.argv[1]))"
    )
    root = str(atomic.Path(__file__).parents[3])
    command = [sys.executable, "-c", code, str(tmp_path), str(moment), root]
    killed = subprocess.run(command, capture_output=True, check=False).returncode
    assert killed == -9, killed
    assert atomic.foreign(tmp_path, "account.json", atomic.accounts(tmp_path, "account.json")) is None
    refill(tmp_path, "newest", "other")
    assert names(tmp_path) == ["account.json", "file", "other"]
    assert (tmp_path / "file").read_text() == "newest"


def test_what_an_account_does_not_list_is_foreign(tmp_path):
    def found():
        return atomic.foreign(tmp_path, "account.json", atomic.accounts(tmp_path, "account.json"))

    assert found() is None
    refill(tmp_path)
    assert found() is None
    (tmp_path / "file").write_text("altered")
    assert found() == "file (altered)"
    (tmp_path / "file").unlink()
    assert found() is None
    (tmp_path / ".git").mkdir()
    assert found() == ".git"
    (tmp_path / ".git").rmdir()
    (tmp_path / "file").symlink_to("only new")
    assert found() == "file"
    (tmp_path / "file").unlink()
    account = json.loads((tmp_path / "account.json").read_text())
    (tmp_path / "account.json").write_text(json.dumps({**account, "licence": "mine"}))
    assert found() == "account.json"


# ---------------------------------------------------------------------------------------------------------- replacing


def test_a_file_that_is_replaced_keeps_its_mode_and_owner(tmp_path):
    path = tmp_path / "out"
    path.touch(mode=0o600)
    if os.geteuid() == 0:
        os.chown(path, 12345, 23456)
    before = path.stat()
    with atomic.replacing(path) as descriptor:
        (aside,) = (one for one in tmp_path.iterdir() if one != path)
        assert stat.S_IMODE(aside.stat().st_mode) == 0o600
        os.write(descriptor, b"new")
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert path.read_text() == "new"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_no_temporary_file(tmp_path, number):
    code = (
        "import sys, time; from pathlib import Path; from nmt.storage.atomic import replacing\n"
        "with replacing(Path(sys.argv[1])): print('ready', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "out")], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    assert len(names(tmp_path)) == 1
    process.send_signal(number)
    assert process.wait() == 128 + number
    assert names(tmp_path) == []
