"""Communication between the processes (ranks) of one training.

:class:`Ranks` is the implementation for a single process; :mod:`nmt.runtime.torchrun` has the one for the processes of
torchrun. Callers make the same calls for any number of ranks.

Every method is a collective call, except :meth:`Ranks.block`, :meth:`Ranks.pulse`, :meth:`Ranks.raised_once` and
:meth:`Ranks.no_sync`. All ranks make a collective call in the same order; otherwise they wait for each other until the
time limit of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from nmt.errors import NmtError
from nmt.runtime.signals import Paused, heard

if TYPE_CHECKING:
    from torch import nn

    from nmt.runtime.sharding import Shards

T = TypeVar("T")
ModelT = TypeVar("ModelT", bound="nn.Module")


class OtherRankFailed(NmtError):
    """Another rank failed and prints the error; this rank ends silently with the same exit code."""

    def __init__(self, exit_code: int, rank: int = 0):
        super().__init__("")
        self.exit_code, self.rank = exit_code, rank


class Ranks:
    """A single process, for which every collective call is trivial."""

    rank = 0
    size = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        pass

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, the only rank that writes files."""
        return self.rank == 0

    # -------------------------------------------------------------------------------------------------- dividing work

    def block(self, count: int) -> slice:
        """This rank's contiguous block of ``count`` items, possibly empty; the blocks cover them in order of rank."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def on_main(self, work: Callable[[], T]) -> T:
        """Run ``work`` on rank 0 and return its result on every rank. The others wait as long as rank 0 is alive.

        Raises:
            OtherRankFailed: on the other ranks, if the work failed on rank 0.
        """
        return work()

    def on_every_rank(self, work: Callable[[], T]) -> T:
        """Run ``work`` on every rank; each rank gets its local result. ``work`` must make no collective call.

        Long work calls :meth:`pulse` regularly. A rank that does not call it within the time limit of a step is
        considered to hang.

        Raises:
            OtherRankFailed: the work failed on another rank, and did not fail on this rank or on a lower one.
        """
        return work()

    def main_first(self, work: Callable[[], T]) -> T:
        """As :meth:`on_every_rank`, but rank 0 runs first: for work that is quick once one rank has done it."""
        done: list[T] = []
        self.on_main(lambda: done.append(work()))
        return self.on_every_rank(lambda: done[0] if done else work())

    def pulse(self) -> None:
        """Signal between the pieces of long work that this rank is alive.

        Raises:
            Paused: a rank received a signal to stop (:func:`nmt.runtime.signals.postponing`).
        """
        if heard.stop:
            raise Paused

    # ------------------------------------------------------------------------------------------------ exchanging values

    def gather(self, value: T) -> list[T]:
        """All-gather: the values of all ranks, in order of rank."""
        return [value]

    def exchange(self, numbers: Sequence[float]) -> list[list[float]]:
        """As :meth:`gather` for a few numbers, equally many on each rank; cheap enough for every step."""
        return [list(numbers)]

    def compare(self, facts: Mapping[str, object]) -> None:
        """Check that ``facts`` are equal on all ranks; the keys are the same everywhere.

        Raises:
            RunError: the facts differ; the message names the ranks and the values.
            OtherRankFailed: the same, on the ranks other than rank 0.
        """

    def gather_items(self, items: Sequence[T]) -> list[T]:
        """Concatenate the items of all ranks in order of rank: the inverse of :meth:`block`."""
        return [item for part in self.gather(list(items)) for item in part]

    def raised_once(self, error: NmtError) -> NmtError:
        """The exception that this rank raises for an error that all ranks see, so that it is printed once.

        Returns:
            ``error`` on rank 0, a silent :class:`OtherRankFailed` on the others.
        """
        return error if self.is_main else OtherRankFailed(error.exit_code)

    # --------------------------------------------------------------------------------------------------------- training

    def parallel(self, model: nn.Module, compress: bool = False) -> nn.Module:
        """Wrap a model for training: the backward pass averages the gradients over all ranks.

        Args:
            compress: exchange them in bf16.
        """
        return model

    def shard(self, model: ModelT, units: Sequence[nn.Module], compress: bool = False) -> Shards[ModelT]:
        """Divide a model for training among several ranks, see :class:`nmt.runtime.sharding.Shards`."""
        raise NotImplementedError("one process has nobody to divide a model with")

    def no_sync(self) -> AbstractContextManager[None]:
        """Skip the all-reduce of gradients inside the block; the next pass outside adds them up.

        The gradients of a divided model are summed up in each pass, so that a rank never holds all of them.
        """
        return nullcontext()

    def broadcast_weights(self, model: nn.Module) -> None:
        """Broadcast the weights of rank 0 to every rank."""


ALONE = Ranks()
