"""Alignment error rate against hand calculations."""

import math
import re

import pytest
import torch

from nmt.data import demo
from nmt.insight.alignment_error import Gold, above, largest, least_error, rates


def test_the_rates_are_those_of_the_paper_by_hand():
    """Sure: 0-0 1-1; possible beside them: 1-2. Found: 0-0 right, 1-2 possible, 0-1 wrong.

    precision |A & P| / |A| = 2/3; recall |A & S| / |S| = 1/2; AER = 1 - (1 + 2) / (3 + 2) = 2/5.
    """
    gold = Gold.parse("0-0 1-1 1p2")
    assert gold == Gold.parse("1-1 2-2 2?3", first=1)
    found = rates([{(0, 0), (1, 2), (0, 1)}], [gold])
    assert found == pytest.approx((2 / 5, 2 / 3, 1 / 2))
    # A corpus counts links, not sentences: A = 3 + 1, S = 2 + 4, and one more link right on both counts
    other = Gold.parse("0-0 1-1 2-2 3-3")
    assert rates([{(0, 0), (1, 2), (0, 1)}, {(3, 3)}], [gold, other]) == pytest.approx((1 - 5 / 10, 3 / 4, 2 / 6))
    assert rates([set(gold.sure)], [gold]).error == 0
    assert rates([set(gold.possible)], [gold]).error == 0
    assert rates([set()], [gold]) == pytest.approx((1.0, 1.0, 0.0))


@pytest.mark.parametrize("text", ["0", "0-", "a-1", "0-1-2", "0:1", "-1-0", "²-1"])
def test_links_of_another_form_are_refused(text):
    with pytest.raises(ValueError, match=re.escape(text)):
        Gold.parse(f"0-0 {text}")


def test_words_counted_from_one():
    with pytest.raises(ValueError, match="0-1"):
        Gold.parse("0-1", first=1)


def test_links_of_weights():
    weights = torch.tensor([[0.2, 0.7, 0.1], [0.0, 0.0, 0.0], [0.45, 0.05, 0.5]])
    assert largest(weights) == {(1, 0), (2, 2)}
    assert above(0.4)(weights) == {(1, 0), (0, 2), (2, 2)}


def test_the_least_error_of_one_link_for_each_word():
    """Two target words, the first of which has two sure links: A = 2, S = 3, so 1 - 4/5."""
    assert least_error([Gold.parse("0-0 1-0 2-1")]) == pytest.approx(1 / 5)
    assert least_error([Gold.parse("0p0 1-0")]) == 0
    pairs = demo.generate(1, 300, 1, 20, aligned=True)["test"]
    gold = [Gold(links, links) for links in (frozenset(demo.links(pair)) for pair in pairs)]
    words, links = sum(len(pair.tgt.split()) for pair in pairs), sum(len(one.sure) for one in gold)
    assert math.isclose(least_error(gold), 1 - 2 * words / (words + links))
