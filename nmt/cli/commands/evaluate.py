"""``nmt evaluate``: BLEU, chrF and TER of a trained run."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from operator import ne
from pathlib import Path
from typing import TYPE_CHECKING

from nmt.cli import next_steps
from nmt.cli.parser import Parser
from nmt.cli.searching import checked_search
from nmt.cli.streams import reading_lines
from nmt.errors import ConfigError, DataError
from nmt.numbers import count_of
from nmt.runtime import garbage
from nmt.runtime.progress import showing
from nmt.runtime.streams import require_output

if TYPE_CHECKING:
    from nmt.evaluation.sets import Evaluated

HELP = "score a trained run with sacreBLEU"


def add_arguments(parser: Parser) -> None:
    parser.add_run()
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--set-name", metavar="NAME", help="score only this test set (or valid)")
    chosen.add_argument("--src", metavar="FILE", help="source file, with --ref")
    text = "reference translations of --src; several files: each sentence has several references"
    parser.add_argument("--ref", metavar="FILE", nargs="+", action="extend", help=text)
    parser.add_tags()
    parser.add_ensemble()
    text = "also upper case, title case, no punctuation, typos and noise in the sources: the loss of each"
    parser.add_argument("--robust", action="store_true", help=text)
    for name, title in (("comet", "COMET"), ("metricx", "MetricX")):
        text = f"also {title} by this model, a name in the cache of Hugging Face or a path (default: evaluation.{name})"
        parser.add_argument(f"--{name}", metavar="MODEL", help=text)
    parser.add_search()
    text = "as --search, with the section: --set search.beam_size=1"
    parser.add_argument("--set", metavar="search.KEY=VALUE", nargs="+", action="extend", default=[], help=text)


def run(arguments: argparse.Namespace) -> None:
    from nmt.run.directory import Run
    from nmt.translation.ensembles import Others

    # Options
    require_output(", so that the scores would not be shown; redirect it to a file (> FILE)")
    if (arguments.src is None) != (arguments.ref is None):
        raise DataError("--src and --ref belong together: one file of sources, one or more of references")
    if arguments.tag and arguments.src is None:
        raise DataError("--tag: needs --src and --ref; a test set has its tag in the configuration (data.test)")
    opened, others = Run.open(arguments.run), Others.open(arguments.ensemble, arguments.ensemble_average)
    # Scores
    with showing("loading PyTorch", unit=""):
        from nmt import pipeline
        from nmt.evaluation import scores
        from nmt.evaluation.robustness import VARIANTS

    for given in arguments.set:
        if not given.startswith("search."):
            raise ConfigError(
                f"--set {given}: nmt evaluate changes keys of the section search only, as search.beam_size=1"
            )
    named = {"comet": arguments.comet, "metricx": arguments.metricx}
    learned = {name: model for name, model in named.items() if model is not None}
    overrides = checked_search(opened, arguments.search, arguments.set)
    garbage.resume()
    if arguments.src is not None:
        name = Path(arguments.src).name
        sources, *references = _columns(arguments.src, arguments.ref)
        found = pipeline.evaluate_lines(
            opened, name, sources, references, overrides, arguments.tag, arguments.robust, others, learned
        )
    else:
        found = pipeline.evaluate(opened, arguments.set_name, overrides, arguments.robust, others, metrics=learned)
    # Output
    originals = list(found)[:: 1 + len(VARIANTS)] if arguments.robust else list(found)
    print(scores.table({name: found[name].scores for name in originals}))
    kinds = {"valid": "validation"} if arguments.src is None else {}
    kind = "test" if arguments.src is None else "file"
    print("\n".join(f"{name}: {kinds.get(name, kind)}, {found[name].about}" for name in originals))
    if arguments.robust:
        print("".join(f"\n{name} with changed sources:\n{_losses(name, found)}\n" for name in originals), end="")
    if stored := [str(one.stored) for one in found.values() if one.stored is not None]:
        print(f"\nstored in {', '.join(stored)}")
    if opened.load_config().model.attends:
        print(f"next: {next_steps.attention(arguments.run)} writes a page of attention maps")


def _losses(name: str, found: Mapping[str, Evaluated]) -> str:
    """The table of what the variants of a set cost."""
    from nmt.evaluation.robustness import VARIANTS, loss_table

    original, changed = found[name], {kind: found[f"{name}@{kind}"] for kind in VARIANTS}
    counts = {kind: sum(map(ne, original.sources, one.sources)) for kind, one in changed.items()}
    return loss_table(original.scores, {kind: one.scores for kind, one in changed.items()}, counts)


def _columns(src: str, refs: Sequence[str]) -> list[list[str]]:
    """The lines of the sources and of each file of references.

    Raises:
        DataError: the files have different numbers of lines.
    """
    found = []
    for path in (src, *refs):
        with reading_lines(path) as lines:
            found.append(list(lines))
        if len(found[-1]) != len(found[0]):
            raise DataError(
                f"{src} has {count_of(len(found[0]), 'line')} but {path} has {len(found[-1]):,}; line n of one must "
                "match line n of the other"
            )
    return found
