"""Batches of a search: sentences of like length together, within a budget of positions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def search_batches(sources: Sequence[Sequence[int]], beam_size: int, batch_tokens: int) -> Iterator[list[int]]:
    """Places of ``sources``, in batches of sentences · beam size · longest ≤ ``batch_tokens``; a longer one alone.

    The longest come first, so that a batch too large for the device fails at once and not after an hour.
    """
    batch: list[int] = []
    for index in sorted(range(len(sources)), key=lambda index: -len(sources[index])):
        longest = len(sources[batch[0] if batch else index]) + 1  # + 1: eos
        if batch and (len(batch) + 1) * beam_size * longest > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
