"""Choose the settings of a training from the table of recipes, the data, the device and the time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from nmt.config import recipes
from nmt.config.recipes import SIZES, Recipe
from nmt.errors import TrainingError
from nmt.numbers import plain
from nmt.starting.material import Languages, Material
from nmt.starting.measure import Measured

HALVINGS = 5  # of a batch that does not fit into the memory
FASTEST = {"cpu": 4e12, "mps": 3e13, "cuda": 5e14}  # operations per second that no device of the kind exceeds
COVERAGE = 0.9995  # share of the characters, of an alphabet that would fill much of the vocabulary
LARGEST_ALPHABET = 0.25  # of the vocabulary


class Measuring(Protocol):
    def measure(self, settings: Mapping[str, Any]) -> Measured: ...


@dataclass(frozen=True)
class Request:
    """What the user asks for.

    Attributes:
        minutes: of the whole training.
        valid, tests: values of ``data.valid`` and ``data.test``; None and empty where parts are to be held out.
        valid_pairs: number of pairs of ``valid``.
    """

    name: str
    languages: Languages
    minutes: float
    valid: Any = None
    tests: Mapping[str, Any] = field(default_factory=dict)
    valid_pairs: int = 0


@dataclass(frozen=True)
class Choice:
    """A configuration, and what it is expected to take.

    Attributes:
        settings: as in a YAML file.
        steps: updates until the first limit.
        train_pairs, valid_pairs: expected sizes of the parts.
        epoch_updates: updates per epoch.
        minutes: expected time of the training, validations included.
    """

    settings: dict[str, Any]
    measured: Measured
    steps: int
    train_pairs: int
    valid_pairs: int
    epoch_updates: float
    minutes: float

    @property
    def is_cut_short(self) -> bool:
        """Whether the time limit ends the training before the number of updates that suits the data."""
        return bool(self.steps < self.settings["train"]["max_steps"])


@dataclass(frozen=True)
class NewModel(Choice):
    """A model that is trained from the start, by a row of the table for one of its sizes."""

    recipe: Recipe
    size: str


def choose(
    request: Request, material: Material, device: str, bench: Measuring, tell: Callable[[str], None]
) -> NewModel:
    """Choose the settings; try models from the largest one down until the time is enough for one.

    A smaller model whose updates take longer than those of a larger one is not chosen. On a GPU a recurrent model is
    such a one: it steps through time, and each step has to be launched.

    Args:
        device: its type.
        tell: says what is measured.

    Raises:
        NmtError: the data cannot be used.
    """
    recipe = recipes.recipe_for(material.pairs)
    seconds = 60 * recipes.training_minutes(request.minutes)
    chosen: tuple[Measured, _Draft] | None = None
    for size in recipe.sizes:
        draft = _Draft(request, material, device, recipe, size)
        if not recipe.enough(seconds * FASTEST[device] / max(1.0, draft.operations()), size):
            continue
        tell(f"measuring {SIZES[size].title} on a sample of the data")
        measured, draft = _measure(draft, bench)
        took = f"{plain(measured.cost.step_seconds, 2)} s an update"
        if chosen is not None and measured.cost.step_seconds > chosen[0].cost.step_seconds:
            tell(f"slower: {took}; keeping {SIZES[chosen[1].size].title}")
            break
        chosen = measured, draft
        if recipe.enough(seconds / measured.cost.step_seconds, size):
            break
        tell(f"too slow: {took}; trying a smaller model")
    assert chosen is not None  # the smallest size is always worth its time
    return chosen[1].finished(chosen[0])


def _measure(draft: _Draft, bench: Measuring) -> tuple[Measured, _Draft]:
    measured, halvings = fitting(
        bench, lambda halvings: replace(draft, halvings=halvings).settings(draft.recipe.steps, draft.recipe.steps)
    )
    return measured, replace(draft, halvings=halvings)


def fitting(bench: Measuring, settings: Callable[[int], Mapping[str, Any]]) -> tuple[Measured, int]:
    """Measure settings; halve their batches until they fit into the memory.

    Args:
        settings: the settings by the number of halvings.
    """
    halvings = 0
    while True:
        try:
            return bench.measure(settings(halvings)), halvings
        except TrainingError:
            if halvings >= HALVINGS:
                raise
            halvings += 1


def paced(most: float, minutes: float, update: float, validation: float) -> tuple[int, int, float]:
    """Updates, updates between validations, and minutes of a training.

    Args:
        most: the most useful number of updates.
        minutes: the time that is allowed.
        update, validation: seconds of one.
    """
    steps, every = most, 1
    for _ in range(3):  # the cadence depends on the updates, and the updates on the cadence
        every = recipes.validate_every(steps, update, validation)
        steps = min(most, 60 * minutes / (update + validation / every))
    whole = max(1, int(steps))
    expected = (whole * update + -(-whole // every) * validation) / 60
    return whole, every, min(minutes, expected)


@dataclass(frozen=True)
class _Draft:
    """A choice whose pace is not known yet."""

    request: Request
    material: Material
    device: str
    recipe: Recipe
    size: str
    halvings: int = 0

    def operations(self) -> float:
        """Floating-point operations of an update: 6 for each parameter and token (Kaplan et al. 2020).

        0 for a recurrent model, whose pace depends on the number of its steps.
        """
        model, tokens = SIZES[self.size].model, min(self.recipe.batch, SIZES[self.size].batch)
        if model["type"] == "rnn":
            return 0.0
        width, inner = model["d_model"], model["d_ff"]
        encoder = model["encoder_layers"] * (4 * width**2 + 2 * width * inner)
        decoder = model["decoder_layers"] * (8 * width**2 + 2 * width * inner)
        return 6.0 * tokens * (encoder + decoder + width * recipes.vocabulary(self.recipe, self.size))

    def finished(self, measured: Measured) -> NewModel:
        """The choice for the pace that was measured."""
        minutes = recipes.training_minutes(self.request.minutes)
        train_pairs, valid_pairs = self._parts()
        epoch_updates = measured.updates * train_pairs / self.material.pairs
        update, validation = measured.cost.step_seconds, measured.validation_seconds(valid_pairs)
        steps, every, minutes = paced(self.recipe.steps, minutes, update, validation)
        # A vocabulary that the text cannot fill
        whole = len(self.material.sample) == self.material.pairs
        lowered = whole and measured.vocab_size < self._vocabulary()[0]
        vocab_size = int(recipes.rounded(0.95 * measured.vocab_size, 2)) if lowered else None
        settings = self.settings(steps, every, vocab_size)
        return NewModel(
            settings=settings,
            recipe=self.recipe,
            size=self.size,
            measured=measured,
            steps=steps,
            train_pairs=train_pairs,
            valid_pairs=valid_pairs,
            epoch_updates=epoch_updates,
            minutes=minutes,
        )

    def settings(self, steps: float, validate_every: int, vocab_size: int | None = None) -> dict[str, Any]:
        """The settings of a run of ``steps`` updates."""
        recipe, size, request = self.recipe, SIZES[self.size], self.request
        asked, coverage = self._vocabulary()
        held = {"kind": "holdout", "fraction": self._fraction()}
        return {
            "name": request.name,
            "data": {
                "src_lang": request.languages.src,
                "tgt_lang": request.languages.tgt,
                "train": self.material.source,
                "valid": request.valid or held,
                "test": dict(request.tests) or {"heldout": held},
            },
            "tokenizer": {
                "vocab_size": vocab_size or asked,
                **({"character_coverage": coverage} if coverage < 1.0 else {}),
            },
            "model": recipes.model_settings(recipe, self.size),
            "train": {
                "max_minutes": recipes.training_minutes(request.minutes),
                "max_steps": recipe.steps,
                **recipes.update(recipe, self.size, self.device, self.halvings),
                "label_smoothing": recipe.label_smoothing,
                "optimizer": {"lr": size.lr},
                "schedule": {"warmup_steps": recipes.warmup(steps)},
                "validate_every": validate_every,
                "valid_beam_size": 1,
            },
        }

    def _fraction(self) -> float:
        return recipes.held_fraction(self.recipe.held, self.material.pairs)

    def _parts(self) -> tuple[int, int]:
        """The expected numbers of training and of validation pairs."""
        held = round(self._fraction() * self.material.pairs)
        parts = (not self.request.valid) + (not self.request.tests)
        return self.material.pairs - parts * held, self.request.valid_pairs or held

    def _vocabulary(self) -> tuple[int, float]:
        """The size of the vocabulary, which must hold the alphabet, and the share of the characters it covers."""
        asked = recipes.vocabulary(self.recipe, self.size)
        coverage = 1.0 if self.material.alphabet(1.0) <= LARGEST_ALPHABET * asked else COVERAGE
        return max(asked, int(recipes.rounded(2 * self.material.alphabet(coverage), 2))), coverage
