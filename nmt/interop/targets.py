"""The programs that a run can be exported for. Nothing here is slow to import: the command line lists the names.

A further target is a module with a :class:`Target` named ``TARGET``, and an entry in :data:`TARGETS`.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple, Protocol

from nmt.advice import install

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nmt.config.experiment import Config
    from nmt.config.limits import ResolvedSearch
    from nmt.interop.parity import Lines
    from nmt.run.directory import Run
    from nmt.translation.pytorch import TorchEngine
    from nmt.translation.translator import Translator


def missing(package: str) -> str | None:
    """How to get the package that verifies an export; None where it is installed."""
    if find_spec(package) is not None:
        return None
    return f"{package} is not installed; {install(package)}, export again"


def language_code(language: str) -> str:
    """The code of a language without region or script: ``pt`` of ``pt-BR``."""
    return language.replace("_", "-").split("-")[0].lower()


class Listed(NamedTuple):
    """A target by name.

    Attributes:
        module: where ``TARGET`` is.
        weights: types of weights that the target can have, other than float32.
    """

    module: str
    weights: tuple[str, ...]


TARGETS = {
    "ctranslate2": Listed("nmt.interop.ctranslate2", ("int8", "float16")),
    "huggingface": Listed("nmt.interop.huggingface", ()),
    "marian": Listed("nmt.interop.marian", ()),
    "argos": Listed("nmt.interop.argos", ("int8", "float16")),
    "onnx": Listed("nmt.interop.onnx", ("int8", "float16")),
}


class Translated(NamedTuple):
    """The translation of one line by another program.

    Attributes:
        score: of its search, comparable with ours; None where the program does not tell it.
    """

    text: str
    score: float | None


class Exported(NamedTuple):
    """The run that is exported.

    Attributes:
        own: the run's translator in PyTorch.
        weights: their type.
        lines: what the export is checked with.
        earlier: folder of an export of the same run for the same program, with float32 weights, to build on.
    """

    run: Run
    config: Config
    own: Translator[TorchEngine]
    weights: str
    lines: Lines
    earlier: Path | None = None

    @property
    def quantize(self) -> str | None:
        """The type of weights other than float32, where a difference in results is intended."""
        return None if self.weights == "float32" else self.weights


class Target(Protocol):
    """A program that a run can be exported for.

    Attributes:
        own_search: whether the results of beam search are promised to be those of the run, or of greedy search only.
        own_limits: whether the comparison has the run's limits of length.
        tags: pattern of the tags that a user can put before a source there; None: any.
    """

    own_search: bool
    own_limits: bool
    tags: str | None

    def check(self, run: Run, config: Config) -> None:
        """Check what the target needs, before the weights are read.

        Raises:
            ExportError: the program is not installed, or cannot express the model.
        """

    def versions(self) -> dict[str, str]:
        """Versions of what writes the export, by name."""
        ...

    def unverified(self) -> str | None:
        """Why the export cannot be verified here, and what to install; None if it can."""
        ...

    def search(self, search: ResolvedSearch) -> ResolvedSearch:
        """The settings nearest to ``search`` that the program knows; the comparison is under these."""
        ...

    def write(self, folder: Path, exported: Exported) -> float | None:
        """Write model and tokenizer into ``folder``.

        Returns:
            The largest difference from the run in the log-probability of a token, on random sentences; None for
            quantized weights, and where it is not measured.

        Raises:
            ExportError: the export computes other probabilities than the run.
        """
        ...

    def translate(self, folder: Path, exported: Exported, lines: Sequence[str]) -> tuple[list[Translated], int]:
        """Translate by the program alone, from text to text, with ``exported.own.search``.

        Returns:
            Translations, and how many of them were left to the run's own search.
        """
        ...

    def readme(self, exported: Exported) -> str:
        """The text of README.md: how to use the export with the search settings of the run."""
        ...


def load_target(name: str) -> Target:
    target: Target = import_module(TARGETS[name].module).TARGET
    return target
