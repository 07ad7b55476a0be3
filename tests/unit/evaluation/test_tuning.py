"""The choice of alpha: what one search finds for every alpha, and which alpha is the best."""

import math

import pytest
import torch

from nmt.config.search import SearchConfig
from nmt.evaluation import tuning
from nmt.evaluation.sets import TestSet as Lines
from nmt.models.build import build_model
from nmt.runtime.ranks import ALONE
from nmt.translation.pytorch import TorchEngine
from nmt.translation.translator import Translator
from tests.unit.models.test_seq2seq import RNN, TRANSFORMER, RNNConfig, TransformerConfig

LETTERS = "abcdefg"


class Letters:
    """One token a letter."""

    pad_id, unk_id, bos_id, eos_id = range(4)
    src_vocab_size = tgt_vocab_size = 4 + len(LETTERS)

    def encode_src(self, lines):
        return [[4 + LETTERS.index(letter) for letter in line.strip()] for line in lines]

    def decode(self, rows):
        return ["".join(LETTERS[token - 4] for token in row) for row in rows]


def translator(model, **search) -> Translator[TorchEngine]:
    settings, tokenizer = SearchConfig(**search), Letters()
    return Translator(TorchEngine(model, tokenizer, settings, torch.device("cpu")), tokenizer, settings)


@pytest.mark.parametrize("family", ["rnn", "transformer"])
@pytest.mark.parametrize(("kind", "beta"), [("gnmt", 0.0), ("average", 0.0), ("gnmt", 0.3)])
def test_one_search_finds_what_the_search_with_each_alpha_finds(family, kind, beta):
    torch.manual_seed(5)
    size = Letters.src_vocab_size
    model = build_model(
        {"rnn": RNNConfig(**RNN), "transformer": TransformerConfig(**TRANSFORMER)}[family], size, size, 0
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    lines = ["abcde", "g", "", "fedab", "ccc", "abab", "gfedcba", "a"]
    options = {"beam_size": 4, "length_penalty": kind, "coverage_penalty": beta}
    alphas = [0.0, 0.4, 1.0, 2.0, 3.7]
    found = tuning.translations(translator(model, **options), lines, alphas)
    expected = [translator(model, **options, alpha=alpha).translate(lines) for alpha in alphas]
    assert found == [[column[row][0].text for column in expected] for row in range(len(lines))]
    assert any(len(set(row)) > 1 for row in found), "every alpha has the same translations; the test shows nothing"


def choice(monkeypatch, task, columns, references, score="bleu"):
    """The choice where the translations under each alpha are given."""
    monkeypatch.setattr(tuning, "ALPHAS", tuple(columns))
    monkeypatch.setattr(tuning, "translations", lambda *_: list(zip(*columns.values(), strict=True)))
    config = task.config("rnn", train={"score": score})
    return tuning.choose_alpha(None, Lines("valid", ["x"] * len(references), references), config, "sum", ALONE)


GOOD = ["one two three four five", "six seven eight nine", "ten one six two eight", "five seven nine three"] * 3
WORSE = [f"{line} and more" if i % 2 else line for i, line in enumerate(GOOD)]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({0.0: WORSE, 0.6: GOOD, 1.0: WORSE, 1.4: WORSE}, 0.6),
        ({0.0: GOOD, 0.8: GOOD, 1.0: WORSE, 1.4: GOOD}, 0.8),  # of equal ones the nearest to 1
        ({0.8: GOOD, 1.0: WORSE, 1.2: GOOD}, 0.8),  # of equally near ones the smaller
        ({0.8: GOOD, 1.0: GOOD, 1.2: GOOD}, 1.0),
    ],
)
def test_the_best_alpha_is_chosen(monkeypatch, task, columns, expected):
    for score in ("bleu", "chrf", "loss"):
        chosen = choice(monkeypatch, task, columns, GOOD, score)
        assert chosen.alpha == expected
        assert chosen.measure == ("chrf" if score == "chrf" else "bleu")
        assert chosen.scores[f"{expected:g}"] == pytest.approx(100.0)


def test_chrf_chooses_where_bleu_says_nothing(monkeypatch, task):
    words = ["one", "three", "seven", "eight"] * 3  # no 4-gram
    poor = ["six", "three", "seven", "eight"] * 3
    chosen = choice(monkeypatch, task, {0.4: words, 1.0: poor}, words)
    assert (chosen.alpha, chosen.measure) == (0.4, "chrf")


def test_a_model_that_does_not_translate_keeps_the_default(monkeypatch, task):
    chosen = choice(monkeypatch, task, {0.4: ["the the"] * 40, 1.0: ["the"] * 40}, [f"{i} the the" for i in range(40)])
    assert (chosen.alpha, chosen.measure) == (1.0, "loss")
    assert "too poor" in tuning.summary(chosen, 40)


def test_a_large_validation_set_is_thinned_out_evenly():
    lines = [str(i) for i in range(2 * tuning.SENTENCES + 10)]
    found = tuning.lines_of(Lines("valid", lines, lines))
    assert len(found.sources) == tuning.SENTENCES
    assert found.sources == found.references
    steps = {int(b) - int(a) for a, b in zip(found.sources, found.sources[1:], strict=False)}
    assert steps == {2, 3}
    assert math.isclose(int(found.sources[-1]), len(lines), abs_tol=3)
