"""Random changes of training pairs, with the names and defaults of OpusTrainer."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from nmt.config.base import Positive, Section
from nmt.text.placeholders import symbol

SectionT = TypeVar("SectionT", bound=Section)
Chance = Annotated[float, Field(ge=0.0, le=1.0)]
_Probability = Annotated[Chance, Field(description="share of the pairs that are changed")]
_Kind = Annotated[Chance | None, Field(description="probability of this typo in a changed sentence")]


class UpperCaseModifier(Section):
    """Both sides in upper case."""

    name: Literal["UpperCase"] = Field(description="both sides in upper case")
    probability: _Probability


class TitleCaseModifier(Section):
    """Each word of both sides with a capital."""

    name: Literal["TitleCase"] = Field(description="each word of both sides with a capital")
    probability: _Probability


class RemoveEndPunctModifier(Section):
    """Both sides without their last punctuation mark, where both end in one mark of the same kind."""

    name: Literal["RemoveEndPunct"] = Field(description="both sides without the punctuation mark at their end")
    probability: _Probability


TYPOS = (
    "char_swap", "missing_char", "extra_char", "nearby_char", "similar_char", "skipped_space", "random_space",
    "repeated_char", "unichar",
)  # fmt: skip


class TyposModifier(Section):
    """Typing errors in the source. Where no kind is given, each has a probability of 0.1; else those given alone."""

    name: Literal["Typos"] = Field(description="typing errors in the source")
    probability: _Probability
    char_swap: _Kind = None
    missing_char: _Kind = None
    extra_char: _Kind = None
    nearby_char: _Kind = None
    similar_char: _Kind = None
    skipped_space: _Kind = None
    random_space: _Kind = None
    repeated_char: _Kind = None
    unichar: _Kind = None

    @property
    def kinds(self) -> dict[str, float]:
        """The probability of each kind of typo in a changed sentence."""
        given = {kind: value for kind in TYPOS if (value := getattr(self, kind)) is not None}
        return given or dict.fromkeys(TYPOS, 0.1)


class NoiseModifier(Section):
    """Additional pairs of the same random characters on both sides."""

    name: Literal["Noise"] = Field(description="additional pairs of random characters")
    probability: Annotated[Chance, Field(description="additional pairs for each pair")]
    min_word_length: Positive = Field(2, description="minimum number of characters of a word")
    max_word_length: Positive = Field(5, description="maximum number of characters of a word")
    max_words: Positive = Field(6, description="maximum number of words of a pair")

    @model_validator(mode="after")
    def _range_is_ascending(self) -> Self:
        return _ascending(self, "min_word_length", "max_word_length")


class MergeModifier(Section):
    """Several pairs of a dataset, drawn at random, as one."""

    name: Literal["Merge"] = Field(description="several pairs as one")
    probability: _Probability
    min_lines: Positive = Field(2, description="minimum number of pairs that become one")
    max_lines: Positive = Field(4, description="maximum number of pairs that become one")

    @model_validator(mode="after")
    def _range_is_ascending(self) -> Self:
        return _ascending(self, "min_lines", "max_lines")


class PrefixModifier(Section):
    """A phrase of the target before the source, so that the model learns to begin with a given phrase."""

    name: Literal["Prefix"] = Field(description="a phrase of the target before the source")
    probability: _Probability
    min_words: Positive = Field(2, description="minimum number of words of the phrase")
    max_words: Positive = Field(5, description="maximum number of words of the phrase; a shorter target is not changed")
    template: str = Field("__start__ {trg} __end__ ", description="text before the source, with {trg}")

    @model_validator(mode="after")
    def _settings_are_usable(self) -> Self:
        _check_template(self.template, ["trg"])
        return _ascending(self, "min_words", "max_words")


class TagsModifier(Section):
    """Words of the source with their translation beside them, by word alignments, for terminology."""

    name: Literal["Tags"] = Field(description="words of the source with their translation beside them")
    probability: Annotated[Chance, Field(description="share of the aligned words that are changed")]
    template: str = Field(
        "__source__ {src} __target__ {trg} __done__", description="replacement of the word, with {src} and {trg}"
    )
    augment: Chance = Field(0.0, description="share of changed words that get the same random words on both sides")
    replace: Chance = Field(0.0, description="share of changed words whose translation becomes random words")
    tag: Chance = Field(1.0, description="share of changed words that get their translation; at most what is left")

    @model_validator(mode="after")
    def _settings_are_usable(self) -> Self:
        _check_template(self.template, ["src", "trg"])
        if self.augment + self.replace > 1.0:
            raise ValueError("the sum of augment and replace must be at most 1")
        if self.augment + self.replace + self.tag < 1.0:
            raise ValueError("the sum of augment, replace and tag must be at least 1")
        return self


class PlaceholdersModifier(Section):
    """Words that both sides share become symbols ``<ph0>``, ``<ph1>``, ..., which the model learns to copy.

    ``nmt translate --protect`` lets such symbols stand for placeholders. Besides equal words and numbers, aligned words
    are replaced where the pairs have word alignments. A pair without such words gets symbols at its ends.
    """

    name: Literal["Placeholders"] = Field(description="words of both sides as symbols that stand for placeholders")
    probability: _Probability
    symbols: Annotated[int, Field(ge=1, le=100)] = Field(
        8, description="symbols in the vocabulary: the most placeholders of a sentence that the model itself carries"
    )


def _ascending(section: SectionT, low: str, high: str) -> SectionT:
    if getattr(section, low) > getattr(section, high):
        raise ValueError(f"{low} ({getattr(section, low)}) must be at most {high} ({getattr(section, high)})")
    return section


def _check_template(template: str, places: list[str]) -> None:
    rest = template
    for place in places:
        if template.count(f"{{{place}}}") != 1:
            raise ValueError(f"template must have {{{place}}} once: {template!r}")
        rest = rest.replace(f"{{{place}}}", "")
    if "{" in rest or "}" in rest or "\t" in rest or "\n" in rest:
        raise ValueError(f"template must be one line, with no braces but {' and '.join(f'{{{p}}}' for p in places)}")
    for word in _fixed_words(template):
        if RESERVED.fullmatch(word) or "\u2581" in word:
            raise ValueError(f"template: {word} means something else in every vocabulary; choose another word")


def _fixed_words(template: str) -> list[str]:
    return [word for word in template.split() if "{" not in word]


def _named_first(value: Any) -> Any:
    """OpusTrainer's way of writing a modifier: ``{UpperCase: 0.1, ...}`` is ``{name: UpperCase, probability: 0.1}``."""
    if not isinstance(value, dict) or not value or "name" in value:
        return value
    name, probability = next(iter(value.items()))
    return {"name": name, "probability": probability, **{k: v for k, v in value.items() if k != name}}


Modifier = (
    UpperCaseModifier | TitleCaseModifier | RemoveEndPunctModifier | TyposModifier | NoiseModifier | MergeModifier
    | PrefixModifier | TagsModifier | PlaceholdersModifier
)  # fmt: skip
ModifierConfig = Annotated[Modifier, Field(discriminator="name"), BeforeValidator(_named_first)]


RESERVED = re.compile("<pad>|<unk>|<s>|</s>|<0x[0-9A-F]{2}>")  # symbols of every vocabulary
SAME_TARGET = "Typos", "Prefix"  # modifiers that leave the target as it is


def check_modifiers(modifiers: list[Modifier]) -> list[Modifier]:
    """Refuse a modifier that is given twice."""
    names = [modifier.name for modifier in modifiers]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"the modifier {name} is given twice; keep one")
    return modifiers


def symbols_of(modifiers: list[Modifier]) -> list[str]:
    """The fixed words of templates and the symbols of placeholders, which become symbols of the vocabulary."""
    found = []
    for modifier in modifiers:
        if isinstance(modifier, PlaceholdersModifier):
            found += [symbol(number) for number in range(modifier.symbols)]
        if isinstance(modifier, PrefixModifier | TagsModifier):
            found += _fixed_words(modifier.template)
    return list(dict.fromkeys(found))
