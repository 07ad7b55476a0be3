"""Steps of a search as CUDA graphs: launched as a whole instead of kernel by kernel.

A step of a Transformer of usual size has some two hundred kernels, of a few microseconds each on a large device; asking
for them one by one takes the CPU several times as long as the device needs for them. A graph is captured once and then
replayed: it reads and writes the same places of memory each time. So each shape of a search's tensors has a graph and a
set of tensors, its buffers, into which a search of that shape moves.
"""

from __future__ import annotations

import dataclasses
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from nmt.search.beam import Advance, Beam

log = logging.getLogger(__name__)

SMALLEST = 32  # sentences; with fewer, a step takes as long


def batch_size(sentences: int) -> int:
    """The padded number of sentences of a batch: a power of two, so that few graphs serve all batches."""
    return 1 << (sentences - 1).bit_length()


def batch_count(left: int, most: int) -> int:
    """How many of the sentences that are left a batch takes, so that it is at most ``most`` when it is filled up."""
    count = min(left, most)
    size = batch_size(count)
    return size // 2 if size > most or SMALLEST < count <= size * 3 // 4 else count


def source_room(positions: int) -> int:
    """To how many positions sources are filled up: 2^k or 3·2^(k-1), and a multiple of 8, as attention's masks need."""
    power = max(16, 1 << (positions - 1).bit_length())
    return power * 3 // 4 if power > 16 and positions <= power * 3 // 4 else power


class Graph(Protocol):
    """Work that is captured once and replayed on the same memory."""

    def capture(self, work: Callable[[], None]) -> None:
        """Record what ``work`` asks of the device. Nothing of it is done, and no memory it takes may be read later."""
        ...

    def replay(self) -> None: ...


class CudaGraph:
    """A :class:`Graph` on the current device.

    Args:
        other: a graph to share memory with; the two are never replayed at the same time.
    """

    def __init__(self, other: CudaGraph | None = None) -> None:
        self.graph = torch.cuda.CUDAGraph()
        self.pool = None if other is None else other.graph.pool()
        self.stream: torch.cuda.Stream = torch.cuda.Stream() if other is None else other.stream

    def capture(self, work: Callable[[], None]) -> None:
        # torch.cuda.graph also empties the cache of free memory, which costs more than a capture of a step.
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            # What PyTorch makes here once for the random numbers of all graphs may not be an inference tensor.
            with torch.inference_mode(False):
                self.graph.capture_begin(pool=self.pool, capture_error_mode="thread_local")
            try:
                work()
            finally:
                self.graph.capture_end()
        current.wait_stream(self.stream)

    def replay(self) -> None:
        with torch.inference_mode(False):
            self.graph.replay()


@dataclass(frozen=True)
class _Captured:
    graph: Graph
    beam: Beam
    state: Any

    @property
    def size(self) -> int:
        """Bytes of its buffers."""
        return sum(leaf.untyped_storage().nbytes() for leaf in leaves((self.beam, self.state)))


class CapturedSteps:
    """Takes the steps of searches, each shape of them from its second step on by a graph.

    The first step of a shape is taken as usual: it loads the kernels, which is not allowed in a capture.

    Args:
        new_graph: makes an empty graph that may share the memory of another.
        most: bytes that the buffers of all graphs may take; the graphs that were used least recently are dropped.
    """

    def __init__(self, new_graph: Callable[[Any], Graph], most: int) -> None:
        self.new_graph, self.most = new_graph, most
        self.captured: OrderedDict[Any, _Captured] = OrderedDict()
        self.seen: set[Any] = set()
        self.current: _Captured | None = None
        self.works = True

    def __call__(self, advance: Advance, beam: Beam, state: Any) -> tuple[Beam, Any]:
        current = self.current
        if current is None or beam is not current.beam or state is not current.state:
            # A search comes from another shape, or begins.
            self.current = current = self._enter(advance, beam, state)
            if current is None:
                return advance(beam, state)
        current.graph.replay()
        return current.beam, current.state

    def clear(self) -> None:
        """Free the memory of all graphs."""
        self.captured.clear()
        self.current = None

    def _enter(self, advance: Advance, beam: Beam, state: Any) -> _Captured | None:
        """The graph for a step of these shapes, with ``beam`` and ``state`` in its buffers; None for a usual step."""
        given = list(leaves((beam, state)))
        key = (advance, tuple((tuple(leaf.shape), leaf.dtype) for leaf in given))
        if not self.works or key not in self.seen:
            self.seen.add(key)
            return None
        if key in self.captured:
            self.captured.move_to_end(key)
            found = self.captured[key]
            for buffer, leaf in zip(leaves((found.beam, found.state)), given, strict=True):
                if buffer is not leaf:
                    buffer.copy_(leaf)
            return found
        made = self._capture(advance, beam, state)
        if made is not None:
            self.captured[key] = made
            while len(self.captured) > 1 and sum(each.size for each in self.captured.values()) > self.most:
                self.captured.popitem(last=False)
        return made

    def _capture(self, advance: Advance, beam: Beam, state: Any) -> _Captured | None:
        taken: set[int] = set()
        beam, state = _replaced((beam, state), lambda leaf: _buffer(leaf, taken))
        graph = self.new_graph(next((each.graph for each in self.captured.values()), None))

        def work() -> None:
            after = advance(beam, state)
            for buffer, leaf in zip(leaves((beam, state)), leaves(after), strict=True):
                if buffer is not leaf:
                    buffer.copy_(leaf)

        try:
            graph.capture(work)
        except RuntimeError as error:
            memory = _out_of_memory(error)
            if memory is not None:
                raise memory from error
            log.warning("a search step was not captured as a CUDA graph, which makes the search slower: %s", error)
            self.works = False
            return None
        return _Captured(graph, beam, state)


def leaves(tree: Any) -> Iterator[Tensor]:
    """The tensors in nested dataclasses, tuples and lists, in a fixed order."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, (tuple, list)):
        for each in tree:
            yield from leaves(each)
    elif dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        for field in dataclasses.fields(tree):
            yield from leaves(getattr(tree, field.name))


def _replaced(tree: Any, new: Callable[[Tensor], Tensor]) -> Any:
    """A copy of ``tree`` with other tensors."""
    if isinstance(tree, Tensor):
        return new(tree)
    if isinstance(tree, (tuple, list)):
        return type(tree)(_replaced(each, new) for each in tree)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        fields = {field.name: _replaced(getattr(tree, field.name), new) for field in dataclasses.fields(tree)}
        return dataclasses.replace(tree, **fields)
    return tree


def _buffer(leaf: Tensor, taken: set[int]) -> Tensor:
    """``leaf``, or a copy of it where its memory is not its alone."""
    storage = leaf.untyped_storage()
    whole = leaf.is_contiguous() and storage.nbytes() == leaf.numel() * leaf.element_size()
    if whole and storage.data_ptr() not in taken:
        taken.add(storage.data_ptr())
        return leaf
    return leaf.clone(memory_format=torch.contiguous_format)


def _out_of_memory(error: BaseException | None) -> torch.OutOfMemoryError | None:
    """The lack of memory behind an error: the end of a capture that failed raises an error about that."""
    while error is not None and not isinstance(error, torch.OutOfMemoryError):
        error = error.__cause__ or error.__context__
    return error
