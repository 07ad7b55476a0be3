"""A tiny task that both model families learn in seconds: every word has one translation, the order is reversed."""

import random
from pathlib import Path

import pytest
import yaml

from nmt.config import Config, load_config

WORDS = {
    "one": "eins",
    "two": "zwei",
    "three": "drei",
    "four": "vier",
    "five": "fünf",
    "six": "sechs",
    "seven": "sieben",
}

MODELS = {
    "rnn": {"type": "rnn", "d_model": 32, "d_hidden": 32, "d_attention": 32, "dropout": 0.1},
    "transformer": {
        "type": "transformer", "d_model": 32, "d_ff": 64, "num_heads": 2, "encoder_layers": 1, "decoder_layers": 1,
        "dropout": 0.1,
    },
}  # fmt: skip


def write_corpus(folder: Path, train: int = 600, held: int = 20) -> dict[str, Path]:
    """Files ``train.src`` … ``test.tgt`` of distinct sentences."""
    rng = random.Random(0)
    sentences: dict[str, None] = {}
    while len(sentences) < train + 2 * held:
        sentences[" ".join(rng.choices(list(WORDS), k=rng.randint(2, 6)))] = None
    lines = list(sentences)
    parts = {"train": lines[:train], "valid": lines[train : train + held], "test": lines[train + held :]}
    paths = {}
    for name, part in parts.items():
        targets = [" ".join(WORDS[w] for w in reversed(line.split())) for line in part]
        for side, content in (("src", part), ("tgt", targets)):
            paths[f"{name}.{side}"] = folder / f"{name}.{side}"
            paths[f"{name}.{side}"].write_text("".join(f"{line}\n" for line in content), encoding="utf-8")
    return paths


class Task:
    """A folder with the tiny corpus, in which configurations are written and runs are made."""

    def __init__(self, folder: Path, **sizes: int):
        self.folder = folder
        self.paths = write_corpus(folder, **sizes)

    def config_file(self, family: str, name: str = "run", **sections) -> Path:
        def source(part):
            return {"kind": "text", "src": str(self.paths[f"{part}.src"]), "tgt": str(self.paths[f"{part}.tgt"])}

        raw = {
            "name": name,
            "runs": str(self.folder / "runs"),
            "data": {
                "src_lang": "en",
                "tgt_lang": "de",
                "train": source("train"),
                "valid": source("valid"),
                "test": {"tiny": source("test")},
                "store": str(self.folder / "store"),
            },
            "tokenizer": {"vocab_size": 36},
            "model": MODELS[family],
            "train": {"max_steps": 10, "batch_tokens": 256, "precision": "fp32", "device": "cpu", "threads": 1},
            "search": {"beam_size": 3},
        }
        for section, changes in sections.items():
            raw[section] = {**raw.get(section, {}), **changes} if isinstance(changes, dict) else changes
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf-8")
        return path

    def config(self, family: str, name: str = "run", **sections) -> Config:
        return load_config(self.config_file(family, name, **sections))


@pytest.fixture
def task(tmp_path) -> Task:
    return Task(tmp_path)
