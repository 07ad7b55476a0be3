"""Corpora and readers that the tests of several modules share."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

from nmt.config.data import DataConfig, TrainSource
from nmt.config.tokenizer import SamplingConfig, TokenizerConfig
from nmt.data.corpus import Corpus
from nmt.data.encoded import ParallelDataset
from nmt.data.lines import read_lines
from nmt.data.prepare import prepare_corpus
from nmt.data.sources import read_pairs
from nmt.data.sources.base import Reading
from nmt.data.tokenizer import Tokenizer
from nmt.errors import DataError


def source(**fields: Any) -> Any:
    return TypeAdapter(TrainSource).validate_python(fields)


def pairs_of(fields: dict[str, Any], src: str = "de", tgt: str = "en") -> list[tuple[str, str]]:
    return list(read_pairs(source(**fields), Reading((src, tgt))))


def lines(data: bytes) -> list[str]:
    return list(read_lines(io.BytesIO(data), "x"))


ROWS = [("eins", "one"), ("zwei", "two"), ("drei", "three")]


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


def write_tsv(path: Path, rows: list[tuple[str, str]]) -> dict[str, Any]:
    path.write_text("".join(f"{src}\t{tgt}\n" for src, tgt in rows), encoding="utf-8")
    return {"kind": "tsv", "path": str(path)}


def config(tmp_path: Path, **fields: Any) -> DataConfig:
    return DataConfig.model_validate({"src_lang": "de", "tgt_lang": "en", "store": str(tmp_path / "store"), **fields})


RULE_ROWS = [
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


def pairs(lenient: bool = False, **fields: Any) -> list[tuple[str, str]]:
    source = TypeAdapter(TrainSource).validate_python(fields)
    return list(read_pairs(source, Reading(("en", "de"), lenient)))


def message(**fields: Any) -> str:
    with pytest.raises(DataError) as error:
        pairs(**fields)
    assert "\n" not in str(error.value)
    return str(error.value)


# A token of the character model is a letter, or the ▁ before each word: "ab c" is ▁ a b ▁ c, five tokens.
CHAR_TRAIN = [("ab c", "c"), ("abcabc", "c"), ("c", "abcabc"), ("\u200b", "a"), ("b", "a a"), ("abcabc", "\u200b")]


CHAR_VALID = [("abcabc", "c"), ("", "b"), ("a", "b")]


def prepare(folder: Path, train: list[tuple[str, str]], valid: list[tuple[str, str]]) -> tuple[Corpus, Tokenizer]:
    for name, rows in (("train", train), ("valid", valid)):
        (folder / name).write_text("".join(f"{src}\t{tgt}\n" for src, tgt in rows), encoding="utf-8")
    sources = {name: {"kind": "tsv", "path": str(folder / name)} for name in ("train", "valid")}
    cleaning = {"drop_duplicates": False, "drop_overlap": False}
    corpus = prepare_corpus(DataConfig.model_validate({**sources, "cleaning": cleaning, "store": str(folder)}))
    return corpus, Tokenizer.train(TokenizerConfig(type="char", vocab_size=20), corpus, folder / "tok")


def texts(data: ParallelDataset, tokenizer: Tokenizer) -> list[tuple[str, str]]:
    """The stored ids, spelt."""
    return [
        (
            "".join(tokenizer.src_pieces(data.src(i).tolist())),
            "".join(tokenizer.tgt_pieces(data.tgt(i).tolist())),
        )
        for i in range(len(data))
    ]


VOCABULARY = "Haus Baum Straße gehen sehen schön und ist der die das über Kind Hund Katze läuft rot grün"


WORDS = VOCABULARY.split()


def sampling_config(alpha: float | None, nbest: int = -1, method: str = "batch") -> SamplingConfig:
    """Unchecked: no merge left out, or a steep distribution, are of use to a test."""
    return SamplingConfig.model_construct(alpha=alpha, nbest=nbest, method=method)


Make = Callable[..., Tokenizer]


class Lengths:
    """The lengths [2, pairs] of a dataset, without its text."""

    def __init__(self, both: Any):
        self.both = np.array(both)

    def __len__(self) -> int:
        return int(self.both.shape[1])

    def lengths(self, start: int, stop: int) -> Any:
        return self.both[:, start:stop]

    def release(self) -> None:
        pass
