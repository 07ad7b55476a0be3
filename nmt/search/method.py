"""The interface of search methods. A method knows a step function and a state, and no model.

To add one: its name and its keys in :mod:`nmt.config.search`, its class in :data:`nmt.search.methods.METHODS`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from nmt.errors import TrainingError

if TYPE_CHECKING:
    from torch import Tensor

    from nmt.search.beam import Execution
    from nmt.search.scoring import Hypothesis


@dataclass(frozen=True)
class Task:
    """B sentences to search.

    Attributes:
        max_lengths: [B], the most tokens of a hypothesis, eos not counted; on the device of the state.
        keys: a number for each sentence that depends on its source alone, from 0 to 2^63 - 1.
        nbest: hypotheses wanted of each sentence.
        forbidden: ids that are never produced.
    """

    max_lengths: Tensor
    keys: Sequence[int]
    nbest: int
    bos_id: int
    eos_id: int
    forbidden: Sequence[int] = ()


class SearchMethod(Protocol):
    """Finds hypotheses of a batch of sentences, given a step function."""

    @property
    def capturable(self) -> bool:
        """Whether the method can be given an execution that records its steps as CUDA graphs."""
        ...

    @property
    def attends(self) -> bool:
        """Whether the method needs the attention of each step: its states are :class:`nmt.search.coverage.Covered`."""
        ...

    def width(self, nbest: int) -> int:
        """Rows of the state for each sentence, for ``nbest`` hypotheses."""
        ...

    def __call__(
        self,
        step: Callable[[Tensor, Any], tuple[Tensor, Any]],
        state: Any,
        task: Task,
        execution: Execution | None = None,
    ) -> list[list[Hypothesis]]:
        """Search.

        Args:
            step: from the last tokens [N] and the state to the next logits [N, V] and the new state.
            state: for N = B·W rows, the W rows of a sentence together; with ``execution``, B is its size for the
                number of sentences.
            execution: of a method that is ``capturable``.

        Returns:
            For each sentence its hypotheses; those without a probability are left out.

        Raises:
            TrainingError: the model's output is not a number.
        """
        ...


def not_a_number(token: int) -> TrainingError:
    """The error for a model without probabilities at a token, counted from 1."""
    return TrainingError(
        f"the model's output is not a number (token {token} of a search): its training has diverged, or the precision "
        "does not suit it; try float32"
    )
