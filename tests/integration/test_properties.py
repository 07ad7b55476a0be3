"""A few hundred tries of each property of tests/properties.py."""

import pytest

from tests.properties import PROPERTIES, run_property

EXAMPLES = {"config": 200, "corpus": 200, "checkpoint": 100, "translate": 15, "bytes": 30}


@pytest.mark.parametrize("name", PROPERTIES)
def test_property(place, name):
    assert run_property(name, place, seed=1, examples=EXAMPLES[name])["tried"] >= EXAMPLES[name]
