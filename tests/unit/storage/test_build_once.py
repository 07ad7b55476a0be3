"""Folders that several processes build at the same time."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from nmt.storage.atomic import build_once


def test_build_once_second_one_gives_way(tmp_path: Path) -> None:
    with build_once(tmp_path / "x") as mine:
        (mine / "who").write_text("second")
        (tmp_path / "x").mkdir()
        (tmp_path / "x/who").write_text("first")
    assert (tmp_path / "x/who").read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_build_once_clears_what_was_left_long_ago(tmp_path: Path) -> None:
    for name, age in [(".old.tmp", 48 * 3600), (".young.tmp", 60)]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
        then = time.time() - age
        os.utime(tmp_path / name / "file", (then, then))
        os.utime(tmp_path / name, (then, then))
    with build_once(tmp_path / "x"):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == [".young.tmp", "x"]


def test_build_once_another_process_clears_its_own(tmp_path: Path) -> None:
    (tmp_path / ".gone.tmp").symlink_to(tmp_path / "gone")  # listed, and not there any more when it is looked at
    with build_once(tmp_path / "x"):
        pass
    assert (tmp_path / "x").is_dir()


def test_build_once_leaves_nothing_when_it_fails(tmp_path: Path) -> None:
    def fail() -> None:
        with build_once(tmp_path / "store/x") as folder:
            (folder / "half").touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not list((tmp_path / "store").iterdir())
