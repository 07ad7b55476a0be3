"""Corpora and tokenizers for the tests of this folder."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from nmt.config.data import DataConfig
from nmt.config.tokenizer import TokenizerConfig
from nmt.data.corpus import Corpus
from nmt.data.encoded import EncodedCorpus, encode_corpus
from nmt.data.prepare import prepare_corpus
from nmt.data.tokenizer import Tokenizer
from nmt.data.tokenizer_training import NO_SYMBOLS, Symbols
from tests.unit.data.corpora import CHAR_TRAIN, CHAR_VALID, WORDS, Make, prepare


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub_cache: None) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def encoded(tmp_path: Path) -> tuple[EncodedCorpus, Tokenizer]:
    corpus, tokenizer = prepare(tmp_path, CHAR_TRAIN, CHAR_VALID)
    assert len(corpus.part("train")) == 6
    return encode_corpus(corpus, tokenizer, 5, tmp_path), tokenizer


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """German words and compounds of two on the left; on the right the same without spaces, as Chinese is written."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = random.Random(1)
    words = WORDS * 5 + ["".join(rng.choices(WORDS, k=2)) for _ in range(100)]
    rows = [" ".join(rng.choices(words, k=rng.randint(2, 9))) for _ in range(600)]
    content = "".join(f"{row}\t{row.replace(' ', '')}\n" for row in rows)
    for name in ("train", "valid"):
        (folder / name).write_text(content, encoding="utf-8")
    sources = {name: {"kind": "tsv", "path": str(folder / name)} for name in ("train", "valid")}
    data = {**sources, "store": str(folder / "store"), "cleaning": {"drop_overlap": False}}
    return prepare_corpus(DataConfig.model_validate(data))


@pytest.fixture(scope="module")
def make(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Make:
    made: dict[str, Tokenizer] = {}

    def get(symbols: Symbols = NO_SYMBOLS, **fields: Any) -> Tokenizer:
        name = repr((symbols, fields))
        if name not in made:
            settings = TokenizerConfig.model_validate({"vocab_size": 180, **fields})
            made[name] = Tokenizer.train(settings, corpus, tmp_path_factory.mktemp("tok") / "model", symbols)
        return made[name]

    return get
