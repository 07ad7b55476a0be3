"""Columns that are found by their names, in every kind of table."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nmt.data.sources.headings import columns
from tests.unit.data.corpora import pairs

ROWS = [("1", "one dog", "ein Hund"), ("2", "two dogs", "zwei Hunde"), ("3", "a cat", "eine Katze")]
EXPECTED = [(en, de) for _, en, de in ROWS]


@pytest.mark.parametrize(
    ("names", "languages", "found"),
    [
        (["de", "EN"], ("en", "de"), ("EN", "de")),
        (["en-US", "de_AT"], ("en", "de"), ("en-US", "de_AT")),
        (["pt", "en"], ("pt-BR", "en"), ("pt", "en")),
        (["en-US", "en-GB", "de"], ("en", "de"), (None, "de")),
        (["en", "en-US", "de"], ("en", "de"), ("en", "de")),
        (["en-GB", "de"], ("en-US", "de"), (None, "de")),
        (["ID", "English", "Deutsch", "Date"], ("en", "de"), ("English", "Deutsch")),
        (["English text", "Translation (German)"], ("en", "de"), ("English text", "Translation (German)")),
        (["src_text", "tgt_text"], ("en", "de"), ("src_text", "tgt_text")),
        (["source", "target"], ("de", "en"), ("source", "target")),
        (["source", "English", "German"], ("de", "en"), ("German", "English")),  # a language is the surer sign
        (["Source URL", "translation", "original"], ("de", "en"), ("original", "translation")),
        (["translation.en", "translation.de", "id"], ("de", "en"), ("translation.de", "translation.en")),
        (["German", "Deutsch"], ("en", "de"), (None, None)),
        (["German", "French"], ("en", "de"), (None, "German")),
        (["Hund", "Katze"], ("en", "de"), (None, None)),
        (["Nr.", "Englisch", "Deutsch"], ("en", "de"), ("Englisch", "Deutsch")),
        (["Englisch\n(Quelle)", "Deutsch (Ziel)"], ("en", "de"), ("Englisch\n(Quelle)", "Deutsch (Ziel)")),
        (["Ziel", "Quelle", "Status"], ("en", "de"), ("Quelle", "Ziel")),
        (["eng", "deu"], ("en", "de"), ("eng", "deu")),
        (["en", "de"], ("eng", "ger"), ("en", "de")),
        (["no", "nb"], ("no", "nb"), ("no", "nb")),
        (["English", "German"], ("eng_Latn", "deu_Latn"), ("English", "German")),
        (["English (US)", "Chinese (Simplified)"], ("en", "zh-Hans"), ("English (US)", "Chinese (Simplified)")),
        (["Espan\u0303ol", "हिन्दी"], ("es", "hi"), ("Espan\u0303ol", "हिन्दी")),
        (["Nº", "Runasimi", "Castellano", "Notas"], ("quz", "es"), ("Runasimi", "Castellano")),
        (["Dholuo", "English"], ("luo", "en"), ("Dholuo", "English")),
        (["Haitian Creole (text)", "Français"], ("ht", "fr"), ("Haitian Creole (text)", "Français")),
        (["བོད་སྐད་", "English"], ("bo", "en"), ("བོད་སྐད་", "English")),
        (["Kiswahili", "isiZulu"], ("swh", "zul"), ("Kiswahili", "isiZulu")),
        (["zh-CN", "en"], ("zh-Hans", "en"), ("zh-CN", "en")),
        (["zh-TW", "en"], ("zh-Hans", "en"), (None, "en")),
        (["K'iche'", "Español"], ("quc", "es"), ("K'iche'", "Español")),
    ],
)
def test_columns(names: list[str], languages: tuple[str, str], found: tuple[str | None, str | None]) -> None:
    assert columns(names, languages) == found


@pytest.mark.parametrize(
    "names", [("ID", "English", "German"), ("n", "en-US", "de-DE"), ("n", "source", "target"), ("n", "en", "de")]
)
def test_every_table_is_read_by_its_names(here: Path, names: tuple[str, str, str]) -> None:
    openpyxl = pytest.importorskip("openpyxl", reason="needs openpyxl")
    rows = [names, *ROWS]
    Path("a.csv").write_text("".join(";".join(row) + "\n" for row in rows))
    Path("a.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    Path("a.jsonl").write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in ROWS))
    Path("a.json").write_text(json.dumps([dict(zip(names, row, strict=True)) for row in ROWS]))
    pq.write_table(pa.table(dict(zip(names, zip(*ROWS, strict=True), strict=True))), "a.parquet")
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save("a.xlsx")
    for name in ("a.csv", "a.tsv", "a.jsonl", "a.json", "a.parquet", "a.xlsx"):
        assert pairs(kind="auto", path=name) == EXPECTED, name


def test_keys_inside_an_object(here: Path) -> None:
    lines = [json.dumps({"id": n, "translation": {"en": en, "de": de}}) for n, en, de in ROWS]
    Path("a.jsonl").write_text("\n".join(lines))
    assert pairs(kind="jsonl", path="a.jsonl") == EXPECTED
    assert pairs(kind="jsonl", path="a.jsonl", src_key="translation.de", tgt_key="translation.en") == [
        (de, en) for en, de in EXPECTED
    ]
