"""The language of sentences, by the package lingua (extra ``languages``), if it is installed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any

SHORTEST = 20  # characters: shorter sentences are too often taken for another language
RARE = 0.002  # share of the sentences, below which a language found by the fast model is a mistake of it
MOST = 8  # further languages that are distinguished
# Written alike, so that a sentence of one is often taken for the other
ALIKE = ({"no", "nb", "nn"}, {"hr", "bs", "sr"}, {"id", "ms"})


def is_installed() -> bool:
    try:
        from lingua import Language  # noqa: F401  # a folder of this name would be found, too
    except ImportError:
        return False
    return True


class Identifier:
    """Identifies the language of sentences.

    The accurate models of all languages together take a gigabyte. So a fast model finds which languages occur in a
    corpus, and the accurate models of these decide.

    Args:
        codes: of the languages that are expected, as in ``data.src_lang``.
        texts: a sample of all text.
    """

    def __init__(self, codes: Collection[str], texts: Sequence[str]):
        self.codes, self.texts = codes, texts

    @cached_property
    def known(self) -> dict[str, Any]:
        """lingua's languages by their codes of two and of three letters."""
        from lingua import Language

        languages = sorted(Language.all(), key=lambda each: each.name)
        both = ((each.iso_code_639_1.name.lower(), each.iso_code_639_3.name.lower(), each) for each in languages)
        return {code: each for two, three, each in both for code in (two, three)}

    def expected(self, code: str) -> set[str]:
        """The codes, of two letters, of the languages that count as the one with this code; empty if unknown."""
        code = code.replace("_", "-").split("-")[0].lower()
        group = next((each for each in ALIKE if code in each), {code})
        return {self.known[each].iso_code_639_1.name.lower() for each in group if each in self.known}

    @cached_property
    def _detector(self) -> Any:
        from lingua import LanguageDetectorBuilder

        fast = LanguageDetectorBuilder.from_all_languages().with_low_accuracy_mode().build()
        found = Counter(fast.detect_languages_in_parallel_of([text for text in self.texts if len(text) >= SHORTEST]))
        often = [each for each, count in found.most_common(MOST) if each and count > RARE * found.total()]
        expected = [self.known[two] for code in self.codes for two in self.expected(code)]
        return LanguageDetectorBuilder.from_languages(*{*often, *expected}).build()

    def language(self, text: str) -> str:
        """The code, of two letters, of the language of a sentence; empty for a short one."""
        if len(text) < SHORTEST:
            return ""
        found = self._detector.detect_language_of(text)
        return "" if found is None else str(found.iso_code_639_1.name.lower())
