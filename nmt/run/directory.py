"""A run directory: its paths, what is in it, and who may write there.

runs/NAME/
    config.yaml       the resolved configuration
    manifest.json     corpora, cleaning counts, sizes, checksums, environment of the first start
    tokenizer/        SentencePiece model(s)
    checkpoints/      to resume from
    model/            the final weights, once training has ended
    metrics.jsonl     every number TensorBoard shows
    tensorboard/
    evaluation/       hypotheses, scores and signatures of each test set (:mod:`nmt.evaluation.results`)
    ctranslate2/      the final weights as a CTranslate2 model, once it was asked for
    export/           what nmt export made, unless it was told another place
    unsaved-N.jsonl   metrics of a start that ended before its first checkpoint
    .saved            made with the first checkpoint; a run that has it is never trained from step 0 again
    .lock             see nmt/locks.py

The run directory itself may be reached by a link. Links inside it are not followed to write.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from nmt.config import (
    DEFAULTS,
    Config,
    config_diff,
    dotted,
    fixed_settings,
    load_config,
    load_stored_yaml,
    validate_config,
)
from nmt.errors import CheckpointError, ConfigError, RunError
from nmt.search.limits import LengthLimits
from nmt.storage.atomic import UnreadableError, present, recover, unshare, write_text
from nmt.storage.locks import ELSEWHERE, RunLock

_REPLACED = ("config.yaml", "manifest.json", ".saved", "tokenizer", "model")  # by write_text and new_directory
_CHECKPOINT = re.compile(r"(damaged-)?step-\d.*")


@dataclass
class Run:
    path: Path
    _held: RunLock | None = field(default=None, init=False, repr=False, compare=False)

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
    def has_model(self) -> bool:
        """Whether final weights are there. The training may have been taken further since; see :meth:`unfinished`."""
        return present(self.model / "model.json")

    @classmethod
    def open(cls, name: str, runs: str = "runs") -> Run:
        """The run at a path, or of that name under ``runs/``.

        Raises:
            RunError: there is none; runs of a similar name are listed.
        """
        for path in (Path(name), Path(runs) / name) if name else ():
            if (path / "config.yaml").is_file():
                return cls(path)
        there = sorted(p.parent.name for p in Path(runs).glob("*/config.yaml")) if Path(runs).is_dir() else []
        listing = (
            f"runs here: {', '.join(there[:20])}" if there else f"there are no runs under {runs}/; train one first"
        )
        what = "is not a run directory (it has no config.yaml)" if name and Path(name).is_dir() else "no such run"
        raise RunError(f"{name or 'RUN is empty'}: {what}; {listing}")

    @classmethod
    def of(cls, config: Config) -> Run:
        return cls(config.run_dir)

    def load_config(self) -> Config:
        """The configuration the run was started with.

        Raises:
            RunError: it cannot be read.
            ConfigError: it is not valid (edited by hand, or of another version of nmt).
        """
        return validate_config(self._stored_config(), str(self.config_path))

    @property
    def defaults(self) -> int:
        """Version of the defaults that the run was started with."""
        version = self._stored_config()["defaults"]
        return version if isinstance(version, int) and 1 <= version <= DEFAULTS else DEFAULTS

    def _stored_config(self) -> dict[str, Any]:
        try:
            raw = load_stored_yaml(self.config_path)
        except ConfigError as error:
            raise RunError(str(error)) from None
        except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
            raise RunError(f"{self.config_path}: cannot be read: {' '.join(str(error).split())}") from None
        if not isinstance(raw, dict):
            raise RunError(f"{self.config_path}: is damaged: it is not a mapping of keys to values")
        return {"defaults": 1, **raw}  # the first version did not write its number

    def model_checksum(self) -> str:
        """The SHA-256 of the final weights, as recorded; they are not read.

        Raises:
            CheckpointError: the record cannot be read.
        """
        path = self.model / "model.json"
        try:
            return str(json.loads(path.read_text(encoding="utf-8"))["sha256"]["model.safetensors"])
        except OSError as error:
            raise UnreadableError(f"{path}: cannot be read: {error.strerror}; run the same command again") from None
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{self.model}: damaged: model.json: {error!r}") from None

    def save_config(self, config: Config) -> None:
        """Record a configuration as the run's; nothing is written where it is that already."""
        text = config.to_yaml()
        if not self.config_path.is_file() or self.config_path.read_bytes() != text.encode():
            write_text(self.config_path, text)

    def load_manifest(self) -> dict[str, Any]:
        """The account of the data the run was trained on.

        Raises:
            RunError: it cannot be read, or is not what was written there.
        """
        try:
            manifest = json.loads(self.manifest_path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{self.manifest_path}: cannot be read: {error}") from None
        if not isinstance(manifest, dict):
            raise RunError(f"{self.manifest_path}: damaged: is no JSON object")
        return manifest

    def recorded_data(self) -> dict[str, Any] | None:
        """The account of the data that the run was started with; None for a run without one, or not started.

        Raises:
            RunError: the account is damaged.
        """
        if not (self.started and self.manifest_path.is_file()):
            return None
        manifest = self.load_manifest()
        if not all(isinstance(manifest.get(key), dict) for key in ("inputs", "sizes")):
            raise RunError(
                f"{self.manifest_path}: is damaged; restore it, or move it away: the store then knows the data"
            )
        return manifest

    def length_limits(self) -> LengthLimits | None:
        """What the lengths of the training pairs say about a search; None for a run that did not record it.

        Raises:
            RunError: the record is damaged.
        """
        if not self.manifest_path.is_file():
            return None
        manifest: Any = self.load_manifest()
        if not isinstance(manifest, dict) or "limits" not in manifest:
            return None
        try:
            return LengthLimits.model_validate(manifest["limits"])
        except ValidationError as error:
            first = error.errors()[0]
            raise RunError(f"{self.manifest_path}: {dotted(('limits', *first['loc']))}: {first['msg']}") from None

    @property
    def started(self) -> bool:
        """Whether it holds anything that another configuration would contradict."""
        return self.has_model or self.has_saved

    @property
    def has_saved(self) -> bool:
        """Whether a checkpoint was ever saved, also when it is damaged or deleted by now."""
        try:
            names = os.listdir(self.checkpoints)
        except (FileNotFoundError, NotADirectoryError):
            names = []
        return present(self.path / ".saved") or any(_CHECKPOINT.fullmatch(name) for name in names)

    def note_saved(self) -> None:
        """Record, once, that there is a checkpoint; see :attr:`has_saved`."""
        if not present(self.path / ".saved"):
            write_text(self.path / ".saved", "A checkpoint was saved in this run: it is not to start from step 0.\n")

    def begin(self) -> None:
        """Make sure that a training may start from step 0 here, and put the metrics of one that came to nothing away.

        Raises:
            RunError: the run was trained before, but its checkpoints are gone.
        """
        if self.started:
            raise RunError(
                f"{self.path}: was trained before, but {self.checkpoints} holds no checkpoint to resume from; put one "
                "back from a backup, move the run directory away, or train under another name (--set name=...)"
            )
        if present(self.metrics) and self.metrics.stat().st_size:
            number = 1
            while os.path.lexists(aside := self.path / f"unsaved-{number}.jsonl"):
                number += 1
            self.metrics.rename(aside)

    def unfinished(self) -> str | None:
        """In a line, that the run was trained further than its final model; None where it was not.

        No checksums are compared: this answers at once.
        """
        try:
            model = json.loads((self.model / "model.json").read_text(encoding="utf-8"))
            progress = self._last_state()["progress"]
            # A model.json of before the last step was recorded tells it by the time trained.
            key, recorded = ("step", "last_step") if "last_step" in model else ("seconds", "training_seconds")
            if progress[key] <= model[recorded]:
                return None
            steps = ", ".join(map(str, model["steps"]))
            return (
                f"{self.path} is not finished: a training up to step {progress['step']} is saved, but its final model "
                f"is still that of step {steps}, which is used; nmt train resumes the training"
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None  # no model, no checkpoint, or damaged: whoever reads the weights says so

    def check(self, config: Config) -> None:
        """Make sure that a configuration continues what is already here.

        Raises:
            RunError: the run was started with another configuration; the differences are listed.
        """
        if not self.started:
            return
        if differing := config_diff(fixed_settings(self.load_config()), config):
            raise RunError(
                f"{self.path}: was started with another configuration ({differing}); give this one another "
                "name (--set name=...) or remove the run"
            )

    def settle(self, config: Config) -> Config:
        """The configuration with what the first start settles: where a cosine or linear schedule ends.

        A later start with other limits leaves the schedule as it is, and so the learning rate of every step taken.
        """
        schedule = config.train.schedule
        if schedule.name not in ("cosine", "linear") or schedule.total_steps is not None:
            return config
        first = self.load_config().train if self.started else config.train
        end = self.schedule_end() or first.schedule.total_steps or first.max_steps
        if end is None:
            return config
        schedule = schedule.model_copy(update={"total_steps": max(end, schedule.warmup_steps)})
        return config.model_copy(update={"train": config.train.model_copy(update={"schedule": schedule})})

    def _last_state(self) -> Any:
        """``state.json`` of the newest checkpoint, not verified; OSError or ValueError where there is none to read."""
        last = max(self.checkpoints.glob("step-*[0-9]"), key=lambda path: int(path.name.removeprefix("step-")))
        return json.loads((last / "state.json").read_text(encoding="utf-8"))

    def schedule_end(self) -> int | None:
        """The end of the schedule under which the last checkpoint was trained; None where that is not recorded.

        ``config.yaml`` describes the final model, which may be older.
        """
        try:
            end = self._last_state()["identity"]["schedule_end"]
            return end if isinstance(end, int) and end > 0 else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None  # no checkpoint, one of an earlier version, or damaged: whoever reads the weights says so

    def batching(self) -> str | None:
        """``packed`` or ``padded``, as the batches of the last checkpoint were; None where there is no checkpoint.

        Earlier versions did not record it, and padded.
        """
        try:
            return str(self._last_state()["identity"].get("batching", "padded"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for writing. The system drops the lock with the process, so a dead one never blocks.

        What a killed process left half done is tidied up.

        Raises:
            RunError: another process holds it, which is named, the directory cannot be written to, or it holds links.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{self.path}: cannot be written to: {error.strerror}; {ELSEWHERE}") from None
        self.refuse_links()
        self._held = RunLock(self.path)
        try:
            recover(self.path, _REPLACED)
            recover(self.evaluation)
            for path in (self.metrics, *self.tensorboard.glob("events.*")):
                unshare(path)
            yield
        finally:
            self._held.close()
            self._held = None

    def check_held(self) -> None:
        """Before writing: make sure that the run is still the one that was locked, if it was.

        Raises:
            RunError: it was removed, renamed or replaced meanwhile.
        """
        if self._held is not None:
            self._held.check()

    def refuse_links(self) -> None:
        """Make sure that nothing that is to be written to leads out of the run directory.

        Raises:
            RunError: something is a link, or neither a file nor a folder.
        """
        folders = [self.tokenizer, self.checkpoints, self.model, self.tensorboard, self.evaluation, self.ctranslate2]
        folders += [self.path / "export"]
        files = [self.path / ".lock", self.path / ".lock.claim", self.metrics, *self.tensorboard.glob("events.*")]
        for path in [*folders, *files]:
            if path.is_symlink():
                raise RunError(
                    f"{path}: is a link (to {os.readlink(path)}); nmt does not write through links in a run directory; "
                    "replace it by what it leads to, or train under another name (--set name=...)"
                )
            if os.path.lexists(path) and not (path.is_dir() if path in folders else path.is_file()):
                raise RunError(f"{path}: is not a {'folder' if path in folders else 'regular file'}; remove it")


def load_experiment(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Load a configuration; for a run that has been started, with the version of the defaults it was started with.

    Raises:
        ConfigError: as :func:`nmt.config.load_config`.
        RunError: the configuration stored in the run cannot be read.
    """
    try:
        config = load_config(path, overrides)
    except ConfigError:
        # The first version ignored keys that have no effect; a run that it started must not be refused for them.
        with suppress(ConfigError):
            config = load_config(path, [*overrides, "defaults=1"])
            if (run := Run.of(config)).started and run.defaults == 1:
                return config
        raise
    run = Run.of(config)
    if run.started and "defaults" not in config.model_fields_set and (version := run.defaults) != config.defaults:
        return load_config(path, [*overrides, f"defaults={version}"])
    return config
