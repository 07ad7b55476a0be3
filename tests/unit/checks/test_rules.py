"""The rules about data find what was done to a clean corpus, and nothing in the clean corpus."""

import random

import pytest

from nmt.checks.data import apply
from nmt.checks.near import HeldOut
from nmt.checks.part import Part
from nmt.checks.rules import RULES, Data
from nmt.config.load import load_config
from nmt.data.sources import read_pairs
from nmt.data.sources.base import Reading


@pytest.fixture(autouse=True)
def no_identification(monkeypatch):
    """The words here are invented; test_languages.py is about the identification of languages."""
    monkeypatch.setattr("nmt.checks.languages.is_installed", lambda: False)


@pytest.fixture(scope="module")
def corpus():
    """4,000 training and 400 validation pairs of the demo corpus."""
    data = load_config("demo").data
    reading = Reading.of(data)
    train = [pair for pair, _ in zip(read_pairs(data.train, reading), range(4000), strict=False)]
    return train, list(read_pairs(data.valid, reading))[:400]


def found(train, valid, languages=("en", "de")):
    """Warnings and problems by rule."""
    return {each.rule: each for each in findings({"train": train}, valid, languages)}


def findings(sources, valid, languages=("en", "de")):
    """Warnings and problems, of training sources by their names."""
    return [each for each in report(sources, valid, languages) if each.level != "ok"]


def report(sources, valid, languages=("en", "de")):
    held = HeldOut({"valid": valid})
    training = {name: Part(name, 1, held).read(pairs) for name, pairs in sources.items()}
    parts = {"valid": Part("valid", 1).read(valid)}
    return apply(Data(training, parts, languages, 1, held.alike))


def shifted(train, lines, start=0):
    """Drop ``lines`` targets at ``start``."""
    sources, targets = [src for src, _ in train], [tgt for _, tgt in train]
    del targets[start : start + lines]
    return list(zip(sources, targets, strict=False))


def test_a_clean_corpus_is_fine(corpus):
    assert found(*corpus) == {}


@pytest.mark.parametrize("lines", [1, 3])
@pytest.mark.parametrize("start", [0, 2200])
def test_a_shift_is_found_with_its_size_and_beginning(corpus, lines, start):
    result = found(shifted(corpus[0], lines, start), corpus[1])["shifted"]
    assert result.level == "problem"
    assert f"shifted by {lines} line" in result.text
    first = int(result.text.split("from pair ")[1].split(" ")[0].replace(",", ""))
    assert abs(first - 1 - start) <= 20


def test_exchanged_files_are_found(corpus):
    train, valid = corpus
    assert found([(tgt, src) for src, tgt in train], valid)["swapped"].level == "problem"
    assert found(train, [(tgt, src) for src, tgt in valid])["swapped"].level == "problem"


def test_noise_is_found_and_its_share_estimated(corpus):
    train, valid = corpus
    rng = random.Random(0)
    places = rng.sample(range(len(train)), len(train) * 3 // 10)
    noisy = list(train)
    for place, other in zip(places, rng.sample(places, len(places)), strict=True):
        noisy[place] = train[place][0], train[other][1]
    result = found(noisy, valid)["noise"]
    assert result.level == "problem"
    assert 20 <= int(result.text.split("about ")[1].split("%")[0]) <= 40


@pytest.mark.parametrize(
    "names",
    [
        ("en", "de"), ("source", "target"), ("English", "German"), ("en-GB", "de-AT"), ("Englisch", "Deutsch"),
        ("English text", "Polski"), ("src_text", "tgt_text"), ("Sentence", "Sentence"),
    ],
)  # fmt: skip
def test_a_header_is_found(corpus, names):
    assert "header" in found([names, *corpus[0][:400]], corpus[1][:100])


def test_near_duplicates_across_the_split_are_found(corpus):
    train, valid = corpus
    long = [pair for pair in valid if min(map(len, pair)) > 40][:40]
    near = [(f"{src[:-1]} !", f"{tgt[:-1]} !") for src, tgt in long]
    [result] = [each for each in findings({"train": [*train, *near]}, valid) if each.rule == "near-duplicates"]
    assert int(result.text.split(" ")[0]) >= 36
    assert result.text.endswith("pairs of valid are nearly equal to a training pair")


@pytest.mark.parametrize(("side", "word"), [(0, "source"), (1, "target")])
def test_near_duplicates_on_one_side_are_named_as_such(corpus, side, word):
    train, valid = corpus
    long = [pair for pair in valid if min(map(len, pair)) > 40][:60]
    other = [pair[1 - side] for pair in train[:60]]
    near = [(f"{pair[side][:-1]} !", text) for pair, text in zip(long, other, strict=True)]
    near = [pair if side == 0 else pair[::-1] for pair in near]
    [result] = [each for each in findings({"train": [*train, *near]}, valid) if each.rule == "near-duplicates"]
    assert int(result.text.split(" ")[0]) >= 54
    assert f"pairs of valid have nearly the {word} of a training pair" in result.text
    assert result.examples


def test_noise_is_not_reported_for_pairs_that_are_shifted(corpus):
    train, valid = corpus
    assert found(shifted(train, 1), valid).keys() == {"shifted"}
    assert found(shifted(train, 3, 1000), valid).keys() == {"shifted"}


def test_noise_beside_a_shift_is_reported(corpus):
    train, valid = corpus
    half = len(train) // 2
    noisy = list(train[:half])
    for place in range(0, half, 2):
        noisy[place] = noisy[place][0], train[half + place][1]
    both = [*noisy, *shifted(train[half:], 2)]
    assert {"noise", "shifted"} <= found(both, valid).keys()


def test_the_sources_of_a_mixture_are_named(corpus):
    train, valid = corpus
    half = len(train) // 2
    sources = {"train.news": train[:half], "train.web": [("source", "target"), *shifted(train[half:], 2)]}
    result = {each.rule: each for each in findings(sources, valid)}
    assert result.keys() == {"header", "shifted"}
    assert result["header"].text == "train.web: the first pair is a header"
    assert result["shifted"].text.startswith("train.web: targets are shifted by 2 lines from pair ")
    exchanged = {"train.news": train[:half], "train.web": [(tgt, src) for src, tgt in train[half:]]}
    [result] = findings(exchanged, valid)
    assert result.text.startswith("source and target are exchanged in valid or in train.web: ")


def test_what_is_too_rare_for_a_warning_is_counted(corpus):
    train, valid = corpus
    odd = [train[0]] * 10 + [("", "leer")] * 3 + [("a b c d", "a b c d")] * 2
    told = {each.rule: each for each in report({"train": [*train, *odd]}, valid)}
    assert told["duplicates"].level == told["empty"].level == told["equal"].level == "ok"
    repeats = 13 + len(train) - len(set(train))
    assert told["duplicates"].text == f"train: {repeats} ({100 * repeats / 4015:.2g}%) pairs repeat an earlier one"
    assert told["empty"].text == "train: 3 (0.075%) pairs have an empty side"
    assert told["equal"].text == "train: 2 (0.05%) pairs have equal sides"


def test_equal_sides_are_not_reported_as_untranslated(corpus):
    train, valid = corpus
    copied = [(src, src if i % 10 == 0 else tgt) for i, (src, tgt) in enumerate(train)]
    assert found(copied, valid).keys() == {"equal"}


def test_text_that_was_encoded_twice_is_found(corpus):
    train, valid = corpus
    broken = [(src, tgt.encode().decode("cp1252", "replace")) for src, tgt in train]
    assert "encoding" in found(broken, valid)


@pytest.mark.parametrize("form", ["<p>{}</p>", "{} &amp; more", "<bpt i='1'/>{}", "It&#39;s {}"])
def test_markup_is_found(form):
    pairs = [(f"A sentence, {n}.", f"Ein Satz, {n}.") for n in range(1000)]
    marked = [(form.format(src), tgt) if n % 20 == 0 else (src, tgt) for n, (src, tgt) in enumerate(pairs)]
    plain = [(f"{src} a < b && c > d", f"{tgt} R&D; x<y") for src, tgt in pairs]
    found = [
        [
            (each.level, each.text)
            for each in RULES["markup"](Data({"train": Part("train", 1).read(part)}, {}, ("en", "de"), 1))
        ]
        for part in (marked, plain)
    ]
    assert found == [[("warning", "train: 50 (5%) pairs have HTML tags, or characters such as &amp;")], []]


def test_untranslated_targets_are_found(corpus):
    train, valid = corpus
    copied = [(src, train[i - 1][0] if i % 10 == 0 else tgt) for i, (src, tgt) in enumerate(train)]
    assert "untranslated" in found(copied, valid)


def chinese(count, seed):
    """Pairs without spaces on the source side, word for word."""
    rng = random.Random(seed)
    words = [(chr(0x4E00 + i) + chr(0x5E00 + i), f"w{chr(97 + i // 26)}{chr(97 + i % 26)}") for i in range(300)]
    rows = [rng.choices(words, k=rng.randint(2, 9)) for _ in range(count)]
    return [("".join(src for src, _ in row), " ".join(tgt for _, tgt in row)) for row in rows]


def test_short_lines_without_spaces_are_fine():
    assert found(chinese(3000, 1), chinese(300, 2), ("zh", "en")) == {}


def test_single_words_are_fine():
    rng = random.Random(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(rng.choices(letters, k=rng.randint(3, 12))) for _ in range(3000)]
    pairs = [(word, word[::-1] + "en") for word in words]
    assert found(pairs[:2700], pairs[2700:]) == {}


def test_twenty_pairs_are_fine(corpus):
    assert found(corpus[0][:20], corpus[1][:20]) == {}
