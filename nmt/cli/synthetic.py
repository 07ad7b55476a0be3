"""Options and report of the commands that write synthetic corpora."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from nmt.cli.parser import Parser

if TYPE_CHECKING:
    from nmt.augment.output import Output
    from nmt.augment.parts import Result, Share

ENGINES = ["pytorch", "ctranslate2"]


def add_output(parser: Parser) -> None:
    """Add the options of the search, the output and the share."""
    text = "corpus to write: a file (.tsv, .tsv.gz, .jsonl, .jsonl.gz), or a folder of two text files"
    parser.add_argument("-o", "--out", metavar="FILE", required=True, help=text)
    parser.add_search()
    parser.add_argument("--beam-size", type=int, metavar="N", help="override search.beam_size")
    parser.add_tags()
    text = "compute share I of N of the blocks; the process that finds all blocks writes the corpus"
    parser.add_argument("--shard", metavar="I/N", help=text)
    parser.add_choice("--device", "train.device", ["auto", "cpu", "cuda", "mps"], help="override train.device")
    text = "engine of the search; ctranslate2: the same translations, faster (needs: pip install ctranslate2)"
    parser.add_choice("--engine", "engine", ENGINES, default="pytorch", help=text)


def output_of(arguments: argparse.Namespace, languages: tuple[str, str]) -> tuple[Output, Share]:
    """
    Raises:
        DataError: ``--out`` or ``--shard`` is wrong.
    """
    from nmt.augment.output import Output
    from nmt.augment.parts import Share

    return Output(arguments.out, languages), Share.parse(arguments.shard)


def report(result: Result, output: Output, name: str, keys: str = "") -> None:
    """Print what was made, and how a training reads it."""
    from nmt.augment.parts import summary

    print("\n".join(summary(result, output)))
    if not result.missing:
        print("\nTo train with it, beside the corpus of the configuration:\n")
        print("data:\n  train:\n    - {name: pairs, source: YOUR PAIRS, weight: 1}")
        print(f"    - {{name: {name}, source: {output.source()},{keys} weight: 1}}")
