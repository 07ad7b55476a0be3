"""A run directory: its paths, what is in it, and who may write there.

runs/NAME/
    config.yaml       the resolved configuration
    manifest.json     corpora, cleaning counts, sizes, checksums
    tokenizer/        SentencePiece model(s)
    checkpoints/      to go on from
    model/            the final weights, once training has ended
    metrics.jsonl     every number TensorBoard shows
    tensorboard/
    evaluation/       hypotheses, scores and signatures of each test set
    ctranslate2/      the final weights as a CTranslate2 model, once it was asked for
    export/           what nmt export made, unless it was told another place
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nmt.config import Config, flatten, validate_config
from nmt.errors import RunError

# What may change between two starts of one run: none of it alters what the steps already taken would have been.
CHANGEABLE = (
    "train.max_steps", "train.max_epochs", "train.max_minutes", "train.patience", "train.log_every", "train.samples",
    "train.keep_best", "train.keep_last", "train.average", "train.average_of", "train.device", "train.threads",
    "train.checkpoint_every", "train.on_save_error", "train.max_bad_steps", "data.store", "runs", "search",
    "evaluation",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    path: Path

    @property
    def config_path(self) -> Path:
        return self.path / "config.yaml"

    @property
    def manifest_path(self) -> Path:
        return self.path / "manifest.json"

    @property
    def tokenizer(self) -> Path:
        return self.path / "tokenizer"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation"

    @property
    def ctranslate2(self) -> Path:
        return self.path / "ctranslate2"

    @property
    def finished(self) -> bool:
        return (self.model / "model.json").is_file()

    @classmethod
    def open(cls, name: str, runs: str = "runs") -> Run:
        """The run at a path, or of that name under ``runs/``.

        Raises:
            RunError: there is none; runs of a similar name are listed.
        """
        for path in (Path(name), Path(runs) / name):
            if (path / "config.yaml").is_file():
                return cls(path)
        there = sorted(p.parent.name for p in Path(runs).glob("*/config.yaml")) if Path(runs).is_dir() else []
        listing = (
            f"runs here: {', '.join(there[:20])}" if there else f"there are no runs under {runs}/; train one first"
        )
        what = "is not a run directory (it has no config.yaml)" if Path(name).is_dir() else "no such run"
        raise RunError(f"{name}: {what}; {listing}")

    @classmethod
    def of(cls, config: Config) -> Run:
        return cls(config.run_dir)

    def load_config(self) -> Config:
        """The configuration the run was started with.

        Raises:
            RunError: it cannot be read.
            ConfigError: it is not valid (edited by hand, or of another version of nmt).
        """
        try:
            raw = yaml.safe_load(self.config_path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
            raise RunError(f"{self.config_path}: cannot be read: {' '.join(str(error).split())}") from None
        return validate_config(raw, str(self.config_path))

    def load_manifest(self) -> dict[str, Any]:
        try:
            manifest: dict[str, Any] = json.loads(self.manifest_path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"{self.manifest_path}: cannot be read: {error}") from None
        return manifest

    @property
    def started(self) -> bool:
        """Whether it holds anything that another configuration would contradict."""
        return self.finished or self.checkpoints.is_dir()

    def check(self, config: Config) -> None:
        """Make sure that a configuration continues what is already here.

        Raises:
            RunError: the run was started with another configuration; the differences are listed.
        """
        if not self.started:
            return
        if differing := contradictions(lasting_settings(self.load_config()), lasting_settings(config)):
            raise RunError(
                f"{self.path}: was started with another configuration ({differing}); give this one another "
                "name (--set name=...) or remove the run"
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for writing. The system drops the lock with the process, so a dead one never blocks.

        Raises:
            RunError: another process holds it, which is named, or the directory cannot be written to.
        """
        path = self.path / ".lock"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise RunError(f"{self.path}: cannot be written to: {error.strerror}") from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise RunError(f"{self.path}: is in use by {holder}; wait for it or stop it") from None
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
            yield


def lasting_settings(config: Config) -> dict[str, Any]:
    """Dotted keys and values of all that must stay as it is from a run's first step to its last."""
    settings = flatten(config.model_dump(mode="json", exclude={"name"}))
    return {k: v for k, v in settings.items() if not any(k == may or k.startswith(f"{may}.") for may in CHANGEABLE)}


def contradictions(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """In words, which settings differ; empty where none does."""
    differing = [
        f"{key}: {json.dumps(before.get(key))} there, {json.dumps(now.get(key))} now"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key)
    ]
    return "; ".join(differing[:5]) + (f"; and {len(differing) - 5} more" if len(differing) > 5 else "")
