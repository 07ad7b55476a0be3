"""``nmt check``: check data and settings before a training."""

from __future__ import annotations

import argparse
import shutil
import sys
from contextlib import nullcontext

from nmt.cli.parser import Parser
from nmt.cli.streams import writing
from nmt.errors import CheckFailed
from nmt.runtime import garbage

HELP = "check data and settings before training: misalignment, noise, memory, time"


def add_arguments(parser: Parser) -> None:
    parser.add_config()
    parser.add_argument(
        "--data-only", action="store_true", help="only check the data: do not train the tokenizer, and measure nothing"
    )
    parser.add_argument("--html", metavar="FILE", help="also write the report as one HTML page")


def run(arguments: argparse.Namespace) -> None:
    from nmt.run.directory import load_experiment

    config = load_experiment(arguments.config, arguments.overrides)
    from nmt.checks import report
    from nmt.checks.data import check_data

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    with writing(arguments.html) if arguments.html else nullcontext() as file:
        findings = check_data(config.data, config.seed)
        print(report.text(findings, width), flush=True)
        if not arguments.data_only:
            from nmt import preflight

            garbage.resume()
            more = preflight.measure(config)
            print(report.text(more, width))
            findings += more
        print(f"\n{report.summary(findings)}")
        if file is not None:
            file.write(report.page(config.name, findings))
    if any(each.level == "problem" for each in findings):
        raise CheckFailed("the check found problems, see above; fix them before training")
