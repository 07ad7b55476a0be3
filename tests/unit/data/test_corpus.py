"""Reading, cleaning, splitting, storing: what comes out for what goes in, and what is said of mistakes."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import threading
import time
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from nmt.config.data import DataConfig, TrainSource
from nmt.config.experiment import Config
from nmt.data import corpus as corpus_module
from nmt.data import demo, splits
from nmt.data.corpus import (
    BLOCK,
    RULES,
    ArrowWriter,
    Corpus,
    MappedArrow,
    TextPart,
    prepare_corpus,
)
from nmt.data.lines import read_lines
from nmt.data.sources import read_pairs
from nmt.errors import DataError
from nmt.storage.atomic import build_once

MULTI30K = Path(__file__).parents[3].parent / "shared/data/multi30k"


def source(**fields: Any) -> Any:
    return TypeAdapter(TrainSource).validate_python(fields)


def pairs(fields: dict[str, Any], src: str = "de", tgt: str = "en") -> list[tuple[str, str]]:
    return list(read_pairs(source(**fields), src, tgt))


def lines(data: bytes) -> list[str]:
    return list(read_lines(io.BytesIO(data), "x"))


# ------------------------------------------------------------------------------------------------------ lines


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a", ["a"]),
        (b"a\nb", ["a", "b"]),
        (b"a\nb\n", ["a", "b"]),
        (b"a\n\n", ["a", ""]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"a\r\r\nb\r", ["a\r", "b"]),
        (b"a\rb\n", ["a\rb"]),
        ("a\u2028b\x85c\x0bd\x0ce\x1cf\u2029g\n".encode(), ["a\u2028b\x85c\x0bd\x0ce\x1cf\u2029g"]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", ["a", "\ufeffb"]),
        (b"\xef\xbb\xbf", []),
        (b"\xef\xbb\xbf\n", [""]),
    ],
)
def test_a_line_ends_at_newline_only(data: bytes, expected: list[str]) -> None:
    assert lines(data) == expected


LINE = st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"])).filter(
    lambda text: not text.endswith("\r")
)


@settings(max_examples=200, deadline=None)
@given(st.lists(LINE), st.sampled_from(["\n", "\r\n"]))
def test_any_lines_come_back(texts: list[str], end: str) -> None:
    data = "".join(text + end for text in texts).encode()
    assert lines(b"\xef\xbb\xbf" + data) == texts


def test_a_line_of_a_million_characters(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x" * 1_000_000 + "\nb\n")
    assert [len(s) for s, _ in pairs({"kind": "text", "src": str(tmp_path / "a"), "tgt": str(tmp_path / "a")})] == [
        1_000_000,
        1,
    ]


# ---------------------------------------------------------------------------------------------------- sources


def test_text_several_files_plain_and_gz(tmp_path: Path) -> None:
    (tmp_path / "1.de").write_text("eins\nzwei\n")
    (tmp_path / "1.en").write_text("one\ntwo")
    with gzip.open(tmp_path / "2.de.gz", "wb") as out:
        out.write("drei\u2028\n".encode())
    (tmp_path / "2.en").write_bytes(b"three\r\n")
    fields = {
        "kind": "text",
        "src": [str(tmp_path / "1.de"), str(tmp_path / "2.de.gz")],
        "tgt": [str(tmp_path / "1.en"), str(tmp_path / "2.en")],
    }
    assert pairs(fields) == [("eins", "one"), ("zwei", "two"), ("drei\u2028", "three")]


def test_tsv_has_no_quoting(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('7\t"the\tdas "\n8\t a\tb\n')
    found = pairs({"kind": "tsv", "path": str(tmp_path / "a.tsv"), "src_column": 2, "tgt_column": 1})
    assert found == [('das "', '"the'), ("b", " a")]


def test_jsonl_dotted_keys_blank_lines_and_newlines(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"id": 1, "t": {"de": "a\\nb", "en": "c\\r\\nd"}}\n\n{"t": {"en": "\\u00e4", "de": "\\ud83d\\ude00"}}\n'
    )
    found = pairs({"kind": "jsonl", "path": str(tmp_path / "a.jsonl"), "src_key": "t.de", "tgt_key": "t.en"})
    assert found == [("a b", "c d"), ("😀", "ä")]


def test_jsonl_keys_default_to_the_languages(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"en": "one", "de": "eins"}')
    assert pairs({"kind": "jsonl", "path": str(tmp_path / "a.jsonl")}) == [("eins", "one")]


def test_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "generate", lambda seed: {"test": [demo.Pair(f"a{seed}", "b")], "train": []})
    assert pairs({"kind": "demo", "part": "test"}) == [("a1", "b")]
    assert pairs({"kind": "demo", "part": "test", "seed": 2}) == [("a2", "b")]


ROWS = [("eins", "one"), ("zwei", "two"), ("drei", "three")]


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def hub_folder(path: Path, form: str, nested: bool) -> Path:
    path.mkdir()
    flat = [{"id": i, "de": de, "en": en} for i, (de, en) in enumerate(ROWS)]
    rows = [{"id": r["id"], "translation": {"de": r["de"], "en": r["en"]}} for r in flat] if nested else flat
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path / "train.parquet")
    elif form == "json":
        (path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        (path / "train.csv").write_text("id,de,en\n" + "".join(f"{r['id']},{r['de']},{r['en']}\n" for r in flat))
    return path


@pytest.mark.usefixtures("hub_cache")
@pytest.mark.parametrize(("form", "nested"), [("parquet", True), ("parquet", False), ("json", True), ("csv", False)])
def test_hub_reads_local_folders_in_both_shapes(tmp_path: Path, form: str, nested: bool) -> None:
    folder = hub_folder(tmp_path / "set", form, nested)
    assert pairs({"kind": "hub", "path": str(folder)}) == ROWS
    assert pairs({"kind": "hub", "path": str(folder), "split": "train[:2]", "src_column": "en"}) == [
        ("one", "one"),
        ("two", "two"),
    ]


@pytest.mark.usefixtures("hub_cache")
def test_hub_null_is_an_empty_sentence(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    pq.write_table(pa.table({"de": ["a", None], "en": ["b\nc", "d"]}), tmp_path / "set/train.parquet")
    assert pairs({"kind": "hub", "path": str(tmp_path / "set")}) == [("a", "b c"), ("", "d")]


@pytest.mark.usefixtures("hub_cache")
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"src_column": "fr"},
            "{set}: no column 'fr'; there is: id, translation (de, en); set src_column and tgt_column",
        ),
        ({"src_column": "id"}, "{set}: column 'id' holds int64, not text; set src_column and tgt_column"),
        (
            {"split": "test"},
            "{set}: cannot be loaded: Unknown split \"test\". Should be one of ['train']; "
            "check path, name, split and revision",
        ),
        (
            {"name": "de-en"},
            "{set}: cannot be loaded: BuilderConfig 'de-en' not found. Available: ['default']; "
            "check path, name, split and revision",
        ),
        (
            {"path": "/no/such"},
            "/no/such: cannot be loaded: Couldn't find any data file at /no/such; "
            "name a folder with parquet, JSON or CSV files, or a hub id",
        ),
    ],
)
def test_hub_mistakes(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    folder = hub_folder(tmp_path / "set", "parquet", nested=True)
    with pytest.raises(DataError) as error:
        pairs({"kind": "hub", "path": str(folder), **fields})
    assert str(error.value) == message.format(set=folder)


@pytest.mark.usefixtures("hub_cache")
def test_hub_file_that_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/train.json").write_text('{"a": "x"\n{bad')
    with pytest.raises(DataError, match=r"cannot be loaded: .*JSON.*; check path, name") as error:
        pairs({"kind": "hub", "path": str(tmp_path / "set")})
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("hub_cache")
def test_hub_out_of_reach(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^no/such: cannot be loaded: .*; connect to the network once") as error:
        pairs({"kind": "hub", "path": "no/such"})
    assert "\n" not in str(error.value)


# --------------------------------------------------------------------------------------------------- mistakes

NUMBERS = b"".join(b"line %d\n" % i for i in range(20_000))
GZ = gzip.compress(NUMBERS, mtime=0)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "a.txt",
            b"ok\n\xc3\xa4b\xffc\n",
            "a.txt:2: not valid UTF-8 (byte 0xff at column 3); correct that line, or drop all such bytes: "
            "iconv -c -f UTF-8 -t UTF-8 < a.txt > a.txt.utf8",
        ),
        (
            "a.txt",
            "hallo".encode("utf-16"),
            "a.txt: is text in UTF-16; convert it to UTF-8: iconv -f UTF-16 -t UTF-8 < a.txt > a.txt.utf8",
        ),
        ("a.txt", b"a\nb\0c\n", "a.txt:2: holds a NUL character; is it a text file, in UTF-8?"),
        (
            "a.txt",
            b"ok\xed\xa0\x80\n",
            "a.txt:1: not valid UTF-8 (byte 0xed at column 3); convert the file to UTF-8; find its encoding "
            "(iconv -l lists them all): iconv -f ENCODING -t UTF-8 < a.txt > a.txt.utf8",
        ),
        ("a.gz", b"plain text\n", "a.gz: not a gzip file, in spite of its name; rename or compress it"),
        ("a.gz", GZ[:-4], "a.gz: gzip file cut off after line 20000; copy it again"),
        (
            "a.gz",
            GZ[:-8] + b"\0\0\0\0" + GZ[-4:],
            "a.gz: damaged gzip file after line 20000 "
            f"(CRC check failed 0x0 != {zlib.crc32(NUMBERS):#x}); copy it again",
        ),
        (
            "a.gz",
            GZ[:10] + b"\xff" * 100 + GZ[110:],
            "a.gz: damaged gzip file after line 0 "
            "(Error -3 while decompressing data: invalid block type); copy it again",
        ),
    ],
)
def test_unreadable_text(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError) as error:
        pairs({"kind": "text", "src": str(tmp_path / name), "tgt": str(tmp_path / name)})
    assert str(error.value).replace(f"{tmp_path}/", "") == message


def test_missing_files(tmp_path: Path) -> None:
    (tmp_path / "b.gz").write_bytes(GZ)
    (tmp_path / "c").touch()
    for name, message in [
        ("a", "a: no such file; check the path"),
        ("b", "b: no such file; did you mean b.gz?"),
        ("c.gz", "c.gz: no such file; did you mean c?"),
        ("", ": is a folder; name a file in it"),
    ]:
        with pytest.raises(DataError) as error:
            pairs({"kind": "tsv", "path": f"{tmp_path}/{name}"})
        assert str(error.value).replace(f"{tmp_path}/", "") == message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    (tmp_path / "a").touch(0o000)
    with pytest.raises(DataError, match=r"/a: no permission to read it; check its owner and mode$"):
        pairs({"kind": "tsv", "path": f"{tmp_path}/a"})


@pytest.mark.parametrize(("short", "long"), [("src", "tgt"), ("tgt", "src")])
def test_mismatched_counts(tmp_path: Path, short: str, long: str) -> None:
    (tmp_path / short).write_text("a\n" * 10)
    (tmp_path / long).write_text("a\n" * 12)
    with pytest.raises(DataError) as error:
        pairs({"kind": "text", "src": f"{tmp_path}/src", "tgt": f"{tmp_path}/tgt"})
    counts = {short: 10, long: 12}
    assert str(error.value).replace(f"{tmp_path}/", "") == (
        f"src has {counts['src']} lines but tgt has {counts['tgt']}; line n of one must translate line n of the other"
    )


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        (
            "tsv",
            "a\tb\nc\n",
            "f:2: has 1 tab-separated column(s), the lines before it 2; correct it (a tab in a sentence?) or drop such "
            "lines: awk -F '\\t' 'NF == 2' f > f.clean",
        ),
        (
            "jsonl",
            '{"de": "a", "en": "b"}\n{"de": "a" "en"}\n',
            "f:2: not valid JSON: Expecting ',' delimiter (column 12)",
        ),
        ("jsonl", "[" * 100_000, "f:1: not valid JSON: nested too deeply"),
        (
            "jsonl",
            '{"de": "a", "x": {"en": 1}}',
            "f:1: no key 'en'; there is: de, x.en; set src_key and tgt_key",
        ),
        (
            "jsonl",
            '["a"]',
            "f:1: is an array, not an object with keys; JSON lines have one object on each line, converted by: "
            "jq -c '.[]' f > f.jsonl",
        ),
        (
            "jsonl",
            '{"de": "a", "en": null}',
            "f:1: key 'en' holds null, which is not text; write \"\" for an empty sentence",
        ),
        (
            "jsonl",
            '{"de": 3, "en": "b"}',
            "f:1: key 'de' holds 3, which is not text; write each sentence in quotation marks",
        ),
        ("jsonl", '{"de": "a\\u0000", "en": "b"}', "f:1: key 'de' holds a NUL character; remove it"),
        (
            "jsonl",
            '{"de": "a", "en": "\\ud800"}',
            "f:1: key 'en' holds \\ud800, half of a surrogate pair and no character; remove it",
        ),
    ],
)
def test_malformed_rows(tmp_path: Path, kind: str, data: str, message: str) -> None:
    (tmp_path / "f").write_text(data)
    with pytest.raises(DataError) as error:
        pairs({"kind": kind, "path": f"{tmp_path}/f"})
    assert str(error.value).replace(f"{tmp_path}/", "") == message


# ---------------------------------------------------------------------------------------------------- prepare


def write_tsv(path: Path, rows: list[tuple[str, str]]) -> dict[str, Any]:
    path.write_text("".join(f"{src}\t{tgt}\n" for src, tgt in rows), encoding="utf-8")
    return {"kind": "tsv", "path": str(path)}


def config(tmp_path: Path, **fields: Any) -> DataConfig:
    return DataConfig.model_validate({"src_lang": "de", "tgt_lang": "en", "store": str(tmp_path / "store"), **fields})


TRAIN = [
    ("guten tag", "good day"),
    ("", "empty"),
    ("leer", " \u3000"),
    ("x" * 31, "y" * 31),
    ("x" * 20, "y"),  # 20 > 1.9 * 10
    ("x" * 19, "y"),  # 19 = 1.9 * 10
    ("guten tag", "good day"),
    ("guten tag ", " good day"),  # the same but for white space
    ("guten tag", "hello"),
    ("auch im test", "in the test too"),
    ("auch im test", "in the test too"),
    ("auch in valid", "in valid too"),
    ("auch in valid", "another translation"),
]
VALID = [("auch in valid", "in valid too"), ("", ""), ("nur hier", "x" * 500)]
TEST = [("auch im test", "in the test too")]
CLEANING = {"max_chars": 30, "max_ratio": 1.9}


def test_each_rule_is_counted_and_held_parts_stay_as_they_are(tmp_path: Path) -> None:
    data = config(
        tmp_path,
        train=write_tsv(tmp_path / "train", TRAIN),
        valid=write_tsv(tmp_path / "valid", VALID),
        test={"news": write_tsv(tmp_path / "news", TEST)},
        cleaning=CLEANING,
    )
    corpus = prepare_corpus(data)
    assert corpus.manifest["read"] == 13
    counts = {"empty": 2, "too_long": 1, "ratio": 1, "duplicate": 3, "overlap": 2, "overlap_source": 1}
    assert {rule: count for rule, count in corpus.manifest["dropped"].items() if count} == counts
    assert list(corpus.part("train")) == [TRAIN[i] for i in (0, 5, 8)]
    assert list(corpus.part("valid")) == VALID
    assert list(corpus.part("test.news")) == TEST
    assert corpus.manifest["sizes"] == {"train": 3, "valid": 3, "test.news": 1}
    assert corpus.tests == ["news"]
    assert corpus.summary() == "\n".join(
        [
            f"corpus {corpus.path}, de to en",
            "  train                3 pairs of 13 read",
            "  valid                3 pairs",
            "  test.news            1 pairs",
            *(f"  dropped    {count:>11} {RULES[rule]}" for rule, count in counts.items()),
        ]
    )


def test_rules_can_be_switched_off(tmp_path: Path) -> None:
    cleaning = {**CLEANING, "drop_duplicates": False, "drop_overlap": False}
    data = config(
        tmp_path,
        train=write_tsv(tmp_path / "train", TRAIN),
        valid=write_tsv(tmp_path / "valid", VALID),
        cleaning=cleaning,
    )
    corpus = prepare_corpus(data)
    assert list(corpus.part("train")) == [TRAIN[i] for i in (0, 5, 6, 7, 8, 9, 10, 11, 12)]
    counts = {"empty": 2, "too_long": 1, "ratio": 1}
    assert {rule: count for rule, count in corpus.manifest["dropped"].items() if count} == counts


def test_duplicates_and_overlap_are_found_across_blocks(tmp_path: Path) -> None:
    """More than a block of pairs, many of them equal: as a set in memory would have it."""
    numbers = np.random.default_rng(0).integers(0, BLOCK // 2, BLOCK + 1000).tolist()
    valid = [(f"s {i}", f"t {i}") for i in range(0, BLOCK // 2, 97)]
    rows = [(f"s {i}", f"t {i}") for i in numbers]
    data = config(tmp_path, train=write_tsv(tmp_path / "t", rows), valid=write_tsv(tmp_path / "v", valid))
    corpus = prepare_corpus(data)
    distinct = list(dict.fromkeys(rows))
    expected = [pair for pair in distinct if pair not in set(valid)]
    assert list(corpus.part("train")) == expected
    assert corpus.manifest["dropped"]["duplicate"] == len(rows) - len(distinct)
    assert corpus.manifest["dropped"]["overlap"] == len(distinct) - len(expected)


MANY = [(f"satz nummer {i}", f"sentence number {i}") for i in range(2000)]


def holdout_config(tmp_path: Path, rows: list[tuple[str, str]], seed: int = 1, **cleaning: Any) -> DataConfig:
    return config(
        tmp_path,
        train=write_tsv(tmp_path / "train", rows),
        valid={"kind": "holdout", "fraction": 0.1, "seed": seed},
        test={
            "a": {"kind": "holdout", "fraction": 0.2, "seed": seed},
            "b": {"kind": "holdout", "fraction": 0.1},
        },
        cleaning=cleaning,
    )


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


def test_a_common_sentence_of_a_test_set_stays_in_training_and_is_counted(tmp_path: Path) -> None:
    data = config(
        tmp_path,
        train=write_tsv(tmp_path / "train", [*MANY, *((f"frage {i}", "yes") for i in range(120))]),
        valid=write_tsv(
            tmp_path / "valid", [("wirklich?", "Yes."), ("Satz Nummer 1!", "x"), ("y", "Sentence, number 2")]
        ),
    )
    corpus = prepare_corpus(data)
    dropped = {rule: count for rule, count in corpus.manifest["dropped"].items() if count}
    assert dropped == {"overlap_source": 1, "overlap_target": 1}
    assert corpus.manifest["shared"] == 1
    assert corpus.summary().splitlines()[-1] == (
        "  shared             1 validation and test pairs share a very common sentence with training pairs"
    )


def printed(summary: str) -> tuple[dict[str, int], int, int]:
    """Of a summary: the pairs of each part, those read, and the sum of those dropped."""
    rows = [line.split() for line in summary.splitlines()[1:]]
    sizes = {row[0]: int(row[1].replace(",", "")) for row in rows if row[2].startswith("pairs")}
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


def test_holdouts_are_cleaned(tmp_path: Path) -> None:
    corpus = prepare_corpus(holdout_config(tmp_path, MANY + [("", f"n {i}") for i in range(500)]))
    assert all(src and tgt for name in ("valid", "test.a") for src, tgt in corpus.part(name))
    assert corpus.manifest["dropped"]["empty"] == 500


@pytest.mark.parametrize(
    ("train", "fields", "message"),
    [
        ([], {}, "data.train: {}/train holds no sentence pairs"),
        (
            [("", "a"), ("b", "x" * 50), ("b", "x" * 2000)],
            {},
            "data.train: cleaning leaves none of its 3 pairs (1 empty, 1 too_long, 1 ratio); see data.cleaning",
        ),
        ([("a", "b")], {"valid": []}, "data.valid: {}/valid holds no sentence pairs"),
        ([("a", "b")], {"test": []}, "data.test.t: {}/test holds no sentence pairs"),
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
            "data.train: the holdout parts take all of its 1 pairs, all that cleaning leaves of 2 (1 duplicate); "
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
    data = config(tmp_path, train=write_tsv(tmp_path / "t", TRAIN), valid={"kind": "tsv", "path": f"{tmp_path}/no"})
    with pytest.raises(DataError, match=r"/no: no such file; check the path$"):
        prepare_corpus(data)
    assert not (tmp_path / "store").exists()


def test_the_store_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "store").touch()
    then = 1_000_000_000
    data = config(tmp_path, train=write_tsv(tmp_path / "t", TRAIN), valid=write_tsv(tmp_path / "v", VALID))
    os.utime(tmp_path / "t", (then, then))  # old enough for its hash to be remembered, which fails too
    with pytest.raises(DataError, match=r"corpus-\w+: cannot be written: .*; check space and permissions$"):
        prepare_corpus(data)


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


# -------------------------------------------------------------------------------------------------- the store


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


def test_unchanged_files_are_not_hashed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = config(tmp_path, train=write_tsv(tmp_path / "train", MANY), valid=write_tsv(tmp_path / "valid", VALID))
    for name in ("train", "valid"):
        os.utime(tmp_path / name, (1e9, 1e9))
    later = time.time_ns() + 3 * 10**9  # files as young as the clock's grain are not remembered
    monkeypatch.setattr("nmt.data.provenance.time", SimpleNamespace(time_ns=lambda: later))
    first = prepare_corpus(data)
    assert prepare_corpus(data) == first  # its own files are remembered from the second time on

    def refuse(path: Path) -> str:
        raise RuntimeError(f"hashed {path} again")

    monkeypatch.setattr("nmt.data.provenance.sha256", refuse)
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
    monkeypatch.setattr("nmt.data.provenance.time", SimpleNamespace(time_ns=lambda: later))
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
    content, read = (tmp_path / "train").read_bytes(), corpus_module.read_pairs
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

    monkeypatch.setattr(corpus_module, "read_pairs", changing)
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


def test_the_key_is_of_content_not_of_places(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    found = [
        prepare_corpus(
            config(tmp_path, train=write_tsv(folder / train, MANY), valid=write_tsv(folder / "valid", VALID))
        )
        for folder, train in [(tmp_path, "train"), (tmp_path / "other", "text.tsv")]
    ]
    assert found[0] == found[1]
    stated = config(
        tmp_path,
        train=write_tsv(tmp_path / "t", MANY),
        valid=write_tsv(tmp_path / "valid", VALID),
        cleaning={"apart": "sentences", "max_chars": 1000},
    )
    assert prepare_corpus(stated) == found[0]
    swapped = config(
        tmp_path,
        train={**write_tsv(tmp_path / "t", MANY), "src_column": 1, "tgt_column": 0},
        valid=write_tsv(tmp_path / "valid", VALID),
    )
    assert prepare_corpus(swapped).key != found[0].key


def first_config(tmp_path: Path, **fields: Any) -> DataConfig:
    """A configuration with the defaults of the first version."""
    raw = {"name": "x", "defaults": 1, "model": {"type": "rnn"}, "train": {"max_steps": 1}}
    return Config.model_validate({**raw, "data": {**fields, "store": str(tmp_path / "store")}}).data


@pytest.mark.usefixtures("hub_cache")
@pytest.mark.parametrize("kind", ["tsv", "jsonl", "hub"])
def test_an_entry_of_the_first_version_is_found_by_its_name_and_where_its_files_moved(
    tmp_path: Path, kind: str
) -> None:
    """Its name was a hash of every setting and of every input, as written out here."""
    folder = hub_folder(tmp_path / "set", "json", nested=False)
    file = str(folder / "train.jsonl")
    train: dict[str, Any]
    if kind == "tsv":
        train = {**write_tsv(tmp_path / "train", MANY), "src_column": 1, "tgt_column": 0}
        file = train["path"]
    elif kind == "jsonl":
        train = {"kind": "jsonl", "path": file, "src_key": "de", "tgt_key": None}
    else:
        train = {"kind": "hub", "path": str(folder), "name": None, "split": "train", "revision": None}
        train |= {"src_column": None, "tgt_column": "en"}
    valid = {"kind": "holdout", "fraction": 0.4, "seed": 6}
    given = {"src_lang": "de", "tgt_lang": "en", "train": train, "valid": valid, "test": {}}
    cleaning = {"max_chars": 1000, "max_ratio": 4.0, "max_tokens": 256, "drop_duplicates": True, "drop_overlap": True}

    def entry(path: str) -> dict[str, Any]:
        content = Path(path).read_bytes()
        return {"path": path, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    inputs = {"train": [*([train] if kind == "hub" else []), entry(file)], "valid": [valid]}
    name = json.dumps([{**given, "cleaning": cleaning}, inputs, 1], sort_keys=True, ensure_ascii=False)
    key = hashlib.sha256(name.encode()).hexdigest()[:16]

    data = first_config(tmp_path, **given)
    made = prepare_corpus(data).path
    manifest = json.loads((made / "manifest.json").read_text())
    (made / "manifest.json").write_text(json.dumps({**manifest, "key": key}))
    made.rename(made.with_name(f"corpus-{key}"))
    assert prepare_corpus(data).path.name == f"corpus-{key}"
    assert prepare_corpus(config(tmp_path, **given)).path.name != f"corpus-{key}"  # the rules of today

    (tmp_path / "moved").mkdir()
    Path(file).rename(tmp_path / "moved" / Path(file).name)
    moved = {**train, "path": str(tmp_path / "moved" / ("" if kind == "hub" else Path(file).name))}
    assert prepare_corpus(first_config(tmp_path, **{**given, "train": moved})).path.name == f"corpus-{key}"


@pytest.mark.usefixtures("hub_cache")
def test_a_hub_folder_that_names_a_file_elsewhere(tmp_path: Path) -> None:
    folder = hub_folder(tmp_path / "set", "json", nested=False)
    (folder / "train.jsonl").rename(tmp_path / "outside.jsonl")
    (folder / "README.md").write_text("---\nconfigs:\n- config_name: default\n  data_files: ../outside.jsonl\n---\n")
    data = config(tmp_path, train={"kind": "hub", "path": str(folder)}, valid=write_tsv(tmp_path / "valid", VALID))
    first = prepare_corpus(data)
    paths = [os.path.realpath(entry["path"]) for entry in first.manifest["inputs"]["train"][1:]]
    assert paths == [str(folder / "README.md"), str(tmp_path / "outside.jsonl")]
    (tmp_path / "outside.jsonl").write_text((tmp_path / "outside.jsonl").read_text().replace("three", "thrice"))
    assert prepare_corpus(data).part("train")[2] == ("drei", "thrice")


@pytest.mark.usefixtures("hub_cache")
def test_a_local_hub_folder_is_known_by_its_content(tmp_path: Path) -> None:
    folder = hub_folder(tmp_path / "set", "json", nested=False)
    data = config(tmp_path, train={"kind": "hub", "path": str(folder)}, valid=write_tsv(tmp_path / "valid", VALID))
    first = prepare_corpus(data)
    assert list(first.part("train")) == ROWS
    entries = first.manifest["inputs"]["train"]
    assert entries[0]["path"] == str(folder)
    assert entries[0]["split"] == "train"
    assert entries[1]["path"] == str(folder / "train.jsonl")
    text = (folder / "train.jsonl").read_text().replace("three", "thrice")
    (folder / "train.jsonl").write_text(text)
    os.utime(folder / "train.jsonl", (2e9, 2e9))
    assert prepare_corpus(data).part("train")[2] == ("drei", "thrice")


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


# -------------------------------------------------------------------------------------------- parts, writing


def test_rows_over_several_blocks(tmp_path: Path) -> None:
    schema = pa.schema([("src", pa.large_string()), ("tgt", pa.large_string())])
    rows = [(f"s{i}", f"t{i}") for i in range(2 * BLOCK + 5)]
    with ArrowWriter(tmp_path / "x.arrow", schema) as out:
        for start, end in [(0, 0), (0, 3), (3, BLOCK + 7), (BLOCK + 7, 2 * BLOCK), (2 * BLOCK, len(rows))]:
            src, tgt = (pa.array([row[side] for row in rows[start:end]], pa.large_string()) for side in (0, 1))
            out.write(pa.record_batch([src, tgt], schema=schema))
    part = TextPart(tmp_path / "x.arrow")
    assert [batch.num_rows for batch in part.batches] == [BLOCK, BLOCK, 5]
    assert len(part) == len(rows)
    for i in (0, BLOCK - 1, BLOCK, 2 * BLOCK + 4, -1):
        assert part[i] == rows[i] == (part.src(i), part.tgt(i))
    assert part[BLOCK - 2 : BLOCK + 2] == rows[BLOCK - 2 : BLOCK + 2]
    assert list(part) == list(part.iter_pairs()) == rows
    assert part.sources()[-1] == "s131076"
    assert part.targets()[BLOCK] == "t65536"
    for i in (len(rows), -len(rows) - 1):
        with pytest.raises(IndexError):
            part[i]


def test_unknown_part(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, {"sizes": {"train": 1, "valid": 1}})
    with pytest.raises(DataError, match=r": no part 'test.x'; it has: train, valid$"):
        corpus.part("test.x")


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


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="what a process has mapped is told by Linux only")
@pytest.mark.parametrize("small", [True, False])
def test_pages_read_leave_memory_unless_the_file_is_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: bool
) -> None:
    path = tmp_path / "x.arrow"
    with ArrowWriter(path, pa.schema([("n", pa.int64())])) as out:
        out.write(pa.record_batch([pa.array(range(BLOCK))], names=["n"]))
    monkeypatch.setattr("nmt.data.corpus.SMALL_FILE", path.stat().st_size if small else 0)

    def resident() -> int:
        """KiB of the file in memory."""
        about = Path("/proc/self/smaps").read_text().split(str(path))[1]
        return int(about.split("Rss:")[1].split()[0])

    file = MappedArrow(path)
    numbers = file.batches[0].column(0).to_numpy()
    assert numbers.sum() == BLOCK * (BLOCK - 1) // 2
    assert resident() >= BLOCK * 8 // 1024
    file.release()
    assert (resident() > 0) == small
    assert numbers.sum() == BLOCK * (BLOCK - 1) // 2  # still there to be read
