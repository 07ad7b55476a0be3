"""Choose the settings of a fine-tuning: a training that starts from a trained model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nmt.config import recipes
from nmt.config.data import DataConfig, MixtureSource
from nmt.config.pretrained import Pretrained, find
from nmt.config.recipes import Tuning
from nmt.config.sources import HoldoutSource, as_tags
from nmt.data.provenance import origins
from nmt.evaluation.fidelity import NOTICED
from nmt.run.directory import Run
from nmt.starting.choose import Choice, Measuring, Request, fitting, paced
from nmt.starting.material import Languages, Material
from nmt.starting.measure import Measured

NEW = "new"  # name of the dataset of the new pairs, beside those of the run


@dataclass(frozen=True)
class Base:
    """The trained model.

    Attributes:
        rate: peak of the learning rate of its training; None where that is not known.
        pairs: size of its training part.
        replay: datasets of its training, as in ``data.train``, whose files are all here; empty if one is missing.
        tests: its test sets whose files are here.
        why: the reason why nothing is replayed; empty if something is.
        tags: before each source of its training, where all have the same ones.
        choices: the tags of its training, where they differ.
    """

    model: Pretrained
    rate: float | None = None
    pairs: int = 0
    replay: list[dict[str, Any]] = field(default_factory=list)
    tests: dict[str, Any] = field(default_factory=dict)
    why: str = ""
    tags: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()

    @property
    def reference(self) -> str:
        """``init.from`` from any folder of runs."""
        return self.model.name if self.model.name.startswith("hf:") else str(self.model.path.resolve())


def base_of(name: str, runs: str, languages: Languages) -> Base:
    """The model of this name, and what its run tells of its training.

    Raises:
        ConfigError: no such model exists.
        RunError: the run is damaged.
    """
    model = find(name, runs)
    if model.kind != "run":
        return Base(model, why="the model does not say what it was trained on")
    run = Run(model.path)
    config = run.load_config()
    rate = config.train.optimizer.lr
    if (config.data.src_lang, config.data.tgt_lang) != (languages.src, languages.tgt):
        return Base(model, rate, why=f"the run translates {config.data.src_lang} to {config.data.tgt_lang}")
    if not run.manifest_path.is_file():
        return Base(model, rate, why="the run has no manifest.json, which names its data")
    manifest = run.load_manifest()
    inputs = manifest.get("inputs", {})
    tests = {
        f"old-{name}": config.data.test[name].model_dump(mode="json", exclude_defaults=True)
        for name, source in config.data.test.items()
        if not isinstance(source, HoldoutSource) and not _missing(inputs.get(f"test.{name}", []))
    }
    pairs = int(manifest.get("sizes", {}).get("train", 0))
    found = {as_tags(dataset.tag) for dataset in config.data.datasets}
    tags = found.pop() if len(found) == 1 else ()
    choices = () if tags else tuple(config.data.tags)
    gone = [path for name in origins(config.data) if name.startswith("train") for path in _missing(inputs.get(name))]
    if gone:
        return Base(model, rate, pairs, [], tests, f"{gone[0]} of the run is not here", tags, choices)
    return Base(model, rate, pairs, _datasets(config.data), tests, tags=tags, choices=choices)


def _missing(entries: Any) -> list[str]:
    """The files of a source, as the manifest names them, that do not exist."""
    if not isinstance(entries, list) or not entries:
        return ["the data"]
    return [str(entry["path"]) for entry in entries if "sha256" in entry and not Path(entry["path"]).exists()]


def _datasets(data: DataConfig) -> list[dict[str, Any]]:
    """The training sources of a run as datasets of a mixture."""
    if not isinstance(data.train, MixtureSource):
        tag = {} if data.train.tag is None else {"tag": data.train.tag}
        source = data.train.model_dump(mode="json", exclude_defaults=True, exclude={"tag"})
        return [{"name": "old", "source": {"kind": data.train.kind, **source}, **tag}]
    kept = {"weight", "temperature"}
    return [
        {**each.model_dump(mode="json", exclude_defaults=True, exclude=kept), "name": f"old-{each.name}"}
        for each in data.datasets
    ]


@dataclass(frozen=True)
class Tuned(Choice):
    """A fine-tuning.

    Attributes:
        why: the reason why no old data are mixed in; empty if some are.
    """

    base: Base
    tuning: Tuning
    why: str

    @property
    def pieces(self) -> int:
        """The most new pieces."""
        return int(self.settings["init"].get("extend_vocabulary", 0))


def choose_tuning(
    request: Request, material: Material, base: Base, device: str, bench: Measuring, tell: Callable[[str], None]
) -> Tuned:
    """Choose the settings; new pieces, if the vocabulary of the model lacks many characters of the data.

    Raises:
        NmtError: the data or the model cannot be used.
    """
    draft = _Draft(request, material, base, device, recipes.tuning_for(material.pairs), _why(request, material, base))
    tell(f"measuring {base.model.name} on a sample of the data")
    measured, halvings = fitting(bench, lambda halvings: draft.settings(halvings, 0, base.reference))
    pieces = 0
    if measured.unknown > NOTICED:
        pieces = draft.tuning.pieces
        tell(f"the vocabulary lacks {measured.unknown:.1%} of the subwords; learning up to {pieces:,} new pieces")
        measured, halvings = fitting(bench, lambda halvings: draft.settings(halvings, pieces, base.reference))
    return draft.finished(measured, halvings, pieces)


def _why(request: Request, material: Material, base: Base) -> str:
    """The reason why the data of the run are not mixed in; empty if they are."""
    if base.why or request.valid or base.pairs <= recipes.REPLAYED * material.pairs:
        return base.why
    return f"a part held out of all would be mostly old: the run has {base.pairs:,} pairs; name new ones with --valid"


@dataclass(frozen=True)
class _Draft:
    """A fine-tuning whose pace is not known yet."""

    request: Request
    material: Material
    base: Base
    device: str
    tuning: Tuning
    why: str

    def finished(self, measured: Measured, halvings: int, pieces: int) -> Tuned:
        # Parts
        held = round(self._fraction() * self.material.pairs)
        parts = (not self.request.valid) + ("heldout" in self._tests())
        pairs = self.material.pairs - parts * held
        replayed = 0 if self.why else self.base.pairs
        valid = self.request.valid_pairs or round(self._fraction() * (self.material.pairs + replayed))
        # Updates: half of the pairs of each are new, where others are mixed in
        updates = measured.updates * pairs / self.material.pairs * (1 if self.why else 2)
        most = int(recipes.rounded(max(1.0, self.tuning.passes * updates), 2))
        allowed = recipes.training_minutes(self.request.minutes)
        steps, every, minutes = paced(most, allowed, measured.cost.step_seconds, measured.validation_seconds(valid))
        return Tuned(
            settings=self.settings(halvings, pieces, self.base.model.name, most, steps, every),
            measured=measured,
            steps=steps,
            train_pairs=pairs,
            valid_pairs=valid,
            epoch_updates=updates,
            minutes=minutes,
            base=self.base,
            tuning=self.tuning,
            why=self.why,
        )

    def settings(
        self, halvings: int, pieces: int, name: str, most: int = 1000, steps: int = 1000, every: int = 1000
    ) -> dict[str, Any]:
        """The settings of a run of ``steps`` updates; ``most`` is the most useful number of them."""
        share = recipes.EXTENDED_RATE if pieces else recipes.TUNED_RATE
        return {
            "name": self.request.name,
            "init": {"from": name, **({"extend_vocabulary": pieces} if pieces else {})},
            "data": {
                "src_lang": self.request.languages.src,
                "tgt_lang": self.request.languages.tgt,
                "train": self._train(),
                "valid": self._tagged(self.request.valid) if self.request.valid else self._holdout(),
                "test": self._tests(),
            },
            "train": {
                "max_minutes": recipes.training_minutes(self.request.minutes),
                "max_steps": most,
                **recipes.batches(self.tuning.batch, self.device, halvings),
                "optimizer": {"lr": recipes.rounded(share * (self.base.rate or recipes.USUAL_RATE), 2)},
                "schedule": {"warmup_steps": recipes.warmup(steps)},
                "validate_every": every,
                "valid_beam_size": 1,
            },
        }

    def _train(self) -> Any:
        """The new pairs, and as many of the run."""
        if self.why:
            return self._tagged(self.material.source)
        share = recipes.rounded(1 / len(self.base.replay), 3)
        tags = {"tag": _written(self.base.tags)} if self.base.tags else {}
        new = {"name": NEW, "source": self.material.source, **tags, "weight": 1}
        return [new, *({**dataset, "weight": share} for dataset in self.base.replay)]

    def _tagged(self, source: Any) -> Any:
        """A source with the tags that the model knows before each sentence."""
        if not self.base.tags:
            return source
        named = {"kind": "auto", "path": source} if isinstance(source, str) else dict(source)
        return {**named, "tag": _written(self.base.tags)}

    def _tests(self) -> dict[str, Any]:
        """The test sets that were named, else a part held out where it is not mostly old; and those of the run.

        Test sets of the run with tags that no training pair has are left out.
        """
        mostly_old = not self.why and self.base.pairs > recipes.REPLAYED * self.material.pairs
        known = {tag for one in self.base.replay for tag in as_tags(one.get("tag"))} if not self.why else set()
        known |= set(self.base.tags)
        old = {name: one for name, one in self.base.tests.items() if known.issuperset(as_tags(one.get("tag")))}
        held_out = {} if mostly_old and old else {"heldout": self._holdout()}
        return {**({name: self._tagged(one) for name, one in self.request.tests.items()} or held_out), **old}

    def _holdout(self) -> dict[str, Any]:
        return {"kind": "holdout", "fraction": self._fraction()}

    def _fraction(self) -> float:
        return recipes.held_fraction(self.tuning.held, self.material.pairs)


def _written(tags: tuple[str, ...]) -> Any:
    """The value of a key ``tag``."""
    return tags[0] if len(tags) == 1 else list(tags)
