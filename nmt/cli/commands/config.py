"""``nmt config``: the resolved configuration, or the JSON schema of all keys."""

from __future__ import annotations

import argparse
import json
import sys

from nmt.cli.parser import Parser
from nmt.errors import ConfigError
from nmt.runtime.streams import require_output

HELP = "print the resolved configuration, or the JSON schema of all keys"


def add_arguments(parser: Parser) -> None:
    parser.add_config("?")
    parser.add_argument("--schema", action="store_true", help="print the JSON schema, for editors")


def run(arguments: argparse.Namespace) -> None:
    require_output(", so that nothing can be printed")
    if arguments.schema:
        from nmt.config.experiment import json_schema

        print(json.dumps(json_schema(), indent=2))
        return
    if arguments.config is None:
        raise ConfigError("name a configuration file, or ask for --schema")
    from nmt.run.directory import Run, load_experiment

    config = load_experiment(arguments.config, arguments.overrides)
    config = Run(config.run_dir).settle(config)
    unicode = (sys.stdout.encoding or "utf-8").lower().startswith("utf")  # else YAML's escapes, for the same values
    print(config.to_yaml(allow_unicode=unicode), end="")
