"""Guided alignment: the loss is that of the maps the model shows, and a batch without links is trained as before."""

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from nmt.config.experiment import Config
from nmt.config.model import RNNConfig, TransformerConfig
from nmt.config.train import TrainConfig
from nmt.data.batch import collate
from nmt.data.guide import NO_LINKS, guide, subword_links
from nmt.data.sentencepiece_model import BOS_ID, EOS_ID, PAD_ID
from nmt.models.build import build_model
from nmt.training.objective import Objective

VOCABULARY = 30
RNN = {"type": "rnn", "d_model": 8, "d_hidden": 8, "d_attention": 6, "dropout": 0.0}
STACK = {"d_model": 12, "d_ff": 16, "num_heads": 3, "encoder_layers": 1, "decoder_layers": 3, "dropout": 0.0}
MODELS = {
    "rnn": RNNConfig(**RNN),
    "hops": RNNConfig(**RNN, hops=2, alignment="local_predictive", window=9),
    "feeding": RNNConfig(**RNN, attention="scaled_dot", input_feeding=True),
    "transformer": TransformerConfig(type="transformer", **STACK),
    "post-norm": TransformerConfig(type="transformer", **STACK, norm="post", qk_norm="l2"),
}
PAIRS = [([4, 5, 6], [7, 8]), ([9], [10, 11, 12]), ([4, 6, 8, 9], [5])]
# of subwords: source, target; the second pair has none, and the first token of the first pair two
LINKS = [np.array([[0, 0], [2, 0], [1, 1]]), NO_LINKS, np.array([[3, 0]])]
# Of the 9 targets with eos, in order: row of the batch, target position, source positions
ALIGNED = [(0, 0, [0, 2]), (0, 1, [1]), (2, 0, [3])]


def batch_of(guided=True):
    batch = collate([tuple(map(np.array, pair)) for pair in PAIRS], np.arange(3), PAD_ID, BOS_ID, EOS_ID)
    if guided:
        object.__setattr__(batch, "guide", guide(LINKS, [len(tgt) + 1 for _, tgt in PAIRS]))
    return batch


def model_of(name):
    torch.manual_seed(2)
    return build_model(MODELS[name], VOCABULARY, VOCABULARY, PAD_ID).train()


def objective_of(model, **term):
    terms = {"guided_alignment": term} if term else {}
    return Objective(TrainConfig(max_steps=1, label_smoothing=0.0, terms=terms), model)


@pytest.mark.parametrize(
    ("name", "term", "layer", "heads"),
    [
        ("rnn", {}, 0, [0]),
        ("hops", {}, 1, [0]),
        ("hops", {"layer": 1}, 0, [0]),
        ("feeding", {}, 0, [0]),
        ("transformer", {}, 1, [0]),  # the layer before the last
        ("transformer", {"layer": 3, "heads": [3, 1]}, 2, [0, 2]),
        ("post-norm", {"layer": 1}, 0, [0]),
    ],
)
def test_the_loss_is_that_of_the_maps(name, term, layer, heads):
    model, batch = model_of(name), batch_of()
    with torch.no_grad():
        maps = model.attention_maps(*batch.inputs)  # [layers, B, H, T, S]
    by_hand = 0.0
    for row, target, sources in ALIGNED:
        for source in sources:
            for head in heads:
                by_hand -= math.log(maps[layer, row, head, target, source]) / len(sources) / len(heads)
    plain, _ = objective_of(model_of(name))(model_of(name), batch_of(guided=False))
    objective = objective_of(model, weight=0.3, **term)
    loss, counted = objective(model, batch)
    assert objective.logged == ["guided_alignment"]
    assert math.isclose(counted[2].item(), by_hand, rel_tol=1e-4)
    assert math.isclose(loss.item(), plain.item() + 0.3 * by_hand, rel_tol=1e-5)


@pytest.mark.parametrize("name", ["rnn", "transformer"])
def test_the_gradient_moves_attention_towards_the_links(name):
    model, batch = model_of(name), batch_of()
    objective = objective_of(model, weight=50.0, layer=1)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(60):
        optimizer.zero_grad()
        objective(model, batch)[0].backward()
        optimizer.step()
    maps = model.eval().attention_maps(*batch.inputs)[0, :, 0]
    assert maps[0, 1, 1] > 0.9
    assert maps[2, 0, 3] > 0.9
    assert (maps[0, 0, [0, 2]] > 0.35).all()


@pytest.mark.parametrize("name", ["rnn", "transformer"])
def test_without_links_nothing_is_added(name):
    plain, _ = objective_of(model_of(name))(model_of(name), batch_of(guided=False))
    batch, model = batch_of(), model_of(name)
    object.__setattr__(batch, "guide", guide([NO_LINKS] * 3, [3, 4, 2]))
    loss, counted = objective_of(model, weight=1.0)(model, batch)
    assert torch.equal(loss, plain)
    assert counted[2] == 0
    nothing = batch_of().without_targets()
    model = model_of(name)
    loss, _ = objective_of(model, weight=1.0)(model, nothing)
    loss.backward()
    assert loss == 0
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


def test_a_second_pass_and_weights_of_sentences():
    """R-Drop joins two passes; a sentence of weight 2 counts twice."""
    model, batch = model_of("transformer"), batch_of()
    _, counted = objective_of(model, weight=1.0)(model, batch)
    weights = torch.tensor([2.0] * 3 + [1.0] * 4 + [0.0] * 2)
    object.__setattr__(batch, "weights", weights)
    object.__setattr__(batch, "weight", 10.0)
    _, weighted = objective_of(model, weight=1.0)(model, batch)
    only_last = batch_of()
    object.__setattr__(only_last, "guide", guide([NO_LINKS, NO_LINKS, LINKS[2]], [3, 4, 2]))
    _, last = objective_of(model, weight=1.0)(model, only_last)
    assert math.isclose(weighted[2].item(), 2 * (counted[2] - last[2]).item(), rel_tol=1e-5)
    dropping = Objective(
        TrainConfig(max_steps=1, terms={"guided_alignment": {"weight": 1.0}, "r_drop": {"alpha": 1.0}}), model
    )
    _, both = dropping(model, batch_of())
    assert math.isclose(both[dropping.logged.index("guided_alignment") + 2].item(), counted[2].item(), rel_tol=1e-5)


# ------------------------------------------------------------------------------------------------------ words, subwords


class Spelt:
    """A tokenizer whose subwords are letters: id 1 begins a word, others continue it."""

    def src_words_of(self, ids):
        return (np.cumsum(np.array(ids) == 1) - 1).tolist()

    tgt_words = src_words_of


@pytest.mark.parametrize(
    ("text", "links", "tags", "expected"),
    [
        # source words: subwords 0-1, 2; target words: 0, 1-3
        (("ab c", "d efg"), ((0, 1),), 0, [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3)]),
        (("ab c", "d efg"), ((1, 0), (0, 0)), 2, [(2, 0), (3, 0), (4, 0)]),
        (("ab c", "d efg"), ((1, 1), (7, 0)), 0, [(2, 1), (2, 2), (2, 3)]),  # a word that does not exist
        (("ab c d", "d efg"), ((1, 1),), 0, []),  # the tokenizer joins words
        (("ab c", "d efg"), (), 0, []),
    ],
)
def test_links_of_words_become_links_of_all_their_subwords(text, links, tags, expected):
    ids = np.array([1, 0, 1]), np.array([1, 1, 0, 0])
    found = subword_links(Spelt(), text, ids, links, tags)
    assert sorted(map(tuple, found.tolist())) == expected


# ----------------------------------------------------------------------------------------------------------- settings

ALIGNED_DATA = {"kind": "text", "src": "a", "tgt": "b", "alignments": "c"}


def settings(train=ALIGNED_DATA, model=RNN, term=None, **more):
    data = {"src_lang": "en", "tgt_lang": "de", "train": train, "valid": {"kind": "holdout", "fraction": 0.1}}
    sections = {"max_steps": 1, "terms": {"guided_alignment": term or {}}, **more}
    return Config.model_validate({"name": "x", "data": data, "model": model, "train": sections})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train": {"kind": "text", "src": "a", "tgt": "b"}}, "data.train has no word alignments; name them"),
        ({"model": {"type": "rnn", "attention": "none"}}, "model.attention: none has no weights"),
        ({"model": {**RNN, "alignment": "hard"}}, "model.alignment: hard has no weights"),
        ({"term": {"layer": 2}}, "layer: 2, but the model has 1 hops; count from 1"),
        ({"term": {"heads": [2]}}, "a recurrent model has one head; remove heads"),
        ({"term": {"heads": [1, 1]}}, "a head is named twice"),
        ({"model": {"type": "transformer", **STACK}, "term": {"heads": [4]}}, "heads: 4, but the model has 3"),
        ({"model": {"type": "transformer", **STACK}, "term": {"layer": 4}}, "layer: 4, but the model has 3 layers"),
        ({"model": {"type": "transformer", **STACK, "layer_drop": 0.1}}, "model.layer_drop leaves out the layer"),
        (
            {"model": {"type": "transformer", **STACK}, "batching": "packed"},
            "packed is not possible: attention without",
        ),
        ({"train": {**ALIGNED_DATA, "alignments": ["c", "d"]}}, "src names 1 file but alignments 2"),
    ],
)
def test_settings_under_which_nothing_can_be_learned_are_refused(changes, said):
    with pytest.raises(ValidationError) as error:
        settings(**changes)
    assert said in str(error.value)


def test_settings_that_work():
    settings()
    settings(model={"type": "transformer", **STACK}, term={"layer": 3, "heads": [1, 3]})
    settings(train={"kind": "demo", "part": "train", "alignments": True})
    settings(train={"kind": "tsv", "path": "a", "alignment_column": 2})
