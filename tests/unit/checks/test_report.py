"""The report escapes what it shows."""

from nmt.checks.finding import Finding, pair, share
from nmt.checks.report import page, text

BAD = Finding("problem", "noise", "<script>alert(1)</script>", "a & b", ("1: <b>x</b> ||| y",) * 10)


def test_the_page_escapes_everything_and_has_ten_examples():
    written = page("<i>", [BAD])
    assert "<script>" not in written
    assert "<b>x" not in written
    assert "<i></title>" not in written
    assert written.count("&lt;b&gt;x") == 10


def test_the_terminal_shows_three_examples():
    assert text([BAD]).count("1: <b>x") == 3


def test_control_characters_do_not_reach_the_terminal():
    assert pair(1, "a\x1b[2Jb", "c\u2028d") == "1: a [2Jb ||| c d"


def test_examples_keep_the_joiners_of_emoji_and_persian():
    assert pair(1, "👩‍🚀", "می\u200cروم") == "1: 👩‍🚀 ||| می\u200cروم"


def test_small_shares_have_two_digits():
    assert share(3, 1000) == "3 (0.3%)"
    assert share(500, 1000) == "500 (50%)"


def test_lines_fit_the_terminal_and_keep_their_indent():
    examples = ("1: A dog runs over the green grass near the lake. ||| Ein Hund rennt am See über das grüne Gras.",)
    finding = Finding("warning", "equal", "train: 3 of 10 pairs have equal sides, more than 2%", "drop them", examples)
    wide = text([finding]).splitlines()
    narrow = text([finding], 60).splitlines()
    assert len(wide) == 3
    assert len(narrow) > 3
    assert max(map(len, narrow)) <= 60
    assert all(line.startswith(" " * 23) for line in narrow[1:])
    assert "".join(narrow).replace(" ", "") == "".join(wide).replace(" ", "")
