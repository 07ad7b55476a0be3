"""Limits of length follow the corpus; what is configured comes first."""

import numpy as np
import pytest

from nmt.config.experiment import FORMER_DEFAULTS
from nmt.config.limits import GIB, LengthLimits, ResolvedSearch, default_batch_tokens, learn_limits, resolve_search
from nmt.config.search import SearchConfig

LEARNED = LengthLimits(longest_source=40, max_length_ratio=3.5, max_length_offset=60)


def learn(src, tgt, block=7):
    lengths = np.array([src, tgt], np.int32)
    return learn_limits(lambda: (lengths[:, i : i + block] for i in range(0, lengths.shape[1], block)))


def limit(limits, source):
    return int(limits.max_length_ratio * source + limits.max_length_offset)


def test_pairs_of_like_length_keep_the_usual_limits():
    sizes = np.random.default_rng(0).integers(1, 60, 500)
    assert learn(sizes, sizes) == LengthLimits(
        longest_source=int(sizes.max()), max_length_ratio=2, max_length_offset=10
    )


def test_short_codes_with_long_translations_get_room():
    src = np.full(300, 3)  # "E07"
    tgt = np.random.default_rng(0).integers(40, 61, 300)
    found = learn(src, tgt)
    assert found.max_length_ratio == 2  # a constant source says nothing about a slope
    assert limit(found, 3) == 10 + tgt.max()  # one in 300 is more than 0.1 %


def test_a_target_of_characters_gets_a_larger_ratio():
    src = np.arange(1, 200)
    assert learn(src, 6 * src) == LengthLimits(longest_source=199, max_length_ratio=9, max_length_offset=10)


@pytest.mark.parametrize("seed", range(5))
def test_all_but_one_in_a_thousand_pairs_end_well_before_the_limit(seed):
    rng = np.random.default_rng(seed)
    src = rng.integers(1, 100, 5000)
    tgt = np.maximum(1, (src * rng.uniform(0.5, 4, 5000)).astype(int) + rng.integers(0, 50, 5000))
    found = learn(src, tgt, 999)
    over = sum(t > limit(found, s) - 10 for s, t in zip(src, tgt, strict=True))
    assert over <= 5
    tighter = found.model_copy(update={"max_length_offset": found.max_length_offset - 1})
    assert found.max_length_offset == 10 or sum(t > limit(tighter, s) - 10 for s, t in zip(src, tgt, strict=True)) > 5


def test_single_mistakes_do_not_raise_the_limit():
    src, tgt = np.full(3000, 20), np.full(3000, 22)
    tgt[[5, 900]] = 256  # lines that do not belong together
    assert learn(src, tgt) == LengthLimits(longest_source=20, max_length_ratio=2, max_length_offset=10)


@pytest.mark.parametrize(
    ("given", "ratio", "offset"),
    [
        ({}, 3.5, 60),
        ({"max_length_ratio": 1.0}, 1.0, 10),
        ({"max_length_offset": 5}, 2.0, 5),
        ({"max_length_ratio": 0.0, "max_length_offset": 1}, 0.0, 1),
    ],
)
def test_a_configured_limit_keeps_its_meaning(given, ratio, offset):
    found = resolve_search(SearchConfig(**given), LEARNED)
    assert (found.max_length_ratio, found.max_length_offset) == (ratio, offset)


def test_what_a_configuration_leaves_open_is_filled_in():
    found = resolve_search(SearchConfig(beam_size=2), None, 256, 65_536)
    assert (found.beam_size, found.max_source_tokens, found.batch_tokens) == (2, 256, 65_536)
    assert resolve_search(found, LEARNED, 1, 1) is found
    set_here = resolve_search(SearchConfig(max_source_tokens=9, batch_tokens=8), LEARNED, 256, 65_536)
    assert (set_here.max_source_tokens, set_here.batch_tokens) == (9, 8)


def test_runs_of_the_first_version_keep_their_limits():
    former = {key.removeprefix("search."): value for key, value in FORMER_DEFAULTS[1].items() if "search." in key}
    assert resolve_search(SearchConfig(**former), LEARNED, 256, 65_536) == ResolvedSearch(
        max_length_ratio=2.0, max_length_offset=10, max_source_tokens=512, batch_tokens=8192
    )


def test_the_budget_follows_the_device():
    assert default_batch_tokens("cpu") == 8192
    assert default_batch_tokens("cuda", 16 * GIB) == 65_536
    assert default_batch_tokens("cuda", 80 * GIB) == 262_144
