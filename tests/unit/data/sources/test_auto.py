"""The kind that a name tells, and sources that are only a name."""

from __future__ import annotations

import logging
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from nmt.config.compare import config_diff, flatten
from nmt.config.data import DataConfig
from nmt.config.experiment import Config, json_schema
from nmt.config.sources import KIND_NAMES
from nmt.data.corpus import Corpus
from nmt.data.prepare import prepare_corpus
from tests.unit.data.corpora import MANY, config, message, pairs

PAIR = [("one", "eins")]


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(exist_ok=True, parents=True)
    Path(path).write_text(text, encoding="utf-8")


@pytest.fixture
def folder(here: Path) -> Path:
    for name, text in {
        "d/a.en": "one\n", "d/a.de": "eins\n", "d/b.EN": "two\n", "d/b.DE": "zwei\n", "o/c.en": "no partner\n",
        "d/a.fr": "un\n", "d/.a.en": "hidden", "e/x.src": "one\n", "e/x.tgt": "eins\n", 
        "f/a.tsv": "en\tde\none\teins\n", "h/a.dat": "one\teins\n",
        "g/a.jsonl": '{"en": "one", "de": "eins"}\n', "i/a.dat": '{"en": "one", "de": "eins"}\n',
        "j/1.tmx": "<tmx/>", "j/2.zip": "", "k/a.txt": "one\n", "d/README": "x",
        "l/a.en.txt": "one\n", "l/a.de.txt": "eins\n",
        "o/a.en": "one\n", "o/a.de": "eins\n", "p/a.src": "one\n", "p/b.tgt": "eins\n",
    }.items():  # fmt: skip
        write(name, text)
    return here


@pytest.mark.parametrize(
    ("path", "kind", "expected"),
    [
        ("d", "text (d/a.en and d/a.de)", [*PAIR, ("two", "zwei")]),
        ("d/", "text (d/a.en and d/a.de)", [*PAIR, ("two", "zwei")]),
        ("d/a", "text (d/a.en and d/a.de)", PAIR),
        ("d/a.de", "text (d/a.en and d/a.de)", PAIR),
        ("d/b.EN", "text (d/b.EN and d/b.DE)", [("two", "zwei")]),
        ("e", "text (e/x.src and e/x.tgt)", PAIR),
        ("l/a", "text (l/a.en.txt and l/a.de.txt)", PAIR),
        ("l/a.en.txt", "text (l/a.en.txt and l/a.de.txt)", PAIR),
        ("f", "tsv (f/a.tsv)", [("en", "de"), *PAIR]),
        ("f/a.tsv", "tsv (f/a.tsv)", PAIR),
        ("g/a.jsonl", "jsonl (g/a.jsonl)", PAIR),
        ("g", "hub (g)", PAIR),
        ("h/a.dat", "tsv (h/a.dat)", PAIR),
        ("i/a.dat", "jsonl (i/a.dat)", PAIR),
    ],
)
def test_the_kind_of_a_name(
    folder: Path, caplog: pytest.LogCaptureFixture, path: str, kind: str, expected: list[tuple[str, str]]
) -> None:
    with caplog.at_level(logging.INFO):
        assert pairs(kind="auto", path=path, **({"header": False} if path == "f" else {})) == expected
    assert f"{path}: read as kind: {kind}" in caplog.text


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"path": "o"}, "o: o/c.en has no partner that ends in .de; add it, move the file elsewhere, or name the "
         "pairs: {kind: text, src: [FILES], tgt: [FILES]}"),
        ({"path": "p"}, "p: p/a.src has no partner that ends in .tgt; add it, move the file elsewhere, or name the "
         "pairs: {kind: text, src: [FILES], tgt: [FILES]}"),
        ({"path": "o/c"}, "o/c: no such file; check the path"),
        ({"path": "d/c"}, "d/c: no such file; check the path"),
        ({"path": "missing.tmx"}, "missing.tmx: no such file; check the path"),
        ({"path": "d/missing"}, "d/missing: no such file; check the path"),
        ({"path": "j"}, "j: contains files of several kinds; name one of them, such as j/1.tmx, j/2.zip"),
        ({"path": "k/a.txt"}, "k/a.txt: its ending does not tell its kind, and no file ends in .en or .de beside it; "
         "set kind, or name two files of text: {kind: text, src: FILE, tgt: FILE}"),
        ({"path": "g/a.jsonl", "header": True}, "g/a.jsonl: is read as kind: jsonl, which has no header; remove "
         "header, or set another kind"),
        ({"path": "g/a.jsonl", "src_column": 1}, "g/a.jsonl: is read as kind: jsonl, whose columns have names and no "
         "numbers; set src_column to a name"),
        ({"path": "g/a.jsonl", "src_column": "fr"}, "g/a.jsonl:1: no key 'fr'; there is: en, de; set src_key and "
         "tgt_key"),
        ({"path": "f/a.tsv", "split": "train"}, "f/a.tsv: is read as kind: tsv, which has no split; remove split, or "
         "set another kind"),
        ({"path": "owner/name"}, "owner/name: cannot be loaded: "),
    ],
)  # fmt: skip
def test_names_without_a_kind_and_settings_of_another(folder: Path, fields: dict[str, Any], said: str) -> None:
    found = message(kind="auto", **fields)
    assert found.startswith(said) if said.endswith(" ") else found == said


def test_links_in_a_folder(folder: Path) -> None:
    (folder / "d/self").symlink_to("self")
    (folder / "d/gone").symlink_to("nowhere")
    (folder / "d/c.en").symlink_to(folder / "d/a.en")
    (folder / "d/c.de").symlink_to(folder / "d/a.de")
    assert pairs(kind="auto", path="d") == [*PAIR, ("two", "zwei"), *PAIR]


def test_pairs_on_one_line(here: Path) -> None:
    write("a.txt", "one ||| eins\ntwo ||| zwei\n")
    command = r"sed 's/ ||| /\t/g' < a.txt > a.txt.tsv"
    assert message(kind="auto", path="a.txt") == (
        f"a.txt: its sentences are separated by |||; convert it to tab-separated text: {command}"
    )
    subprocess.run(["sh", "-c", command], check=True)
    assert pairs(kind="auto", path="a.txt.tsv") == [*PAIR, ("two", "zwei")]


def test_parts_that_are_read_together_are_told(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, text in (("train", "one\teins\n"), ("test", "two\tzwei\n")):
        write(f"d/{name}.tsv", f"English\tGerman\n{text}")
    assert pairs(kind="auto", path="d") == [("two", "zwei"), ("one", "eins")]
    assert "d: d/test.tsv is for validation or test by its name, and is read as well" in caplog.text
    caplog.clear()
    Path("d/train.tsv").rename("d/testimony.tsv")
    pairs(kind="auto", path="d")
    assert "by its name" not in caplog.text


# ---------------------------------------------------------------------------------------------------------- preparing


def prepared(train: Any, **fields: Any) -> Corpus:
    valid = {"kind": "holdout", "fraction": 0.2}
    return prepare_corpus(config(Path(), train=train, valid=valid, cleaning={"apart": "pairs"}, **fields))


def test_the_kind_is_part_of_the_name_of_a_corpus(here: Path) -> None:
    """The same bytes have quotation marks in one kind, and not in the other."""
    rows = "".join(f'"{src}"\t"{tgt}"\n' for src, tgt in MANY[:50])
    for name in ("a.tsv", "b.csv", "c.tsv"):
        write(name, rows)
    tsv, other = prepared("a.tsv"), prepared("b.csv")
    texts = [corpus.part("train").sources() + corpus.part("valid").sources() for corpus in (tsv, other)]
    assert {text.strip('"') for text in texts[0]} == {*texts[1]} != {*texts[0]}
    assert tsv.key != other.key
    assert prepared("c.tsv") == tsv  # wherever the file is
    assert prepared({"kind": "auto", "path": "c.tsv"}) == tsv
    assert tsv.manifest["inputs"]["train"][0]["kind"] == "tsv"
    assert len(tsv.part("valid")) + len(tsv.part("train")) == 50


def test_skipped_rows_are_counted_in_the_manifest(here: Path) -> None:
    write("a.tsv", "".join(f"{src}\t{tgt}\n" + "odd\n" * (n % 10 == 5) for n, (src, tgt) in enumerate(MANY[:100])))
    corpus = prepared({"kind": "tsv", "path": "a.tsv", "on_bad_row": "skip"})
    assert corpus.manifest["read"] == 100
    assert corpus.manifest["inputs"]["train"][0]["skipped_rows"] == 10
    assert "10 rows skipped that cannot be read" in corpus.summary()
    write("b.tsv", Path("a.tsv").read_text().replace("odd\n", ""))
    clean = prepared({"kind": "tsv", "path": "b.tsv"})
    assert "skipped" not in clean.summary()
    assert "skipped_rows" not in clean.manifest["inputs"]["train"][0]


# ------------------------------------------------------------------------------------------------------- configuration


def of(data: dict[str, Any]) -> Config:
    return Config.model_validate({"name": "x", "model": {"type": "rnn"}, "train": {"max_steps": 1}, "data": data})


def test_a_name_means_kind_auto() -> None:
    named = of({"train": "a.tmx", "valid": "b.csv", "test": {"c": "owner/name"}})
    written = {"kind": "auto", "path": "a.tmx"}
    assert named == of({"train": written, "valid": {"kind": "auto", "path": "b.csv"}, "test": {"c": "owner/name"}})
    assert named.data.test["c"].model_dump()["path"] == "owner/name"
    stored = flatten(of({"train": "elsewhere.tmx", "valid": "b.csv"}).model_dump(mode="json", exclude={"name"}))
    assert config_diff(stored, of({"train": "a.tmx", "valid": "b.csv"})) == ""  # a run knows its files by content


def test_the_examples_of_the_documentation_are_valid() -> None:
    text = (Path(__file__).parents[4] / "docs/data.md").read_text(encoding="utf-8")
    examples = re.findall(r"^(train|valid): (.+)$", text, re.MULTILINE)
    kinds = {DataConfig.model_validate({"train": "a", "valid": "b", part: yaml.safe_load(example)}).model_dump()[part]
             ["kind"] for part, example in examples}  # fmt: skip
    assert kinds == {*KIND_NAMES} - {"demo"}


def test_the_schema_of_editors_takes_a_name() -> None:
    schema = json_schema()["$defs"]["DataConfig"]["properties"]
    for node in (schema["train"], schema["valid"], next(iter(schema["test"]["patternProperties"].values()))):
        name, *lists, union = node["anyOf"]
        assert [one["type"] for one in lists] == ["array"] * (node is schema["train"])
        assert name["type"] == "string"
        assert "tmx" in union["discriminator"]["mapping"]
