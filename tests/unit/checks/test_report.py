"""The report escapes what it shows."""

from nmt.checks.finding import Finding, cut, share
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
    assert cut("a\x1b[2Jb") == "a [2Jb"


def test_small_shares_have_two_digits():
    assert share(3, 1000) == "3 (0.3%)"
    assert share(500, 1000) == "500 (50%)"
