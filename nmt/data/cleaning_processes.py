"""Cleaning in several processes: the same pairs, counts, examples and hashes as in one.

This process reads the sources and keeps the texts. The others, each a Python that runs :func:`serve`, get the texts of
:data:`CHUNK` pairs at a time, and answer with what a :class:`nmt.data.cleaning.Cleaner` found. They end when their
standard input closes, also where this process was killed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain, compress, islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from nmt.config.data import CleaningConfig
from nmt.data.cleaning import Cleaner
from nmt.errors import DataError
from nmt.runtime.threads import usable_cores

CHUNK = 1 << 14  # pairs that a process cleans at once
FIRST = 100_000  # pairs that are cleaned by this process before others are started, which takes half a second
MOST = 8  # processes by default: reading the sources limits the speed beyond
SERVE = "from nmt.data.cleaning_processes import serve; serve()"

Pair = tuple[str, str]


def clean_in_processes(cleaner: Cleaner, pairs: Iterable[Pair], processes: int | None = None) -> Iterator[Pair]:
    """As ``cleaner(pairs)``, with further processes for a large corpus.

    Args:
        processes: of cleaning; 1 cleans in this process. None: one less than the cores, and none for a small corpus.

    Raises:
        DataError: a process ended.
    """
    pairs = iter(pairs)
    count = min(MOST, usable_cores() - 1) if processes is None else processes
    if not sys.executable or count < (1 if processes is None else 2):
        yield from cleaner(pairs)
        return
    if processes is None:
        yield from cleaner(islice(pairs, FIRST))
    chunk = list(islice(pairs, CHUNK))
    if len(chunk) < CHUNK:
        yield from cleaner(chunk)
        return
    with ExitStack() as stack:
        others = [stack.enter_context(_Process(cleaner)) for _ in range(count)]
        waiting: deque[tuple[_Process, list[Pair]]] = deque()
        while chunk:
            # The oldest answer is read before its process gets more: neither end writes while the other does.
            done = waiting.popleft() if len(waiting) == count else None
            answer = done[0].answer() if done else None
            other = done[0] if done else others[len(waiting)]
            other.send(chunk)
            waiting.append((other, chunk))
            if done and answer:
                yield from _take(cleaner, done[1], *answer)
            chunk = list(islice(pairs, CHUNK))
        for other, chunk in waiting:
            yield from _take(cleaner, chunk, *other.answer())


def _take(cleaner: Cleaner, chunk: Sequence[Pair], about: dict[str, Any], arrays: Sequence[bytes]) -> Iterator[Pair]:
    """Add an answer to the cleaner, and yield the pairs of the chunk that pass."""
    cleaner.add(
        about["read"], about["dropped"], {rule: [(s, t) for s, t in p] for rule, p in about["examples"].items()}
    )
    passed, *stored = arrays
    for mine, its in zip(cleaner.stored, stored, strict=True):
        mine.frombytes(its)
    yield from compress(chunk, passed)


class _Process:
    """Another process that cleans, with the settings of a cleaner."""

    def __init__(self, cleaner: Cleaner):
        package = str(Path(__file__).parents[2])
        path = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path}, start_new_session=True,  # Ctrl-C is for this process
        )  # fmt: skip
        settings = {
            "config": cleaner.config.model_dump(mode="json"), "sentences": cleaner.sentences is not None,
            "languages": cleaner.languages,
        }  # fmt: skip
        self._write(settings, [])

    def __enter__(self) -> _Process:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def send(self, chunk: Sequence[Pair]) -> None:
        texts = list(chain.from_iterable(chunk))
        lengths = np.fromiter(map(len, texts), np.uint32, len(texts))
        self._write({}, [lengths.tobytes(), "".join(texts).encode("utf-8", "surrogatepass")])

    def answer(self) -> tuple[dict[str, Any], list[bytes]]:
        assert self.process.stdout is not None
        found = _read(self.process.stdout)
        if found is None:
            raise self._ended()
        return found

    def _write(self, about: dict[str, Any], arrays: Sequence[bytes]) -> None:
        assert self.process.stdin is not None
        try:
            _write(self.process.stdin, about, arrays)
        except BrokenPipeError:
            raise self._ended() from None

    def _ended(self) -> DataError:
        return DataError(
            f"data.processes: a process that cleans the training pairs has ended (exit code {self.process.wait()}), "
            "perhaps for lack of memory; set data.processes: 1"
        )


# --------------------------------------------------------------------------------------------------- the other process


def serve() -> None:
    """Clean the pairs that standard input has, until it closes."""
    source, answers = sys.stdin.buffer, sys.stdout.buffer
    if (given := _read(source)) is None:
        return
    settings = given[0]
    config, languages = CleaningConfig.model_validate(settings["config"]), tuple(settings["languages"])
    while (given := _read(source)) is not None:
        chunk = _pairs(*given[1])
        cleaner = Cleaner(config, settings["sentences"], languages)
        passed = bytearray(len(chunk))
        places = iter(range(len(chunk)))
        for src, tgt in cleaner(chunk):
            passed[next(i for i in places if chunk[i][0] is src and chunk[i][1] is tgt)] = 1
        about = {"read": cleaner.read, "dropped": cleaner.dropped, "examples": cleaner.examples}
        _write(answers, about, [passed, *(array.tobytes() for array in cleaner.stored)])


def _pairs(lengths: bytes, text: bytes) -> list[Pair]:
    whole = text.decode("utf-8", "surrogatepass")
    ends = np.cumsum(np.frombuffer(lengths, np.uint32), dtype=np.int64).tolist()
    texts = [whole[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    return list(zip(texts[::2], texts[1::2], strict=True))


# ---------------------------------------------------------------------------------------------------------- messages


def _write(stream: IO[bytes], about: dict[str, Any], arrays: Sequence[bytes | bytearray]) -> None:
    """Write a line of JSON, and arrays, whose sizes are in the line."""
    stream.write(json.dumps(about | {"sizes": [len(array) for array in arrays]}).encode() + b"\n")
    for array in arrays:
        stream.write(array)
    stream.flush()


def _read(stream: IO[bytes]) -> tuple[dict[str, Any], list[bytes]] | None:
    """What :func:`_write` wrote; None at the end of the stream, also in the midst of a message."""
    if not (line := stream.readline()).endswith(b"\n"):
        return None
    about: dict[str, Any] = json.loads(line)
    arrays = [stream.read(size) for size in about["sizes"]]
    return (about, arrays) if [len(array) for array in arrays] == about["sizes"] else None
