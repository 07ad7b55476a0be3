"""A run's journal has every line once, whole and with its time."""

import io
import logging
import re

import pytest

from nmt.errors import NmtError
from nmt.runtime import journal

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  .*\S")


def texts(path):
    content = path.read_text(encoding="utf-8")
    assert content.endswith("\n")
    lines = content.splitlines()
    assert all(LINE.fullmatch(line) for line in lines), lines
    return [line[21:] for line in lines]


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.INFO, "nmt")
    return logging.getLogger("nmt.anything")


@pytest.fixture
def printed():
    """What the messages of ``nmt`` look like elsewhere."""
    handler = logging.StreamHandler(io.StringIO())
    logging.getLogger("nmt").addHandler(handler)
    yield handler.stream
    logging.getLogger("nmt").removeHandler(handler)


def test_messages_of_several_starts_are_appended(tmp_path, log, printed):
    path = tmp_path / "train.log"
    with journal.keeping(path):
        log.info("model       rnn\ntraining    3 pairs\n\nrun         x")
        log.warning("warning: %s", "ü")
        journal.note("only here")
    log.info("after the end")
    assert "after the end" in printed.getvalue()
    assert "only here" not in printed.getvalue()
    first = ["model       rnn", "training    3 pairs", "run         x", "warning: ü", "only here"]
    assert texts(path) == first
    with path.open("ab") as file:
        file.write(b"2026-01-01 00:00:00  torn by a ki")
    with pytest.raises(NmtError), journal.keeping(path):
        raise NmtError("data.train: no such file")
    with pytest.raises(KeyboardInterrupt), journal.keeping(path):
        raise KeyboardInterrupt
    assert texts(path) == [*first, "torn by a ki", "data.train: no such file", "interrupted"]


def test_what_is_no_character_is_escaped(tmp_path):
    handler = journal.Journal(tmp_path / "train.log")
    handler.emit(logging.makeLogRecord({"msg": "a file of \udcff"}))  # a captured message would end pytest-xdist
    handler.close()
    assert texts(tmp_path / "train.log") == ["a file of \\udcff"]


def test_a_journal_that_cannot_be_written_is_told_once(tmp_path, log, capsys):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "train.log").symlink_to("precious")  # no run writes through links
    with journal.keeping(tmp_path / "train.log"):
        log.info("one")
        log.info("two")
    assert (tmp_path / "precious").read_text() == "precious"
    assert capsys.readouterr().err.count("train.log: cannot be written") == 1


def test_a_disk_that_fills_does_not_end_the_program(tmp_path, log, capsys, monkeypatch):
    with journal.keeping(tmp_path / "train.log"):
        log.info("one")
        with monkeypatch.context() as patch:
            patch.setattr(journal.os, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
            log.info("two")
            log.info("three")
        log.info("four")
    assert texts(tmp_path / "train.log") == ["one", "four"]
    assert capsys.readouterr().err.count("No space left on device") == 1
