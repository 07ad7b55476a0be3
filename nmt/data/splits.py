"""Decide from lengths and hashes which pairs of a corpus are dropped, held out or kept.

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

from nmt.config.sources import HoldoutSource

Hashes = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]
Assignment = npt.NDArray[np.int16]  # index of the part of each pair

SAMPLE = 1 << 20  # pairs that estimate the usual ratio of lengths
STRETCH = 1 << 16  # pairs that are processed at once
FLOOR = 10  # characters that the shorter side counts at least: "No." may be translated by three words
PRIOR = 10  # pairs of equal lengths added to every corpus as a prior for the ratio of lengths
WIDE = 3  # letters of an alphabet that are worth one Chinese, Japanese or Korean character
CHEAP = 4  # training pairs that may always be dropped for one held-out pair
COMMON = 0.05, 100, 0.001  # a common sentence is in more than 5 % of few pairs, 100 pairs, or 0.1 % of many pairs
MOST_DROPPED = 0.2  # of the training pairs, to keep pairs of a holdout

# Han, kana, hangul and their full-width companions.
_WIDE = re.compile("[\u1100-\u11ff\u2e80-\ua4cf\uac00-\ud7ff\uf900-\ufaff\uff00-\uff60\U00020000-\U0003ffff]+")
_NOT_ASCII = re.compile("[^\\x00-\\x7f]")
_NO_LETTER = re.compile(r"[\W_]+")
_ASCII_KEPT = bytes(byte for byte in range(128) if not chr(byte).isalnum())


# -------------------------------------------------------------------------------------------------------------- hashes


def pair_hash(src: str, tgt: str) -> bytes:
    """Hash a pair to 8 bytes, without white space at the ends of its sides."""
    return _hash(f"{src.strip()}\n{tgt.strip()}".encode())


def text_hash(text: str) -> bytes:
    """Hash a text to 8 bytes, without white space at its ends."""
    return _hash(text.strip().encode())


def sentence_hash(text: str) -> bytes:
    """Hash a sentence to 8 bytes, regardless of case, punctuation, spaces and accents."""
    return _hash(sentence_key(text))


# The hash of a blank line, which equals that of no sentence: no key is a NUL byte.
BLANK = blake2b(b"\0", digest_size=8).digest()


def sentence_key(text: str) -> bytes:
    """The letters and digits of a sentence in lower case: equal keys count as the same sentence."""
    if text.isascii():
        return text.lower().encode().translate(None, _ASCII_KEPT)
    return _NOT_ASCII.sub(_letters, text).encode().lower().translate(None, _ASCII_KEPT)


@cache
def _letters_of(char: str) -> str:
    """The letters and digits of one character. Without marks, case folding and NFKD work on each character alone."""
    folded = unicodedata.normalize("NFKD", _NO_LETTER.sub("", char).casefold())
    return _NO_LETTER.sub("", folded).casefold()


def _letters(found: re.Match[str]) -> str:
    return _letters_of(found[0])


def _hash(data: bytes) -> bytes:
    return blake2b(data, digest_size=8).digest()


def to_hashes(data: bytes | array[int]) -> Hashes:
    return np.frombuffer(data, dtype=np.uint64)


def repeats(hashes: Hashes) -> Mask:
    """For each hash [N], whether an equal one comes before it."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    found = np.zeros(len(hashes), dtype=bool)
    found[order[1:][ordered[1:] == ordered[:-1]]] = True
    return found


def among(hashes: Hashes, others: Hashes) -> Mask:
    """For each hash [N], whether it is one of ``others`` [M]."""
    return np.concatenate([np.isin(hashes[rows], others) for rows in _stretches(len(hashes))])


def _stretches(count: int) -> Iterator[slice]:
    """Slices of an array of ``count`` numbers. Processing it whole would copy it several times."""
    return (slice(start, start + STRETCH) for start in range(0, max(1, count), STRETCH))


# ------------------------------------------------------------------------------------------------------------- lengths


def width(text: str) -> int:
    """Number of characters of a text; each Chinese, Japanese or Korean character counts :data:`WIDE` times."""
    if text.isascii():
        return len(text)
    return len(text) + (WIDE - 1) * sum(map(len, _WIDE.findall(text)))


def usual_ratio(src: npt.NDArray[np.uint32], tgt: npt.NDArray[np.uint32]) -> float:
    """The median of target over source length of the pairs [N] that are long enough; 1.0 if none is."""
    every = slice(None, None, 1 + len(src) // SAMPLE)
    src, tgt = src[every], tgt[every]
    long = (src >= FLOOR) & (tgt >= FLOOR)
    logs = np.log(tgt[long].astype(np.float32)) - np.log(src[long].astype(np.float32))
    return float(np.exp(np.median(np.concatenate([logs, np.zeros(PRIOR, np.float32)]))))


def ill_proportioned(src: npt.NDArray[np.uint32], tgt: npt.NDArray[np.uint32], usual: float, max_ratio: float) -> Mask:
    """For each pair [N], whether one side is over ``max_ratio`` times as long as expected from the other.

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
    x = values + np.uint64(start)  # wraps around on purpose
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    return (x >> np.uint64(11)).astype(np.float64) * 2.0**-53


def split(hashes: Hashes, holdouts: Sequence[HoldoutSource]) -> Assignment:
    """For each hash [N], the index of the holdout that takes it, or -1 for the training part.

    Holdouts with the same seed take adjacent intervals of the same random numbers. Among holdouts with different seeds,
    the first one takes the hash.
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
    """The holdout that takes each pair [N] (-1: the training part, -2: no part), and the pairs that this cost."""

    where: Assignment
    from_training: int  # pairs dropped from training because a held-out pair has their sentence
    from_holdouts: int  # pairs dropped from the holdouts because too many training pairs have their sentence
    shared: int  # held-out pairs with a sentence so common that it stays in training too


def separate(src: Hashes, tgt: Hashes, keep: Mask, holdouts: Sequence[HoldoutSource]) -> Separation:
    """Split off holdouts that share neither a source nor a target sentence with the training part.

    A pair is drawn by the hash of its sentence of the leading side. All pairs with that sentence go to the same part,
    in any order and however the corpus grows: a held-out sentence never returns to training. A sentence of the other
    side may then be in both parts; :func:`_resolve` drops pairs to separate them.

    The leading side is the source, unless targets repeat far more than sources, or nearly all sources repeat.

    Args:
        src, tgt: hashes of the sentences [N], see :func:`sentence_hash`.
        keep: the pairs [N] that take part.
    """
    fraction = sum(holdout.fraction for holdout in holdouts)
    largest = max(4.0, fraction * int(keep.sum()) / 2)  # largest group that may be held out: half of the holdouts
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
    """Whether pairs of the same target must stay together, rather than pairs of the same source."""
    (sources, in_sources), (targets, in_targets) = (_groups(side[keep], largest) for side in (src, tgt))
    half = int(keep.sum()) / 2
    return in_targets >= half and (2 * targets <= sources or in_sources < half)


def _groups(hashes: Hashes, largest: float) -> tuple[int, int]:
    """The number of groups of at most ``largest`` equal hashes, and of hashes in them. Sorts ``hashes``."""
    hashes.sort()
    starts = np.flatnonzero(np.concatenate([[len(hashes) > 0], hashes[1:] != hashes[:-1]]))
    sizes = np.diff(starts, append=len(hashes))
    usable = sizes[sizes <= largest]
    return len(usable), int(usable.sum())


def _count(hashes: Hashes, mask: Mask, names: Hashes) -> Counts:
    """Count each of ``names`` [M], sorted and unique, among the masked ``hashes`` [N]."""
    counts = np.zeros(len(names), dtype=np.int64)
    if len(names):
        for rows in _stretches(len(hashes)):
            part = hashes[rows][mask[rows]]
            place = np.minimum(np.searchsorted(names, part), len(names) - 1)
            counts += np.bincount(place[names[place] == part], minlength=len(names))
    return counts


def _resolve(in_training: Counts, in_holdouts: Counts, training_size: int) -> tuple[Mask, Mask]:
    """For each sentence [M] of held-out pairs, whether its pairs leave training, and whether they leave the holdouts.

    If few training pairs have the sentence (:data:`CHEAP` times as many as held-out ones), the training pairs are
    dropped; otherwise the held-out pairs are. If that would drop more than half of the held-out pairs, training pairs
    are dropped instead, up to :data:`MOST_DROPPED`. Sentences that are still common then, such as "yes" and "no" in a
    corpus of answers, stay in both parts.
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
    """Find the pairs [N] with a sentence of a validation or test set that is no holdout.

    Common sentences ("Thank you.", see :data:`COMMON`) are exempt.

    Args:
        hashes: of one side of the training pairs [N].
        held: of the same side of the pairs of the sets [M].

    Returns:
        The mask [N], and for each pair of the sets [M] whether its sentence is common.
    """
    names, place = np.unique(held, return_inverse=True)
    few, some, many = COMMON
    pairs = int(keep.sum())
    common = _count(hashes, keep, names) > max(FLOOR, min(few * pairs, max(some, many * pairs)))
    return keep & among(hashes, names[~common]), common[place]
