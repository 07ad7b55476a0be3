"""Numbers in messages."""

import pytest

from nmt.numbers import count_of, plain


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (1234.5, 3, "1,234"),  # round half to even
        (1200.0, 2, "1,200"),
        (99.96, 3, "100"),
        (12.3456, 3, "12.3"),
        (12.0, 3, "12"),
        (1.5, 3, "1.5"),
        (0.5, 1, "0.5"),
        (0.000012345, 2, "0.000012"),
        (-0.25, 2, "-0.25"),
        (0.0, 3, "0"),
        (float("inf"), 3, "inf"),
        (1e12, 3, "1,000,000,000,000"),
        (1e-12, 3, "0.000000000001"),
    ],
)
def test_numbers_have_no_exponent(value, digits, text):
    assert plain(value, digits) == text


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((1, "line"), "1 line"),
        ((0, "line"), "0 lines"),
        ((1200, "line"), "1,200 lines"),
        ((2, "process", "processes"), "2 processes"),
        ((1, "process", "processes"), "1 process"),
    ],
)
def test_counts_agree_with_their_noun(arguments, text):
    assert count_of(*arguments) == text
