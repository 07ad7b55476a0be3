"""Read the sources of a configuration, and apply the rules."""

from __future__ import annotations

from itertools import chain

from nmt.checks.finding import Finding
from nmt.checks.near import Index
from nmt.checks.part import Part
from nmt.checks.rules import RULES, Data
from nmt.config.data import DataConfig, HoldoutSource
from nmt.data.corpus import Corpus
from nmt.data.provenance import held_sources, training_sources
from nmt.data.sources import read_pairs
from nmt.data.sources.base import Reading
from nmt.runtime.progress import counted

FIRST = 3_000  # pairs of a part that a training looks at
GLANCED = ("header", "encoding", "script", "swapped", "untranslated", "shifted")
INDEXED = 20_000  # pairs of a held-out set that are compared with the training part


def check_data(data: DataConfig, seed: int) -> list[Finding]:
    """What the rules find; one finding ``ok`` for each rule without any.

    Raises:
        DataError: a source cannot be read.
    """
    reading = Reading.of(data)
    found: dict[str, Part] = {}
    indexes: dict[str, tuple[Index, Index]] = {}
    for name, source in held_sources(data).items():
        if isinstance(source, HoldoutSource):
            continue
        pairs = list(counted(read_pairs(source, reading), f"reading data.{name}", "pairs"))
        found[name] = Part(name, seed).read(pairs)
        indexed = pairs[:INDEXED]
        indexes[name] = Index([src for src, _ in indexed]), Index([tgt for _, tgt in indexed])
    pairs_of_all = chain.from_iterable(read_pairs(source, reading) for source in training_sources(data).values())
    stream = counted(pairs_of_all, "reading data.train", "pairs")
    train = Part("train", seed, indexes).read(stream)
    return apply(Data({"train": train, **found}, (data.src_lang, data.tgt_lang), seed))


def glance(corpus: Corpus, languages: tuple[str, str], seed: int) -> list[Finding]:
    """Problems and warnings of the first pairs of each part of a prepared corpus: what a training should be told.

    The rules are those of ``GLANCED``. The time is about a second.
    """
    found = {}
    for name in ("train", "valid", *(f"test.{name}" for name in corpus.tests)):
        part = corpus.part(name)
        rows = range(min(len(part), FIRST))
        found[name] = Part(name, seed).read((part.src(row), part.tgt(row)) for row in rows)
    data = Data(found, languages, seed)
    return [one for rule in GLANCED for one in RULES[rule](data) if one.level != "ok"]


def apply(data: Data) -> list[Finding]:
    findings: list[Finding] = []
    for name, rule in RULES.items():
        findings += list(rule(data)) or [Finding("ok", name, "nothing found")]
    return findings
