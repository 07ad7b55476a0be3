"""``nmt compare``: whether one group of runs translates better than another."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from nmt.cli.parser import PARTING, Parser
from nmt.cli.streams import writing
from nmt.errors import DataError, RunError
from nmt.runtime import garbage
from nmt.runtime.progress import showing
from nmt.runtime.streams import require_output

if TYPE_CHECKING:
    from nmt.run.directory import Run

HELP = "compare two groups of evaluated runs: means, significance, kinds of sentences"


def add_arguments(parser: Parser) -> None:
    text = "runs of A, then -- and the runs of B: a1 a2 -- b1 b2; two runs need no --"
    parser.add_argument("runs", metavar="RUN", nargs="+", help=text)
    parser.parted, parser.words = True, "runs"
    parser.add_argument("--set-name", metavar="NAME", help="test set (default: the first that all runs share)")
    parser.add_argument("--html", metavar="FILE", help="also write one HTML page")
    parser.add_argument("--csv", metavar="FILE", help="also write all numbers")
    parser.add_argument("--latex", metavar="FILE", help="also write the table of scores")
    parser.add_argument("--plot", metavar="FILE.png", help="also draw scores, and BLEU by length and frequency")


def run(arguments: argparse.Namespace) -> None:
    from nmt.run.directory import Run

    # Check
    require_output(", so that the comparison would not be shown; redirect it to a file (> FILE)")
    _check_files({name: getattr(arguments, name) for name in ("html", "csv", "latex", "plot")})
    sides = _sides(arguments.runs)
    opened = [Run.open(name) for side in sides for name in side]
    names = _names(opened)
    with showing("loading sacreBLEU", unit=""):
        from nmt.evaluation import comparison, comparison_report
        from nmt.evaluation.evaluated import Stored, common, training_targets
    if arguments.plot:
        from nmt.insight.figures import image_format, save_figure

        image_format(Path(arguments.plot))
    garbage.resume()
    with ExitStack() as files:
        targets = [(render, files.enter_context(writing(path))) for path, render in (
            (arguments.html, comparison_report.page),
            (arguments.csv, comparison_report.as_csv),
            (arguments.latex, comparison_report.latex),
        ) if path is not None]  # fmt: skip
        # Compute
        stored = [Stored(name, one) for name, one in zip(names, opened, strict=True)]
        name, evaluated = common(stored, arguments.set_name)
        first = len(sides[0])
        found = comparison.compare(
            name, (evaluated[:first], evaluated[first:]), lambda: training_targets(stored[0].run, stored[0].config)
        )
        # Show
        for render, file in targets:
            file.write(render(found))
    if arguments.plot:
        save_figure(comparison_report.figure(found), Path(arguments.plot))
    print(comparison_report.text(found))


def _sides(words: list[str]) -> tuple[list[str], list[str]]:
    """The names before and after the parting.

    Raises:
        RunError: a side is empty, or there is not one parting.
    """
    parted = words.count(PARTING)
    if not parted and len(words) == 2:
        return words[:1], words[1:]
    if parted != 1:
        raise RunError("nmt compare needs two groups of runs with -- between them: nmt compare a1 a2 -- b1 b2")
    place = words.index(PARTING)
    if place in (0, len(words) - 1):
        raise RunError(f"no run {'before' if place == 0 else 'after'} --: nmt compare a1 a2 -- b1 b2")
    return words[:place], words[place + 1 :]


def _check_files(given: dict[str, str | None]) -> None:
    """Refuse an empty name, and a file that two options name.

    Raises:
        DataError: see above.
    """
    seen: dict[str, str] = {}
    for option, name in given.items():
        if name is None:
            continue
        path = os.path.realpath(name)
        if not name:
            raise DataError(f"--{option}: the name is empty; name a file")
        if path in seen:
            raise DataError(f"--{option} {name}: --{seen[path]} names the same file; name another")
        seen[path] = option


def _names(runs: Sequence[Run]) -> list[str]:
    """Names to show: those of the folders where they differ, else the paths.

    Raises:
        RunError: a run is named twice.
    """
    paths = [os.path.realpath(one.path) for one in runs]
    if twice := [str(one.path) for i, one in enumerate(runs) if paths[i] in paths[:i]]:
        raise RunError(f"{twice[0]}: is named twice; name each run once")
    short = [os.path.basename(path) for path in paths]
    return short if len({*short}) == len(short) else [str(one.path) for one in runs]
