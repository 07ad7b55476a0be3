"""``nmt sweep``: train every point of a grid with several seeds, and compare them."""

from __future__ import annotations

import argparse
from functools import partial

from nmt.cli.commands import compare
from nmt.cli.parser import Parser
from nmt.errors import ConfigError, TrainingError
from nmt.runtime import garbage
from nmt.runtime.progress import showing
from nmt.runtime.streams import require_output

HELP = "train a grid of settings with several seeds, resume it, and compare the points"


def add_arguments(parser: Parser) -> None:
    text = "YAML file of a configuration or of an experiment (configs/experiments/), or a trained run to search again"
    parser.add_config(text=text)
    text = "number of seeds of each point, counted up from the seed of the configuration (default: 1)"
    parser.add_argument("--seeds", metavar="N", type=int, help=text)
    text = "values to combine: --grid model.attention=additive,dot; keys of search change no training"
    parser.add_argument("--grid", metavar="KEY=A,B", nargs="+", action="extend", default=[], help=text)
    parser.add_argument("--only", metavar="POINT", nargs="+", default=[], help="labels of the points to train")
    parser.add_argument("--jobs", metavar="N", type=int, default=1, help="number of parallel trainings (default: 1)")
    parser.add_argument("--set-name", metavar="NAME", help="test set of the comparison (default: the first)")
    compare.add_outputs(parser)


def run(arguments: argparse.Namespace) -> None:
    """
    Raises:
        TrainingError: a training failed; the others were compared.
    """
    from nmt.experiments.points import parse_grid, plan

    # Check
    require_output(", so that the comparison would not be shown; redirect it to a file (> FILE)")
    compare.check_outputs(arguments)
    for option in ("seeds", "jobs"):
        if (number := getattr(arguments, option)) is not None and number < 1:
            raise ConfigError(f"--{option} {number}: must be at least 1")
    grid = parse_grid(arguments.grid)
    sweep = plan(
        arguments.config, arguments.overrides, grid, arguments.seeds, arguments.set_name, arguments.only
    )  # fmt: skip
    with showing("loading sacreBLEU", unit=""):
        from nmt.evaluation.comparison import compare as compared
        from nmt.evaluation.evaluated import training_targets
        from nmt.experiments import running
    garbage.resume()
    with compare.outputs(arguments) as show:
        # Train
        progress = running.Progress.of(sweep)
        sweep = running.with_equal_time(sweep, progress)
        failed = running.Trainer(sweep, progress, arguments.jobs).train()
        # Compare
        groups, problems = running.results(sweep, failed)
        point = next(point for point in sweep.points if point.label in groups)
        one = next(one for one in point.trainings if one.run.path not in failed)
        targets = partial(training_targets, one.run, one.resolved)
        show(compared(sweep.test, list(groups.values()), targets, list(groups), arguments.lengths))
    if problems:
        names = ", ".join(path.name for path in problems)
        raise TrainingError(f"{names}: failed, and not part of the comparison; the messages are above")
