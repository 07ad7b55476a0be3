"""Cleaning in processes: the same as in one, for any number."""

from __future__ import annotations

import itertools
import os
import signal

import pytest

from nmt.config.data import CleaningConfig, DataConfig
from nmt.data import cleaning_processes
from nmt.data.cleaning import Cleaner
from nmt.data.cleaning_processes import clean_in_processes
from nmt.data.provenance import key_settings
from nmt.errors import DataError

RULES = {"alphabet_ratio": True, "duplicate_source": True, "length_ratio": {"threshold": 3, "unit": "word"}}


def pairs(count: int) -> list[tuple[str, str]]:
    """Pairs of which each rule drops some, and characters of one to four bytes."""
    kinds = [
        ("a small house stands here", "ein kleines Haus steht hier"), ("", "leer"), ("  ", "x"),
        ("12345 6789", "- - -"), ("naïve 猫 😀 stays", "Straße mit Bäumen"), ("x" * 400, "y" * 400),
        ("one", "a b c d e f g h i j"),
    ]  # fmt: skip
    return [
        (f"{src} {n // 3}" if src.strip() else src, tgt)
        for n, (src, tgt) in enumerate(itertools.islice(itertools.cycle(kinds), count))
    ]


def cleaned(rows, processes, **more):
    cleaner = Cleaner(CleaningConfig.model_validate({"max_chars": 300, "rules": RULES, **more}), True, ("en", "de"))
    kept = list(clean_in_processes(cleaner, iter(rows), processes))
    return kept, cleaner.read, cleaner.dropped, cleaner.examples, [array.tobytes() for array in cleaner.stored]


def test_any_number_of_processes_finds_the_same(monkeypatch):
    monkeypatch.setattr(cleaning_processes, "CHUNK", 16)
    rows = pairs(101)
    alone = cleaned(rows, 1)
    assert alone[0]
    assert min(alone[2][rule] for rule in ("empty", "too_long", "alphabet_ratio", "length_ratio")) > 3
    assert cleaned(rows, 3) == alone


def test_a_small_corpus_starts_no_process(monkeypatch):
    monkeypatch.setattr(cleaning_processes, "usable_cores", lambda: 4)
    monkeypatch.setattr(cleaning_processes, "_Process", lambda _: pytest.fail("a process was started"))
    assert cleaned(pairs(50), None) == cleaned(pairs(50), 1)


def test_a_process_that_dies_ends_the_cleaning_with_one_line(monkeypatch):
    monkeypatch.setattr(cleaning_processes, "CHUNK", 4)
    started = []
    start = cleaning_processes._Process.__init__

    def remembered(self, cleaner):
        start(self, cleaner)
        started.append(self.process.pid)

    monkeypatch.setattr(cleaning_processes._Process, "__init__", remembered)

    def killing():
        yield from pairs(12)
        os.kill(started[0], signal.SIGKILL)
        yield from pairs(400)

    with pytest.raises(DataError, match=r"^data.processes: a process .* set data.processes: 1$"):
        cleaned(killing(), 2)


def test_the_number_of_processes_does_not_name_the_corpus():
    text = {"kind": "text", "src": "a", "tgt": "b"}
    data = DataConfig.model_validate({"train": text, "valid": text})
    assert key_settings(data.model_copy(update={"processes": 3}), "data") == key_settings(data, "data")
