"""Word alignments of training pairs, on their subwords."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from nmt.data.batch import Guide, Ids
from nmt.data.modifiers import Links
from nmt.data.tokenizer import Tokenizer

Subwords = npt.NDArray[np.int64]  # links of subwords [K, 2]: source, target


NO_LINKS: Subwords = np.zeros((0, 2), np.int64)


def subword_links(
    tokenizer: Tokenizer, text: tuple[str, str], ids: tuple[Ids, Ids], links: Links, tags: int = 0
) -> Subwords:
    """The links of words as links of subwords: each subword of one word with each of the other (Garg et al. 2019).

    A pair of which a side, decoded, has another number of words than its text has no links: normalisation has split or
    joined words there.

    Args:
        text: source and target.
        ids: the subwords of both, best or sampled.
        links: places in ``text.split()`` of both.
        tags: number of tags before the source.
    """
    if not links:
        return NO_LINKS
    words = tokenizer.src_words_of(ids[0].tolist()), tokenizer.tgt_words(ids[1].tolist())
    if any(max(side, default=-1) + 1 != len(line.split()) for side, line in zip(words, text, strict=True)):
        return NO_LINKS
    src, tgt = (np.array(side) for side in words)
    linked = np.zeros((int(src.max()) + 1, int(tgt.max()) + 1), bool)
    for one, other in links:
        if one < linked.shape[0] and other < linked.shape[1]:
            linked[one, other] = True
    return np.argwhere(linked[src][:, tgt]) + np.array([tags, 0])


def guide(links: Sequence[Subwords], lengths: Sequence[int]) -> Guide:
    """The links of the pairs of a batch, each target token's with equal weights (Garg et al. 2019, section 4.2).

    Args:
        links: of each pair, in the order of the batch.
        lengths: target tokens of each pair, eos counted.
    """
    starts = np.cumsum([0, *lengths[:-1]])
    target = np.concatenate([each[:, 1] + start for each, start in zip(links, starts, strict=True)])
    source = np.concatenate([each[:, 0] for each in links])
    counts = np.bincount(target, minlength=1)
    weight = (1.0 / counts[target]).astype(np.float32)
    return Guide(torch.from_numpy(target), torch.from_numpy(source), torch.from_numpy(weight))
