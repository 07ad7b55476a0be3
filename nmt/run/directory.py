"""A run directory: paths, content, and exclusive access.

runs/NAME/
    config.yaml       the resolved configuration
    manifest.json     corpora, cleaning counts, sizes, checksums, environment of the first start
    run.json, run.md  the run card: configuration, environments, times, data, scores (:mod:`nmt.run.card`)
    tokenizer/        SentencePiece model(s)
    checkpoints/      checkpoints, to resume from
    model/            the final weights, once training has ended
    init/             the weights that the training started from, if the configuration has a section init
    metrics.jsonl     every scalar that TensorBoard shows
    train.log         every line that the training printed, with its time, of all starts (:mod:`nmt.runtime.journal`)
    events.*          TensorBoard's files; in a folder tensorboard/ in runs of earlier versions
    alpha.json        strength of the length penalty, chosen for the final weights (:mod:`nmt.run.alpha`)
    tuned.json        beam size and alpha that nmt tune chose for the final weights (:mod:`nmt.run.alpha`)
    evaluation/       hypotheses, scores and signatures of each test set (:mod:`nmt.evaluation.results`)
    ctranslate2/      the final weights as a CTranslate2 model, made on first use
    export/           output of nmt export, unless --out names another folder
    unsaved-N.jsonl   metrics of a start that ended before its first checkpoint
    .saved            written with the first checkpoint; a run that has it is never trained from step 0 again
    .lock             see nmt/storage/locks.py

The run directory itself may be a link. Links inside it are not followed when writing.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from pydantic import ValidationError

from nmt.config.compare import config_diff, fixed_settings
from nmt.config.experiment import DEFAULTS, Config
from nmt.config.explain import dotted
from nmt.config.limits import LengthLimits
from nmt.config.load import load_config, load_stored_yaml, validate_config
from nmt.errors import CheckpointError, ConfigError, RunError
from nmt.storage.atomic import UnreadableError, present, recover, unshare, write_text
from nmt.storage.locks import RunLock, cannot_write

_REPLACED = (
    "config.yaml",
    "manifest.json",
    "run.json",
    "run.md",
    ".saved",
    "alpha.json",
    "tuned.json",
    "tokenizer",
    "model",
    "init",
)  # by write_text and new_directory
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
    def init(self) -> Path:
        return self.path / "init"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def log(self) -> Path:
        return self.path / "train.log"

    @property
    def tensorboard(self) -> Path:
        """The folder of the event files: the run directory, after whose name TensorBoard calls the run.

        Earlier versions made a separate folder, which a run keeps.
        """
        former = self.path / "tensorboard"
        return former if os.path.lexists(former) else self.path

    @property
    def alpha(self) -> Path:
        return self.path / "alpha.json"

    @property
    def tuned(self) -> Path:
        return self.path / "tuned.json"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation"

    @property
    def ctranslate2(self) -> Path:
        return self.path / "ctranslate2"

    @property
    def has_model(self) -> bool:
        """Whether final weights exist. The training may have continued since; see :meth:`unfinished`."""
        return present(self.model / "model.json")

    @classmethod
    def open(cls, name: str, runs: str = "runs") -> Run:
        """Open the run at a path, or the run ``name`` under ``runs/``.

        Raises:
            RunError: no such run exists; the message lists the runs.
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

    def load_config(self) -> Config:
        """Load the configuration that the run was started with.

        Raises:
            RunError: the configuration cannot be read.
            ConfigError: the configuration is not valid (edited by hand, or written by another version of nmt).
        """
        return validate_config(self.stored_config(), str(self.config_path))

    @property
    def defaults(self) -> int:
        """Version of the defaults that the run was started with."""
        version = self.stored_config()["defaults"]
        return version if isinstance(version, int) and 1 <= version <= DEFAULTS else DEFAULTS

    def stored_config(self) -> dict[str, Any]:
        """The content of ``config.yaml``, not validated.

        Raises:
            RunError: the file cannot be read, or is not a mapping.
        """
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
        """The recorded SHA-256 of the final weights; the weights are not read.

        Raises:
            CheckpointError: the record cannot be read.
        """
        return str(self._recorded(lambda record: record["sha256"]["model.safetensors"]))

    def training_seconds(self) -> float:
        """The training time up to the final weights.

        Raises:
            CheckpointError: the record cannot be read.
        """
        return float(self._recorded(lambda record: record["training_seconds"]))

    def _recorded(self, choose: Callable[[dict[str, Any]], Any]) -> Any:
        """A value of the record of the final weights, whose checksums are not compared."""
        path = self.model / "model.json"
        try:
            return choose(json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise UnreadableError(f"{path}: cannot be read: {error.strerror}; run the same command again") from None
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{self.model}: damaged: model.json: {error!r}") from None

    def save_config(self, config: Config) -> None:
        """Write ``config.yaml``, unless its content is the same already."""
        text = config.to_yaml()
        if not self.config_path.is_file() or self.config_path.read_bytes() != text.encode():
            write_text(self.config_path, text)

    def load_manifest(self) -> dict[str, Any]:
        """Load ``manifest.json``: the data that the run was trained on.

        Raises:
            RunError: the manifest cannot be read, or is damaged.
        """
        try:
            manifest = json.loads(self.manifest_path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise RunError(f"{self.manifest_path}: cannot be read: {error}") from None
        if not isinstance(manifest, dict):
            raise RunError(f"{self.manifest_path}: damaged: is not a JSON object")
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
        """Length limits for the search, from the training pairs; None for a run that did not record them.

        Raises:
            RunError: the record is damaged.
        """
        if not self.manifest_path.is_file():
            return None
        manifest = self.load_manifest()
        if "limits" not in manifest:
            return None
        try:
            return LengthLimits.model_validate(manifest["limits"])
        except ValidationError as error:
            first = error.errors()[0]
            raise RunError(f"{self.manifest_path}: {dotted(('limits', *first['loc']))}: {first['msg']}") from None

    @property
    def started(self) -> bool:
        """Whether the run has a checkpoint or a model, so that another configuration would contradict it."""
        return self.has_model or self.has_saved

    @property
    def has_saved(self) -> bool:
        """Whether a checkpoint was ever saved, even if it was damaged or deleted since."""
        return present(self.path / ".saved") or self.has_checkpoints

    @property
    def has_checkpoints(self) -> bool:
        """Whether a checkpoint exists, even a damaged one."""
        try:
            names = os.listdir(self.checkpoints)
        except (FileNotFoundError, NotADirectoryError):
            names = []
        return any(_CHECKPOINT.fullmatch(name) for name in names)

    def note_saved(self) -> None:
        """Record that a checkpoint was saved; see :attr:`has_saved`."""
        if not present(self.path / ".saved"):
            write_text(self.path / ".saved", "A checkpoint was saved in this run, so it must not start from step 0.\n")

    def begin(self) -> None:
        """Check that a training may start from step 0 here, and rename the metrics of an earlier unsaved start.

        Raises:
            RunError: the run was trained before, but its checkpoints are gone.
        """
        if self.started:
            raise RunError(
                f"{self.path}: was trained before, but {self.checkpoints} has no checkpoint to resume from; put one "
                "back from a backup, move the run directory away, or train under another name (--set name=...)"
            )
        if present(self.metrics) and self.metrics.stat().st_size:
            number = 1
            while os.path.lexists(aside := self.path / f"unsaved-{number}.jsonl"):
                number += 1
            self.metrics.rename(aside)

    def unfinished(self) -> str | None:
        """Say in one line that the run was trained further than its final model; None if it was not.

        This is quick: no checksums are compared.
        """
        try:
            model = json.loads((self.model / "model.json").read_text(encoding="utf-8"))
            progress = self._last_state()["progress"]
            # An early model.json has no last step; there the training time identifies the step.
            key, recorded = ("step", "last_step") if "last_step" in model else ("seconds", "training_seconds")
            if progress[key] <= model[recorded]:
                return None
            steps = ", ".join(map(str, model["steps"]))
            return (
                f"{self.path} is not finished: the training is saved up to step {progress['step']}, but the final "
                f"model, which is used here, is still that of step {steps}; nmt train resumes the training"
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None  # no model, no checkpoint, or damaged: reading the weights reports that

    def check(self, config: Config) -> None:
        """Check that the run can be resumed with a configuration.

        Raises:
            RunError: the run was started with another configuration; the message lists the differences.
        """
        if not self.started:
            return
        if differing := config_diff(fixed_settings(self.load_config()), config):
            raise RunError(
                f"{self.path}: was started with another configuration ({differing}); choose another name for this one "
                "(--set name=...) or remove the run"
            )

    def settle(self, config: Config) -> Config:
        """Fill in the settings that the first start decides: the end of a cosine or linear schedule, in steps.

        A later start with other limits keeps this end, and so the learning rate of every step already taken. The end of
        a schedule that ends with the run stays open where ``max_epochs`` takes part: the corpus decides it.
        """
        schedule = config.train.schedule
        if not schedule.ends or schedule.total_steps is not None:
            return config
        first = self.load_config().train if self.started else config.train
        of_limits = None if first.schedule.end == "run" and first.max_epochs else first.max_steps
        end = self.schedule_end() or first.schedule.total_steps or of_limits
        if end is None:
            return config
        schedule = schedule.model_copy(update={"total_steps": max(end, schedule.warmup_steps)})
        return config.model_copy(update={"train": config.train.model_copy(update={"schedule": schedule})})

    def _last_state(self) -> Any:
        """``state.json`` of the newest checkpoint, not verified.

        Raises:
            OSError, ValueError: no checkpoint can be read.
        """
        last = max(self.checkpoints.glob("step-*[0-9]"), key=lambda path: int(path.name.removeprefix("step-")))
        return json.loads((last / "state.json").read_text(encoding="utf-8"))

    def last_state(self) -> dict[str, Any] | None:
        """``state.json`` of the newest checkpoint, not verified; None if there is none that can be read."""
        try:
            state = self._last_state()
        except (OSError, ValueError, RecursionError):
            return None
        return state if isinstance(state, dict) else None

    def schedule_end(self) -> int | None:
        """The end of the schedule that the last checkpoint was trained with; None if it is not recorded.

        ``config.yaml`` describes the final model, which may be older.
        """
        try:
            end = self._last_state()["identity"]["schedule_end"]
            return end if isinstance(end, int) and end > 0 else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None  # no checkpoint, one of an earlier version, or damaged: reading the weights reports that

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
        """Lock the run for writing, and clean up after a killed process.

        The system releases the lock when the process ends, so a dead process never blocks a run.

        Raises:
            RunError: another process holds the lock, the directory cannot be written to, or it contains links.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(self.path, error) from None
        self.refuse_links()
        self._held = RunLock(self.path)
        try:
            recover(self.path, _REPLACED)
            recover(self.evaluation)
            for path in (self.metrics, self.log, *self.tensorboard.glob("events.*")):
                unshare(path)
            yield
        finally:
            self._held.close()
            self._held = None

    def check_held(self) -> None:
        """Check, before writing, that a locked run directory is still the one that was locked.

        Raises:
            RunError: the directory was removed, renamed or replaced meanwhile.
        """
        if self._held is not None:
            self._held.check()

    def refuse_links(self) -> None:
        """Refuse links in the run directory, through which nmt would write elsewhere.

        Raises:
            RunError: a path that nmt writes to is a link, or neither a regular file nor a folder.
        """
        folders = [self.tokenizer, self.checkpoints, self.model, self.init, self.evaluation, self.ctranslate2]
        folders += [self.path / "tensorboard", self.path / "export"]
        files = [self.path / ".lock", self.path / ".lock.claim", self.metrics, self.log]
        files += self.tensorboard.glob("events.*")
        for path in [*folders, *files]:
            if path.is_symlink():
                raise RunError(
                    f"{path}: is a link (to {os.readlink(path)}); nmt does not write through links in a run directory; "
                    "replace it by its target, or train under another name (--set name=...)"
                )
            if os.path.lexists(path) and not (path.is_dir() if path in folders else path.is_file()):
                raise RunError(f"{path}: is not a {'folder' if path in folders else 'regular file'}; remove it")


def load_experiment(
    path: str | Path, overrides: Sequence[str] = (), origins: Mapping[str, str] = MappingProxyType({})
) -> Config:
    """Load a configuration; for a run that was started before, with the version of the defaults of that start.

    Args:
        overrides, origins: see :func:`nmt.config.load.load_config`.

    Raises:
        ConfigError: as :func:`nmt.config.load.load_config`.
        RunError: the configuration stored in the run cannot be read.
    """
    try:
        config = load_config(path, overrides, origins)
    except ConfigError:
        # Version 1 ignored keys that have no effect; a run that it started must not be refused for them.
        with suppress(ConfigError):
            config = load_config(path, [*overrides, "defaults=1"])
            if (run := Run(config.run_dir)).started and run.defaults == 1:
                return config
        raise
    run = Run(config.run_dir)
    if run.started and "defaults" not in config.model_fields_set and (version := run.defaults) != config.defaults:
        return load_config(path, [*overrides, f"defaults={version}"])
    return config
