"""The section ``data.cleaning.rules``: rules that drop pairs, by the names that OpusFilter and OpusCleaner use."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from nmt.config.base import Positive, Section
from nmt.config.scripts import SCRIPTS

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Unit = Annotated[
    Literal["word", "character"],
    Field(
        description="unit of length; two Chinese or Japanese characters count as a word, and five of Thai, Lao, Khmer,"
        " Burmese or Tibetan"
    ),
]


class LengthRule(Section):
    """OpusFilter's LengthFilter: drop a pair with a side shorter than ``min_length`` or longer than ``max_length``."""

    min_length: Annotated[int, Field(ge=0)] = Field(1, description="minimum length of a side")
    max_length: Positive = Field(100, description="maximum length of a side")
    unit: Unit = "word"

    @model_validator(mode="after")
    def _lengths_in_order(self) -> Self:
        return _in_order(self)


class LengthRatioRule(Section):
    """OpusFilter's LengthRatioFilter: drop a pair whose longer side is ``threshold`` times as long as the shorter."""

    threshold: Annotated[float, Field(gt=1.0)] = Field(3.0, description="minimum ratio of lengths that is dropped")
    unit: Unit = "word"


class LongWordRule(Section):
    """OpusFilter's LongWordFilter, OpusCleaner's max_word_length: drop a pair with a word of ``threshold`` characters.

    Characters of scripts without spaces between words belong to no word.
    """

    threshold: Positive = Field(40, description="minimum length of a word, in characters, that drops the pair")


class AverageWordLengthRule(Section):
    """OpusFilter's AverageWordLengthFilter: drop a pair with words that are too short or too long on average.

    A side that is written without spaces between words passes.
    """

    min_length: Annotated[float, Field(ge=0.0)] = Field(2.0, description="minimum mean number of characters of a word")
    max_length: Annotated[float, Field(gt=0.0)] = Field(20.0, description="maximum mean number of characters of a word")

    @model_validator(mode="after")
    def _lengths_in_order(self) -> Self:
        return _in_order(self)


class AlphabetRatioRule(Section):
    """OpusFilter's AlphabetRatioFilter, OpusCleaner's alpha_ratio: drop a pair with a side of too few letters.

    Letters of every script count, vowel signs and other combining marks included.
    """

    threshold: Share = Field(0.75, description="minimum share of letters among the characters of a side")
    exclude_whitespace: bool = Field(False, description="ignore white space")


class CharacterScoreRule(Section):
    """OpusFilter's CharacterScoreFilter: drop a pair with a side whose letters are not in the language's script."""

    threshold: Share = Field(0.5, description="minimum share of the script among the letters of a side (OpusFilter: 1)")
    src: str | None = Field(
        None,
        description="script(s) of the source by their Unicode names, such as 'Cyrillic Latin'; default: by language",
    )
    tgt: str | None = Field(None, description="script(s) of the target; default: by language")

    @model_validator(mode="after")
    def _scripts_are_known(self) -> Self:
        for side, names in (("src", self.src), ("tgt", self.tgt)):
            if names is not None and (not names.split() or not set(names.split()) <= set(SCRIPTS)):
                raise ValueError(f"{side}: no such script: {names!r}; scripts are: {', '.join(SCRIPTS)}")
        return self


class HtmlTagRule(Section):
    """OpusFilter's HtmlTagFilter: drop a pair with a tag of HTML or of a translation file (``<b>``, ``<g id="1">``)."""


class TerminalPunctuationRule(Section):
    """OpusFilter's TerminalPunctuationFilter (Vázquez et al. 2019): drop a pair whose sides differ in their marks
    (``.``, ``?``, ``!``, ``…`` and those of other scripts), or have many.

    The score is -ln(1 + difference + marks of each side beyond its first).
    """

    threshold: Annotated[float, Field(le=0.0)] = Field(-2.0, description="minimum score that is kept")


class NonZeroNumeralsRule(Section):
    """OpusFilter's NonZeroNumeralsFilter (Vázquez et al. 2019): drop a pair whose digits other than 0 are not similar.

    Decimal digits of every script count. The similarity is that of Python's ``difflib.SequenceMatcher``.
    """

    threshold: Share = Field(0.5, description="minimum similarity of the sequences of digits")


class NumMismatchRule(Section):
    """OpusCleaner's num_mismatch: drop a pair with different numbers, whatever their separators."""

    ratio: Annotated[float, Field(gt=0.0)] = Field(
        1.0, description="minimum ratio (common numbers + 1) / (numbers of one side alone + 1)"
    )


class UrlMismatchRule(Section):
    """OpusCleaner's url_mismatch: drop a pair with different URLs, in any order."""


class SimilarityRule(Section):
    """OpusFilter's SimilarityFilter, Locomotive's duplicates: drop a pair whose sides are (nearly) the same text."""

    threshold: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.9,
        description="minimum similarity that is dropped: 1 - Levenshtein distance / length of the longer side;"
        " 1: only equal texts",
    )
    lowercase: bool = Field(False, description="compare regardless of case")


class RepetitionRule(Section):
    """OpusFilter's RepetitionFilter: drop a pair with a text that follows itself ``threshold`` times."""

    threshold: Annotated[int, Field(ge=2)] = Field(2, description="repetitions, without the first occurrence")
    min_length: Positive = Field(3, description="minimum number of characters of the repeated text")
    max_length: Positive = Field(100, description="maximum number of characters of the repeated text")

    @model_validator(mode="after")
    def _lengths_in_order(self) -> Self:
        return _in_order(self)


class DuplicateRule(Section):
    """Keep only the first of the pairs with the same text on one side, regardless of white space at its ends."""


def _in_order(rule: Any) -> Any:
    if rule.min_length > rule.max_length:
        raise ValueError(f"min_length ({rule.min_length}) is over max_length ({rule.max_length}); lower the one")
    return rule


def _on_or_off(value: Any) -> Any:
    """``true`` is a rule with its defaults; ``false`` is no rule."""
    return {True: {}, False: None}[value] if isinstance(value, bool) else value


class _AlsoBoolean:
    """Add booleans to the JSON schema of a key."""

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        schema: dict[str, Any] = handler(core)
        return {"anyOf": [*schema["anyOf"], {"type": "boolean"}]}


_Rule = TypeVar("_Rule", bound=Section)
_OnOff = Annotated[_Rule | None, BeforeValidator(_on_or_off), _AlsoBoolean()]


def _rule(section: type[Section]) -> Any:
    """A key that is off by default, described by the first line of the section of the rule."""
    line = " ".join((section.__doc__ or "").split("\n\n")[0].split()).replace("``", "").rstrip(".")
    return Field(None, description=f"{line}; true, false or its thresholds")


class RulesConfig(Section):
    """Rules for single pairs, in the order in which they are applied, and duplicates of one side. Each is off or on."""

    length: _OnOff[LengthRule] = _rule(LengthRule)
    length_ratio: _OnOff[LengthRatioRule] = _rule(LengthRatioRule)
    long_word: _OnOff[LongWordRule] = _rule(LongWordRule)
    average_word_length: _OnOff[AverageWordLengthRule] = _rule(AverageWordLengthRule)
    alphabet_ratio: _OnOff[AlphabetRatioRule] = _rule(AlphabetRatioRule)
    character_score: _OnOff[CharacterScoreRule] = _rule(CharacterScoreRule)
    html_tag: _OnOff[HtmlTagRule] = _rule(HtmlTagRule)
    terminal_punctuation: _OnOff[TerminalPunctuationRule] = _rule(TerminalPunctuationRule)
    non_zero_numerals: _OnOff[NonZeroNumeralsRule] = _rule(NonZeroNumeralsRule)
    num_mismatch: _OnOff[NumMismatchRule] = _rule(NumMismatchRule)
    url_mismatch: _OnOff[UrlMismatchRule] = _rule(UrlMismatchRule)
    similarity: _OnOff[SimilarityRule] = _rule(SimilarityRule)
    repetition: _OnOff[RepetitionRule] = _rule(RepetitionRule)
    duplicate_source: _OnOff[DuplicateRule] = _rule(DuplicateRule)
    duplicate_target: _OnOff[DuplicateRule] = _rule(DuplicateRule)

    def active(self) -> dict[str, Section]:
        """The rules that are on, by their names, in order."""
        found = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: section for name, section in found.items() if section is not None}
