"""The choice of a model by the pace that was measured."""

import pytest

from nmt.config.load import validate_config
from nmt.errors import TrainingError
from nmt.starting.choose import Request, choose
from nmt.starting.material import Languages, Material
from nmt.starting.measure import Measured
from nmt.training.estimate import Cost

LANGUAGES = Languages("en", "de")


def material(pairs: int, text: str = "abc", kept: int = 1) -> Material:
    return Material({"kind": "text", "src": "a.en", "tgt": "a.de"}, "a", pairs, (3, 3), [(1, (text, text))] * kept)


class Bench:
    """Answers with a pace for each width of the model, and remembers what was asked.

    A validation takes 0.01 seconds for each line.
    """

    def __init__(self, seconds, updates=100.0, vocab_size=None, fits=10**9):
        self.seconds, self.updates, self.vocab_size, self.fits = seconds, updates, vocab_size, fits
        self.asked = []

    def measure(self, settings):
        self.asked.append(settings)
        if settings["train"]["batch_tokens"] > self.fits:
            raise TrainingError("out of memory")
        seconds = self.seconds[settings["model"]["d_model"]]
        cost = Cost(10**6, 2**30, seconds, 1.0, 95, 0.5, 0.5, 0.0, 50, 10**7, 4 * 10**7)
        return Measured(cost, self.updates, self.vocab_size or settings["tokenizer"]["vocab_size"])


def chosen(pairs, minutes, bench, device="cuda", request=None, **more):
    request = request or Request("x", LANGUAGES, minutes)
    choice = choose(request, material(pairs, **more), device, bench, lambda line: None)
    validate_config(choice.settings, "x")
    return choice


def test_the_first_model_that_gets_a_third_of_its_updates():
    """Of 20,000 updates in 57 minutes: 3,420 at 1 s, 6,840 at 0.5 s."""
    bench = Bench({512: 1.0, 256: 0.5, 128: 0.1})
    choice = chosen(100_000, 60, bench)
    assert choice.size == "small"
    assert [asked["model"]["d_model"] for asked in bench.asked] == [512, 256]
    assert choice.settings["model"]["dropout"] == 0.2


def test_the_smallest_model_whatever_its_pace():
    choice = chosen(100_000, 60, Bench(dict.fromkeys((512, 256, 128), 60.0)))
    assert choice.size == "tiny"
    assert choice.steps < 57
    assert choice.is_cut_short


def test_a_slower_model_is_not_chosen_for_its_size():
    """In 57 seconds 1,140 updates of the Transformer, a seventh of 8,000; the recurrent model would make 760."""

    class ByType(Bench):
        def measure(self, settings):
            self.seconds = {128: {"transformer": 0.05, "rnn": 0.075}[settings["model"]["type"]]}
            return super().measure(settings)

    lines = []
    choice = choose(Request("x", LANGUAGES, 1.0), material(29_000), "cuda", ByType({}), lines.append)
    assert (choice.size, choice.settings["model"]["type"]) == ("tiny", "transformer")
    assert lines[1::2] == [
        "too slow: 0.05 s an update; trying a smaller model",
        "slower: 0.075 s an update; keeping a Transformer of width 128",
    ]


def test_models_that_no_cpu_could_train_are_not_measured():
    """Big: 209 million parameters, 49,152 tokens, 6 operations each: 15 s an update at 4e12 a second."""
    bench = Bench({1024: 1.0, 512: 1.0, 256: 1.0, 128: 1.0})
    chosen(10_000_000, 60, bench, "cpu")
    assert next(asked["model"]["d_model"] for asked in bench.asked) <= 256


def test_limits_and_schedule():
    choice = chosen(29_000, 60, Bench({128: 0.1}))
    train = choice.settings["train"]
    assert not choice.is_cut_short
    assert (choice.steps, train["max_steps"], train["max_minutes"]) == (8_000, 8_000, 57)
    assert train["schedule"] == {"warmup_steps": 800}
    assert train["optimizer"] == {"lr": 4e-3}


def test_batches_are_halved_until_they_fit():
    bench = Bench({512: 0.01}, fits=4_096)
    train = chosen(1_000_000, 600, bench).settings["train"]
    assert (train["batch_tokens"], train["accumulate"]) == (4_096, 4)
    assert [asked["train"]["batch_tokens"] for asked in bench.asked] == [16_384, 8_192, 4_096]


def test_memory_for_no_batch_is_an_error():
    with pytest.raises(TrainingError, match="out of memory"):
        chosen(1_000_000, 600, Bench({512: 0.01}, fits=1))


def test_a_vocabulary_that_the_text_cannot_fill():
    """0.95 of 631 pieces, as the training part has fewer words than the sample, to two digits."""
    assert chosen(1_000, 10, Bench({128: 0.1}, vocab_size=631), kept=1_000).settings["tokenizer"] == {"vocab_size": 600}


def test_a_sample_does_not_lower_the_vocabulary():
    assert chosen(29_000, 60, Bench({128: 0.1}, vocab_size=631)).settings["tokenizer"] == {"vocab_size": 8_000}


def test_a_large_alphabet_raises_the_vocabulary():
    text = "".join(chr(0x4E00 + i) for i in range(900))
    tokenizer = chosen(1_000, 10, Bench({128: 0.1}), text=text).settings["tokenizer"]
    assert tokenizer == {"vocab_size": 1_800, "character_coverage": 0.9995}


def test_held_out_parts_and_given_ones():
    held = {"kind": "holdout", "fraction": 0.08}
    choice = chosen(3_000, 10, Bench({128: 0.1}))
    assert choice.settings["data"]["valid"] == held
    assert choice.settings["data"]["test"] == {"heldout": held}
    assert (choice.train_pairs, choice.valid_pairs) == (2_520, 240)
    request = Request("x", LANGUAGES, 10, "valid.tsv", {"news": "news.tsv"}, 77)
    choice = chosen(3_000, 10, Bench({128: 0.1}), request=request)
    assert choice.settings["data"]["valid"] == "valid.tsv"
    assert choice.settings["data"]["test"] == {"news": "news.tsv"}
    assert (choice.train_pairs, choice.valid_pairs) == (3_000, 77)


def test_the_expected_time_has_the_validations():
    """2,000 updates at 0.1 s are 200 s; a validation takes 240 * 0.01 = 2.4 s.

    Every 240th update, the validations take a tenth of the time; rounded, every 200th: 10 of them, 24 s.
    """
    choice = chosen(3_000, 60, Bench({128: 0.1}, updates=119.05), "cpu")
    assert choice.settings["train"]["validate_every"] == 200
    assert choice.minutes == pytest.approx(224 / 60, rel=0.01)
