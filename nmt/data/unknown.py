"""Unknown pieces of an encoded corpus: their number, and the characters or words that they replace."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from nmt.data.arrow import integers
from nmt.data.corpus import TextPart
from nmt.data.sentencepiece_model import UNK_ID
from nmt.data.tokenizer import Tokenizer
from nmt.numbers import plain

LOOKED_AT = 10_000  # lines of a part whose unknown texts are counted
SHOWN = 3  # parts with the largest shares that a message lists per side
LONGEST = 20  # characters of an unknown text that a message shows
NAMED = 20  # most frequent unknown texts in the account


@dataclass
class SideCount:
    """Unknown pieces on one side of a part."""

    tokens: int = 0  # subwords, known and unknown
    pieces: int = 0  # unknown subwords
    lines: int = 0  # lines with an unknown subword
    texts: Counter[str] = field(default_factory=Counter)  # unknown texts in the lines looked at
    looked_at: int = 0

    def account(self) -> dict[str, Any]:
        most_frequent = dict(self.texts.most_common(NAMED))
        return {"tokens": self.tokens, "pieces": self.pieces, "lines": self.lines, "most_frequent": most_frequent}


class UnknownCount:
    """Count the unknown pieces of a part, block by block."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer
        self.pairs = 0
        self.sides = {"src": SideCount(), "tgt": SideCount()}

    def add(
        self, texts: pa.RecordBatch, src: list[list[int]], tgt: list[list[int]], keep: npt.NDArray[np.bool_]
    ) -> None:
        """Count a block.

        Args:
            texts: source and target of each pair [N].
            src, tgt: ids of each pair.
            keep: [N] whether to count the pair.
        """
        self.pairs += int(keep.sum())
        for column, (side, ids) in enumerate((("src", src), ("tgt", tgt))):
            count = self.sides[side]
            lengths = np.fromiter(map(len, ids), np.int64, len(ids))
            unknown = np.fromiter((row.count(UNK_ID) for row in ids), np.int64, len(ids)) * keep
            rows = np.flatnonzero(unknown)
            count.tokens += int(lengths[keep].sum())
            count.pieces += int(unknown.sum())
            count.lines += len(rows)
            rows = rows[: LOOKED_AT - count.looked_at]
            count.looked_at += len(rows)
            if len(rows):
                count.texts.update(
                    self.tokenizer.unknown_texts(side, texts.column(column).take(integers(rows)).to_pylist())
                )

    def account(self) -> dict[str, Any]:
        """For a manifest: the number of pairs, and the counts of each side."""
        return {"pairs": self.pairs, **{side: count.account() for side, count in self.sides.items()}}


def count_unknown(part: TextPart, tokenizer: Tokenizer) -> dict[str, Any]:
    """The account of a part that is not encoded in the store."""
    count = UnknownCount(tokenizer)
    for batch in part.batches:
        src = tokenizer.encode_src(batch.column(0).to_pylist())
        tgt = tokenizer.encode_tgt(batch.column(1).to_pylist())
        count.add(batch, src, tgt, np.ones(batch.num_rows, dtype=bool))
    return count.account()


def describe(accounts: Mapping[str, dict[str, Any]], named: int = 8) -> tuple[float, str]:
    """The largest share of unknown pieces among parts and sides, and one line about all of them; 0 and "" if none.

    Args:
        accounts: by the name of the part.
        named: number of most frequent unknown texts to list.
    """
    largest, told, texts, pieces = 0.0, list[str](), Counter[str](), 0
    for side, name in (("tgt", "target"), ("src", "source")):
        counts = {part: account[side] for part, account in accounts.items() if account[side]["pieces"]}
        shares = {part: count["pieces"] / count["tokens"] for part, count in counts.items()}
        for count in counts.values():
            texts.update(count["most_frequent"])
            pieces += count["pieces"]
        if not shares:
            continue
        largest = max(largest, *shares.values())
        listed: list[str] = []
        for part in heapq.nlargest(SHOWN, shares, key=lambda part: shares[part]):
            lines = percent(counts[part]["lines"] / accounts[part]["pairs"])
            of = "of the subwords " if not told and not listed else ""
            listed.append(f"{percent(shares[part])} {of}of {part} (in {lines} of its lines)")
        more = f" and of {len(shares) - SHOWN} other parts" if len(shares) > SHOWN else ""
        told.append(f"{name} {', '.join(listed)}{more}")
    if not told:
        return 0.0, ""
    frequent = ", ".join(f"{_cut(text)!r} {count:,}" for text, count in texts.most_common(named))
    more = f" of {pieces:,} pieces" if len(texts) > named else ""
    return largest, f"{'; '.join(told)}; most frequent{more}: {frequent}"


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def percent(share: float) -> str:
    """A share in per cent, with two significant digits if it is small."""
    return f"{100 * share:.0f}%" if share >= 0.1 else f"{plain(100 * share, 2)}%"
