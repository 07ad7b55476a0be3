"""``nmt prepare``: corpus, tokenizer and encoded pairs."""

from __future__ import annotations

import argparse

from nmt.cli import next_steps
from nmt.cli.parser import Parser
from nmt.runtime import garbage
from nmt.runtime.progress import showing

HELP = "clean the corpus, train the tokenizer, encode the pairs (cached)"


def add_arguments(parser: Parser) -> None:
    parser.add_config()


def run(arguments: argparse.Namespace) -> None:
    from nmt.run.directory import load_experiment

    config = load_experiment(arguments.config, arguments.overrides)
    with showing("loading PyTorch", unit=""):
        from nmt import pipeline

    garbage.resume()
    prepared = pipeline.prepare(config)
    print(f"prepared {prepared.encoded.path}; next: {next_steps.command('train', arguments)}")
