"""Columns of a terminal that text takes."""

import pytest

from nmt.text.width import columns, cut, wrap


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", 0), ("dog", 3), ("Größe", 5), ("狗和猫", 6), ("ｄｏｇ", 6), ("e\u0301", 1), ("\u200fאב\u202c", 2), ("ที่", 1)],
)
def test_columns(text, expected):
    assert columns(text) == expected


def test_a_cut_line_fits_and_moves_no_cursor():
    assert cut("a dog", 5) == "a dog"
    assert cut("a dogs", 5) == "a do…"
    assert cut("狗和猫和狗", 6) == "狗和…"
    assert cut("a\x1b[2Jb\tc\r\nd", 20) == "a [2Jb c d"


@pytest.mark.parametrize("width", [5, 8, 20, 60])
@pytest.mark.parametrize(
    "text",
    [
        "a dog and a cat run",
        "一个穿着蓝色衬衫的男人站在公园里",
        "one /a/path/that/no/line/of/the/terminal/holds two",
        "",
    ],
)
def test_wrapped_lines_fit_and_lose_nothing(text, width):
    lines = wrap(text, width)
    assert max(map(columns, lines)) <= width
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    if max(map(columns, text.split()), default=0) <= width:
        assert " ".join(lines) == text


def test_a_narrow_line_still_ends():
    assert wrap("狗猫", 1) == ["狗", "猫"]
