"""What a first reading tells of the data."""

import random

import pytest

from nmt.errors import DataError
from nmt.starting import material
from nmt.starting.material import Languages, count_pairs, read_material, source_of

LANGUAGES = Languages("en", "de")


def write(folder, count=300, **names):
    lines = [f"line {number}" for number in range(1, count + 1)]
    for name, prefix in names.items():
        (folder / name).write_text("".join(f"{prefix}{line}\n" for line in lines), encoding="utf-8")


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, en="", de="die ")
    return {"kind": "text", "src": "en", "tgt": "de"}


def test_numbers_and_pairs_of_the_data(source):
    """Lines of 6, 7 and 8 characters: 9, 90 and 201 of them."""
    found = read_material(source, LANGUAGES)
    assert found.pairs == 300
    assert found.characters == pytest.approx(((9 * 6 + 90 * 7 + 201 * 8) / 300, (9 * 6 + 90 * 7 + 201 * 8) / 300 + 4))
    assert [number for number, _ in found.shown()] == [1, 150, 300]
    assert found.shown()[0] == (1, ("line 1", "die line 1"))


def test_a_large_corpus_is_sampled_evenly(source, monkeypatch):
    """With 100 of 300 pairs, the mean number of a pair is 150.5, with a standard deviation of 7 over all samples."""
    monkeypatch.setattr(material, "SAMPLE", 100)
    found = read_material(source, LANGUAGES)
    numbers = [number for number, _ in found.sample]
    assert len(set(numbers)) == 100
    assert numbers == sorted(numbers)
    assert abs(sum(numbers) / 100 - 150.5) < 4 * 7.1
    assert all(pair == (f"line {number}", f"die line {number}") for number, pair in found.sample)


def test_the_alphabet_leaves_out_rare_characters(source):
    found = read_material(source, LANGUAGES)
    assert found.alphabet(1.0) == len(set("line die 0123456789"))
    counts = "".join("".join(pair) for _, pair in found.sample)
    most = sorted((counts.count(char) for char in set(counts)), reverse=True)
    assert found.alphabet(sum(most[:3]) / len(counts)) == 3


def test_names_of_data(source):
    assert source_of(["corpus.tmx"], LANGUAGES) == "corpus.tmx"
    assert source_of(["en", "de"], LANGUAGES) == source
    with pytest.raises(DataError, match="3 names of data"):
        source_of(["a", "b", "c"], LANGUAGES)
    with pytest.raises(DataError, match=r"the source comes first: write a\.en a\.de, or --langs de-en"):
        source_of(["a.de", "a.en"], LANGUAGES)


def test_a_test_set_of_training_pairs_is_refused(source, tmp_path):
    known = read_material(source, LANGUAGES)
    rng = random.Random(0)
    other = [f"other {rng.random()}" for _ in range(10)]
    for name, prefix in (("test.en", ""), ("test.de", "die ")):
        lines = [f"{prefix}{line}\n" for line in [*other, *(f"line {n}" for n in range(1, 11))]]
        (tmp_path / name).write_text("".join(lines), encoding="utf-8")
    half = {"kind": "text", "src": "test.en", "tgt": "test.de"}
    assert count_pairs(half, LANGUAGES, known) == 20
    with pytest.raises(DataError, match="300 of its 300 pairs are training pairs"):
        count_pairs(source, LANGUAGES, known)
