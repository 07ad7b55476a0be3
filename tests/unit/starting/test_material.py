"""What a first reading tells of the data."""

import random
import re
from pathlib import Path

import pytest

from nmt.errors import ConfigError, DataError, SettingsError
from nmt.starting import material
from nmt.starting.material import Languages, advised, count_pairs, files_source, parts_of, read_material, source_of

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


def test_a_source_with_its_keys(source):
    Path("a.csv").write_text("".join(f"{n},line {n},Zeile {n}\n" for n in range(300)))
    written = source_of(["{path: a.csv, src_column: 2, tgt_column: 1}"], LANGUAGES)
    assert read_material(written, LANGUAGES).sample[0][1] == ("Zeile 0", "line 0")
    assert source_of(["csv"], LANGUAGES) == {"kind": "auto", "path": "csv"}  # a folder with the name of a kind
    with pytest.raises(DataError, match="is not a mapping; write a source as"):
        source_of(["{path: a.csv"], LANGUAGES)
    with pytest.raises(DataError, match="a name is empty"):
        source_of([""], LANGUAGES)
    Path("b.csv").write_text("1,2\n")
    with pytest.raises(DataError, match=r"a\.csv and b\.csv: two names mean two files of text"):
        source_of(["a.csv", "b.csv"], LANGUAGES)
    with pytest.raises(ConfigError, match=r"DATA: data\.train\.headr: unknown key; did you mean data\.train\.header\?"):
        read_material({"kind": "csv", "path": "a.csv", "headr": True}, LANGUAGES)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "a\tb\tc\n1\t2\n",
            r"; to skip such rows, write the data as '\{kind: tsv, path: \"a\.tsv\", on_bad_row: skip\}'",
        ),
        ("Glossary\t2024\nEnglish\tGerman\na\tb\n", r"; write keys with the data as .*\"a\.tsv\", skip_rows: 1\}'"),
        ("German\tFrench\na\tb\n", r"; write keys with the data as '\{kind: tsv, path: \"a\.tsv\", header: true\}'"),
    ],
)
def test_keys_that_a_message_names_can_be_given(source, text, said):
    Path("a.tsv").write_text(text)
    with pytest.raises(SettingsError) as error:
        read_material("a.tsv", LANGUAGES)
    assert re.search(said, str(advised(error.value, "a.tsv", LANGUAGES)))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("empty", r"empty: contains no parallel text: no files that end in \.en and \.de"),
        ("notes", r"notes: contains no parallel text"),
        ("https://example.com/a.zip", r"is an address; download the file"),
    ],
)
def test_names_that_hold_no_pairs(source, name, said):
    Path("empty").mkdir()
    Path("notes").mkdir()
    Path("notes/a.txt").write_text("hello\n")
    with pytest.raises(DataError, match=said):
        read_material(name, LANGUAGES)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train", "dev", "test"], {"train": ["train"], "valid": ["dev"], "test": ["test"]}),
        (["europarl.train", "news-train", "newstest2019", "val"], {}),  # one name says nothing
        (["a.train", "b_train", "2019.test", "valid"], {"train": ["a.train", "b_train"], "valid": ["valid"],
         "test": ["2019.test"]}),
        (["train", "latest"], {}),
        (["train"], {}),
        (["dev", "test"], {}),
    ],
)  # fmt: skip
def test_files_of_a_folder_have_their_parts(tmp_path, names, expected):
    for name in names:
        for language in ("en", "de"):
            (tmp_path / f"{name}.{language}").write_text("a\n")
    found = parts_of([str(tmp_path)], LANGUAGES)
    stems = {part: sorted(Path(src).name.removesuffix(".en") for src, _ in pairs) for part, pairs in found.items()}
    assert stems == {part: sorted(each) for part, each in expected.items()}
    assert all(Path(src).with_suffix(".de") == Path(tgt) for pairs in found.values() for src, tgt in pairs)


@pytest.mark.parametrize("ending", ["tsv", "csv", "tmx", "xlsx", "tsv.gz"])
def test_tables_of_a_folder_have_their_parts(tmp_path, ending):
    for name in ("train", "train-2", "dev", "test"):
        (tmp_path / f"{name}.{ending}").write_text("a\tb\n")
    found = parts_of([str(tmp_path)], LANGUAGES)
    assert {part: [Path(file).name for (file,) in files] for part, files in found.items()} == {
        "train": [f"train-2.{ending}", f"train.{ending}"],
        "valid": [f"dev.{ending}"],
        "test": [f"test.{ending}"],
    }
    (tmp_path / "notes.xlsx" if ending != "xlsx" else tmp_path / "notes.tsv").write_text("")
    assert parts_of([str(tmp_path)], LANGUAGES) == {}  # of several kinds


def test_the_source_of_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert files_source([("a.en", "a.de")], LANGUAGES) == {"kind": "text", "src": "a.en", "tgt": "a.de"}
    two = files_source([("a.en", "a.de"), ("b.en", "b.de")], LANGUAGES)
    assert two == {"kind": "text", "src": ["a.en", "b.en"], "tgt": ["a.de", "b.de"]}
    assert files_source([("a.tsv",)], LANGUAGES) == "a.tsv"
    assert files_source([("a.csv",), ("b.csv.gz",)], LANGUAGES) == {"kind": "csv", "path": ["a.csv", "b.csv.gz"]}
    Path("a.tsv").write_text("id\tEnglish\tGerman\n1\tone\teins\n")
    found = files_source([("a.tsv",), ("b.tsv",)], LANGUAGES)
    assert found == {"kind": "tsv", "path": ["a.tsv", "b.tsv"], "src_column": "English", "tgt_column": "German"}


@pytest.mark.parametrize("case", ["all equal", "one side empty", "long lines", "one source, few targets"])
def test_pairs_of_which_nothing_is_left(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    rows = {
        "all equal": [("a dog", "ein Hund")] * 300,
        "one side empty": [(f"line {n}", " \u3000") for n in range(300)],
        "long lines": [(f"{n} " * 1000, f"{n}") for n in range(300)],
        "one source, few targets": [("yes", f"ja {n % 20}") for n in range(300)],
    }[case]
    Path("a.tsv").write_text("".join(f"{src}\t{tgt}\n" for src, tgt in rows))
    left = 20 if "few" in case else 1 if "equal" in case else 0
    with pytest.raises(DataError, match=f"^a.tsv: without equal pairs, .* {left} of 300 pairs are left, too few"):
        read_material("a.tsv", LANGUAGES)


def test_a_kind_that_a_message_names_can_be_given(source):
    """A file whose content is of another kind than its name says."""
    table = "".join(f"line {n},Zeile {n}\n" for n in range(300))
    Path("a.tsv").write_text(table)
    Path("t.en").write_text("en,de\n" + table)
    Path("t.de").write_text("en,de\n" + table)
    two = {"kind": "text", "src": "t.en", "tgt": "t.de"}
    for given, path in (("a.tsv", "a.tsv"), (two, "t.en")):
        with pytest.raises(DataError) as error:
            read_material(given, LANGUAGES)
        told = str(advised(error.value, given, LANGUAGES))
        written = re.search(r"write the data as '(\{.*\})'$", told)
        assert written, told
        assert written[1] == f'{{kind: csv, path: "{path}"}}'
        assert read_material(source_of([written[1]], LANGUAGES), LANGUAGES).pairs == 300
