"""Measure how often the 95 % intervals of scores contain the true score, on simulated corpora.

python -m benchmarks.interval_coverage [--corpora 1000] [--sentences 500] [--metric bleu]

A population of sentences stands for all sentences of a kind: random words as references, and translations in which each
sentence replaces, drops and repeats words at its own rate. Its corpus score is the truth. Each simulated corpus is a
random sample of the population with replacement, whose interval is computed as ``nmt evaluate`` computes it.
"""

from __future__ import annotations

import argparse
import math

import numpy as np

from nmt.config.evaluation import EvaluationConfig, Metric
from nmt.evaluation.scores import _interval, metric_of

POPULATION = 20_000
WORDS = 2_000


def population(seed: int) -> tuple[list[str], list[str]]:
    """Translations and references."""
    rng = np.random.default_rng(seed)
    frequency = 1 / np.arange(1, WORDS + 1)  # Zipf
    frequency /= frequency.sum()
    references, hypotheses = [], []
    for length in rng.integers(4, 40, POPULATION):
        words = rng.choice(WORDS, length, p=frequency)
        rate = rng.beta(1.5, 4)  # how bad this translation is
        draws = rng.random(length)
        translated = [
            f"w{word if draw > rate else rng.integers(WORDS)}"
            for word, draw, kept in zip(words, draws, rng.random(length), strict=True)
            if kept > rate / 4
        ]
        references.append(" ".join(f"w{word}" for word in words))
        hypotheses.append(" ".join(translated))
    return hypotheses, references


def coverage(corpora: int, sentences: int, name: Metric, seed: int = 1) -> tuple[float, float]:
    """Share of the intervals that contain the true score, and their mean width."""
    hypotheses, references = population(seed)
    metric = metric_of(name, EvaluationConfig())
    truth = float(metric.corpus_score(hypotheses, [references]).score)
    rng = np.random.default_rng(seed + 1)
    inside, widths = 0, []
    for _ in range(corpora):
        rows = rng.integers(0, POPULATION, sentences)
        low, high = _interval(metric, [hypotheses[i] for i in rows], [references[i] for i in rows])
        inside += low <= truth <= high
        widths.append(high - low)
    return inside / corpora, float(np.mean(widths))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--corpora", type=int, default=1000)
    parser.add_argument("--sentences", type=int, default=500)
    parser.add_argument("--metric", choices=["bleu", "chrf"], default="bleu")
    arguments = parser.parse_args()
    share, width = coverage(arguments.corpora, arguments.sentences, arguments.metric)
    error = 1.96 * math.sqrt(share * (1 - share) / arguments.corpora)
    print(
        f"{arguments.metric}: {share:.1%} (± {error:.1%}) of {arguments.corpora:,} intervals contain the true score; "
        f"{arguments.sentences:,} sentences, mean width {width:.2f}"
    )


if __name__ == "__main__":
    main()
