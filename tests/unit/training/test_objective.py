"""The loss of a batch with terms is that of plain PyTorch on full logits."""

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nmt.config.model import RNNConfig, TransformerConfig
from nmt.config.train import TrainConfig
from nmt.data.batch import collate
from nmt.data.packing import Packing
from nmt.data.sentencepiece_model import BOS_ID, EOS_ID, PAD_ID, UNK_ID
from nmt.models.build import build_model
from nmt.models.seq2seq import Decoded
from nmt.training.objective import Objective
from nmt.training.terms.base import Term
from nmt.training.terms.inputs import Inputs

VOCABULARY, SMOOTHING = 40, 0.1
MODELS = {
    "rnn": RNNConfig(type="rnn", d_model=12, d_hidden=12, d_attention=8, dropout=0.3),
    "transformer": TransformerConfig(
        type="transformer", d_model=16, d_ff=32, num_heads=2, encoder_layers=1, decoder_layers=1, dropout=0.3
    ),
}
KINDS = [("rnn", "padded"), ("transformer", "padded"), ("transformer", "packed")]

each_kind = pytest.mark.parametrize(("family", "batching"), KINDS, ids=lambda x: x)


def model_of(family):
    torch.manual_seed(1)
    return build_model(MODELS[family], VOCABULARY, VOCABULARY, PAD_ID)


def teacher_of(pairs, top_k, dtype=np.float32):
    """Random distributions [M, V] at the targets of pairs, and their most probable tokens: ids and log p [M, K]."""
    positions = sum(len(tgt) + 1 for _, tgt in pairs)
    dense = torch.randn(positions, VOCABULARY, generator=torch.Generator().manual_seed(5)).mul(2).log_softmax(-1)
    values, ids = dense.topk(top_k)
    return dense, (ids.to(torch.int32).numpy(), values.numpy().astype(dtype).astype(np.float32))


def batch_of(batching, count=7, top_k=0):
    rng = np.random.default_rng(0)
    pairs = [tuple(rng.integers(4, VOCABULARY, n) for n in pair) for pair in rng.integers(1, 9, (count, 2)).tolist()]
    teacher = teacher_of(pairs, top_k)[1] if top_k else None
    if batching == "padded":
        return collate(pairs, np.arange(count), PAD_ID, BOS_ID, EOS_ID, teacher=teacher)
    lengths = np.array([[len(src), len(tgt)] for src, tgt in pairs], np.int32).T
    packing = Packing.measure([lengths], int((lengths + 1).sum(axis=1).max()) + 20)
    packing = replace(packing, top_k=top_k)
    return packing.collate(pairs, np.arange(count), PAD_ID, BOS_ID, EOS_ID, teacher=teacher)


def objective_of(model, **terms):
    return Objective(TrainConfig(max_steps=1, label_smoothing=SMOOTHING, terms=terms), model)


class Spy:
    """A forward pass that keeps its arguments and result."""

    def __init__(self, model):
        self.model, self.calls = model, []

    def __call__(self, *arguments, **keywords):
        self.arguments, self.keywords = arguments, keywords
        self.result = self.model(*arguments, **keywords)
        self.calls.append(arguments)
        return self.result


def logits_of(spy, model, batch, passes):
    """Logits [M, V] of each pass at the real targets, and the targets."""
    targets, keep = batch.targets, slice(None) if batch.weights is None else batch.weights.bool()
    states = [batch.at_targets(part)[keep] for part in spy.result.chunk(passes)]
    return [model.output(one) for one in states], targets[keep]


def cross_entropy(logits, targets, smoothing=SMOOTHING):
    return F.cross_entropy(logits, targets, label_smoothing=smoothing, reduction="sum")


kl_div = functools.partial(F.kl_div, log_target=True, reduction="sum")  # of (log q, log p): KL(p‖q)


def gradients(value, model):
    return torch.autograd.grad(value, list(model.parameters()), retain_graph=True)


def assert_same(model, found, expected):
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    pairs = zip(model.named_parameters(), gradients(found, model), gradients(expected, model), strict=True)
    for (name, _), one, other in pairs:
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-4), name


@each_kind
def test_without_terms_loss_and_draws_are_those_of_the_model_alone(family, batching):
    model, batch = model_of(family), batch_of(batching)
    torch.manual_seed(2)
    spy = Spy(model)
    loss, counted = objective_of(model)(spy, batch)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    expected = model(*batch.inputs)
    assert torch.equal(spy.result, expected)
    assert torch.equal(state, torch.get_rng_state())
    assert spy.keywords == {}
    assert all(one is other for one, other in zip(spy.arguments, batch.inputs, strict=False) if family == "rnn")
    (logits,), targets = logits_of(spy, model, batch, 1)
    assert_same(model, loss, cross_entropy(logits, targets))
    assert counted.tolist() == pytest.approx([loss.item(), cross_entropy(logits, targets, 0.0).item()], rel=1e-5)


@each_kind
def test_r_drop(family, batching):
    model, batch = model_of(family), batch_of(batching)
    spy = Spy(model)
    loss, counted = objective_of(model, r_drop={"alpha": 3.0})(spy, batch)
    (p, q), targets = logits_of(spy, model, batch, 2)
    assert not torch.allclose(p, q)  # dropout differs
    log_p, log_q = p.log_softmax(-1), q.log_softmax(-1)
    kl = (kl_div(log_q, log_p) + kl_div(log_p, log_q)) / 2
    assert_same(model, loss, cross_entropy(p, targets) + cross_entropy(q, targets) + 3 * kl)
    expected = [cross_entropy(p, targets).item(), cross_entropy(p, targets, 0.0).item(), kl.item()]
    assert counted.tolist() == pytest.approx(expected, rel=1e-4)
    assert len(spy.calls) == 1  # DDP's hooks fire once


@each_kind
def test_z_loss_is_of_each_pass_and_outside_the_reported_loss(family, batching):
    model, batch = model_of(family), batch_of(batching)
    for terms, passes in (({}, 1), ({"r_drop": {"alpha": 1e-9}}, 2)):
        spy = Spy(model)
        loss, counted = objective_of(model, z_loss=0.01, **terms)(spy, batch)
        logits, targets = logits_of(spy, model, batch, passes)
        plain = [cross_entropy(one, targets) for one in logits]
        squared = [torch.logsumexp(one, -1).square().sum() for one in logits]
        assert_same(model, loss, sum(plain) + 0.01 * sum(squared))
        expected = [plain[0].item(), cross_entropy(logits[0], targets, 0.0).item(), squared[0].item()]
        assert counted[:3].tolist() == pytest.approx(expected, rel=1e-4)


@each_kind
@pytest.mark.parametrize("kind", ["token", "span", "feature"])
def test_cutoff(family, batching, kind):
    model, batch = model_of(family), batch_of(batching)
    spy = Spy(model)
    settings = {"kind": kind, "rate": 0.3, "alpha": 0.5, "beta": 2.0}
    loss, counted = objective_of(model, cutoff=settings)(spy, batch)
    (p, q), targets = logits_of(spy, model, batch, 2)
    log_p, log_q = p.log_softmax(-1), q.log_softmax(-1)
    log_m = ((log_p.exp() + log_q.exp()) / 2).log()
    js = (kl_div(log_m, log_p) + kl_div(log_m, log_q)) / 2
    assert_same(model, loss, cross_entropy(p, targets) + 0.5 * cross_entropy(q, targets) + 2 * js)
    assert counted[0].item() == pytest.approx(cross_entropy(p, targets).item(), rel=1e-4)
    assert counted[2].item() == pytest.approx(js.item(), rel=1e-4)
    assert len(spy.calls) == 1


@each_kind
def test_simcut(family, batching):
    model, batch = model_of(family), batch_of(batching)
    spy = Spy(model)
    loss, counted = objective_of(model, simcut={"rate": 0.3, "alpha": 2.0})(spy, batch)
    (p, q), targets = logits_of(spy, model, batch, 2)
    kl = kl_div(q.log_softmax(-1), p.log_softmax(-1))
    assert_same(model, loss, cross_entropy(p, targets) + 2 * kl)
    assert counted[2].item() == pytest.approx(kl.item(), rel=1e-4)


def cuts_of(batching, count, **settings):
    """For each side: the factors of the words of each sentence in the second pass [words, D], and of other tokens."""
    model, batch = model_of("transformer"), batch_of(batching, count)
    spy = Spy(model)
    objective_of(model, cutoff=settings)(spy, batch)
    found = []
    for ids, keep in zip((batch.inputs[0], batch.inputs[2]), spy.keywords["keep"], strict=True):
        first, second = keep.chunk(2)
        assert (first == 1).all()
        second = second.expand(*ids.shape, -1)
        words = (ids != PAD_ID) & (ids != BOS_ID) & (ids != EOS_ID)
        ends = words.flatten().int().diff(prepend=torch.zeros(1, dtype=torch.int)) != 0  # specials separate sentences
        runs = [run for run in torch.where(words.flatten(), ends.cumsum(0), -1).unique().tolist() if run >= 0]
        runs_of = torch.where(words.flatten(), ends.cumsum(0), -1)
        found.append(([second.flatten(0, -2)[runs_of == run] for run in runs], second[~words]))
    return found


@pytest.mark.parametrize("batching", ["padded", "packed"])
def test_what_is_cut(batching):
    for sentences, others in cuts_of(batching, 60, kind="token", rate=0.3):
        assert len(sentences) == 60
        assert torch.cat(sentences).mean().item() == pytest.approx(0.7, abs=0.1)
        assert (others == 1).all()
    for sentences, others in cuts_of(batching, 60, kind="span", rate=0.3):
        starts = set()
        for keep in sentences:
            (gone,) = (keep[:, 0] == 0).nonzero(as_tuple=True)
            assert len(gone) == -(-3 * len(keep) // 10)  # rounded up
            assert gone.tolist() == list(range(gone[0], gone[0] + len(gone)))
            starts.add((gone[0].item() == 0, gone[-1].item() == len(keep) - 1))
        assert {(True, False), (False, True), (False, False)} <= starts
        assert (others == 1).all()
    for sentences, _ in cuts_of(batching, 60, kind="feature", rate=0.3):
        assert all((keep == keep[0]).all() for keep in sentences)
        shares = torch.stack([keep[0] for keep in sentences])
        assert shares.mean().item() == pytest.approx(0.7, abs=0.1)
        assert len(shares.unique(dim=0)) > 50  # drawn for each sentence


@each_kind
def test_factors_multiply_the_embeddings(family, batching):
    """A factor of 0 for a token gives what a table with zeros for it gives."""
    model, batch = model_of(family).eval(), batch_of(batching, 30)
    arguments = batch.inputs
    keep = [torch.where(ids == 9, 0.0, 1.0).unsqueeze(-1) for ids in (arguments[0], arguments[2])]
    found = model(*arguments, keep=tuple(keep))
    with torch.no_grad():
        for table in (model.src_embedding, model.tgt_embedding):
            table.weight[9] = 0
    assert all((one == 0).any() for one in keep)
    assert torch.allclose(found, model(*arguments), atol=1e-6)


@each_kind
def test_joined_passes_are_passes_one_after_another(family, batching):
    model, batch = model_of(family).eval(), batch_of(batching)
    inputs = Inputs.of(batch)
    alone = model(*inputs.arguments)
    for part in model(*Inputs.joined([inputs, inputs, inputs]).arguments).chunk(3):
        assert torch.allclose(part, alone, atol=1e-6)


@each_kind
def test_word_dropout(family, batching):
    model, batch = model_of(family), batch_of(batching, 60)
    spy = Spy(model)
    torch.manual_seed(3)
    _, counted = objective_of(model, word_dropout={"src": 0.4, "tgt": 0.2})(spy, batch)
    assert len(counted) == 2
    before, after = batch.inputs, spy.arguments
    for place, share in ((0, 0.4), (2, 0.2)):
        changed = before[place] != after[place]
        words = (before[place] != PAD_ID) & (before[place] != BOS_ID) & (before[place] != EOS_ID)
        assert (after[place][changed] == UNK_ID).all()
        assert words[changed].all()
        assert (changed.sum() / words.sum()).item() == pytest.approx(share, abs=0.1)
    assert torch.equal(batch.inputs[0], before[0])  # the batch itself stays


def test_a_side_without_word_dropout_draws_nothing():
    model, batch = model_of("transformer"), batch_of("padded")
    spy = Spy(model)
    objective_of(model, word_dropout={"tgt": 0.5})(spy, batch)
    assert spy.arguments[0] is batch.src


def test_each_pass_draws_its_own_words():
    model, batch = model_of("transformer"), batch_of("padded", 60)
    spy = Spy(model)
    objective_of(model, word_dropout={"src": 0.5}, r_drop={})(spy, batch)
    one, other = spy.arguments[0].chunk(2)
    assert not torch.equal(one, other)


def test_a_batch_without_targets_gives_0_and_gradients_of_0():
    for family, batching in KINDS:
        for term in ("r_drop", "cutoff", "simcut"):
            model, batch = model_of(family), batch_of(batching).without_targets()
            loss, counted = objective_of(model, **{term: {}}, word_dropout={}, z_loss=0.1)(model, batch)
            loss.backward()
            assert counted.tolist() == [0] * 4
            assert all((p.grad == 0).all() for p in model.parameters())


class Reinforce(Term):
    """As of a model that returns log-probabilities of choices at each target position."""

    def __call__(self, found):
        weights = 1.0 if found.weights is None else found.weights
        value = (-found.log_probs * found.first.extras["log_prob"] * weights).sum()
        return value, value


@pytest.mark.parametrize("batching", ["padded", "packed"])
def test_a_term_takes_other_quantities_of_the_model_at_the_targets(batching):
    model, batch = model_of("transformer").eval(), batch_of(batching)
    choice = nn.Linear(16, 1)

    def forward(*arguments):
        hidden = model(*arguments)
        return Decoded(hidden, {"log_prob": choice(hidden).squeeze(-1)})

    objective = objective_of(model)
    objective.terms["reinforce"] = Reinforce(None, model)
    loss, counted = objective(forward, batch)
    spy = Spy(model)
    spy(*batch.inputs)
    (logits,), targets = logits_of(spy, model, batch, 1)
    keep = slice(None) if batch.weights is None else batch.weights.bool()
    rewards = -F.cross_entropy(logits, targets, reduction="none").detach()
    added = (-rewards * choice(batch.at_targets(spy.result)[keep]).squeeze(-1)).sum()
    assert_same(model, loss, cross_entropy(logits, targets) + added)
    assert counted[2].item() == pytest.approx(added.item(), rel=1e-5)


@each_kind
def test_l2_towards_the_start_pulls_by_the_distance(family, batching):
    """The gradient of w / 2 ‖θ - θ₀‖², per target token, is w (θ - θ₀); frozen parameters have none."""
    model, batch = model_of(family).eval(), batch_of(batching)
    model.tgt_embedding.weight.requires_grad_(False)
    objective, plain = objective_of(model, l2_start=0.5), objective_of(model)
    moving = [p for p in model.parameters() if p.requires_grad]
    start = [p.detach().clone() for p in moving]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    distance = sum(float((p.detach() - s).square().sum()) for p, s in zip(moving, start, strict=True))
    (with_term, counted), (without, _) = objective(model, batch), plain(model, batch)
    tokens = batch.tgt_tokens
    assert float((with_term - without).detach()) / tokens == pytest.approx(0.25 * distance, rel=1e-4)
    assert objective.logged == ["l2_start"]
    assert float(counted[2]) / tokens == pytest.approx(0.25 * distance, rel=1e-4)
    both, one = (torch.autograd.grad(loss, moving) for loss in (with_term, without))
    for grad, other, parameter, begin in zip(both, one, moving, start, strict=True):
        assert torch.allclose((grad - other) / tokens, 0.5 * (parameter - begin).detach(), atol=1e-4)


def dense_teacher(batch, top_k):
    """The distributions [M, V] that the teacher of the batch was made of; as many as real targets."""
    count = batch.tgt_tokens
    return teacher_of([((), range(count - 1))], top_k)[0]


@each_kind
@pytest.mark.parametrize("tail", ["renormalise", "class"])
def test_distillation_of_all_tokens_is_the_divergence_of_whole_distributions(family, batching, tail):
    model, batch = model_of(family), batch_of(batching, top_k=VOCABULARY)
    spy = Spy(model)
    term = {"from": "teacher", "alpha": 0.3, "tail": tail}
    loss, counted = objective_of(model, distillation=term)(spy, batch)
    (logits,), targets = logits_of(spy, model, batch, 1)
    kl = kl_div(logits.log_softmax(-1), dense_teacher(batch, VOCABULARY))
    plain = cross_entropy(logits, targets)
    assert_same(model, loss, 0.7 * plain + 0.3 * kl)
    expected = [plain.item(), cross_entropy(logits, targets, 0.0).item(), kl.item()]
    assert counted.tolist() == pytest.approx(expected, rel=1e-4)


@each_kind
def test_distillation_of_the_top_k_at_a_temperature(family, batching):
    """By hand: p is the softmax of the k largest logits of the teacher over T, and the student's logits are over T."""
    model, batch = model_of(family), batch_of(batching, top_k=4)
    spy = Spy(model)
    term = {"from": "teacher", "alpha": 1.0, "temperature": 2.5}
    loss, _ = objective_of(model, distillation=term)(spy, batch)
    (logits,), _ = logits_of(spy, model, batch, 1)
    dense = dense_teacher(batch, 4)
    kept = torch.full_like(dense, -torch.inf).scatter(-1, dense.topk(4).indices, dense.topk(4).values)
    p, log_q = (kept / 2.5).softmax(-1), (logits / 2.5).log_softmax(-1)
    expected = 2.5**2 * (torch.xlogy(p, p) - p * log_q).sum()
    assert_same(model, loss, expected)


@each_kind
def test_distillation_with_the_other_tokens_as_a_class(family, batching):
    model, batch = model_of(family), batch_of(batching, top_k=4)
    spy = Spy(model)
    loss, _ = objective_of(model, distillation={"from": "teacher", "alpha": 1.0, "tail": "class"})(spy, batch)
    (logits,), _ = logits_of(spy, model, batch, 1)
    dense, q = dense_teacher(batch, 4), logits.softmax(-1)
    top = dense.topk(4).indices
    p = torch.cat([dense.exp().gather(-1, top), 1 - dense.exp().gather(-1, top).sum(-1, keepdim=True)], -1)
    classes = torch.cat([q.gather(-1, top), 1 - q.gather(-1, top).sum(-1, keepdim=True)], -1)
    assert_same(model, loss, (p * (p / classes).log()).sum())


@each_kind
def test_distillation_without_targets_has_no_loss(family, batching):
    model, batch = model_of(family), batch_of(batching, top_k=4).without_targets()
    loss, counted = objective_of(model, distillation={"from": "teacher"})(model, batch)
    assert loss.item() == 0
    assert not counted.any()
    assert not any(gradient.any() for gradient in gradients(loss, model))
