"""Names of corpora in the store."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from nmt.config.data import DataConfig
from nmt.config.experiment import Config
from nmt.data import provenance
from nmt.data.prepare import prepare_corpus
from tests.unit.data.corpora import MANY, VALID, config, hub_folder, write_tsv


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


@pytest.mark.parametrize(("kind", "name"), [("tsv", "t.tsv"), ("csv", "t.csv"), ("auto", "t.csv"), ("text", "")])
def test_another_way_of_reading_prepares_a_corpus_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str
) -> None:
    source = {"kind": kind, "path": f"{tmp_path}/{name}"}
    if name:
        separator = {"t.tsv": "\t", "t.csv": ","}[name]
        (tmp_path / name).write_text("".join(separator.join(pair) + "\n" for pair in MANY))
    else:
        source = {"kind": kind, "src": f"{tmp_path}/a", "tgt": f"{tmp_path}/b"}
        for side, file in enumerate("ab"):
            (tmp_path / file).write_text("".join(f"{pair[side]}\n" for pair in MANY))
    data = config(tmp_path, train=source, valid={"kind": "holdout", "fraction": 0.4})
    first = prepare_corpus(data).key
    assert prepare_corpus(data).key == first
    ending = name.rpartition(".")[2]
    monkeypatch.setattr(provenance, "READING", {**provenance.READING, "tsv": 9} if ending == "tsv" else {"csv": 9})
    assert (prepare_corpus(data).key == first) is (kind == "text")


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
    if kind == "tsv":  # whose first row the first version read as a pair, even if it was a header
        assert prepare_corpus(data).path == made
        return
    assert prepare_corpus(data).path.name == f"corpus-{key}"
    assert prepare_corpus(config(tmp_path, **given)).path.name != f"corpus-{key}"  # the rules of today

    (tmp_path / "moved").mkdir()
    Path(file).rename(tmp_path / "moved" / Path(file).name)
    moved = {**train, "path": str(tmp_path / "moved" / ("" if kind == "hub" else Path(file).name))}
    assert prepare_corpus(first_config(tmp_path, **{**given, "train": moved})).path.name == f"corpus-{key}"
