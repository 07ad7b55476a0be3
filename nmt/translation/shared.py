"""Lines that the ranks of a training translate together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nmt.runtime.ranks import Ranks
from nmt.translation.translator import Notice, Translation, Translator, showing_search


def translate_shared(
    translator: Translator[Any], lines: Sequence[str], ranks: Ranks, label: str, warn: Callable[[Notice], None]
) -> list[Translation]:
    """The best translation of each line, on all ranks; each rank translates a block of the lines.

    Args:
        label: what is done, for people who watch, such as ``translating valid``.
    """
    notices = list[Notice]()
    found = ranks.on_every_rank(lambda: translate_block(translator, lines, ranks, label, notices.append))
    for notice in ranks.gather_items(notices):
        warn(notice)
    return ranks.gather_items(found)


def translate_block(
    translator: Translator[Any],
    lines: Sequence[str],
    ranks: Ranks,
    label: str,
    warn: Callable[[Notice], None] | None = None,
) -> list[Translation]:
    """The best translation of each line of this rank's block."""
    block = ranks.block(len(lines))
    chosen = lines[block]
    with showing_search(translator.engine, label, len(chosen)):
        return [best[0] for best in translator.translate(chosen, warn=warn, first_line=block.start + 1)]
