"""``nmt score``: log-probabilities of given translations."""

from __future__ import annotations

import argparse
import json
from itertools import islice
from typing import TYPE_CHECKING

from nmt.cli.parser import Parser
from nmt.cli.searching import use_tags
from nmt.cli.streams import check_outputs, reading_lines, writing
from nmt.errors import DataError
from nmt.numbers import count_of
from nmt.runtime import garbage

if TYPE_CHECKING:
    from nmt.translation.forced import Score

HELP = "log-probabilities of given translations"
BLOCK = 2000  # pairs in memory


def add_arguments(parser: Parser) -> None:
    parser.add_run()
    parser.add_argument("--src", metavar="FILE", required=True, help="file of source sentences, one per line")
    parser.add_argument("--tgt", metavar="FILE", required=True, help="file of their translations, line by line")
    parser.add_argument("-o", "--output", metavar="FILE", help="file to write (default: standard output)")
    parser.add_argument(
        "--tokens", action="store_true", help="write JSON lines with the log-probability of each subword"
    )
    parser.add_argument("--mean", action="store_true", help="divide by the number of subwords, including the end")
    parser.add_tags()
    parser.add_ensemble()
    parser.add_choice("--device", "train.device", ["auto", "cpu", "cuda", "mps"], help="override train.device")


def run(arguments: argparse.Namespace) -> None:
    """Write a line for each pair, in order."""
    # Check, load
    from nmt.run.directory import Run
    from nmt.translation.ensembles import Others

    if arguments.tokens and arguments.mean:
        raise DataError("--mean: --tokens already writes the mean; use only one of them")
    check_outputs([arguments.src, arguments.tgt], {"-o": arguments.output})
    opened, ensemble = Run.open(arguments.run), Others.open(arguments.ensemble, arguments.ensemble_average)
    with (
        reading_lines(arguments.src) as sources,
        reading_lines(arguments.tgt) as targets,
        writing(arguments.output) as out,
    ):
        from nmt.runtime.progress import showing
        from nmt.translation.forced import Scorer
        from nmt.translation.loading import load_translator

        translator = load_translator(opened, device=arguments.device, engine="pytorch", others=ensemble)
        use_tags(translator, arguments.tag, opened)
        scorer = Scorer(translator)
        garbage.resume()
        # Score
        rows, others, done = iter(sources), iter(targets), 0
        with showing("scoring") as add:
            while True:
                src, tgt = list(islice(rows, BLOCK)), list(islice(others, BLOCK))
                if len(src) != len(tgt):
                    shorter, longer = sorted([(len(src), arguments.src), (len(tgt), arguments.tgt)])
                    raise DataError(
                        f"{shorter[1]} has {count_of(done + shorter[0], 'line')}, fewer than {longer[1]}; line n of "
                        "one must go with line n of the other"
                    )
                if not src:
                    return
                for each in scorer(src, tgt, done + 1, add):
                    out.write(_shown(each, arguments))
                done += len(src)


def _shown(score: Score, arguments: argparse.Namespace) -> str:
    if not arguments.tokens:
        return f"{score.mean if arguments.mean else score.log_prob:.4f}\n"
    tokens = [[token, round(value, 4)] for token, value in zip(score.tokens, score.token_log_probs, strict=True)]
    row = {"log_prob": round(score.log_prob, 4), "mean": round(score.mean, 4), "tokens": tokens}
    return json.dumps(row, ensure_ascii=False) + "\n"
