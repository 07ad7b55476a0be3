"""``nmt compare``: whether a group of runs translates better than others."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from nmt.cli.parser import PARTING, Parser
from nmt.cli.streams import writing
from nmt.errors import DataError, RunError
from nmt.runtime import garbage
from nmt.runtime.progress import showing
from nmt.runtime.streams import require_output

if TYPE_CHECKING:
    from nmt.evaluation.comparison import Comparison
    from nmt.run.directory import Run

HELP = "compare groups of evaluated runs: means, significance tests, scores by kind of sentence"


def add_arguments(parser: Parser) -> None:
    text = "runs of A, then -- and the runs of B: a1 a2 -- b1 b2; two runs need no --; further groups follow after --"
    parser.add_argument("runs", metavar="RUN", nargs="+", help=text)
    parser.parted, parser.words = True, "runs"
    parser.add_argument("--set-name", metavar="NAME", help="test set (default: the first that all runs share)")
    add_outputs(parser)


def add_outputs(parser: Parser) -> None:
    """Add the options of how a comparison is shown, and of the files that it is written to."""
    text = "upper ends of the bins of source length, in words (default: %(default)s)"
    default = [5, 10, 15, 20, 30, 40, 60]
    parser.add_argument("--lengths", metavar="N", type=int, nargs="+", default=default, help=text)
    parser.add_argument("--html", metavar="FILE", help="also write one HTML page")
    parser.add_argument("--csv", metavar="FILE", help="also write all numbers")
    parser.add_argument("--latex", metavar="FILE", help="also write the table of scores")
    parser.add_argument("--plot", metavar="FILE.png", help="also draw scores, and BLEU by length and frequency")


def run(arguments: argparse.Namespace) -> None:
    from nmt.run.directory import Run

    # Check
    require_output(", so that the comparison would not be shown; redirect it to a file (> FILE)")
    check_outputs(arguments)
    sides = _sides(arguments.runs)
    opened = [Run.open(name) for side in sides for name in side]
    names = _names(opened)
    with showing("loading sacreBLEU", unit=""):
        from nmt.evaluation import comparison
        from nmt.evaluation.evaluated import Stored, common, training_targets
    garbage.resume()
    with outputs(arguments) as show:
        # Compute
        stored = [Stored(name, one) for name, one in zip(names, opened, strict=True)]
        name, evaluated = common(stored, arguments.set_name)
        left = iter(evaluated)
        groups = [[next(left) for _ in side] for side in sides]
        found = comparison.compare(
            name, groups, lambda: training_targets(stored[0].run, stored[0].config), lengths=arguments.lengths
        )
        # Show
        show(found)


def check_outputs(arguments: argparse.Namespace) -> None:
    """Check ``--lengths`` and the output files before the comparison.

    Raises:
        DataError: the ends of bins do not increase, a name is empty, two options name one file, or the plot has another
            format.
    """
    if sorted({*arguments.lengths, 0}) != [0, *arguments.lengths]:
        raise DataError(f"--lengths {' '.join(map(str, arguments.lengths))}: must increase and be at least 1")
    _check_files({name: getattr(arguments, name) for name in ("html", "csv", "latex", "plot")})
    if arguments.plot:
        from nmt.insight.figures import image_format

        image_format(Path(arguments.plot))


@contextmanager
def outputs(arguments: argparse.Namespace) -> Iterator[Callable[[Comparison], None]]:
    """Open the files of the options; yields the function that shows a comparison and writes it to them."""
    from nmt.evaluation import comparison_report
    from nmt.insight.figures import save_figure

    with ExitStack() as files:
        targets = [(render, files.enter_context(writing(path))) for path, render in (
            (arguments.html, comparison_report.page),
            (arguments.csv, comparison_report.as_csv),
            (arguments.latex, comparison_report.latex),
        ) if path is not None]  # fmt: skip

        def show(found: Comparison) -> None:
            for render, file in targets:
                file.write(render(found))
            if arguments.plot:
                save_figure(comparison_report.figure(found), Path(arguments.plot))
            print(comparison_report.text(found))

        yield show


def _sides(words: list[str]) -> list[list[str]]:
    """The groups of names that ``--`` separates.

    Raises:
        RunError: a group is empty, or there is only one.
    """
    if PARTING not in words:
        if len(words) == 2:
            return [words[:1], words[1:]]
        raise RunError("nmt compare needs two groups of runs with -- between them: nmt compare a1 a2 -- b1 b2")
    sides: list[list[str]] = [[]]
    for word in words:
        if word == PARTING:
            sides.append([])
        else:
            sides[-1].append(word)
    if [] in sides:
        where = "before" if not sides[0] else "after" if not sides[-1] else "between one -- and the next"
        raise RunError(f"no run {where}{'' if 'between' in where else ' --'}: nmt compare a1 a2 -- b1 b2")
    return sides


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
