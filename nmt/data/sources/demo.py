"""The built-in demo corpus."""

from __future__ import annotations

from pathlib import Path

from nmt.config.compare import digest
from nmt.config.data import DemoSource
from nmt.data.file_hashes import Entry, FileHashes
from nmt.data.provenance import key_settings
from nmt.data.sources.base import Pairs, Reading
from nmt.storage.atomic import sha256

GRAMMAR = Path(__file__).parents[1] / "demo"


def read(source: DemoSource, reading: Reading) -> Pairs:
    from nmt.data import demo

    for pair in demo.generate(source.seed)[source.part]:
        yield pair.src, pair.tgt


def describe(source: DemoSource, hashes: FileHashes, reading: Reading) -> list[Entry]:
    """The settings, and a hash of the grammar: another version of the grammar makes another corpus."""
    files = sorted(GRAMMAR.glob("*.py"))
    return [{**key_settings(source), "grammar": digest([sha256(file) for file in files])}]


def name(source: DemoSource) -> str:
    return "the demo corpus"
