"""Writing systems that scoring depends on, found by language code or from the text.

All usual codes are accepted: ISO 639-1 and 639-3 (``zh``, ``zho``, ``cmn``), BCP 47 tags (``zh-Hant-TW``, ``pt-BR``),
FLORES names (``zho_Hans``) and locales (``zh_CN.UTF-8``).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from typing import Literal

Writing = Literal["chinese", "japanese", "korean", "unspaced"]

_LANGUAGES: dict[str, Writing] = {
    **dict.fromkeys(
        # Chinese languages, without Min Nan (nan): it is written in Latin letters as often as in Han characters.
        ("zh", "zho", "chi", "cmn", "yue", "wuu", "gan", "hak", "hsn", "lzh", "cjy", "cdo", "mnp", "chinese"),
        "chinese",
    ),
    **dict.fromkeys(("ja", "jpn", "japanese"), "japanese"),
    **dict.fromkeys(("ko", "kor", "korean"), "korean"),
    **dict.fromkeys(
        (
            "th", "tha", "thai", "nod", "tts", "sou",  # Thai, Northern Thai, Isan, Southern Thai
            "lo", "lao", "km", "khm", "khmer",
            "my", "mya", "bur", "burmese", "shn", "mnw", "kht",  # Burmese, Shan, Mon, Khamti
            "bo", "bod", "tib", "tibetan", "dz", "dzo", "adx", "khg",  # Tibetan, Dzongkha, Amdo, Khams
            "khb", "tdd",  # Lü, Tai Nüa
        ),
        "unspaced",
    ),
}  # fmt: skip

_SCRIPTS: dict[str, Writing] = {
    **dict.fromkeys(("hans", "hant", "hani", "bopo"), "chinese"),
    **dict.fromkeys(("jpan", "hrkt", "hira", "kana"), "japanese"),
    **dict.fromkeys(("kore", "hang"), "korean"),
    **dict.fromkeys(("thai", "laoo", "khmr", "mymr", "tibt", "tale", "talu", "lana"), "unspaced"),
}

# First words of the Unicode character names of scripts without spaces between words.
_BLOCKS = {
    "CJK": "han", "HIRAGANA": "kana", "KATAKANA": "kana", "BOPOMOFO": "han", "THAI": "other", "LAO": "other",
    "KHMER": "other", "MYANMAR": "other", "TIBETAN": "other", "TAI": "other", "NEW": "other",
}  # fmt: skip
_SAMPLE = 2000  # lines of a text that are examined
# Spaces per letter at which a text counts as segmented into words. A Chinese word has about 1.7 letters, a Thai one 3;
# Burmese has a space after each phrase of about 7.
_SPACED: dict[Writing, float] = {"chinese": 0.15, "japanese": 0.15, "unspaced": 0.22}


def writing_of_code(code: str) -> Writing | None:
    """Writing system of a language code; None for languages with spaces between words, and for unknown codes.

    A script in the tag takes precedence: ``ja-Latn`` is written with spaces.
    """
    primary, *rest = re.split(r"[-_.@]", code.strip().lower())
    script = next((part for part in rest if re.fullmatch(r"[a-z]{4}", part)), None)
    known = _LANGUAGES.get(primary)
    if script is None or (known is not None and script in _SCRIPTS):
        return known
    return _SCRIPTS.get(script)


def writing_of_text(lines: Iterable[str]) -> Writing | None:
    """Writing system of a text if most of its letters are of a script without spaces; None otherwise.

    Text that a segmenter divided into words has spaces, so the result is None.
    """
    counts: Counter[str] = Counter()
    spaces = 0
    for _, line in zip(range(_SAMPLE), lines, strict=False):
        kinds = [[kind for c in word if (kind := _kind(c))] for word in line.split()]
        counts.update(kind for word in kinds for kind in word)
        words = [word for word in kinds if word]
        spaces += sum(before[-1] != "letter" != after[0] for before, after in pairwise(words))
    unspaced = counts["han"] + counts["kana"] + counts["other"]
    if not unspaced or unspaced < counts["letter"]:
        return None
    written: Writing
    if counts["other"] > unspaced / 2:
        written = "unspaced"
    else:
        written = "japanese" if counts["kana"] > unspaced / 20 else "chinese"
    return written if spaces <= _SPACED[written] * unspaced else None


@cache
def _kind(character: str) -> str:
    """The kind of a letter; empty for marks, digits and punctuation."""
    if not unicodedata.category(character).startswith("L"):
        return ""
    return _BLOCKS.get(re.split("[ -]", unicodedata.name(character, ""), maxsplit=1)[0], "letter")
