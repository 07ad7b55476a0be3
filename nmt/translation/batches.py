"""Batches of a search: sentences of like length together, within a budget of positions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence


def search_batches(
    sources: Sequence[Sequence[int]], beam_size: int, batch_tokens: int, count: Callable[[int, int], int] = min
) -> Iterator[list[int]]:
    """Places of ``sources``, in batches of sentences · beam size · longest ≤ ``batch_tokens``; a longer one alone.

    The longest come first, so that a batch too large for the device fails at once and not after an hour.

    Args:
        count: how many sentences a batch takes, of how many are left and how many may be taken.
    """
    order = sorted(range(len(sources)), key=lambda index: -len(sources[index]))
    start = 0
    while start < len(order):
        longest = len(sources[order[start]]) + 1  # + 1: eos
        most = max(1, batch_tokens // (beam_size * longest))
        taken = count(len(order) - start, most)
        yield order[start : start + taken]
        start += taken
