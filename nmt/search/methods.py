"""The search methods by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nmt.search.beam import BeamSearch
from nmt.search.method import SearchMethod
from nmt.search.sampling import Sampling

if TYPE_CHECKING:
    from nmt.config.search import SearchConfig

# Keys: the values of ``search.method``.
METHODS: dict[str, Callable[[SearchConfig], SearchMethod]] = {"beam": BeamSearch, "sample": Sampling}


def new_method(search: SearchConfig) -> SearchMethod:
    return METHODS[search.method](search)
