"""Limits of a search that the corpus and the device decide: lengths of sources and hypotheses, and the batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from nmt.config.base import Positive, Section
from nmt.config.search import ALPHA, SearchConfig

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

RATIO, OFFSET = 2.0, 10  # the least that is learned; the value of one if only the other is configured
SLACK = 1.5  # factor on the trend of target lengths
BEYOND = 0.001  # share of training pairs that may come within OFFSET of the limit
GIB = 1 << 30


class LengthLimits(Section):
    """Limits of a search, in subwords, learned from the lengths of the training pairs.

    Attributes:
        longest_source: length of the longest source of the training pairs.
        max_length_ratio, max_length_offset: a hypothesis has at most ratio · source + offset.
    """

    longest_source: Positive
    max_length_ratio: Annotated[float, Field(ge=0.0, le=1e4)]
    max_length_offset: Annotated[int, Field(gt=0, le=1_000_000)]


class ResolvedSearch(SearchConfig):
    """A search in which every number is known."""

    alpha: Annotated[float, Field(ge=0.0)] = ALPHA
    max_length_ratio: Annotated[float, Field(ge=0.0)] = RATIO
    max_length_offset: Positive = OFFSET
    max_source_tokens: Positive = 512
    batch_tokens: Positive = 8192


def resolve_search(
    search: SearchConfig,
    limits: LengthLimits | None = None,
    max_tokens: int | None = None,
    batch_tokens: int | None = None,
) -> ResolvedSearch:
    """Fill in the open values of ``search``.

    Args:
        limits: learned from the training pairs; None if unknown.
        max_tokens: ``data.cleaning.max_tokens``, the longest source that a training may have.
        batch_tokens: budget that suits the device, see :func:`default_batch_tokens`.
    """
    if isinstance(search, ResolvedSearch):
        return search
    known: dict[str, Any] = {"max_source_tokens": max_tokens, "batch_tokens": batch_tokens}
    if limits is not None and search.max_length_ratio is None and search.max_length_offset is None:
        known |= limits.model_dump(exclude={"longest_source"})
    known |= search.model_dump(exclude_none=True)
    return ResolvedSearch.model_validate({key: value for key, value in known.items() if value is not None})


def learn_limits(blocks: Callable[[], Iterable[npt.NDArray[np.int32]]]) -> LengthLimits:
    """Learn limits from the lengths of all training pairs.

    The ratio is :data:`SLACK` times the slope of the least-squares line through (source, target) lengths, and at least
    :data:`RATIO`. The offset is chosen so that all but :data:`BEYOND` of the pairs are at least :data:`OFFSET` subwords
    below the limit.

    Args:
        blocks: yields arrays [2, n] of source and target lengths; called twice.
    """
    import numpy as np

    # Ratio
    count = longest = 0
    moments = np.zeros(4)  # sums of s, t, s², s·t
    for s, t in blocks():
        count, longest = count + len(s), max(longest, int(s.max(initial=0)))
        s, t = s.astype(np.float64), t.astype(np.float64)
        moments += [s.sum(), t.sum(), (s * s).sum(), (s * t).sum()]
    sum_s, sum_t, sum_ss, sum_st = moments
    variance = count * sum_ss - sum_s**2
    slope = (count * sum_st - sum_s * sum_t) / variance if variance > 0 else 0.0
    ratio = min(max(RATIO, round(SLACK * slope, 2)), 1e4)

    excess = np.zeros(1, np.int64)  # excess[k]: pairs whose target is k longer than ratio · source
    for s, t in blocks():
        found = np.bincount(np.maximum(0, t - (ratio * s).astype(np.int64)), minlength=len(excess))
        found[: len(excess)] += excess
        excess = found
    longer = count - np.cumsum(excess)  # longer[k]: pairs whose target is over k longer
    offset = OFFSET + int(np.argmax(longer <= BEYOND * count))
    return LengthLimits(longest_source=longest, max_length_ratio=ratio, max_length_offset=offset)


def default_batch_tokens(device: str, memory: int | None = None) -> int:
    """Default size of a search batch, in tokens.

    On an H100, a Transformer with 60 M parameters and beam 5 reached 3,010 tokens/s with 8,192, 11,334 with 65,536 and
    14,337 with 262,144. A batch that does not fit into memory is halved.

    Args:
        memory: of the device, in bytes; None if unknown.
    """
    if device != "cuda":
        return 8192
    return 262_144 if memory is not None and memory >= 40 * GIB else 65_536
