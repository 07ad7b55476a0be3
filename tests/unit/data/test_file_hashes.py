"""Which files are hashed again, and which changes are noticed."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nmt.data import build
from nmt.data.prepare import prepare_corpus
from nmt.errors import DataError
from tests.unit.data.corpora import MANY, VALID, config, write_tsv


def test_unchanged_files_are_not_hashed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = config(tmp_path, train=write_tsv(tmp_path / "train", MANY), valid=write_tsv(tmp_path / "valid", VALID))
    for name in ("train", "valid"):
        os.utime(tmp_path / name, (1e9, 1e9))
    later = time.time_ns() + 3 * 10**9  # files as young as the clock's grain are not remembered
    monkeypatch.setattr("nmt.data.file_hashes.time", SimpleNamespace(time_ns=lambda: later))
    first = prepare_corpus(data)
    assert prepare_corpus(data) == first  # its own files are remembered from the second time on

    def refuse(path: Path) -> str:
        raise RuntimeError(f"hashed {path} again")

    monkeypatch.setattr("nmt.data.file_hashes.sha256", refuse)
    assert prepare_corpus(data) == first
    os.utime(tmp_path / "train", (2e9, 2e9))
    with pytest.raises(RuntimeError, match="train again"):
        prepare_corpus(data)
    (tmp_path / "store/file-hashes.json").write_text("{damaged")
    with pytest.raises(RuntimeError, match="train again"):
        prepare_corpus(data)


def test_a_change_that_keeps_size_and_time_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = config(tmp_path, train=write_tsv(tmp_path / "train", MANY), valid=write_tsv(tmp_path / "valid", VALID))
    later = time.time_ns() + 3 * 10**9
    monkeypatch.setattr("nmt.data.file_hashes.time", SimpleNamespace(time_ns=lambda: later))
    os.utime(tmp_path / "train", (1e9, 1e9))
    first = prepare_corpus(data)
    content = (tmp_path / "train").read_bytes()
    (tmp_path / "train").write_bytes(content.replace(b"number 7\n", b"number 8\n"))
    os.utime(tmp_path / "train", (1e9, 1e9))
    assert prepare_corpus(data).key != first.key


@pytest.mark.parametrize("after", ["the first line", "the last line"])
def test_a_file_that_changes_while_it_is_read_is_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    """Also where the old content, size and modification time are back by the end."""
    train = write_tsv(tmp_path / "train", MANY)
    data = config(tmp_path, train=train, valid=write_tsv(tmp_path / "valid", VALID))
    content, read = (tmp_path / "train").read_bytes(), build.read_pairs
    stat = (tmp_path / "train").stat()

    def changing(source: Any, *arguments: Any) -> Any:
        pairs = read(source, *arguments)
        if source.path != train["path"]:
            yield from pairs
            return
        if after == "the last line":
            yield from pairs
            (tmp_path / "train").write_bytes(content + b"a\tb\n")
            return
        (tmp_path / "train").write_bytes(content.replace(b"number 7\n", b"number 8\n"))
        yield from pairs
        (tmp_path / "train").write_bytes(content)
        time.sleep(0.02)  # the grain of the change time
        os.utime(tmp_path / "train", ns=(stat.st_atime_ns, stat.st_mtime_ns))

    monkeypatch.setattr(build, "read_pairs", changing)
    with pytest.raises(DataError) as error:
        prepare_corpus(data)
    assert str(error.value) == (
        f"{tmp_path}/train: changed while it was read; run again when no other program writes to it"
    )
    assert not list((tmp_path / "store").glob("*corpus-*"))


@pytest.mark.parametrize("content", ["[1]", '"x"', "null", "5", '{"%s": [1]}', '{"%s": 5}', '{"%s": [1, 2, 3, 4, 5]}'])
def test_remembered_hashes_of_another_kind_are_not_used(tmp_path: Path, content: str) -> None:
    data = config(tmp_path, train=write_tsv(tmp_path / "train", MANY), valid=write_tsv(tmp_path / "valid", VALID))
    (tmp_path / "store").mkdir()
    (tmp_path / "store/file-hashes.json").write_text(content.replace("%s", str(tmp_path / "train")))
    assert len(prepare_corpus(data).part("train")) == 2000
