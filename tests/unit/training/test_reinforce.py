"""REINFORCE for hard attention: its expectation is the gradient of the expected log-likelihood."""

import itertools
import math

import numpy as np
import pytest
import torch

from nmt.config.model import RNNConfig
from nmt.config.terms import TermsConfig
from nmt.config.train import TrainConfig
from nmt.data.batch import collate
from nmt.data.sentencepiece_model import BOS_ID, EOS_ID, PAD_ID
from nmt.models.alignment import Chance
from nmt.models.build import build_model
from nmt.training.objective import Objective
from nmt.training.terms import build_terms

VOCABULARY = 9
SIZES = {"type": "rnn", "d_model": 5, "d_hidden": 4, "dropout": 0.0}
HARD = {"expected_context": 0.0, "entropy_weight": 0.0, "reinforce_weight": 1.0}


def model_of(alignment="hard", **keys):
    torch.manual_seed(0)
    keys = {"attention": "additive", **keys}
    width = {} if keys["attention"] == "general" else {"d_attention": 3}
    model = build_model(RNNConfig(**SIZES, **width, **keys, alignment=alignment), VOCABULARY, VOCABULARY, PAD_ID)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.mul_(3)  # so that the alignment matters
    return model.train()


def batch_of(*pairs):
    pairs = [tuple(np.array(side) for side in pair) for pair in pairs]
    return collate(pairs, np.arange(len(pairs)), PAD_ID, BOS_ID, EOS_ID)


def loss_of(model, batch):
    config = TrainConfig(max_steps=1, label_smoothing=0.0)
    return Objective(config, model)(model, batch)


def gradients(value, model):
    parameters = [p for p in model.parameters() if p.requires_grad]
    return torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)


def forced(model, positions):
    """Let each attention, step by step and hop by hop, draw the given positions of its one source."""

    def chances(mask, steps):
        assert steps == len(positions)
        noise = torch.zeros(steps, 1, 1, mask.size(1))
        for each, position in zip(noise, positions, strict=True):
            each[..., position] = 1e6
        return [Chance(each, None) for each in noise]

    model.attention.alignment.chances = chances


def exact_gradients(model, batch, draws):
    """Of -Σ_a p(a) Σ_t log p(y_t | a), by enumeration of all alignments a."""
    total = probability = 0.0
    for positions in itertools.product(range(batch.src.size(1)), repeat=draws):
        forced(model, positions)
        hidden, extras = model(*batch.inputs)
        log_likelihood = model.project(hidden)[0].log_softmax(-1).gather(1, batch.tgt_out[0, :, None]).sum()
        p = extras["log_probs"].sum().exp()
        total = total - p * log_likelihood
        probability += p.item()
    assert probability == pytest.approx(1, abs=1e-5)
    return gradients(total, model)


VARIANTS = {
    "one": {},
    "lstm-general-deep": {"cell": "lstm", "attention": "general", "decoder_layers": 2},
    "input-feeding": {"input_feeding": True},
}


@pytest.mark.parametrize("baseline", [-7.0, 1.5])
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS.keys())
def test_the_expected_gradient_is_that_of_the_expected_log_likelihood(variant, baseline):
    """Averaged over all 27 alignments of 3 source positions, weighted with their probabilities."""
    model, batch = model_of(**variant, hard=HARD), batch_of(([4, 5], [6, 7]))
    check(model, batch, 3, baseline)


def test_two_hops_draw_two_positions_a_step():
    model, batch = model_of(hops=2, hard=HARD), batch_of(([4], [6]))
    check(model, batch, 4, -2.0)


def check(model, batch, draws, baseline):
    expected = exact_gradients(model, batch, draws)
    with torch.no_grad():
        model.baseline.fill_(baseline)
    found = [torch.zeros_like(each) for each in expected]
    for positions in itertools.product(range(batch.src.size(1)), repeat=draws):
        forced(model, positions)
        probability = model(*batch.inputs).extras["log_probs"].sum().exp().item()
        loss, _ = loss_of(model, batch)
        for total, each in zip(found, gradients(loss, model), strict=True):
            total += probability * each
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    for name, one, other in zip(names, found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5), name
    scores = [one for name, one in zip(names, expected, strict=True) if name.startswith("attention.")]
    assert any(one.abs().max() > 1e-3 for one in scores)


def test_the_weights_scale_the_term_and_the_entropy():
    batch = batch_of(([4, 5], [6, 7]))
    losses = {}
    for weights in [(1.0, 0.0), (3.0, 0.0), (1.0, 2.0)]:
        keys = {"expected_context": 0.0, "reinforce_weight": weights[0], "entropy_weight": weights[1]}
        model = model_of(hard=keys)
        forced(model, (0, 2, 1))
        losses[weights], counted = loss_of(model, batch)
        hidden, extras = model(*batch.inputs)
        nll = -model.project(hidden)[0].log_softmax(-1).gather(1, batch.tgt_out[0, :, None]).sum()
        assert counted.tolist() == pytest.approx([nll.item()] * 2 + [extras["entropy"].sum().item()], rel=1e-5)
    first, entropy = losses[1.0, 0.0] - nll, extras["entropy"].sum()
    assert (losses[3.0, 0.0] - nll).item() == pytest.approx(3 * first.item(), rel=1e-4)
    assert (losses[1.0, 2.0] - losses[1.0, 0.0]).item() == pytest.approx(-2 * entropy.item(), rel=1e-4)


def test_samples_have_the_expected_gradient():
    """The mean over 40 batches of 400 equal sentences, within 5 standard errors."""
    model, batch = model_of(hard=HARD), batch_of(([4, 5], [6, 7]))
    chances = model.attention.alignment.chances
    expected = exact_gradients(model, batch, 3)
    model.attention.alignment.chances = chances
    with torch.no_grad():
        model.baseline.fill_(-2.0)
    many = batch_of(*[([4, 5], [6, 7])] * 400)
    drawn = [gradients(loss_of(model, many)[0] / 400, model) for _ in range(40)]
    for each, *samples in zip(expected, *drawn, strict=True):
        stacked = torch.stack(samples)
        error = stacked.std(0) / math.sqrt(len(samples))
        assert ((stacked.mean(0) - each).abs() <= 5 * error + 1e-5).all()


def test_padding_changes_no_gradient():
    """Two sentences in one batch, and each alone."""
    model = model_of(hard=HARD)
    pairs = [([4, 5], [6, 7]), ([5, 4, 7, 8], [8, 4, 5, 6, 6])]
    noise = [torch.randn(6, 1, 1, 5), torch.randn(6, 1, 1, 5)]

    def loss(rows):
        def chances(mask, steps):
            s = mask.size(1)
            return [Chance(torch.cat([noise[row][t, ..., :s] for row in rows]), None) for t in range(steps)]

        model.attention.alignment.chances = chances
        return loss_of(model, batch_of(*(pairs[row] for row in rows)))[0]

    together, apart = loss([0, 1]), loss([0]) + loss([1])
    assert together.item() == pytest.approx(apart.item(), rel=1e-5)
    for one, other in zip(gradients(together, model), gradients(apart, model), strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)


def test_sentences_of_the_expected_context_train_as_soft_attention_does():
    soft, hard = model_of("soft"), model_of(hard=HARD)
    missing = hard.load_state_dict(soft.state_dict(), strict=False)
    assert missing.missing_keys == ["baseline"]
    batch = batch_of(([4, 5], [6, 7]), ([8], [5]))
    chances = hard.attention.alignment.chances
    everything = torch.ones(2, 1, 1, dtype=torch.bool)
    hard.attention.alignment.chances = lambda *args: [one._replace(expected=everything) for one in chances(*args)]
    losses = [loss_of(model, batch)[0] for model in (hard, soft)]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-6)
    for one, other in zip(*(gradients(loss, m) for loss, m in zip(losses, (hard, soft), strict=True)), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_beside_a_term_with_a_second_pass_the_draws_of_the_first_count():
    model, batch = model_of(hard=HARD), batch_of(([4, 5], [6, 7]), ([8], [5]))
    results = []

    def forward(*arguments, **keywords):
        results.append(model(*arguments, **keywords))
        return results[-1]

    config = TrainConfig(max_steps=1, label_smoothing=0.0, terms={"r_drop": {"alpha": 1.0}})
    _, counted = Objective(config, model)(forward, batch)
    [(hidden, extras)] = results
    assert len(hidden) == 4
    assert counted[-1].item() == pytest.approx(batch.at_targets(extras["entropy"][:2]).sum().item(), rel=1e-5)


def test_the_baseline_is_a_moving_average_that_ignores_what_is_not_finite():
    model = model_of(hard={**HARD, "baseline_decay": 0.75})
    [term] = build_terms(TermsConfig(), model).values()
    assert model.baseline.item() == pytest.approx(-math.log(VOCABULARY))
    with torch.no_grad():
        for value, expected in [(-2.0, 0.75 * -math.log(VOCABULARY) - 0.5), (math.nan, None), (-math.inf, None)]:
            before = model.baseline.item()
            term.observe(torch.tensor(value))
            assert model.baseline.item() == pytest.approx(before if expected is None else expected)


def test_only_reinforce_needs_the_term():
    for model in (model_of("soft"), model_of(hard={"estimator": "gumbel"})):
        assert build_terms(TermsConfig(), model) == {}
