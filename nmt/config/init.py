"""The section ``init``: a training that starts from trained weights and their tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, create_model

from nmt.config.base import Positive, Section

Patterns = list[Annotated[str, Field(min_length=1)]]


class _Start(Section):
    checkpoint: Positive | None = Field(
        None, description="step of the checkpoint of a run to start from; null: its final weights"
    )
    freeze: Patterns = Field(
        [],
        description="parameters that are not trained: groups (embeddings, encoder, decoder, positions, norms, output)"
        " or patterns of names, such as decoder.0.*",
    )
    reset: Patterns = Field(
        [], description="parameters that are initialised at random instead of taken over; named as in freeze"
    )
    extend_vocabulary: Annotated[int, Field(ge=0, le=100_000)] = Field(
        0,
        description="at most this many new pieces, appended to the vocabulary: first the tags and symbols of data.train"
        " that it lacks, then characters and merges of its pieces, learned from the new training text",
    )

    @property
    def source(self) -> str:
        """The key ``from``, which is a keyword of Python."""
        return str(getattr(self, "from"))


_FROM = Field(
    min_length=1,
    description="a run (name or folder), a folder of Hugging Face's MarianMTModel, a Marian model (.npz, or the folder"
    " around it), or hf:ORG/NAME of the Hugging Face hub (hf:ORG/NAME@REVISION)",
)

if TYPE_CHECKING:

    class InitConfig(_Start):
        """Weights and tokenizer that a training starts from."""

else:
    InitConfig = create_model(
        "InitConfig",
        __base__=_Start,
        __doc__="Weights and tokenizer that a training starts from.",
        __module__=__name__,
        **{"from": (str, _FROM)},
    )
