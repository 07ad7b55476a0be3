"""Print how far attention agrees with other measures of what the source contributes, on sentences of the demo grammar.

scripts/explanations.py transformer rnn-additive --sentences 100

For each target token the source tokens are ranked by attention (of a Transformer the mean over the heads of the last
layer) and by another measure. The table has the mean of Spearman's rank correlation of both over all target tokens, and
how often both have the same token first.
"""

import argparse
import sys

import torch
from torch import Tensor

from nmt.cli.errors import guarded
from nmt.data import demo
from nmt.errors import DataError
from nmt.insight.attention import read_maps
from nmt.insight.explain import erasure, input_times_gradient, shares
from nmt.run.directory import Run
from nmt.runtime.streams import require_output
from nmt.translation.loading import load_translator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", nargs="+", help="trained runs with attention")
    parser.add_argument("--sentences", type=int, metavar="N", default=100, help="of the test part (default: 100)")
    parser.add_argument("--seed", type=int, default=1, help="of the demo corpus (default: 1)")
    arguments = parser.parse_args()
    require_output(", so that the table would not be shown; redirect it to a file (> FILE)")
    if arguments.sentences < 1:
        raise DataError(f"--sentences {arguments.sentences}: must be at least 1")
    runs = [Run.open(name) for name in arguments.runs]
    pairs = demo.generate(arguments.seed)["test"][: arguments.sentences]
    print("| run | attention and | rank correlation | same token first |\n|---|---|---|---|")
    for name, run in zip(arguments.runs, runs, strict=True):
        for measure, (correlation, first) in agreement(run, pairs).items():
            print(f"| {name} | {measure} | {correlation:.2f} | {first:.0%} |")


def agreement(run: Run, pairs: list[demo.Pair]) -> dict[str, tuple[float, float]]:
    """The mean rank correlation of attention with each measure, and the share of tokens with the same first one.

    Raises:
        DataError: the model has no attention.
    """
    translator = load_translator(run, engine="pytorch")
    model, tokenizer = translator.engine.model, translator.tokenizer
    rows: dict[str, list[Tensor]] = {}
    for pair in pairs:
        [src], [tgt] = tokenizer.encode_src([pair.src]), tokenizer.encode_tgt([pair.tgt])
        [maps] = read_maps(model, tokenizer, src, [tgt], methods=["norm"])
        if maps.cross is None:
            raise DataError(f"{run.path}: the model has no attention")
        attention = maps.cross[-1].mean(0)  # [T, S]
        measures = {
            "norms": shares(maps.cross[-1] * maps.methods["norm"][-1].unsqueeze(1)).mean(0),
            "gradient": input_times_gradient(model, tokenizer, src, tgt).abs(),
            "erasure": erasure(model, tokenizer, src, tgt),
        }
        for name, values in measures.items():
            same = (attention.argmax(-1) == values.argmax(-1)).float()
            rows.setdefault(name, []).append(torch.stack([spearman(attention, values), same], dim=-1))
    return {name: tuple(torch.cat(found).mean(0).tolist()) for name, found in rows.items()}


def spearman(one: Tensor, other: Tensor) -> Tensor:
    """Spearman's rank correlation of each row of two tensors [T, S], S > 1, without ties."""
    ranks = [side.argsort(-1).argsort(-1).double() for side in (one, other)]
    size = one.size(-1)
    squares: Tensor = (ranks[0] - ranks[1]).square().sum(-1)
    return (1 - 6 * squares / (size * (size**2 - 1))).float()


if __name__ == "__main__":
    sys.exit(guarded("explanations", main))
