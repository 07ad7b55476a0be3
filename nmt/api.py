"""nmt from Python: ``import nmt; model = nmt.load("runs/demo"); model.translate(["A sentence."])``.

The package has the names of this module: ``nmt.load`` is ``nmt.api.load``. Importing ``nmt`` alone loads no library.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, overload

from nmt.config.search import Average
from nmt.errors import DataError
from nmt.run.directory import Run, load_experiment
from nmt.translation.ensembles import Others
from nmt.translation.loading import EngineName, load_translator
from nmt.translation.texts import Texts, kinds_of
from nmt.translation.translator import Translation, input_line

if TYPE_CHECKING:
    import numpy as np

    from nmt.pipeline import Trained
    from nmt.translation.forced import Score
    from nmt.translation.translator import Translator


@dataclass(frozen=True)
class Attention:
    """What a model attends to while it reads a translation.

    Attributes:
        source, target: subwords, the end included.
        weights: [layers, heads, T, S] float32: of each target subword over the source. Rows sum to 1, or to less with
            ``model.alignment: local_predictive``.
    """

    source: list[str]
    target: list[str]
    weights: np.ndarray[Any, np.dtype[np.float32]]


class Model:
    """A trained model, as :func:`load` returns it. Threads may share it; it computes for one at a time."""

    def __init__(self, run: Run, translator: Translator[Any], engine: EngineName):
        self.run, self.translator, self._engine = run, translator, engine
        self._computing = threading.RLock()  # reading attention hooks into the modules that a search uses

    @overload
    def translate(
        self,
        texts: Sequence[str],
        *,
        prefixes: Sequence[str] | None = None,
        protect: bool | Sequence[str] | None = None,
        split: bool | None = None,
    ) -> list[str]: ...

    @overload
    def translate(
        self,
        texts: Sequence[str],
        nbest: int,
        *,
        prefixes: Sequence[str] | None = None,
        protect: bool | Sequence[str] | None = None,
        split: bool | None = None,
    ) -> list[list[Translation]]: ...

    def translate(
        self,
        texts: Sequence[str],
        nbest: int | None = None,
        *,
        prefixes: Sequence[str] | None = None,
        protect: bool | Sequence[str] | None = None,
        split: bool | None = None,
    ) -> list[str] | list[list[Translation]]:
        """Translate sentences.

        Args:
            texts: one sentence each; a newline inside counts as a space.
            nbest: None: the text of the best translation of each. A number: the n best translations of each with their
                scores, best first.
            prefixes: text that the translations of each begin with; an empty one leaves them free.
            protect: kinds of placeholders that translations keep, such as ``["variables", "tags"]``; True: all kinds;
                None: as the section ``translate`` of the run says.
            split: whether each text is a paragraph, to be split into sentences; None: as the run says.

        Raises:
            ConfigError: ``nbest`` is over the beam size; load the model with a larger ``beam_size``. Or there is no
                such kind of placeholder.
            DataError: there are not as many prefixes as texts; or texts with prefixes are split or protected.
        """
        lines = [input_line(text) for text in _several(texts)]
        starts = [input_line(text) for text in _several([] if prefixes is None else prefixes)]
        if prefixes is not None and len(starts) != len(lines):
            raise DataError(
                f"{len(lines):,} texts but {len(starts):,} prefixes; give one for each text (it may be empty)"
            )
        if nbest is not None and (isinstance(nbest, bool) or not isinstance(nbest, int)):
            raise DataError(f"nbest: must be a whole number, found {_shown(nbest)}")
        if not isinstance(split, bool | None):
            raise DataError(f"split: must be True, False or None, found {_shown(split)}")
        with self._computing:
            found = self._texts(protect, split).translate(lines, 1 if nbest is None else nbest, None, 1, starts)
        return found if nbest is not None else [best.text for best, *_ in found]

    def translate_document(
        self, text: str, format: str = "text", *, protect: bool | Sequence[str] | None = None
    ) -> str:
        """Translate the text of a document sentence by sentence, and keep its markup.

        Args:
            format: ``text`` (each line a paragraph), ``paragraphs`` (between blank lines), ``srt``, ``html`` or ``md``.

        Raises:
            DataError: there is no such format.
        """
        from nmt.text.documents import FORMATS, parse

        if format not in FORMATS:
            raise DataError(f"format: {format!r} is not one of {', '.join(FORMATS)}")
        parts = parse(_one(text), format)
        with self._computing:
            return "".join(block for block, _ in self._texts(protect, True).document(parts))

    def _texts(self, protect: bool | Sequence[str] | None, split: bool | None) -> Texts:
        from nmt.insight.alignment import aligner_of

        config = self.run.load_config()
        if protect is None:
            kinds: Sequence[str] = config.translate.protect
        elif isinstance(protect, bool):
            kinds = kinds_of(["all" if protect else "none"])
        else:
            kinds = kinds_of([protect] if isinstance(protect, str) else _several(protect, "kinds of placeholders"))
        chosen = config.translate.split if split is None else split
        return Texts(self.translator, kinds, chosen, config.data.src_lang, lambda: aligner_of(self.translator))

    def score(self, sources: Sequence[str], targets: Sequence[str]) -> list[Score]:
        """Log-probabilities of given translations, and of their subwords.

        Raises:
            DataError: there are not as many sources as targets, or one is too long.
        """
        from nmt.translation.forced import Scorer

        self._needs_pytorch("score")
        lines, others = ([input_line(text) for text in _several(side)] for side in (sources, targets))
        with self._computing:
            return Scorer(self.translator)(lines, others)

    def attention(self, source: str, target: str | None = None) -> Attention:
        """Attention weights over the source.

        Args:
            target: a translation; None: the model's best.

        Raises:
            DataError: the model has no attention, or a side has no text.
        """
        from nmt.insight.attention import read_maps

        self._needs_pytorch("attention")
        translator, tokenizer = self.translator, self.translator.tokenizer
        line = input_line(_one(source))
        with self._computing:
            [src] = translator.encode([line])
            if target is None:
                [[best]] = translator.translate([line])
                tgt: Sequence[int] = best.tokens
            else:
                [tgt] = tokenizer.encode_tgt([input_line(_one(target))])
            if not src or not tgt:
                raise DataError("attention needs text on both sides")
            [maps] = read_maps(translator.engine.model, tokenizer, src, [tgt])
        if maps.cross is None:
            raise DataError("the model has no attention (model.attention: none)")
        end = "</s>"
        return Attention([*tokenizer.src_pieces(src), end], [*tokenizer.tgt_pieces(tgt), end], maps.cross.numpy())

    def _needs_pytorch(self, method: str) -> None:
        if self._engine != "pytorch":
            raise DataError(f"{method}: --engine {self._engine} does not support it; load the model without engine")

    def __repr__(self) -> str:
        data = self.run.load_config().data
        return f"<nmt.Model {self.run.path}: {data.src_lang} to {data.tgt_lang}>"


def load(
    run: str | Path,
    device: str | None = None,
    engine: EngineName = "pytorch",
    *,
    ensemble: Sequence[str | Path] = (),
    ensemble_average: Average | None = None,
    tags: Sequence[str] = (),
    **search: Any,
) -> Model:
    """Load the final weights of a run, or the best so far while it is not finished.

    Args:
        run: run directory, or its name under ``runs/``.
        device: ``cpu``, ``cuda`` or ``mps``; None: as the run was trained with.
        engine: ``ctranslate2`` for speed, if installed.
        ensemble: further runs, which must have the vocabulary of ``run``: the model is the average of all.
        ensemble_average: ``probability`` (default) or ``log_probability``, for the geometric mean.
        tags: before each source, of the tags of the training.
        search: settings of the section ``search``, such as ``beam_size=8``.

    Raises:
        RunError: there is no such run, or it has no weights yet.
        ConfigError: a search setting is wrong, or a run has another vocabulary.
        TokenizerError: the run has no such tag.
    """
    opened = Run.open(str(run))
    if isinstance(ensemble, str | Path):
        ensemble = [ensemble]
    others = Others.open([str(each) for each in ensemble], ensemble_average)
    translator = load_translator(opened, search, device, engine, others)
    translator.use_tags([tags] if isinstance(tags, str) else tags)
    return Model(opened, translator, engine)


def train(config: str | Path, settings: Mapping[str, Any] | None = None) -> Trained:
    """Train, or resume an unfinished run, then evaluate; as ``nmt train CONFIG --set KEY=VALUE``.

    Messages go to the logger ``nmt``; where no handler is set, as in a notebook, they are printed.

    Args:
        config: YAML file, or the name of an installed one such as ``demo``.
        settings: values that replace those of the file, by dotted key: ``{"train.max_steps": 100}``.

    Returns:
        ``scores`` of each test set, ``run.path`` for :func:`load`, and what the command prints.

    Raises:
        ConfigError, DataError, TrainingError, Interrupted: as the command; all that was trained is saved.
    """
    import yaml

    from nmt import pipeline

    def value(given: Any) -> str:
        return yaml.safe_dump(given, default_flow_style=True, width=10**9).removesuffix("\n").removesuffix("\n...")

    if not isinstance(settings, Mapping | None):
        raise DataError(f'settings: must be a dictionary such as {{"train.max_steps": 100}}, found {_shown(settings)}')
    overrides = [f"{key}={value(given)}" for key, given in (settings or {}).items()]
    with _printing():
        return pipeline.train(load_experiment(str(config), overrides))


@contextmanager
def _printing() -> Iterator[None]:
    """Print log messages of nmt if no handler is configured."""
    logger = logging.getLogger("nmt")
    if logger.hasHandlers():
        yield
        return
    handler, level = logging.StreamHandler(cast(Any, sys.stderr)), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _several(texts: Sequence[str], name: str = "sentences") -> Sequence[str]:
    """
    Raises:
        DataError: one string, whose characters would be taken for sentences; or something that is no string.
    """
    if isinstance(texts, str):
        raise DataError(f"expected a list of {name}, not one string; write [{texts[:20]!r}]")
    if not isinstance(texts, Iterable):
        raise DataError(f"expected a list of {name}, found {_shown(texts)}")
    texts = list(texts)
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"expected a list of strings; number {place} is {_shown(text)}")
    return texts


def _one(text: str) -> str:
    """
    Raises:
        DataError: not a string.
    """
    if not isinstance(text, str):
        raise DataError(f"expected one string, found {_shown(text)}")
    return text


def _shown(value: object) -> str:
    return repr(value)[:40]
