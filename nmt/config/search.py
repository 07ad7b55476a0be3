"""The section ``search``: how translations are searched for."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from nmt.config.base import Positive, Section

MAX_BEAM = 1000  # hypotheses of a search
ALPHA = 1.0  # of a search for which no alpha was chosen
Average = Literal["probability", "log_probability"]  # what an ensemble averages, see nmt.models.ensemble

# Keys that only some methods use. A new method needs a line here, and its name in ``SearchConfig.method``.
KEYS_OF: dict[str, tuple[str, ...]] = {
    "beam": ("beam_size", "coverage_penalty", "min_length", "no_repeat_ngram"),
    "sample": ("temperature", "top_k", "top_p", "seed"),
}
# Keys that the first version lacked. At these values the search is the one of that version.
ADDED = {
    "method": "beam",
    "coverage_penalty": 0.0,
    "min_length": 0,
    "no_repeat_ngram": 0,
    "copy_unknown": False,
    "temperature": 1.0,
    "top_k": None,
    "top_p": 1.0,
    "seed": 1,
}


class SearchConfig(Section):
    method: Literal["beam", "sample"] = Field(
        "beam",
        description="beam: search for the best translation; sample: draw each token from the model's probabilities,"
        " for varied translations (back-translation)",
    )
    beam_size: Annotated[int, Field(ge=1, le=MAX_BEAM)] = Field(5, description="hypotheses kept; 1 is greedy search")
    length_penalty: Literal["gnmt", "average", "none"] = Field(
        "gnmt", description="gnmt: ((5 + length) / 6) ** alpha (Wu et al. 2016); average: length ** alpha"
    )
    alpha: Annotated[float, Field(ge=0.0)] | None = Field(
        None,
        description="strength of the length penalty; default: chosen on the validation set at the end of the training,"
        " 1.0 until then",
    )
    coverage_penalty: Annotated[float, Field(ge=0.0)] = Field(
        0.0,
        description="beta of the coverage penalty for source words that get little attention (Wu et al. 2016, eq. 14);"
        " 0: off",
    )
    min_length: Annotated[int, Field(ge=0)] = Field(
        0, description="minimum number of subwords of a translation, up to its length limit; 0: any"
    )
    no_repeat_ngram: Annotated[int, Field(ge=0)] = Field(
        0, description="no n-gram of subwords of this length occurs twice in a translation (Paulus et al. 2018); 0: off"
    )
    copy_unknown: bool = Field(
        False,
        description="produce unknown words, and replace each by the source word with the most attention (Luong et al."
        " 2015b); false: produce no unknown word",
    )
    temperature: Annotated[float, Field(ge=1e-4)] = Field(
        1.0, description="divisor of the logits before sampling; below 1: more probable tokens more often"
    )
    top_k: Positive | None = Field(None, description="sample among the k most probable tokens; default: all")
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        1.0, description="sample among the smallest set of tokens with this probability (Holtzman et al. 2020)"
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = Field(
        1, description="seed of the samples; the sample of a line depends only on the seed and the line"
    )
    max_length_ratio: Annotated[float, Field(ge=0.0)] | None = Field(
        None,
        description="longest hypothesis: ratio times the source length plus max_length_offset, in subwords; default: "
        "learned from the lengths of the training pairs, at least 2 (2 if only the offset is set)",
    )
    max_length_offset: Positive | None = Field(
        None,
        description="default: learned with the ratio, at least 10 (10 if only the ratio is set)",
    )
    max_source_tokens: Positive | None = Field(
        None, description="a source with more subwords is cut, with a warning; default: data.cleaning.max_tokens"
    )
    batch_tokens: Positive | None = Field(
        None,
        description="budget of a search batch: sentences times beam times source length; default: 8192; for PyTorch on "
        "CUDA 65536, or 262144 with 40 GiB of memory or more",
    )

    def unused(self) -> dict[str, str]:
        used = KEYS_OF[self.method]
        found = {key: f"search.method is {self.method}" for keys in KEYS_OF.values() for key in keys if key not in used}
        return found | ({"alpha": "search.length_penalty is none"} if self.length_penalty == "none" else {})

    @property
    def uses_beam(self) -> bool:
        """Whether the method keeps ``beam_size`` hypotheses."""
        return "beam_size" in KEYS_OF[self.method]

    @property
    def most(self) -> int:
        """The most translations of a line that may be asked for."""
        return self.beam_size if self.uses_beam else MAX_BEAM

    @property
    def alpha_matters(self) -> bool:
        """Whether another alpha could change which translation is the best."""
        return self.method == "beam" and self.beam_size > 1 and self.length_penalty != "none"

    def special(self) -> dict[str, Any]:
        """Settings that the plain beam search of other programs lacks, by key. Of the keys of samples, the method."""
        kept = [key for key in ADDED if key not in KEYS_OF["sample"]]
        return {key: getattr(self, key) for key in kept if getattr(self, key) != ADDED[key]}

    def compared(self) -> dict[str, Any]:
        """The settings that translations depend on, as JSON data: all but the size of a batch.

        Keys of :data:`ADDED` at the value given there are left out: results of earlier versions remain comparable.
        """
        settings = self.model_dump(mode="json", exclude={"batch_tokens"}) | {"alpha": self.alpha_or_default}
        return {key: value for key, value in settings.items() if key not in ADDED or value != ADDED[key]}

    @property
    def alpha_or_default(self) -> float:
        return ALPHA if self.alpha is None else self.alpha
