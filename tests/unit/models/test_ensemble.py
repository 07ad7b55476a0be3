"""An ensemble against its members: averages by hand, and a search over all that it averages."""

import itertools
from types import SimpleNamespace

import pytest
import torch

from nmt.config.search import SearchConfig
from nmt.errors import ConfigError
from nmt.models.build import build_model
from nmt.models.ensemble import Ensemble
from nmt.search.beam import beam_search
from nmt.search.scoring import LengthPenalty
from nmt.translation.pytorch import TorchEngine
from tests.unit.models import test_seq2seq as laws
from tests.unit.models.test_seq2seq import BOS, CONFIGS, EOS, PAD, VOCAB, batch

TOKENIZER = SimpleNamespace(pad_id=PAD, bos_id=BOS, eos_id=EOS, unk_id=1)
NAMES = ("rnn-additive", "transformer", "convolutional-to-rnn")


def members(*names):
    found = []
    for seed, name in enumerate(names):
        torch.manual_seed(seed)
        found.append(build_model(CONFIGS[name], VOCAB, VOCAB, PAD).eval())
        for parameter in found[-1].parameters():
            parameter.data.mul_(2.0)  # probabilities that differ more
    return found


def by_hand(models, average, src, mask, tgt_in):
    """log p [B, T, V], from the members' softmax in double precision."""
    each = torch.stack([model.project(model(src, mask, tgt_in)).double().softmax(-1) for model in models])
    if average == "probability":
        return each.mean(0).log()
    product = each.prod(0) ** (1 / len(models))
    return (product / product.sum(-1, keepdim=True)).log()


@pytest.mark.parametrize("average", ["probability", "log_probability"])
@torch.no_grad()
def test_logits_are_the_average_of_the_members(average):
    models, (src, mask, tgt_in) = members(*NAMES), batch()
    expected = by_hand(models, average, src, mask, tgt_in)
    ensemble = Ensemble(models, average)
    forced = ensemble.project(ensemble(src, mask, tgt_in))
    assert torch.allclose(forced.double(), expected, atol=1e-5)
    state = ensemble.init_state(ensemble.encode(src, mask))
    for t in range(tgt_in.size(1)):
        logits, state = ensemble.step(tgt_in[:, t], state)
        assert torch.allclose(logits.double(), expected[:, t], atol=1e-5)


@pytest.mark.parametrize("average", ["probability", "log_probability"])
@torch.no_grad()
def test_a_wide_beam_over_an_ensemble_equals_brute_force(average):
    words, longest = (4, 5), 3
    models, (src, mask, _) = members(*NAMES[:2]), batch()
    sequences = [list(tokens) for n in range(longest + 1) for tokens in itertools.product(words, repeat=n)]
    ensemble = Ensemble(models, average)
    found = beam_search(
        ensemble.step, ensemble.init_state(ensemble.encode(src, mask), len(sequences)),
        torch.full((len(src),), longest), beam_size=len(sequences), bos_id=BOS, eos_id=EOS,
        penalty=LengthPenalty("none"), nbest=5, forbidden=sorted({*range(VOCAB)} - {*words, EOS}),
    )  # fmt: skip
    for sentence, hypotheses in enumerate(found):
        rows = slice(sentence, sentence + 1)
        scores = []
        for tokens in sequences:
            log_probs = by_hand(models, average, src[rows], mask[rows], torch.tensor([[BOS, *tokens]]))[0]
            scores.append((sum(float(log_probs[i, t]) for i, t in enumerate([*tokens, EOS])), tokens))
        expected = sorted(scores, key=lambda pair: -pair[0])[:5]
        assert [h.tokens for h in hypotheses] == [tokens for _, tokens in expected]
        assert [h.log_prob for h in hypotheses] == pytest.approx([score for score, _ in expected], abs=1e-4)


def found_by(model, **search):
    engine = TorchEngine(model, TOKENIZER, SearchConfig(**search), torch.device("cpu"))
    return engine.search([[5, 6, 7, 8], [9, 4], [4]], [8, 6, 5], 2)


@pytest.mark.parametrize("search", [{}, {"coverage_penalty": 0.3}, {"method": "sample", "temperature": 2.0}])
@pytest.mark.parametrize("average", ["probability", "log_probability"])
def test_a_model_with_itself_is_the_model(average, search):
    for model in members("rnn-lstm-deep-input-feeding", "transformer"):
        alone, twice = found_by(model, **search), found_by(Ensemble([model, model], average), **search)
        assert [[h.tokens for h in row] for row in twice] == [[h.tokens for h in row] for row in alone]
        for row, other in zip(twice, alone, strict=True):
            assert [h.score for h in row] == pytest.approx([h.score for h in other], abs=1e-4)


@torch.no_grad()
def test_attention_is_the_mean_of_the_members_last_layers():
    models, (src, mask, tgt_in) = members("rnn-additive", "transformer"), batch()
    maps = [model.attention_maps(src, mask, tgt_in)[-1].mean(1) for model in models]
    ensemble = Ensemble(models)
    found = ensemble.attention_maps(src, mask, tgt_in)
    assert torch.allclose(found[0, :, 0], (maps[0] + maps[1]) / 2, atol=1e-6)
    state = ensemble.init_state(ensemble.encode(src, mask))
    _, _, weights = ensemble.attending_step(tgt_in[:, 0], state)
    assert torch.allclose(weights, found[0, :, 0, 0], atol=1e-6)


def test_there_is_no_attention_where_a_member_has_none():
    src, mask, tgt_in = batch()
    ensemble = Ensemble(members("rnn-additive", "rnn-none"))
    assert ensemble.attention_maps(src, mask, tgt_in) is None
    with pytest.raises(ConfigError, match="needs a model with attention"):
        found_by(ensemble, coverage_penalty=0.2)


@pytest.mark.parametrize(
    "law",
    [
        laws.test_stepwise_logits_equal_teacher_forced_logits,
        laws.test_padding_changes_nothing,
        laws.test_every_row_of_a_beam_continues_its_own_history,
        laws.test_the_attention_of_steps_is_that_of_the_maps,
    ],
    ids=lambda law: law.__name__,
)
def test_what_holds_for_every_model_holds_for_an_ensemble(law):
    law(Ensemble(members("rnn-lstm-deep-input-feeding", "transformer", "convolutional-to-rnn")))
