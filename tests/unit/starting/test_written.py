"""The written file: it means what was chosen, and its comments agree with it."""

import math
import re

import pytest
import yaml

from nmt.config.load import load_config, validate_config
from nmt.starting.choose import Request, choose
from nmt.starting.material import Languages, Material
from nmt.starting.measure import Measured
from nmt.starting.written import WIDTH, flow, to_text
from nmt.training.estimate import Cost

COMMAND = "nmt init x a.en a.de --langs en-de"


class Bench:
    def __init__(self, seconds):
        self.seconds = seconds

    def measure(self, settings):
        cost = Cost(1_234_567, 3 * 2**29, self.seconds, 1.0, 608, 0.5, 0.5, 0.0, 50, 10**7, 4 * 10**7)
        return Measured(cost, 640.0, settings["tokenizer"]["vocab_size"])


CASES = [
    (pairs, minutes, seconds, device)
    for pairs in (500, 1_000, 10_000, 100_000, 1_000_000, 10_000_000)
    for minutes, seconds, device in ((10, 0.5, "cpu"), (480, 0.05, "cpu"), (480, 0.3, "cuda"))
]


def made(pairs, minutes, seconds, device, **given):
    material = Material({"kind": "text", "src": "a.en", "tgt": "a.de"}, "a", pairs, (61.4, 70.2), [(1, ("ab", "cd"))])
    request = Request("x", Languages("en", "de"), minutes, **given)
    choice = choose(request, material, device, Bench(seconds), lambda line: None)
    return choice, to_text(choice, material, "cpu, 2 threads, bf16", COMMAND, "nmt train configs/x.yaml")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_file_means_what_was_chosen(case, tmp_path):
    choice, text = made(*case)
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    assert load_config(tmp_path / "x.yaml") == validate_config(choice.settings, "x")
    assert max(map(len, text.splitlines())) <= WIDTH + 2


def comment_of(text: str) -> str:
    """All comments in one line."""
    return " ".join(line.strip().lstrip("#").strip() for line in text.splitlines() if line.strip().startswith("#"))


def number(pattern: str, comment: str) -> float:
    found = re.search(pattern, comment)
    assert found, (pattern, comment)
    return float(found[1].replace(",", ""))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_numbers_in_comments_are_those_of_the_settings(case):
    choice, text = made(*case)
    comment, settings = comment_of(text), yaml.safe_load(text)
    train, pairs = settings["train"], case[0]
    tokens = train["batch_tokens"] * train.get("accumulate", 1)
    steps = min(train["max_steps"], choice.steps)
    assert number(r"de, ([\d,]+) sentence pairs", comment) == pairs
    assert number(r"of at most ([\d,]+) tokens per side", comment) == tokens
    assert number(r"updates +([\d,]+) of", comment) == pytest.approx(steps, rel=0.05)
    assert number(r"Held out of the training pairs, about ([\d,]+)", comment) == pytest.approx(
        settings["data"]["valid"]["fraction"] * pairs, rel=0.05
    )
    assert number(r"About ([\d,]+) validations", comment) == math.ceil(steps / train["validate_every"])
    if "accumulate" in train:
        assert number(r"([\d,]+) batches make an update of", comment) == train["accumulate"]
        assert number(r"make an update of ([\d,]+) tokens", comment) == tokens
    assert ("more time would help" in comment) == (3 * steps < train["max_steps"])
    if more := re.search(r"these pairs are worth ([\d,]+) updates", comment):
        assert int(more[1].replace(",", "")) == train["max_steps"]
    if width := re.search(r"suit a model of width (\d+)", comment):
        assert int(width[1]) == settings["model"]["d_model"]
    if title := re.search(r"A (?:GRU|Transformer) of width (\d+)[^.]*, (?:which suits|the largest)", comment):
        assert int(title[1]) == settings["model"]["d_model"]
    assert ("The time ends the training" in comment) == (60 * train["max_minutes"] < case[2] * train["max_steps"] * 1.2)


def test_strange_names_stay_what_they_are(tmp_path):
    odd = (
        "a\x7fb",
        "a\x07b",
        "a\x85b",
        "a\x9fb",
        "a\u2028b",
        "\ufeffa",
        "a\u200bb",
        "\u202eb",
        "\xa0",
        "👩‍🚀.tsv",
        "a\\b",
    )
    for value in ("no", "1e3", "a: b", "# x", "ü.tsv", 'say "x"', "-", "a\nb", "12", "~", "x, y}", *odd):
        (tmp_path / "v.yaml").write_text(f"{{key: {flow(value)}}}", encoding="utf-8")
        assert yaml.safe_load((tmp_path / "v.yaml").read_text(encoding="utf-8")) == {"key": value}


def test_control_characters_in_a_comment_do_not_make_the_file_unreadable(tmp_path):
    material = Material("a\x07\x85b.tsv", "a", 300, (1.0, 1.0), [(1, ("ab", "cd"))])
    choice = choose(Request("x", Languages("en", "de"), 10), material, "cpu", Bench(0.1), lambda line: None)
    text = to_text(choice, material, "cpu", "nmt init x 'a\x07\x85b.tsv'", "nmt train configs/x.yaml")
    (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
    assert load_config(tmp_path / "x.yaml").data.train.path == "a\x07\x85b.tsv"
    assert "# Written by: nmt init x 'a\\x07\\x85b.tsv'\n" in text


def test_given_sets_are_named():
    _, text = made(3_000, 10, 0.1, "cpu", valid="v.tsv", tests={"news": "news.tmx"}, valid_pairs=1_014)
    assert "  # 1,014 pairs, which choose the best checkpoint.\n  valid: v.tsv\n  test:\n    news: news.tmx\n" in text
    assert "holdout" not in text
