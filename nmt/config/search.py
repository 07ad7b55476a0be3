"""The section ``search``: beam search."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from nmt.config.base import Positive, Section

MAX_BEAM = 1000  # hypotheses of a search


class SearchConfig(Section):
    beam_size: Annotated[int, Field(ge=1, le=MAX_BEAM)] = Field(5, description="hypotheses kept; 1 is greedy search")
    length_penalty: Literal["gnmt", "average", "none"] = Field(
        "gnmt", description="gnmt: ((5 + length) / 6) ** alpha (Wu et al. 2016); average: length ** alpha"
    )
    alpha: Annotated[float, Field(ge=0.0)] = Field(1.0, description="strength of the length penalty")
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
