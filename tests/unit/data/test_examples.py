"""Examples of a mixture, as batches read them."""

from __future__ import annotations

import numpy as np
import pytest

from nmt.config.tokenizer import SamplingConfig, TokenizerConfig
from nmt.data.encoded import encode_corpus
from nmt.data.examples import Examples
from nmt.data.order import TrainingOrder
from nmt.data.prepare import prepare_corpus
from nmt.data.reader import Reader
from nmt.data.tokenizer import Tokenizer
from nmt.data.tokenizer_training import Symbols
from tests.unit.data.corpora import config

MODIFIERS = [
    {"Noise": 0.2}, {"UpperCase": 0.3}, {"TitleCase": 0.2}, {"Merge": 0.3}, {"Typos": 0.3}, {"Prefix": 0.3},
]  # fmt: skip
BUDGET, LONGEST = 1200, 300


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Data, corpus, encoded training part and tokenizer of two small datasets, the second one modified."""
    path = tmp_path_factory.mktemp("examples")
    for name, size, words in (("a", 400, "one two three four five six"), ("b", 150, "red green blue black white")):
        rng = np.random.default_rng(size)
        lines = [" ".join(rng.choice(words.split(), rng.integers(1, 9))) for _ in range(size)]
        (path / f"{name}.tsv").write_text("".join(f"{line} {n}\t{line} {n} .\n" for n, line in enumerate(lines)))
    datasets = [
        {"name": "a", "source": {"kind": "tsv", "path": str(path / "a.tsv")}, "weight": 1, "tag": ["<a>", "<x>"]},
        {"name": "b", "source": {"kind": "tsv", "path": str(path / "b.tsv")}, "weight": 1, "modifiers": MODIFIERS},
    ]
    (path / "v.tsv").write_text("v\tw\n")
    cleaning = {"max_tokens": LONGEST}
    data = config(path, train=datasets, valid={"kind": "tsv", "path": str(path / "v.tsv")}, cleaning=cleaning)
    corpus = prepare_corpus(data)
    symbols = Symbols(tuple(data.tags), tuple(data.symbols))
    tokenizer = Tokenizer.train(TokenizerConfig(vocab_size=90), corpus, path / "tokenizer", symbols)
    return data, corpus, encode_corpus(corpus, tokenizer, LONGEST, path / "store").train, tokenizer


def reading(parts, sampling=None, packed=False):
    data, corpus, dataset, tokenizer = parts
    examples = Examples.of(data, corpus, dataset, tokenizer, 3)
    text = corpus.part("train")
    reader = Reader(dataset, tokenizer, text, sampling, LONGEST, 3, BUDGET, packed, None, examples)
    return reader, TrainingOrder(dataset, BUDGET, 1, 3, reader.room, reader.packing, None, examples)


@pytest.mark.parametrize("sampling", [None, SamplingConfig(alpha=0.3)])
@pytest.mark.parametrize("packed", [False, True])
def test_every_batch_keeps_its_budget(parts, sampling, packed):
    reader, order = reading(parts, sampling, packed)
    for epoch in range(3):
        batches = [reader.read(rows, epoch) for [rows] in order.updates(epoch)]
        assert len(batches) == len(order.updates(epoch)) > 10
        read = np.concatenate([batch.rows for batch in batches])
        assert len(set(read.tolist())) == len(read)
        if not packed:
            assert all(max(batch.src.numel(), batch.tgt_in.numel()) <= BUDGET for batch in batches)
    assert reader.largest(order.longest_batch()).src_tokens > 0


def test_shares_count_noise_in_addition(parts):
    _, order = reading(parts)
    mixture = order.examples.mixture
    read = np.concatenate([rows for epoch in range(8) for [rows] in order.updates(epoch)])
    plain = read[~mixture.noise(read)]
    assert np.bincount(mixture.datasets(plain)).tolist() == [4 * mixture.pairs, 4 * mixture.pairs]
    noise = len(read) - len(plain)
    assert noise / (4 * mixture.pairs) == pytest.approx(0.2, abs=0.03)
    assert set(mixture.datasets(read[mixture.noise(read)]).tolist()) == {1}


def test_modifiers_change_the_given_share_and_leave_the_other_dataset_alone(parts):
    _, order = reading(parts)
    examples = order.examples
    upper = changed = count = 0
    for epoch in range(8):
        read = np.concatenate([rows for [rows] in order.updates(epoch)])
        found = examples.changed(read, epoch)
        assert {int(examples.mixture.datasets(read[[place]])[0]) for place in found} == {1}
        assert found.keys() == examples.changed(read, epoch).keys()
        ours = np.flatnonzero((examples.mixture.datasets(read) == 1) & ~examples.mixture.noise(read)).tolist()
        count += len(ours)
        changed += sum(place in found for place in ours)
        upper += sum(place in found and found[place].tgt.split()[0].isupper() for place in ours)
    assert upper / count == pytest.approx(0.3, abs=0.04)
    assert changed / count == pytest.approx(1 - 0.7 * 0.8 * 0.7 * 0.7 * 0.7, abs=0.04)


def test_tags_are_the_first_ids_of_their_dataset(parts):
    reader, order = reading(parts)
    tags = parts[3].tag_ids(["<a>", "<x>"])
    for [rows] in order.updates(0):
        batch = reader.read(rows, 0)
        for ids, dataset in zip(batch.src.tolist(), order.examples.mixture.datasets(batch.rows), strict=True):
            assert (ids[:2] == tags) == (dataset == 0)
            assert not set(ids[2:]) & set(tags)


def test_a_pair_that_becomes_too_long_stays_as_it_is(parts):
    _, order = reading(parts)
    read = np.concatenate([rows for [rows] in order.updates(0)])
    examples = order.examples
    every = examples.changed(read, 0)
    examples.max_tokens = 30
    short = examples.changed(read, 0)
    fits = {place for place, one in every.items() if max(len(one.src_ids), len(one.tgt_ids)) <= 30}
    assert short.keys() == fits
    assert 0 < len(fits) < len(every)
