"""How the processes of one training agree: here the only one; :mod:`nmt.runtime.torchrun` has the several of torchrun.

The processes are called ranks and counted from 0. Callers use the same calls whatever their number and never ask for
it. Every method except :meth:`World.block`, :meth:`World.pulse`, :meth:`World.common` and :meth:`World.apart` is a
meeting: all ranks call it, in the same order, or they wait for each other until the time limit of a step.
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

T = TypeVar("T")


class Elsewhere(NmtError):
    """Another rank ends the program and says why; this one ends with the same exit code, without a word."""

    def __init__(self, exit_code: int, rank: int = 0):
        super().__init__("")
        self.exit_code, self.rank = exit_code, rank


class World:
    """One process alone, for whom there is nobody to agree with."""

    rank = 0
    size = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        pass

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, the only one that writes anything."""
        return self.rank == 0

    # ---------------------------------------------------------------------------------------------------- who does what

    def block(self, count: int) -> slice:
        """Which of ``count`` things in a row are this rank's; maybe none. All blocks in order of rank are the row."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def first(self, work: Callable[[], T]) -> T:
        """Rank 0 does the work while the others wait, for as long as its process runs; all get the result.

        Raises:
            Elsewhere: on the other ranks, where the work failed on rank 0.
        """
        return work()

    def each(self, work: Callable[[], T]) -> T:
        """Every rank does the work and has its own result. There must be no meeting in it.

        Work that may take long calls :meth:`pulse` on the way; a rank that does not do so for the time limit of a step
        is taken to hang.

        Raises:
            Elsewhere: where the work went well here, or failed too, but failed on a rank before this one.
        """
        return work()

    def main_first(self, work: Callable[[], T]) -> T:
        """As :meth:`each`, rank 0 before the others: work that goes quickly once one has done it."""
        done: list[T] = []
        self.first(lambda: done.append(work()))
        return self.each(lambda: done[0] if done else work())

    def pulse(self) -> None:
        """Show, between the pieces of long work, that this rank is alive.

        Raises:
            Paused: a postponed signal asks a rank to stop (:func:`nmt.runtime.signals.postponing`).
        """
        if heard.stop:
            raise Paused

    # ----------------------------------------------------------------------------------------------- telling each other

    def gather(self, value: T) -> list[T]:
        """Every rank's value, in order of rank."""
        return [value]

    def exchange(self, numbers: Sequence[float]) -> list[list[float]]:
        """As :meth:`gather` for a few numbers, as many on each rank; cheap enough for every step."""
        return [list(numbers)]

    def compare(self, facts: Mapping[str, object]) -> None:
        """Make sure that all ranks have the same ``facts``, which have the same keys everywhere.

        Raises:
            RunError: they differ; which ranks, and in what, is named.
            Elsewhere: the same, on the ranks other than the first.
        """

    def collect(self, items: Sequence[T]) -> list[T]:
        """What the ranks made of their blocks, as one row again."""
        return [item for part in self.gather(list(items)) for item in part]

    def common(self, error: NmtError) -> NmtError:
        """What each rank raises when all end for the same reason, so that only one tells it."""
        return error if self.is_main else Elsewhere(error.exit_code)

    # --------------------------------------------------------------------------------------------------------- training

    def parallel(self, model: nn.Module) -> nn.Module:
        """The model to run forward in training: its gradients become the mean over all ranks during backward."""
        return model

    def apart(self) -> AbstractContextManager[None]:
        """Inside, forward and backward leave the gradients with this rank; the next pass outside adds them up."""
        return nullcontext()

    def copy(self, model: nn.Module) -> None:
        """Give every rank the weights of rank 0."""


ALONE = World()
