"""The built-in demo corpus."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from nmt.config.sources import DemoSource
from nmt.data.file_hashes import Entry, FileHashes
from nmt.data.provenance import key_settings
from nmt.data.sources.base import Pairs, Reading

if TYPE_CHECKING:
    from nmt.data.demo import Pair


def read(source: DemoSource, reading: Reading) -> Pairs:
    from nmt.data import demo

    if not source.alignments:
        yield from _corpus(source.seed)[source.part]
        return
    for pair in demo.generate(source.seed, aligned=True)[source.part]:
        reading.beside.links = " ".join(f"{src}-{tgt}" for src, tgt in demo.links(pair))
        yield str(pair.src), str(pair.tgt)


@lru_cache(1)
def _corpus(seed: int) -> dict[str, list[Pair]]:
    """All parts, which are read one after another."""
    from nmt.data import demo

    return demo.generate(seed)


def describe(source: DemoSource, hashes: FileHashes, reading: Reading) -> list[Entry]:
    """The settings, and the version of the sentences: another version makes another corpus."""
    from nmt.data import demo

    return [{**key_settings(source), "grammar": demo.SENTENCES}]


def name(source: DemoSource) -> str:
    return "the demo corpus"
