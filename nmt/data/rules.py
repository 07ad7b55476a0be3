"""Cleaning rules that look at one pair alone, for batches of pairs at a time.

To add a rule, write its section in :mod:`nmt.config.cleaning` and a function here with the name of its key in
:data:`PAIR_RULES`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from functools import cache, cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from nmt.config import cleaning as config
from nmt.config.scripts import SCRIPTS, scripts_of

Mask = npt.NDArray[np.bool_]  # [pairs]
Counts = npt.NDArray[np.int64]  # [pairs]

# Bits of the class of a character.
LETTER, SPACE, BREAK, IDEOGRAPH, UNSPACED, TERMINAL, DIGIT = (1 << n for n in range(7))
_WORDLESS = SPACE | BREAK | IDEOGRAPH | UNSPACED  # characters that belong to no word between spaces
_IDEOGRAPHS = {"Han", "Hiragana", "Katakana", "Bopomofo"}
_UNSPACED = {"Thai", "Lao", "Khmer", "Myanmar", "Tibetan"}
_TERMINAL = ".?!…。．？！｡؟۔।॥։።፧"
_FIRST_WORDS = {"CJK": "Han", "IDEOGRAPHIC": "Han", "KATAKANA-HIRAGANA": "Katakana"}  # of Unicode names
IDEOGRAPHS_PER_WORD, UNSPACED_PER_WORD = 2, 5


@cache
def character_tables() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """The class and the script of each code point; a script is its place in SCRIPTS plus 1, or 0."""
    classes, scripts = np.zeros(0x110000, np.uint8), np.zeros(0x110000, np.uint8)
    numbers = {script: place for place, script in enumerate(SCRIPTS, 1)}
    known = {script.upper(): script for script in SCRIPTS} | _FIRST_WORDS
    for code in range(0x110000):
        char = chr(code)
        category = unicodedata.category(char)
        if category in ("Cn", "Co", "Cs"):
            continue
        first, _, rest = unicodedata.name(char, "").partition(" ")
        if first in ("FULLWIDTH", "HALFWIDTH"):
            first = rest.partition(" ")[0]
        script = known.get(first, "")
        scripts[code] = numbers.get(script, 0)
        letter = category[0] in "LM" or category == "Nl"
        wide = 0x3000 <= code < 0x3040 or 0xFF00 <= code < 0xFFF0
        classes[code] = (
            LETTER * letter
            | SPACE * char.isspace()
            | BREAK * (wide and category[0] in "PS")
            | IDEOGRAPH * (script in _IDEOGRAPHS and letter)
            | UNSPACED * (script in _UNSPACED and letter)
            | TERMINAL * (char in _TERMINAL)
            | DIGIT * (category == "Nd")
        )
    return classes, scripts


class Side:
    """The texts [pairs] of one language in a batch; none holds a newline.

    Attributes:
        codes: code points of all texts [characters], each text with a newline after it.
    """

    def __init__(self, texts: Sequence[str], language: str = "") -> None:
        self.texts, self.language = texts, language
        self.codes = np.frombuffer("\n".join([*texts, ""]).encode("utf-32-le", "surrogatepass"), np.uint32)
        self.lengths: Counts = np.fromiter(map(len, texts), np.int64, len(texts))
        self.ends = np.cumsum(self.lengths + 1)

    @cached_property
    def classes(self) -> npt.NDArray[np.uint8]:
        return character_tables()[0][self.codes]

    def sums(self, mask: Mask) -> Counts:
        """The number of masked characters [characters] of each text [pairs]."""
        return np.add.reduceat(mask, self.ends - self.lengths - 1, dtype=np.int64)

    def count(self, kind: int) -> Counts:
        """The number of characters of a class in each text, without the newline after it."""
        return self.sums((self.classes & kind) != 0) - (1 if kind & SPACE else 0)

    def lines(self, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The texts that hold these characters, by their indices in ``codes``."""
        return np.searchsorted(self.ends, places, side="right")

    @cached_property
    def word_ends(self) -> Mask:
        """Whether each character ends a word between spaces, just after the last one of the word."""
        out = (self.classes & _WORDLESS) != 0
        return out & ~np.concatenate([[True], out[:-1]])

    @cached_property
    def words(self) -> Counts:
        """The number of words of each text; of scripts without spaces an estimate."""
        spaced = self.sums(self.word_ends)
        ideographs, unspaced = self.count(IDEOGRAPH), self.count(UNSPACED)
        return spaced - (-ideographs // IDEOGRAPHS_PER_WORD) - (-unspaced // UNSPACED_PER_WORD)

    def length(self, unit: str) -> Counts:
        return self.words if unit == "word" else self.lengths


Sides = tuple[Side, Side]


def _either(sides: Sides, test: Callable[[Side], Mask]) -> Mask:
    return test(sides[0]) | test(sides[1])


def _some(sides: Sides, chosen: Mask, test: Callable[[str, str], bool]) -> Mask:
    """The pairs among those chosen [pairs] that a test of two texts drops."""
    found = np.zeros(len(chosen), dtype=bool)
    src, tgt = sides[0].texts, sides[1].texts
    for place in np.flatnonzero(chosen).tolist():
        found[place] = test(src[place], tgt[place])
    return found


# -------------------------------------------------------------------------------------------------------------- lengths


def length(sides: Sides, rule: config.LengthRule) -> Mask:
    def outside(side: Side) -> Mask:
        units = side.length(rule.unit)
        return (units < rule.min_length) | (units > rule.max_length)

    return _either(sides, outside)


def length_ratio(sides: Sides, rule: config.LengthRatioRule) -> Mask:
    one, other = (side.length(rule.unit) for side in sides)
    longer, shorter = np.maximum(one, other), np.minimum(one, other)
    return (longer > 0) & (longer >= rule.threshold * shorter)


def long_word(sides: Sides, rule: config.LongWordRule) -> Mask:
    def long(side: Side) -> Mask:
        found = np.zeros(len(side.texts), dtype=bool)
        limits = np.flatnonzero((side.classes & _WORDLESS) != 0)
        lengths = np.diff(limits, prepend=-1) - 1
        found[side.lines(limits[lengths >= rule.threshold])] = True
        return found

    return _either(sides, long)


def average_word_length(sides: Sides, rule: config.AverageWordLengthRule) -> Mask:
    def outside(side: Side) -> Mask:
        unspaced = side.count(IDEOGRAPH | UNSPACED)
        characters, words = side.lengths - side.count(_WORDLESS), side.sums(side.word_ends)
        mean = characters / np.maximum(words, 1)
        return (unspaced <= characters) & ((mean < rule.min_length) | (mean > rule.max_length))

    return _either(sides, outside)


# ----------------------------------------------------------------------------------------------------------- characters


def alphabet_ratio(sides: Sides, rule: config.AlphabetRatioRule) -> Mask:
    def few(side: Side) -> Mask:
        characters = side.lengths - side.count(SPACE) if rule.exclude_whitespace else side.lengths
        return side.count(LETTER) / np.maximum(characters, 1) < rule.threshold

    return _either(sides, few)


def character_score(sides: Sides, rule: config.CharacterScoreRule) -> Mask:
    def foreign(side: Side, names: str | None) -> Mask:
        wanted = names.split() if names else scripts_of(side.language)
        scripts = np.where((side.classes & LETTER) != 0, character_tables()[1][side.codes], 0)
        right = np.isin(np.arange(len(SCRIPTS) + 1), [SCRIPTS.index(script) + 1 for script in wanted])[scripts]
        letters = side.sums(scripts != 0)
        return (letters > 0) & (side.sums(right) / np.maximum(letters, 1) < rule.threshold)

    return foreign(sides[0], rule.src) | foreign(sides[1], rule.tgt)


def terminal_punctuation(sides: Sides, rule: config.TerminalPunctuationRule) -> Mask:
    one, other = (side.count(TERMINAL) for side in sides)
    penalty = np.abs(one - other) + np.maximum(one - 1, 0) + np.maximum(other - 1, 0)
    return -np.log(penalty + 1) < rule.threshold


_ELEMENTS = (
    "a|abbr|address|area|article|aside|audio|b|base|bdi|bdo|big|blockquote|body|br|button|canvas|caption|center|cite|code|"
    "col|colgroup|dd|del|details|dfn|dialog|div|dl|dt|em|embed|fieldset|figcaption|figure|font|footer|form|frame|h[1-6]|"
    "head|header|hr|html|i|iframe|img|input|ins|kbd|label|legend|li|link|main|map|mark|meta|nav|noscript|object|ol|"
    "optgroup|option|p|param|picture|pre|q|s|samp|script|section|select|small|source|span|strike|strong|style|sub|summary|"
    "sup|svg|table|tbody|td|template|textarea|tfoot|th|thead|time|title|tr|track|tt|u|ul|var|video|wbr|"
    "bpt|ept|bx|ex|g|x|ph|it|hi|mrk|ut"
)
_FLAGS = (
    "async|autoplay|checked|controls|defer|disabled|hidden|loop|multiple|muted|nowrap|open|readonly|required|selected"
)
_VALUE = r"\"[^\"]*\"|'[^']*'|[^\s\"'<>=]+"
_TAG = re.compile(  # an attribute has a value or is one of the flags: "a <b and c> d" holds no tag
    rf"<!--|<!doctype\b|</?(?:{_ELEMENTS})(?:\s+(?:[a-z_:][\w:.-]*\s*=\s*(?:{_VALUE})|(?:{_FLAGS})(?=[\s/>])))*\s*/?>",
    re.IGNORECASE,
)


def html_tag(sides: Sides, rule: config.HtmlTagRule) -> Mask:
    return _either(sides, lambda side: np.array([has_tag(text) for text in side.texts], dtype=bool))


def has_tag(text: str) -> bool:
    """Whether a text has a tag of HTML or of a translation file."""
    return "<" in text and _TAG.search(text) is not None


# -------------------------------------------------------------------------------------------------------------- content


def non_zero_numerals(sides: Sides, rule: config.NonZeroNumeralsRule) -> Mask:
    def differ(src: str, tgt: str) -> bool:
        one, other = (_decimal(re.sub(r"\D+", "", text)).replace("0", "") for text in (src, tgt))
        if one == other:
            return False
        matcher = SequenceMatcher(None, one, other)
        return matcher.quick_ratio() < rule.threshold or matcher.ratio() < rule.threshold

    return _some(sides, _with_digits(sides), differ)


_NUMBER = re.compile(
    r"(?<![A-Za-z\d])(?:\d{1,3}(?:[ \u00a0\u202f]\d{3})+|\d+)(?:[.,:'’\u066b\u066c]\d+)*(?![A-Za-z\d])"
)


def num_mismatch(sides: Sides, rule: config.NumMismatchRule) -> Mask:
    def numbers(text: str) -> set[str]:
        return {_decimal(re.sub(r"\D+", "", number)).lstrip("0") for number in _NUMBER.findall(text)}

    def differ(src: str, tgt: str) -> bool:
        one, other = numbers(src), numbers(tgt)
        return len(one & other) + 1 < rule.ratio * (len(one ^ other) + 1)

    return _some(sides, _with_digits(sides), differ)


def _with_digits(sides: Sides) -> Mask:
    return _either(sides, lambda side: side.count(DIGIT) > 0)


def _decimal(digits: str) -> str:
    """Digits of any script as those of ASCII."""
    return digits if digits.isascii() else "".join(str(unicodedata.decimal(digit)) for digit in digits)


_URL = re.compile(r"(?:\b[a-z][a-z0-9+.-]*://|\bwww\.)[!-~]+", re.IGNORECASE | re.ASCII)


def url_mismatch(sides: Sides, rule: config.UrlMismatchRule) -> Mask:
    def marked(side: Side) -> Mask:
        return np.array(["://" in text or "www." in text.lower() for text in side.texts], dtype=bool)

    def urls(text: str) -> list[str]:
        return sorted(url.rstrip(".,;:!?)]}>\"'") for url in _URL.findall(text))

    return _some(sides, _either(sides, marked), lambda src, tgt: urls(src) != urls(tgt))


BINS = 64  # into which characters fall, to bound the distance of two texts from below


def similarity(sides: Sides, rule: config.SimilarityRule) -> Mask:
    """Drop pairs whose Levenshtein distance is small.

    The distance is at least the number of characters of one text that the other lacks (the bag distance), here by the
    low bits of the characters; few pairs pass this test.
    """
    if rule.lowercase:
        sides = Side([text.lower() for text in sides[0].texts]), Side([text.lower() for text in sides[1].texts])
    longest = np.maximum(sides[0].lengths, sides[1].lengths)
    allowed = np.floor((1.0 - rule.threshold) * longest + 1e-9).astype(np.int64)
    close = np.abs(sides[0].lengths - sides[1].lengths) <= allowed
    one, other = (_bins(side) for side in sides)
    lacking = np.maximum(np.maximum(one - other, 0).sum(1), np.maximum(other - one, 0).sum(1))
    limits = iter(allowed[chosen := close & (lacking <= allowed)].tolist())
    return _some(sides, chosen, lambda src, tgt: within_distance(src, tgt, next(limits)))


def _bins(side: Side) -> Counts:
    rows = np.repeat(np.arange(len(side.texts)), side.lengths + 1)
    return np.bincount(rows * BINS + (side.codes % BINS), minlength=len(side.texts) * BINS).reshape(-1, BINS)


def within_distance(one: str, other: str, limit: int) -> bool:
    """Whether the Levenshtein distance is at most ``limit``, by the diagonals that can reach it (Ukkonen 1985)."""
    if one == other:
        return True
    if abs(len(one) - len(other)) > limit:
        return False
    far = limit + 1
    row = [column if column <= limit else far for column in range(len(other) + 1)]
    for number, char in enumerate(one, 1):
        start, stop = max(1, number - limit), min(len(other), number + limit)
        last = row[start - 1]
        row[start - 1] = number if start == 1 and number <= limit else far
        for column in range(start, stop + 1):
            above = row[column]
            row[column] = last if char == other[column - 1] else 1 + min(last, above, row[column - 1])
            last = above
        if stop < len(other):
            row[stop + 1] = far
        if min(row[start - 1 : stop + 1]) > limit:
            return False
    return row[-1] <= limit


def repetition(sides: Sides, rule: config.RepetitionRule) -> Mask:
    """Drop pairs with a repeated text, found by a regular expression in the texts that may have one."""
    inner = f"{{{rule.min_length - 1},{rule.max_length - 1}}}"
    pattern = re.compile(rf"(\S.{inner}?)(?: *\1){{{rule.threshold}}}")

    def repeated(side: Side) -> Mask:
        found = np.zeros(len(side.texts), dtype=bool)
        for place in _periodic(side, rule.max_length).tolist():
            found[place] = pattern.search(side.texts[place]) is not None
        return found

    return _either(sides, repeated)


def _periodic(side: Side, longest: int) -> npt.NDArray[np.int64]:
    """The texts that may hold a text of up to ``longest`` characters three times in sequence.

    Without spaces, a text with period p is equal to itself p characters later over a run of at least 2p characters. The
    run holds two consecutive multiples of p and all between them.
    """
    places = np.flatnonzero(side.codes != ord(" "))
    codes = side.codes[places]
    found = []
    for period in range(1, min(longest, len(codes) // 3) + 1):
        every = codes[::period]
        equal = every[1:] == every[:-1]
        run = np.flatnonzero(equal[1:] & equal[:-1]) * period
        for offset in range(1, period):
            if not len(run):
                break
            run = run[codes[run + offset] == codes[run + offset + period]]
        found.append(run)
    return np.unique(side.lines(places[np.concatenate(found)])) if found else np.zeros(0, np.int64)


PAIR_RULES: dict[str, tuple[str, Callable[[Sides, Any], Mask]]] = {
    "length": ("pairs with a side too short or too long", length),
    "length_ratio": ("pairs with one side much longer than the other (length_ratio)", length_ratio),
    "long_word": ("pairs with a long word", long_word),
    "average_word_length": ("pairs with words too short or too long on average", average_word_length),
    "alphabet_ratio": ("pairs with a side of few letters", alphabet_ratio),
    "character_score": ("pairs with a side in another script", character_score),
    "html_tag": ("pairs with HTML tags", html_tag),
    "terminal_punctuation": ("pairs that differ in terminal punctuation, or have much", terminal_punctuation),
    "non_zero_numerals": ("pairs that differ in their digits", non_zero_numerals),
    "num_mismatch": ("pairs that differ in their numbers", num_mismatch),
    "url_mismatch": ("pairs that differ in their URLs", url_mismatch),
    "similarity": ("pairs with (nearly) the same text on both sides", similarity),
    "repetition": ("pairs with a text repeated in sequence", repetition),
}
