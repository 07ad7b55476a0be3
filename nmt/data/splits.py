"""Which pairs of a corpus are left out, held out or kept: all that is decided from lengths and hashes alone.

A pair is represented by the 64-bit hashes of its sentences. Two different sentences of n share a hash with a
probability of n² / 2^65: 3 in a million for ten million sentences. Memory is a few numbers a pair.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from nmt.config.data import HoldoutSource

Hashes = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]
Assignment = npt.NDArray[np.int16]  # of pairs to parts

SAMPLE = 1 << 20  # pairs that tell what is usual
STRETCH = 1 << 16  # pairs that are worked on at once
FLOOR = 10  # characters that the shorter side counts at least: "No." may be translated by three words
PRIOR = 10  # pairs of equal lengths that every corpus is taken to hold: a few pairs say little about what is usual
WIDE = 3  # letters of an alphabet that say as much as one Chinese, Japanese or Korean character
CHEAP = 4  # training pairs that are dropped for a held-out pair without a second thought
COMMON = 0.05, 100, 0.001  # a sentence is part of the language in more than 5 % of few pairs, 100, 0.1 % of many
MOST_DROPPED = 0.2  # of the training pairs, for the sake of a holdout that would be empty otherwise

# Han, kana, hangul and their full-width companions.
_WIDE = re.compile("[\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7ff\uf900-\ufaff\uff00-\uff60\U00020000-\U0003ffff]+")
_NOT_ASCII = re.compile("[^\\x00-\\x7f]")
_NO_LETTER = re.compile(r"[\W_]+")
_ASCII_KEPT = bytes(byte for byte in range(128) if not chr(byte).isalnum())


# -------------------------------------------------------------------------------------------------------------- hashes


def pair_hash(src: str, tgt: str) -> bytes:
    """8 bytes that stand for a pair, white space at the ends of its sides left out."""
    return _hash(f"{src.strip()}\n{tgt.strip()}".encode())


def sentence_hash(text: str) -> bytes:
    """8 bytes that stand for a sentence, whatever its case, punctuation, spaces and accents."""
    return _hash(sentence_key(text))


# Stands for the sentence of a blank line, which equals no other one: the key of none is a NUL byte.
BLANK = blake2b(b"\0", digest_size=8).digest()


def sentence_key(text: str) -> bytes:
    """The letters and digits of a sentence in one case: equal for all spellings of what counts as one sentence."""
    if text.isascii():
        return text.lower().encode().translate(None, _ASCII_KEPT)
    return _NOT_ASCII.sub(_letters, text).encode().lower().translate(None, _ASCII_KEPT)


@cache
def _letters_of(char: str) -> str:
    """The letters and digits of one character: case folding and NFKD work on each alone, marks being left out."""
    folded = unicodedata.normalize("NFKD", _NO_LETTER.sub("", char).casefold())
    return _NO_LETTER.sub("", folded).casefold()


def _letters(found: re.Match[str]) -> str:
    return _letters_of(found[0])


def _hash(data: bytes) -> bytes:
    return blake2b(data, digest_size=8).digest()


def to_hashes(data: bytes | array[int]) -> Hashes:
    return np.frombuffer(data, dtype=np.uint64)


def repeats(hashes: Hashes) -> Mask:
    """For each pair, whether an equal one stands before it."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    found = np.zeros(len(hashes), dtype=bool)
    found[order[1:][ordered[1:] == ordered[:-1]]] = True
    return found


def among(hashes: Hashes, others: Hashes) -> Mask:
    """For each hash, whether it is one of ``others``."""
    return np.concatenate([np.isin(hashes[rows], others) for rows in _stretches(len(hashes))])


def _stretches(count: int) -> Iterator[slice]:
    """Parts of an array of one number a pair, for work whose copies would take several times its memory."""
    return (slice(start, start + STRETCH) for start in range(0, max(1, count), STRETCH))


# ------------------------------------------------------------------------------------------------------------- lengths


def width(text: str) -> int:
    """Characters of a text, each of Chinese, Japanese and Korean counted :data:`WIDE` times."""
    if text.isascii():
        return len(text)
    return len(text) + (WIDE - 1) * sum(map(len, _WIDE.findall(text)))


def usual_ratio(src: npt.NDArray[np.uint32], tgt: npt.NDArray[np.uint32]) -> float:
    """The median of target over source length in the pairs [N] that are long enough to tell, 1.0 where none is."""
    every = slice(None, None, 1 + len(src) // SAMPLE)
    src, tgt = src[every], tgt[every]
    long = (src >= FLOOR) & (tgt >= FLOOR)
    logs = np.log(tgt[long].astype(np.float32)) - np.log(src[long].astype(np.float32))
    return float(np.exp(np.median(np.concatenate([logs, np.zeros(PRIOR, np.float32)]))))


def ill_proportioned(src: npt.NDArray[np.uint32], tgt: npt.NDArray[np.uint32], usual: float, max_ratio: float) -> Mask:
    """For each pair [N], whether one side is over ``max_ratio`` times as long as the other one lets expect.

    Args:
        usual: target over source length of this corpus. The side that is usually shorter is scaled up by it.
    """
    found = np.empty(len(src), dtype=bool)
    for rows in _stretches(len(src)):
        scaled = src[rows] * max(1.0, usual), tgt[rows] * max(1.0, 1.0 / usual)
        shorter, longer = np.minimum(*scaled), np.maximum(*scaled)
        found[rows] = longer > max_ratio * np.maximum(shorter, FLOOR)
    return found


# ------------------------------------------------------------------------------------------------------------ holdouts


def mix(values: Hashes, seed: int) -> npt.NDArray[np.float64]:
    """Seeded pseudo-random numbers in [0, 1), each a function of its value alone (SplitMix64's finaliser)."""
    start = int.from_bytes(_hash(str(seed).encode()), "little")
    x = values + np.uint64(start)  # wraps around, as is meant
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return (x >> np.uint64(11)).astype(np.float64) * 2.0**-53


def split(hashes: Hashes, holdouts: Sequence[HoldoutSource]) -> Assignment:
    """For each hash, which holdout takes it (its position in ``holdouts``), or -1 for the training part.

    Holdouts of one seed take neighbouring intervals of the same numbers; of other seeds, the first has it.
    """
    where = np.full(len(hashes), -1, dtype=np.int16)
    taken: dict[int, float] = {}
    for number, holdout in enumerate(holdouts):
        low = taken.get(holdout.seed, 0.0)
        taken[holdout.seed] = high = low + holdout.fraction
        for rows in _stretches(len(hashes)):
            u, found = mix(hashes[rows], holdout.seed), where[rows]
            found[(found < 0) & (low <= u) & (u < high)] = number
    return where


@dataclass(frozen=True)
class Separation:
    """Which holdout takes each pair [N] (-1: the training part, -2: none of them), and what that cost."""

    where: Assignment
    from_training: int  # pairs dropped from training, since a held-out pair has their sentence
    from_holdouts: int  # pairs dropped from the holdouts, since too many training pairs have their sentence
    shared: int  # held-out pairs with a sentence so common that it stays in training too


def separate(src: Hashes, tgt: Hashes, keep: Mask, holdouts: Sequence[HoldoutSource]) -> Separation:
    """Split off holdouts that share neither a source nor a target sentence with the training part.

    A pair is drawn by the hash of one of its sentences (the leading side), so that all pairs with that sentence fall on
    the same side, in whatever order and however the corpus grows: what is once held out never comes back into training.
    A sentence of the other side that then stands on both sides is resolved by dropping pairs, see :func:`_resolve`.

    The leading side is the source, unless targets repeat far more than sources do, or hardly a source is unlike others.

    Args:
        src, tgt: hashes of the sentences [N], see :func:`sentence_hash`.
        keep: the pairs [N] that take part.
    """
    fraction = sum(holdout.fraction for holdout in holdouts)
    largest = max(4.0, fraction * int(keep.sum()) / 2)  # group that may be held out: half of the holdouts
    leading, other = (tgt, src) if _target_leads(src, tgt, keep, largest) else (src, tgt)

    where = split(leading, holdouts)
    drawn = np.flatnonzero(keep & (where >= 0))
    _, group, sizes = np.unique(leading[drawn], return_inverse=True, return_counts=True)
    where[drawn[sizes[group] > largest]] = -1
    held = np.flatnonzero(keep & (where >= 0))

    names, name, in_holdouts = np.unique(other[held], return_inverse=True, return_counts=True)
    in_training = _count(other, keep & (where == -1), names)
    leaves_training, leaves_holdouts = _resolve(in_training, in_holdouts, int(keep.sum()) - len(held))
    dropped = held[leaves_holdouts[name]]
    shared = int(((in_training > 0) & ~leaves_training & ~leaves_holdouts)[name].sum())
    leaking = keep & (where == -1) & among(other, names[leaves_training])
    where[dropped], where[leaking] = -2, -2
    return Separation(where, int(leaking.sum()), len(dropped), shared)


def _target_leads(src: Hashes, tgt: Hashes, keep: Mask, largest: float) -> bool:
    """Whether the pairs that have to stay together are those of one target rather than those of one source."""
    (sources, in_sources), (targets, in_targets) = (_groups(side[keep], largest) for side in (src, tgt))
    half = int(keep.sum()) / 2
    return in_targets >= half and (2 * targets <= sources or in_sources < half)


def _groups(hashes: Hashes, largest: float) -> tuple[int, int]:
    """The number of groups of equal hashes, ``largest`` at most, and of hashes in them. Sorts ``hashes``."""
    hashes.sort()
    starts = np.flatnonzero(np.concatenate([[len(hashes) > 0], hashes[1:] != hashes[:-1]]))
    sizes = np.diff(starts, append=len(hashes))
    usable = sizes[sizes <= largest]
    return len(usable), int(usable.sum())


def _count(hashes: Hashes, mask: Mask, names: Hashes) -> Counts:
    """How many of the masked ``hashes`` [N] are each of ``names`` [M], which are sorted and different."""
    counts = np.zeros(len(names), dtype=np.int64)
    if len(names):
        for rows in _stretches(len(hashes)):
            part = hashes[rows][mask[rows]]
            place = np.minimum(np.searchsorted(names, part), len(names) - 1)
            counts += np.bincount(place[names[place] == part], minlength=len(names))
    return counts


def _resolve(in_training: Counts, in_holdouts: Counts, training_size: int) -> tuple[Mask, Mask]:
    """For sentences [M] of held-out pairs, whether the pairs with them leave training, and whether the holdouts.

    Where few training pairs have the sentence (:data:`CHEAP` times as many as held-out ones), they are dropped. A more
    common one costs the held-out pairs instead. Where that would take more than half of them, training gives way as
    far as :data:`MOST_DROPPED`; what is still common then (the "yes" and "no" of a corpus of answers) stays on both
    sides.
    """
    total = int(in_holdouts.sum())
    order = np.argsort(in_training / in_holdouts, kind="stable")
    before = np.cumsum(in_holdouts[order]) - in_holdouts[order]  # held-out pairs with rarer sentences
    cost = np.cumsum(in_training[order])
    training = np.zeros(len(order), dtype=bool)
    training[order] = (2 * before < total) & (cost <= MOST_DROPPED * training_size)
    training |= in_training <= CHEAP * in_holdouts
    holdout = ~training
    if 2 * int(in_holdouts[holdout].sum()) > total:
        holdout[:] = False
    return training & (in_training > 0), holdout


# ------------------------------------------------------------------------------------------------- given held-out sets


def overlap(hashes: Hashes, keep: Mask, held: Hashes) -> tuple[Mask, Mask]:
    """Which pairs [N] have a sentence of a validation or test set that is no holdout.

    A sentence that is part of the language ("Thank you.", see :data:`COMMON`) is left alone.

    Args:
        hashes: of one side of the training pairs [N].
        held: of the same side of the pairs of the sets [M].

    Returns:
        The mask, and for each pair of the sets [M] whether its sentence is too common.
    """
    names, place = np.unique(held, return_inverse=True)
    few, some, many = COMMON
    pairs = int(keep.sum())
    common = _count(hashes, keep, names) > max(FLOOR, min(few * pairs, max(some, many * pairs)))
    return keep & among(hashes, names[~common]), common[place]
