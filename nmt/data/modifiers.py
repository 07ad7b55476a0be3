"""Random changes of sentence pairs, as OpusTrainer makes them; each is a function of the pair and a generator.

The modifiers and their defaults are those of OpusTrainer 0.5 (https://github.com/hplt-project/OpusTrainer), the typing
errors those of the package typo 0.1.5 that it calls.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from nmt.config.modifiers import (
    MergeModifier,
    Modifier,
    NoiseModifier,
    PlaceholdersModifier,
    PrefixModifier,
    TagsModifier,
    TyposModifier,
    symbols_of,
)
from nmt.text.case import upper
from nmt.text.placeholders import find, symbol

Places = tuple[tuple[int, int], tuple[int, int]]  # start and end in the source, and in the target
Links = tuple[tuple[int, int], ...]  # word alignments: source word, target word


@dataclass(frozen=True)
class Pair:
    """A sentence pair.

    Attributes:
        links: word alignments, as places in ``src.split()`` and ``tgt.split()``; None where there are none.
    """

    src: str
    tgt: str
    links: Links | None = None


Another = Callable[[random.Random], Pair]  # draws another pair of the same dataset
Symbols = re.Pattern[str] | None  # the symbols that modifiers put into sentences, as the groups of a pattern


class Around(NamedTuple):
    """What a modifier has beside the pair.

    Attributes:
        symbols: no change of case and no typing error alters them.
        dotless: whether the language of each side has a dotless i, see :mod:`nmt.text.case`.
    """

    another: Another
    symbols: Symbols = None
    dotless: tuple[bool, bool] = (False, False)


def modify(modifier: Modifier, pair: Pair, rng: random.Random, around: Around) -> Pair:
    """The pair as a modifier changes it."""
    return _CHANGES[modifier.name](modifier, pair, rng, around)


def symbols_among(modifiers: Sequence[Modifier]) -> Symbols:
    """The symbols of modifiers that are applied to the same pairs; None where there are none."""
    found = sorted(symbols_of(list(modifiers)), key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, found))})") if found else None


# ------------------------------------------------------------------------------------------------------------- surface


def upper_case(text: str, symbols: Symbols = None, dotless: bool = False) -> str:
    parts = symbols.split(text) if symbols else [text]
    return "".join(part if number % 2 else upper(part, dotless) for number, part in enumerate(parts))


def title_case(text: str, symbols: Symbols = None, dotless: bool = False) -> str:
    """The text with a capital at the start of each word, and one space between words."""
    return " ".join(
        word if symbols and symbols.match(word) else upper(word[0], dotless) + word[1:] for word in text.split()
    )


def _upper_case(modifier: Modifier, pair: Pair, rng: random.Random, around: Around) -> Pair:
    src, tgt = (upper_case(one, around.symbols, i) for one, i in zip((pair.src, pair.tgt), around.dotless, strict=True))
    return replace(pair, src=src, tgt=tgt)


def _title_case(modifier: Modifier, pair: Pair, rng: random.Random, around: Around) -> Pair:
    src, tgt = (title_case(one, around.symbols, i) for one, i in zip((pair.src, pair.tgt), around.dotless, strict=True))
    return replace(pair, src=src, tgt=tgt)


# Marks of the same kind in several scripts: the Latin one, wide and narrow forms, and those of other scripts.
PUNCTUATION = {
    "period": ".．｡。﹒︒।॥۔။።։",
    "exclamation": "!！﹗︕‼❢❣՜",
    "question": "?？﹖︖؟;՞፧⁇⁈⁉",
    "comma": ",，､﹐︐、﹑︑،၊՝",
    "colon": ":：﹕︓፥፦·",
    "semicolon": ";；﹔︔؛፤",
    "ellipsis": "…⋯︙",
}
_MARKS = frozenset("".join(PUNCTUATION.values()))


def _remove_end_punctuation(modifier: Modifier, pair: Pair, rng: random.Random, around: Around) -> Pair:
    src, tgt = pair.src, pair.tgt
    if not any(src[-1:] in marks and tgt[-1:] in marks for marks in PUNCTUATION.values() if src and tgt):
        return pair
    for side in (src, tgt):  # several marks, such as "?!" or ". . .", stay
        if side[-2:-1] in _MARKS or (side[-2:-1] == " " and side[-3:-2] in _MARKS):
            return pair
    src, tgt = src[:-1].rstrip(), tgt[:-1].rstrip()
    words = len(src.split()), len(tgt.split())  # one less where the mark was a word
    links = pair.links and tuple(link for link in pair.links if link[0] < words[0] and link[1] < words[1])
    return Pair(src, tgt, links)


# --------------------------------------------------------------------------------------------------------------- typos

# Keys beside each letter and digit on an English keyboard.
_BESIDE = {
    "a": "qwsz", "b": "vghn", "c": "xdfv", "d": "serfcx", "e": "rdsw", "f": "drtgvc", "g": "ftyhbv", "h": "nbgyuj",
    "i": "okju", "j": "huikmn", "k": "jiolm", "l": "kop", "m": "njk", "n": "bhjm", "o": "iklp", "p": "ol", "q": "aw",
    "r": "edft", "s": "azxdew", "t": "rfgy", "u": "yhji", "v": "cfgb", "w": "qasde", "x": "zsdc", "y": "tghu",
    "z": "asx",
}  # fmt: skip
_NUMBER_PAD = {
    "0": "12", "1": "4520", "2": "014563", "3": "256", "4": "78521", "5": "78946123", "6": "98523", "7": "854",
    "8": "74569", "9": "856",
}  # fmt: skip
_SIMILAR = {
    "0": "689oDOU", "1": "7I", "2": "7QZ", "3": "589", "4": "9U", "5": "38S", "6": "08bG", "7": "12TZ", "8": "0356BS",
    "9": "034gq", "b": "6", "c": "e", "e": "c", "g": "9q", "i": "I", "m": "n", "n": "mp", "o": "0", "p": "n",
    "q": "9g", "u": "v", "v": "u", "y": "z", "z": "y", "B": "8P", "C": "G", "D": "0O", "E": "F", "F": "7ER",
    "G": "6C", "I": "1iLT", "L": "I", "M": "N", "N": "M", "O": "0DU", "P": "B", "Q": "2", "S": "58", "T": "I7",
    "U": "04OV", "V": "UW", "W": "U", "X": "Y", "Y": "5X", "Z": "27",
}  # fmt: skip


def _typos(modifier: Modifier, pair: Pair, rng: random.Random, around: Around) -> Pair:
    assert isinstance(modifier, TyposModifier)
    for kind, probability in modifier.kinds.items():
        if rng.random() < probability:
            pair = _typo(kind, pair, rng, around.symbols)
    return pair


def _typo(kind: str, pair: Pair, rng: random.Random, symbols: Symbols) -> Pair:
    """The pair with one typing error of this kind in its source, if there is a place for one."""
    # Choose a place
    text = pair.src
    places = [found.start() for found in re.finditer(_PLACES[kind], text)]
    if symbols:
        fixed = {place for found in symbols.finditer(text) for place in range(found.start() - 1, found.end())}
        places = [place for place in places if place not in fixed]
    if not places or (kind == "missing_char" and len(places) == 1):
        return pair
    i = rng.choice(places)
    char, after = text[i], text[i + 1 :]
    # Change the text there
    match kind:
        case "char_swap":  # each place keeps its case
            second, first = _like(char, text[i + 1]), _like(text[i + 1], char)
            changed = text[:i] + first + second + text[i + 2 :]
        case "missing_char" | "skipped_space" | "unichar":
            changed = text[:i] + after
        case "extra_char":
            changed = text[:i] + _neighbour(char, rng) + text[i:]
        case "nearby_char":
            changed = text[:i] + _like(_neighbour(char, rng), char) + after
        case "similar_char":
            changed = text[:i] + (rng.choice(_SIMILAR[char]) if char in _SIMILAR else char) + after
        case "random_space":
            changed = f"{text[:i]} {text[i:]}"
        case _:  # repeated_char
            changed = text[:i] + char + text[i:]
    # Move the word alignments
    links = pair.links
    if links and len(changed.split()) != len(text.split()):
        links = _moved(links, text, changed)
    return replace(pair, src=changed, links=links)


_PLACES = {
    "char_swap": r"(?=\w{2})", "missing_char": r"\w", "extra_char": r"\w", "nearby_char": r"\w", "similar_char": r"\w",
    "skipped_space": " ", "random_space": r"\S", "repeated_char": r"\w", "unichar": r"(.)\1",
}  # fmt: skip


def _like(char: str, model: str) -> str:
    """The character in the case of another one."""
    return char.upper() if model.isupper() else char.lower()


def _neighbour(char: str, rng: random.Random) -> str:
    """The character of a key beside that of ``char``; ``char`` itself where the keyboard has no such key."""
    if char in _NUMBER_PAD:
        if rng.random() < 0.5:
            return rng.choice(_NUMBER_PAD[char])
        return {"0": "9", "1": "2"}.get(char) or str(int(char) + rng.choice((1, -1)))
    if char.lower() in _BESIDE:
        found = rng.choice(_BESIDE[char.lower()])
        return found.upper() if char.isupper() else found
    return char


def _moved(links: Links, before: str, after: str) -> Links:
    """Links whose source words are those of a text that one typing error has split, joined or removed.

    The links of a removed word are removed.
    """
    old, new = before.split(), after.split()
    same = next(
        (n for n, (one, other) in enumerate(zip(old, new, strict=False)) if one != other), min(len(old), len(new))
    )
    shift = len(new) - len(old)
    found = []
    for src, tgt in links:
        if src < same:
            found.append((src, tgt))
        elif shift > 0:  # word ``same`` became two
            found += [(src, tgt), (src + 1, tgt)] if src == same else [(src + 1, tgt)]
        elif "".join(old) == "".join(new):  # words ``same`` and ``same`` + 1 became one
            found.append((same if src <= same + 1 else src - 1, tgt))
        elif src > same:
            found.append((src - 1, tgt))
    return tuple(dict.fromkeys(found))


# ----------------------------------------------------------------------------------------------------- noise and merge

# Blocks of Unicode whose characters make random words: first code, and the code after the last one.
_BLOCKS = (
    (0x0020, 0x007F), (0x00A0, 0x00FF), (0x0370, 0x03FF), (0x0400, 0x04FF), (0x0530, 0x058F), (0x0590, 0x05FF),
    (0x0600, 0x06FF), (0x0900, 0x097F), (0x0980, 0x09FF), (0x0A80, 0x0AFF), (0x0E00, 0x0E7F), (0x1000, 0x109F),
    (0x10A0, 0x10FF), (0x1780, 0x17FF), (0x3040, 0x309F), (0x4E00, 0x9FFF), (0xAC00, 0xD7AF), (0x1F600, 0x1F64F),
)  # fmt: skip


def random_words(rng: random.Random, shortest: int = 2, longest: int = 10, most: int = 3) -> list[str]:
    """One to ``most`` random words of one length, whose characters are of one block of Unicode."""
    length, block = rng.randint(shortest, longest), rng.choice(_BLOCKS)
    return ["".join(chr(rng.randrange(*block)) for _ in range(length)) for _ in range(rng.randint(1, most))]


def _noise(modifier: Modifier, pair: Pair, rng: random.Random, around: Around) -> Pair:
    assert isinstance(modifier, NoiseModifier)
    words = random_words(rng, modifier.min_word_length, modifier.max_word_length, modifier.max_words)
    text = " ".join(words)
    return Pair(text, text, None if pair.links is None else tuple((n, n) for n in range(len(words))))


def _merge(modifier: Modifier, pair: Pair, rng: random.Random, around: Around) -> Pair:
    assert isinstance(modifier, MergeModifier)
    pairs = [pair, *(around.another(rng) for _ in range(rng.randint(modifier.min_lines, modifier.max_lines) - 1))]
    links: list[tuple[int, int]] | None = []
    words: tuple[list[str], list[str]] = ([], [])
    for one in pairs:
        if one.links is None or links is None:
            links = None
        else:
            links += [(src + len(words[0]), tgt + len(words[1])) for src, tgt in one.links]
        words[0].extend(one.src.split())
        words[1].extend(one.tgt.split())
    return Pair(" ".join(words[0]), " ".join(words[1]), None if links is None else tuple(links))


# ---------------------------------------------------------------------------------------------------- prefix and tags


def _prefix(modifier: Modifier, pair: Pair, rng: random.Random, around: Around) -> Pair:
    assert isinstance(modifier, PrefixModifier)
    words = pair.tgt.split()
    count = rng.randint(modifier.min_words, modifier.max_words)
    if count > len(words):
        return pair
    start = rng.randrange(len(words) - count + 1)
    before = modifier.template.replace("{trg}", " ".join(words[start : start + count]))
    shift = len((before + pair.src).split()) - len(pair.src.split())
    links = pair.links and tuple((src + shift, tgt) for src, tgt in pair.links)
    return Pair(before + pair.src, pair.tgt, links)


def _tags(modifier: Modifier, pair: Pair, rng: random.Random, around: Around) -> Pair:
    """Words with their translation beside them (Dinu et al. 2019); a pair without word alignments stays as it is.

    A word that is aligned to one word alone, which is aligned to it alone, may be chosen, unless the two are equal.
    """
    assert isinstance(modifier, TagsModifier)
    src, tgt = pair.src.split(), pair.tgt.split()
    links = [link for link in pair.links or () if link[0] < len(src) and link[1] < len(tgt)]
    of_src, of_tgt = Counter(one for one, _ in links), Counter(other for _, other in links)
    source: list[list[str]] = [[word] for word in src]
    target: list[list[str]] = [[word] for word in tgt]
    for one, other in links:
        if of_src[one] > 1 or of_tgt[other] > 1 or src[one] == tgt[other] or rng.random() >= modifier.probability:
            continue
        draw = rng.random()
        if draw < modifier.augment:
            words = random_words(rng)
            source[one] = [src[one], *words]
            target[other] = [tgt[other], *words]
            continue
        words = random_words(rng) if draw < modifier.augment + modifier.replace else [tgt[other]]
        filled = [
            part.replace("{trg}", " ".join(words)).replace("{src}", src[one]) for part in modifier.template.split()
        ]
        source[one], target[other] = " ".join(filled).split(), words
    return Pair(" ".join(word for words in source for word in words), " ".join(w for words in target for w in words))


# -------------------------------------------------------------------------------------------------------- placeholders

_NAME = re.compile(r"[^\W_]+(?:[-'’][^\W_]+)*")
_KEPT = ("urls", "emails", "tags", "entities", "variables", "numbers")


def _placeholders(modifier: Modifier, pair: Pair, rng: random.Random, around: Around) -> Pair:
    """Words of both sides as symbols (as Crego et al. 2016 do for entities)."""
    assert isinstance(modifier, PlaceholdersModifier)
    shared = _shared(pair)
    symbols = [symbol(number) for number in rng.sample(range(modifier.symbols), modifier.symbols)]
    if not shared or rng.random() < 0.25:
        return _with_ends(pair, symbols, rng)
    chosen = rng.sample(shared, rng.randint(1, min(len(shared), len(symbols))))
    sides = [pair.src, pair.tgt]
    for side in (0, 1):
        spans = sorted((spans[side], word) for spans, word in zip(chosen, symbols, strict=False))
        for (start, end), word in reversed(spans):
            sides[side] = sides[side][:start] + word + sides[side][end:]
    same = all(len(new.split()) == len(old.split()) for new, old in zip(sides, (pair.src, pair.tgt), strict=True))
    return Pair(sides[0], sides[1], pair.links if same else None)


def _shared(pair: Pair) -> list[Places]:
    """Places of texts that occur once on each side, and of words that are aligned to each other alone."""
    found: list[dict[str, list[tuple[int, int]]]] = []
    for side in (pair.src, pair.tgt):
        places: dict[str, list[tuple[int, int]]] = {}
        spans = [(span.start, span.end) for span in find(side, _KEPT)]
        for start, end in spans + [word.span() for word in _NAME.finditer(side)]:
            if (start, end) in spans or not any(start < last and end > first for first, last in spans):
                places.setdefault(side[start:end], []).append((start, end))
        found.append(places)
    source, target = found
    shared: list[Places] = [
        (places[0], target[text][0])
        for text, places in source.items()
        if len(places) == 1 and len(target.get(text, ())) == 1
    ]
    return shared + _aligned(pair, shared)


def _aligned(pair: Pair, shared: Sequence[Places]) -> list[Places]:
    """Places of words that are aligned to each other alone, and do not overlap with those that are shared."""
    words = [list(re.finditer(r"\S+", side)) for side in (pair.src, pair.tgt)]
    links = [link for link in pair.links or () if link[0] < len(words[0]) and link[1] < len(words[1])]
    counts = Counter(one for one, _ in links), Counter(other for _, other in links)
    found, taken = list[Places](), list(shared)
    for one, other in links:
        first, second = (_NAME.search(word[0]) for word in (words[0][one], words[1][other]))
        if counts[0][one] > 1 or counts[1][other] > 1 or first is None or second is None:
            continue
        starts = words[0][one].start(), words[1][other].start()
        place = tuple((start + m.start(), start + m.end()) for start, m in zip(starts, (first, second), strict=True))
        if not any(place[n][0] < each[n][1] and place[n][1] > each[n][0] for each in taken for n in (0, 1)):
            found.append((place[0], place[1]))
            taken.append((place[0], place[1]))
    return found


def _with_ends(pair: Pair, symbols: list[str], rng: random.Random) -> Pair:
    """The pair with a symbol before it, after it, or one at each end, as tags stand."""
    before, after = symbols[0], symbols[-1]
    where = rng.choice(("before", "after", "around")) if len(symbols) > 1 else rng.choice(("before", "after"))
    space = "" if where == "around" else " "
    first, last = (before + space if where != "after" else "", space + after if where != "before" else "")
    shift = where == "before"
    links = pair.links and tuple((src + shift, tgt + shift) for src, tgt in pair.links)
    return Pair(f"{first}{pair.src}{last}", f"{first}{pair.tgt}{last}", links)


_CHANGES: dict[str, Callable[[Any, Pair, random.Random, Around], Pair]] = {
    "UpperCase": _upper_case,
    "TitleCase": _title_case,
    "RemoveEndPunct": _remove_end_punctuation,
    "Typos": _typos,
    "Noise": _noise,
    "Merge": _merge,
    "Prefix": _prefix,
    "Tags": _tags,
    "Placeholders": _placeholders,
}


def parse_links(text: str) -> Links:
    """Word alignments ``0-0 1-2``.

    Raises:
        ValueError: the text has another form.
    """
    found = []
    for link in text.split():
        src, dash, tgt = link.partition("-")
        if not (dash and src.isdecimal() and tgt.isdecimal()):
            raise ValueError(link)
        found.append((int(src), int(tgt)))
    return tuple(found)
