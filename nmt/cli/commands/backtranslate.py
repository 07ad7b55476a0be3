"""``nmt backtranslate``: monolingual target text becomes a corpus with synthetic sources."""

from __future__ import annotations

import argparse
import math

from nmt.cli.parser import Parser
from nmt.cli.searching import check_counts, load_searching, use_tags
from nmt.cli.synthetic import add_output, output_of, report
from nmt.errors import DataError
from nmt.runtime import garbage

HELP = "back-translate monolingual target text with a run of the reverse direction"


def add_arguments(parser: Parser) -> None:
    parser.add_run()
    text = "text in the source language of the run, one sentence per line; plain or compressed"
    parser.add_argument("--mono", metavar="FILE", required=True, help=text)
    add_output(parser)
    parser.add_ensemble()
    text = "skip pairs whose synthetic source has a lower mean log-probability per subword (nmt score --mean)"
    parser.add_argument("--min-score", type=float, metavar="X", help=text)
    parser.add_argument("--scores", action="store_true", help="write the mean log-probability of each synthetic source")


def run(arguments: argparse.Namespace) -> None:
    # Check
    from nmt.run.directory import Run
    from nmt.translation.ensembles import Others

    check_counts(arguments.beam_size, None)
    if arguments.min_score is not None and not math.isfinite(arguments.min_score):
        raise DataError(f"--min-score {arguments.min_score}: must be a number, such as -1.5")
    if arguments.engine != "pytorch" and (arguments.scores or arguments.min_score is not None):
        raise DataError(f"--scores, --min-score: --engine {arguments.engine} gives no scores; remove --engine")
    opened, others = Run.open(arguments.run), Others.open(arguments.ensemble, arguments.ensemble_average)
    data = opened.load_config().data
    output, share = output_of(arguments, (data.tgt_lang, data.src_lang))
    # Load
    from nmt.augment.backtranslation import back_translate

    how = arguments.search, arguments.beam_size, 1, arguments.device, arguments.engine
    translator = load_searching(opened, *how, others)
    use_tags(translator, arguments.tag, opened)
    garbage.resume()
    # Translate
    result = back_translate(translator, arguments.mono, output, arguments.scores, arguments.min_score, share)
    report(result, output, "back", ' tag: "<bt>",')
