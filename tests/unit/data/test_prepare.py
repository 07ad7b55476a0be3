"""Corpora in the store: built once, found again, and messages about mistakes."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nmt.data import splits
from nmt.data.corpus import Corpus
from nmt.data.prepare import prepare_corpus
from nmt.errors import DataError
from tests.unit.data.corpora import MANY, RULE_ROWS, VALID, config, holdout_config, write_tsv

MULTI30K = Path(__file__).parents[3].parent / "shared/data/multi30k"


@pytest.mark.parametrize("seed", [1, 2])
def test_holdouts_are_disjoint_and_complete(tmp_path: Path, seed: int) -> None:
    corpus = prepare_corpus(holdout_config(tmp_path, MANY, seed))
    parts = {name: list(corpus.part(name)) for name in ("train", "valid", "test.a", "test.b")}
    assert sorted(pair for part in parts.values() for pair in part) == sorted(MANY)  # nothing twice, nothing lost
    assert parts["train"] == [pair for pair in MANY if pair in set(parts["train"])]  # in order
    # Binomial spread: four standard deviations of the smallest share are 54 pairs.
    shares = {"train": 0.6, "valid": 0.1, "test.a": 0.2, "test.b": 0.1} if seed == 1 else {"valid": 0.1, "test.a": 0.2}
    for name, share in shares.items():
        assert abs(len(parts[name]) - share * 2000) < 80


def test_a_holdout_is_a_function_of_the_pair_alone(tmp_path: Path) -> None:
    """Other order, other neighbours, duplicates kept: each pair falls where it fell before."""
    first = prepare_corpus(holdout_config(tmp_path, MANY))
    again = prepare_corpus(holdout_config(tmp_path, MANY[::-1] + MANY[500:], drop_duplicates=False))
    other = prepare_corpus(holdout_config(tmp_path, MANY, seed=7))
    for name in ("train", "valid", "test.a", "test.b"):
        assert set(first.part(name)) == set(again.part(name))
        assert set(first.part(name)) != set(other.part(name))
    assert len(again.part("train")) > len(first.part("train"))


def test_holdouts_share_no_sentence_and_the_account_says_what_it_cost(tmp_path: Path) -> None:
    rows = [
        (f"Satz {i}" if j % 2 else f"satz {i}!", f"sentence {i} {k}")
        for i in range(400)
        for j in (0, 1)
        for k in (j, 2)
    ]
    corpus = prepare_corpus(holdout_config(tmp_path, rows))
    train = [[splits.sentence_key(text) for text in side] for side in zip(*corpus.part("train"), strict=True)]
    for name in ("valid", "test.a", "test.b"):
        assert not {splits.sentence_key(s) for s in corpus.part(name).sources()} & set(train[0])
        assert not {splits.sentence_key(t) for t in corpus.part(name).targets()} & set(train[1])
    assert sum(corpus.manifest["sizes"].values()) + corpus.manifest["dropped"]["holdout"] == len(rows)
    assert corpus.manifest["shared"] == 0
    old = prepare_corpus(holdout_config(tmp_path, rows, apart="pairs"))
    assert {splits.sentence_key(s) for s in old.part("valid").sources()} & set(train[0])


def printed(summary: str) -> tuple[dict[str, int], int, int]:
    """Of a summary: the pairs of each part, those read, and the sum of those dropped."""
    rows = [line.split() for line in summary.splitlines()[1:]]
    sizes = {row[0]: int(row[1].replace(",", "")) for row in rows if row[0] not in ("dropped", "shared")}
    read = next(int(row[4].replace(",", "")) for row in rows if row[0] == "train")
    return sizes, read, sum(int(row[1].replace(",", "")) for row in rows if row[0] == "dropped")


@pytest.mark.parametrize("apart", ["sentences", "pairs"])
@pytest.mark.parametrize("drop_duplicates", [True, False])
def test_what_is_read_is_kept_held_out_or_dropped(tmp_path: Path, apart: str, drop_duplicates: bool) -> None:
    """The printed numbers, against a count of the files: duplicates, a test file with common pairs, holdouts."""
    news = [*MANY[:30], *MANY[:10], ("", "leer"), ("ganz neu", "quite new")]
    rows = [*MANY, *MANY[:700], *MANY[:20], ("", "x"), ("y", " "), ("kurz", "l" * 900), ("z" * 2000, "z")]
    data = config(
        tmp_path,
        train=write_tsv(tmp_path / "train", rows),
        valid={"kind": "holdout", "fraction": 0.1},
        test={
            "a": {"kind": "holdout", "fraction": 0.2, "seed": 2},
            "news": write_tsv(tmp_path / "news", news),
            "more": write_tsv(tmp_path / "more", news[25:]),
        },
        cleaning={"apart": apart, "drop_duplicates": drop_duplicates},
    )
    corpus = prepare_corpus(data)
    sizes, read, dropped = printed(corpus.summary())
    assert sizes == {name: len(corpus.part(name)) for name in ("train", "valid", "test.a", "test.news", "test.more")}
    assert read == len(rows) == sizes["train"] + sizes["valid"] + sizes["test.a"] + dropped
    counts = corpus.manifest["dropped"]
    assert (counts["empty"], counts["too_long"], counts["ratio"]) == (2, 1, 1)
    assert counts["duplicate"] == (720 if drop_duplicates else 0)
    assert counts["overlap"] == (30 if drop_duplicates else 80)  # pairs 0 to 19 three times, 20 to 29 twice
    lines = {line.split()[0]: line for line in corpus.summary().splitlines()[1:] if "dropped" not in line}
    assert lines["test.news"].endswith("42 pairs, 10 repeat one before them")
    assert lines["test.more"].endswith("17 pairs, 17 also in a held-out part before it")
    for name in ("train", "valid", "test.a"):
        again = len(corpus.part(name)) - len(set(corpus.part(name)))
        assert lines[name].endswith(f", {again} repeat one before them") == bool(again)
        assert bool(again) != drop_duplicates
        assert ("held out of those read" in lines[name]) == (name != "train")


def test_a_pair_with_two_common_sentences_is_counted_once(tmp_path: Path) -> None:
    train = [*MANY, *((f"frage {i}", "yes") for i in range(120)), *(("ja", f"answer {i}") for i in range(120))]
    valid = [("Ja.", "Yes."), ("", "x"), ("neu", "...")]
    data = config(tmp_path, train=write_tsv(tmp_path / "train", train), valid=write_tsv(tmp_path / "valid", valid))
    corpus = prepare_corpus(data)
    assert corpus.manifest["shared"] == 1
    assert corpus.manifest["sizes"]["train"] == len(train)


@pytest.mark.parametrize(
    ("train", "fields", "message"),
    [
        ([], {}, "data.train: no sentence pairs in {}/train"),
        (
            [("", "a"), ("b", "x" * 50), ("b", "x" * 2000)],
            {},
            "data.train: cleaning leaves none of its 3 pairs (1 empty, 1 too_long, 1 ratio); see data.cleaning",
        ),
        ([("a", "b")], {"valid": []}, "data.valid: no sentence pairs in {}/valid"),
        ([("a", "b")], {"test": []}, "data.test.t: no sentence pairs in {}/test"),
        (
            [("a", "b")],
            {"valid": [("", "a"), (" ", "b")]},
            "data.valid: {}/valid: every source sentence is empty",
        ),
        (
            [("a", "b")],
            {"test": [("a", ""), ("b", "")]},
            "data.test.t: {}/test: every target sentence is empty",
        ),
        (
            [("a", "b"), ("c", "d")],
            {"holdout": 1e-9},
            "data.valid: no pair falls into this holdout of 2 training pairs; raise its fraction",
        ),
        (
            [("a", "b")] * 9 + [("c", "")],
            {"holdout": 1e-9},
            "data.valid: no pair falls into this holdout of 1 training pairs, all that cleaning leaves of 10 "
            "(1 empty, 8 duplicate); raise its fraction",
        ),
        (
            [("a", "b")] * 2,
            {"holdout": 0.89},
            "data.train: the holdout parts take all of its 1 pair, all that cleaning leaves of 2 (1 duplicate); "
            "lower their fractions",
        ),
    ],
)
def test_parts_that_would_be_empty(
    tmp_path: Path, train: list[tuple[str, str]], fields: dict[str, Any], message: str
) -> None:
    valid = write_tsv(tmp_path / "valid", fields.get("valid", [("v", "w")]))
    if "holdout" in fields:
        valid = {"kind": "holdout", "fraction": fields["holdout"]}
    test = {"t": write_tsv(tmp_path / "test", fields["test"])} if "test" in fields else {}
    with pytest.raises(DataError) as error:
        prepare_corpus(config(tmp_path, train=write_tsv(tmp_path / "train", train), valid=valid, test=test))
    assert str(error.value) == message.format(tmp_path)
    assert not list((tmp_path / "store").glob("*corpus-*"))  # nothing half-made stays behind


def test_a_missing_file_is_told_before_any_work(tmp_path: Path) -> None:
    data = config(tmp_path, train=write_tsv(tmp_path / "t", RULE_ROWS), valid={"kind": "tsv", "path": f"{tmp_path}/no"})
    with pytest.raises(DataError, match=r"/no: no such file; check the path$"):
        prepare_corpus(data)
    assert not (tmp_path / "store").exists()


def test_the_store_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "store").touch()
    then = 1_000_000_000
    data = config(tmp_path, train=write_tsv(tmp_path / "t", RULE_ROWS), valid=write_tsv(tmp_path / "v", VALID))
    os.utime(tmp_path / "t", (then, then))  # old enough for its hash to be remembered, which fails too
    with pytest.raises(DataError, match=r"corpus-\w+: cannot be written: .*; check space and permissions$"):
        prepare_corpus(data)


@pytest.mark.slow
def test_manifest_tells_where_all_came_from(tmp_path: Path) -> None:
    data = config(
        tmp_path,
        train=write_tsv(tmp_path / "train", MANY),
        valid={"kind": "holdout", "fraction": 0.1},
        test={"demo": {"kind": "demo", "part": "test"}},
    )
    corpus = prepare_corpus(data)
    content = (tmp_path / "train").read_bytes()
    grammar = corpus.manifest["inputs"]["test.demo"][0]["grammar"]
    assert len(grammar) == 16
    assert corpus.manifest["inputs"] == {
        "train": [
            {
                "path": str(tmp_path / "train"),
                "bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
                "lines": 2000,
            }
        ],
        "valid": [{"kind": "holdout", "fraction": 0.1, "seed": 1}],
        "test.demo": [{"kind": "demo", "part": "test", "seed": 1, "grammar": grammar}],
    }
    for name, digest in corpus.manifest["files"].items():
        assert hashlib.sha256((corpus.path / name).read_bytes()).hexdigest() == digest
    assert {p.name for p in corpus.path.iterdir()} == {*corpus.manifest["files"], "manifest.json"}
    assert (corpus.manifest["src_lang"], corpus.manifest["tgt_lang"]) == ("de", "en")


def stamps(folder: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in [folder, *folder.iterdir()]}


def test_reused_while_unchanged_and_made_anew_when_one_byte_changes(tmp_path: Path) -> None:
    data = config(tmp_path, train=write_tsv(tmp_path / "train", MANY), valid=write_tsv(tmp_path / "valid", VALID))
    first = prepare_corpus(data)
    before = stamps(first.path)
    assert prepare_corpus(data) == first
    assert stamps(first.path) == before

    content = (tmp_path / "train").read_bytes()
    (tmp_path / "train").write_bytes(content.replace(b"number 7\n", b"number 8\n"))
    changed = prepare_corpus(data)
    assert changed.key != first.key
    assert changed.part("train").tgt(7) == "sentence number 8"
    assert stamps(first.path) == before

    (tmp_path / "train").write_bytes(content)
    os.utime(tmp_path / "train", ns=(1, 1))  # another time, the same content
    assert prepare_corpus(data) == first
    stricter = data.model_copy(update={"cleaning": data.cleaning.model_copy(update={"max_chars": 20})})
    assert prepare_corpus(stricter).key != first.key


def test_preparers_at_the_same_time(tmp_path: Path) -> None:
    data = config(tmp_path, train=write_tsv(tmp_path / "train", MANY), valid=write_tsv(tmp_path / "valid", VALID))
    start = threading.Barrier(4)
    found: list[Corpus | BaseException] = []

    def work() -> None:
        start.wait()
        try:
            found.append(prepare_corpus(data))
        except BaseException as error:
            found.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [prepare_corpus(data)] * 4
    assert {p.name for p in (tmp_path / "store").glob("*corpus*")} == {prepare_corpus(data).path.name}


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        (
            "train.arrow",
            b"ARROW1",
            "train.arrow: is damaged (its SHA-256 is not the recorded one); delete the folder {} and run again",
        ),
        ("train.arrow", None, "train.arrow: is missing; delete the folder {} and run again"),
        ("manifest.json", b"{", "manifest.json: is damaged; delete the folder {} and run again"),
    ],
)
def test_a_damaged_store(tmp_path: Path, name: str, spoil: bytes | None, message: str) -> None:
    data = config(tmp_path, train=write_tsv(tmp_path / "train", MANY), valid=write_tsv(tmp_path / "valid", VALID))
    path = prepare_corpus(data).path
    (path / name).unlink()
    if spoil is not None:
        (path / name).write_bytes(spoil)
    with pytest.raises(DataError) as error:
        prepare_corpus(data).part("train")
    assert str(error.value) == f"{path}/{message.format(path)}"


@pytest.mark.skipif(not MULTI30K.is_dir(), reason=f"{MULTI30K} is not there")
def test_multi30k(tmp_path: Path) -> None:
    def text(name: str) -> dict[str, Any]:
        return {"kind": "text", "src": f"{MULTI30K}/raw/{name}.en.gz", "tgt": f"{MULTI30K}/raw/{name}.de.gz"}

    corpus = prepare_corpus(
        config(tmp_path, train=text("train"), valid=text("val"), test={"2016": text("test_2016_flickr")})
    )
    assert corpus.manifest["read"] == 29_000
    assert corpus.manifest["sizes"]["valid"] == 1014
    assert corpus.manifest["sizes"]["test.2016"] == 1000
    assert len(corpus.part("train")) + sum(corpus.manifest["dropped"].values()) == 29_000
    train = corpus.part("train")
    assert len(set(train)) == len(train)
    assert not set(train) & set(corpus.part("valid"))
    assert np.mean([len(s) for s in train.sources()]) == pytest.approx(62, abs=5)
