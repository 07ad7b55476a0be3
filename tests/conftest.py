"""A tiny task that both model families learn in seconds: every word has one translation, the order is reversed."""

import contextlib
import os
import random
import shutil
import signal
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

# Several workers run tests side by side on tensors of a few kilobytes: more threads would only wait for each other.
# PyTorch reads this when it is first imported; the programs under test inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from nmt.cli import main
from nmt.config.experiment import Config
from nmt.config.load import load_config

# A shell ignores SIGINT for what it runs in the background, and nohup SIGHUP; the programs under test would inherit it.
for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)

# Programs that exports are for, and the package that a test needs; make interop makes an environment for each.
PEERS = {"transformers": "transformers", "argos": "argostranslate", "marian": "pymarian", "onnx": "onnxscript"}


def pytest_addoption(parser):
    parser.addoption("--interop", metavar="PEER", choices=PEERS, help="only the tests that need this program")


def pytest_collection_modifyitems(config, items):
    chosen, wanted = [], config.getoption("--interop")
    for item in items:
        needed = {name for mark in item.iter_markers("interop") for name in mark.args}
        if wanted in needed:
            chosen.append(item)
        for name in needed - {wanted}:
            if find_spec(PEERS[name]) is None:
                item.add_marker(pytest.mark.skip(reason=f"{PEERS[name]} is not installed; make interop installs it"))
    if wanted:
        config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
        items[:] = chosen


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
MODELS["recurrent-to-transformer"] = {
    "type": "transformer", "d_model": 32, "d_ff": 64, "num_heads": 2, "decoder_layers": 1, "dropout": 0.1,
    "tie_embeddings": "decoder", "encoder": {"type": "recurrent", "d_model": 24, "d_hidden": 20, "cell": "lstm"},
}  # fmt: skip
for decoder, mixed in (("rnn", "rnn"), ("transformer", "recurrent-to-transformer")):
    MODELS[f"convolutional-to-{decoder}"] = {
        **MODELS[mixed],
        "encoder": {"type": "convolutional", "d_model": 24, "d_hidden": 20, "num_layers": 2, "dropout": 0.1},
    }
MODELS["transformer-to-rnn"] = {
    **MODELS["rnn"],
    "encoder": {"type": "transformer", "d_model": 24, "d_ff": 40, "num_heads": 2, "num_layers": 1},
}
MODELS["rnn-reinforce"] = {**MODELS["rnn"], "alignment": "hard", "hops": 2, "input_feeding": True}


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
            "train": {  # without samples, whose pictures take longer than the rest of a tiny training
                "max_steps": 10,
                "batch_tokens": 256,
                "precision": "fp32",
                "device": "cpu",
                "threads": 1,
                "samples": 0,
            },
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


# ------------------------------------------------------------------------------- a finished run in the current folder

BASE = b"""\
data:
  src_lang: en
  tgt_lang: de
  train: {kind: text, src: train.src, tgt: train.tgt}
  valid: {kind: text, src: valid.src, tgt: valid.tgt}
  test: {tiny: {kind: text, src: test.src, tgt: test.tgt}}
  store: store
tokenizer: {vocab_size: 36, normalization: nmt_nfkc}  # one rule for both sides, so that there is one joint.model
model: {type: rnn, d_model: 16, d_hidden: 16}
train: {max_steps: 4, batch_tokens: 256, validate_every: 2, keep_last: 2, keep_best: 2, device: cpu, threads: 1, \
samples: 0}
search: {beam_size: 2, max_source_tokens: 60}
"""


@dataclass
class Place:
    """The current folder: ``c.yaml``, the corpus it names, and the finished run ``runs/c``."""

    path: Path

    @property
    def run(self) -> Path:
        return self.path / "runs" / "c"

    def write(self, name: str, content: bytes) -> str:
        (self.path / name).write_bytes(content)
        return name

    def files(self) -> dict[str, bytes]:
        """Names and contents; whole folders may be added to the store, and a lock may be left."""
        return {
            str(path.relative_to(self.path)): path.read_bytes()
            for path in self.path.rglob("*")
            if path.is_file()
            and path.name not in (".lock", "train.log")
            and path.parts[len(self.path.parts)] != "store"
        }


def make_place(folder: Path) -> Place:
    Task(folder, train=300)
    (folder / "c.yaml").write_bytes(BASE)
    with contextlib.chdir(folder):
        assert main(["train", "c.yaml"]) == 0
    return Place(folder)


@pytest.fixture(scope="session")
def template(tmp_path_factory) -> Path:
    return make_place(tmp_path_factory.mktemp("place")).path


@pytest.fixture
def place(template, tmp_path, monkeypatch) -> Place:
    shutil.copytree(template, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    return Place(tmp_path / "place")
