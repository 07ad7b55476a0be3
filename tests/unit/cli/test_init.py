"""Lines of ``nmt init`` on a terminal."""

import sys

from nmt.cli.commands import init


def test_lines_are_wrapped_below_the_text_after_their_label(monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    assert init._wrapped("time     12 minutes, with validations", 2, 9) == ["  time     12 minutes, with validations"]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert init._wrapped("time     12 minutes, with 语言", 2, 9) == ["  time     12 minutes, with", "           语言"]
