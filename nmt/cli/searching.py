"""The options of commands that translate: other search settings, a beam, and several translations of a line."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nmt.errors import DataError

if TYPE_CHECKING:
    from nmt.config.experiment import Config
    from nmt.insight.alignment import Aligner
    from nmt.run.directory import Run
    from nmt.translation.ensembles import Others
    from nmt.translation.loading import EngineName
    from nmt.translation.texts import Texts
    from nmt.translation.translator import Translator


log = logging.getLogger(__name__)


def check_counts(beam_size: int | None, nbest: int | None) -> None:
    """
    Raises:
        DataError: ``--beam-size`` or ``--nbest`` is out of bounds.
    """
    from nmt.config.search import MAX_BEAM

    for option, value in (("--beam-size", beam_size), ("--nbest", nbest)):
        if value is not None and not 1 <= value <= MAX_BEAM:
            raise DataError(f"{option} {value}: must be {'1 or more' if value < 1 else f'at most {MAX_BEAM}'}")


def use_tags(translator: Translator[Any], tags: Sequence[str], run: Run) -> None:
    """Let a translator put tags before each source; warn where all of the training had tags, and none is given.

    Raises:
        TokenizerError: the run has no such tag.
    """
    translator.use_tags(tags)
    data = run.load_config().data
    if not tags and data.datasets and all(dataset.tag for dataset in data.datasets):
        log.warning("warning: this run was trained with tags; choose with --tag: %s", ", ".join(data.tags))


def checked_search(run: Run, search: Sequence[str], settings: Sequence[str] = ()) -> dict[str, Any]:
    """The search settings of options, by key.

    Args:
        search: the words of ``--search``.
        settings: the words of ``--set``.

    Raises:
        ConfigError: a word is not KEY=VALUE, or the run cannot be searched so; the error names the option.
    """
    from nmt.config.load import search_overrides
    from nmt.translation.loading import configured

    given = {"--search": search_overrides(search), "--set": search_overrides(settings, "--set")}
    overrides = {key: value for one in given.values() for key, value in one.items()}
    configured(run, overrides, {key: option for option, one in given.items() for key in one})
    return overrides


def load_searching(
    run: Run,
    search: Sequence[str],
    beam_size: int | None,
    nbest: int,
    device: str | None,
    engine: EngineName,
    others: Others | None = None,
) -> Translator[Any]:
    """Load a translator with a beam that is wide enough for ``nbest`` translations of a line.

    Args:
        search: the words of ``--search``.
    """
    from nmt.translation.loading import configured, load_translator

    overrides = checked_search(run, search)
    if beam_size is not None:
        overrides["beam_size"] = max(beam_size, nbest)
        configured(run, overrides, {**dict.fromkeys(overrides, "--search"), "beam_size": "--beam-size"})
    elif nbest > configured(run, overrides).search.most:
        overrides["beam_size"] = nbest
    return load_translator(run, overrides, device, engine, others)


def texts_of(translator: Translator[Any], config: Config, protect: Sequence[str], split: bool) -> Texts:
    """A translator around which placeholders of the kinds ``protect`` are kept, and text is split."""
    from nmt.translation.texts import Texts

    def align() -> Aligner | None:
        if not hasattr(translator.engine, "model"):  # nor is PyTorch loaded then
            return None
        from nmt.insight.alignment import aligner_of

        return aligner_of(translator)

    return Texts(translator, protect, split, config.data.src_lang, align)
