"""Read the sources of a configuration, and apply the rules."""

from __future__ import annotations

from nmt.checks.finding import Finding
from nmt.checks.near import HeldOut
from nmt.checks.part import Pair, Part
from nmt.checks.rules import RULES, Data
from nmt.config.data import DataConfig
from nmt.config.sources import HoldoutSource
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
    sets: dict[str, list[Pair]] = {}
    for name, source in held_sources(data).items():
        if isinstance(source, HoldoutSource):
            continue
        pairs = list(counted(read_pairs(source, reading), f"reading data.{name}", "pairs"))
        found[name], sets[name] = Part(name, seed).read(pairs), pairs[:INDEXED]
    held_out, training = HeldOut(sets), dict[str, Part]()
    for name, source in training_sources(data).items():
        part = training[name] = Part(name, seed, held_out, tagged=_is_tagged(data, name))
        part.read(counted(read_pairs(source, reading), f"reading data.{name}", "pairs"))
    return apply(Data(training, found, (data.src_lang, data.tgt_lang), seed, held_out.alike))


def glance(corpus: Corpus, data: DataConfig, seed: int) -> list[Finding]:
    """Problems and warnings of the first pairs of each part of a prepared corpus: what a training should be told.

    The rules are those of ``GLANCED``. The time is about a second.
    """
    # Training part: each dataset of a mixture alone
    text = corpus.part("train")
    sizes = {f"train.{name}": size for name, size in corpus.datasets("train").items()} if data.train_is_list else {}
    training, start = dict[str, Part](), 0
    for name, size in (sizes or {"train": len(text)}).items():
        part = training[name] = Part(name, seed, tagged=_is_tagged(data, name))
        part.read(text[row] for row in range(start, start + min(size, FIRST)))
        start += size
    # Other parts
    found = {}
    for name in ("valid", *(f"test.{name}" for name in corpus.tests)):
        text = corpus.part(name)
        found[name] = Part(name, seed).read(text[row] for row in range(min(len(text), FIRST)))
    seen = Data(training, found, (data.src_lang, data.tgt_lang), seed)
    return [one for rule in GLANCED for one in RULES[rule](seen) if one.level != "ok"]


def _is_tagged(data: DataConfig, name: str) -> bool:
    """Whether the pairs of a training source have a tag, which may ask for another direction or language."""
    return any(each.tag is not None and name in ("train", f"train.{each.name}") for each in data.datasets)


def apply(data: Data) -> list[Finding]:
    findings: list[Finding] = []
    for name, rule in RULES.items():
        findings += list(rule(data)) or [Finding("ok", name, "nothing found")]
    return findings
