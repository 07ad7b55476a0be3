"""``nmt train``: from a configuration to BLEU."""

from __future__ import annotations

import argparse

from nmt.cli import next_steps
from nmt.cli.parser import Parser
from nmt.numbers import count_of
from nmt.runtime import garbage
from nmt.runtime.progress import showing

HELP = "train, or resume an unfinished run, then evaluate"


def add_arguments(parser: Parser) -> None:
    parser.add_config()


def run(arguments: argparse.Namespace) -> None:
    # Train
    from nmt.run.directory import load_experiment
    from nmt.runtime.startup import join

    with join() as ranks:
        config = ranks.on_main(lambda: load_experiment(arguments.config, arguments.overrides))
        with showing("loading PyTorch", unit=""):
            from nmt import pipeline
            from nmt.evaluation import scores

        garbage.resume()
        trained = pipeline.train(config, ranks)
    if not ranks.is_main:
        return
    # Print
    if trained.already and not trained.further:
        print(
            f"This run is finished ({count_of(trained.steps, 'step')}). Its checkpoints were deleted, so that it "
            "cannot be continued.\nTo train another run, name it: --set name=..."
        )
    elif trained.already:
        again = next_steps.command("train", arguments, trained.further)
        print(
            f"This run is finished ({count_of(trained.steps, 'step')}). To continue it, raise the limit that ended it, "
            f"{trained.reason}:\n  {again}\nTo train another run, name it: --set name=..."
        )
    if not trained.has_tests:
        print("\nThe configuration names no test set (data.test); these are scores of the validation set:")
    print("\n" + scores.table(trained.scores) + "\n")
    for source, reference, hypothesis in trained.samples:
        print(f"source      {source}\nreference   {reference}\nhypothesis  {hypothesis}\n")
    attends = trained.run.load_config().model.attends
    steps = next_steps.after_training(trained.run.path, trained.has_tests, attends)
    print(f"The run is in {trained.run.path}. Next:\n{steps}")
