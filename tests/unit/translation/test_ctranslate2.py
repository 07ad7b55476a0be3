"""CTranslate2 beside our own search, on small models with random weights."""

import itertools
import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nmt.config.model import TransformerConfig
from nmt.config.search import SearchConfig
from nmt.errors import DeviceError, ExportError, TrainingError
from nmt.models.build import build_model
from nmt.translation.ctranslate2 import ALPHA, CTranslate2Engine, import_ctranslate2, resolve_device
from nmt.translation.pytorch import TorchEngine

try:
    import_ctranslate2()
except ExportError as error:
    pytest.skip(str(error), allow_module_level=True)
import ctranslate2
from ctranslate2.specs.common_spec import LinearSpec

from nmt.translation.ctranslate2_cache import check_expressible
from nmt.translation.ctranslate2_model import largest_difference, log_probs, random_pairs, round_to_int8, write_model

POSITIONS = 64
SMALL = {"type": "transformer", "d_model": 16, "d_ff": 24, "num_heads": 2, "encoder_layers": 2, "decoder_layers": 1}


class Pieces:
    """A tokenizer with separate vocabularies, as far as an engine looks at one."""

    pad_id, unk_id, bos_id, eos_id = range(4)
    src_vocab_size, tgt_vocab_size = 23, 21

    def src_pieces(self, ids):
        return [["<pad>", "<unk>", "<s>", "</s>"][i] if i < 4 else f"s{i}" for i in ids]

    def tgt_pieces(self, ids):
        return [["<pad>", "<unk>", "<s>", "</s>"][i] if i < 4 else f"t{i}" for i in ids]


class JointPieces(Pieces):
    src_vocab_size = tgt_vocab_size = 21
    tgt_pieces = Pieces.src_pieces


def random_model(tokenizer, seed=0, scale=0.3, **options):
    torch.manual_seed(seed)
    config = TransformerConfig(**{**SMALL, "max_positions": POSITIONS, **options})
    model = build_model(config, tokenizer.src_vocab_size, tokenizer.tgt_vocab_size, tokenizer.pad_id).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # so that no bias is 0 and no norm is the identity
            parameter.add_(scale * torch.randn_like(parameter))
    return model


def prefer(model, logits):
    """Set a part of the logits of some ids: constants, through the first coordinate of the last hidden state."""
    with torch.no_grad():
        model.decoder_norm.weight[0], model.decoder_norm.bias[0] = 0.0, 1.0
        model.output.weight[:, 0] = 0.0
        for i, logit in logits.items():
            model.output.weight[i, 0] = logit


def ending_model(seed=0, special=-20.0):
    """A random model for which eos grows likelier with each position, and whose outputs so have many lengths."""
    model = random_model(Pieces(), seed, tie_embeddings="none", positions="learned")
    with torch.no_grad():
        model.tgt_positions.weight[:, 1] = torch.linspace(-8, 24, POSITIONS)
        model.decoder_norm.weight[1] = 1.0
        model.output.weight[:, 1] = 0.0
        model.output.weight[Pieces.eos_id, 1] = 2.0
    prefer(model, dict.fromkeys((0, 1, 2), special))
    return model


def random_sources(tokenizer, count=40, longest=12, seed=1):
    rng = np.random.default_rng(seed)
    return [rng.integers(4, tokenizer.src_vocab_size, rng.integers(1, longest + 1)).tolist() for _ in range(count)]


def engines(folder, model, tokenizer, threads=1, **search):
    settings = SearchConfig(**search)
    own = TorchEngine(model, tokenizer, settings, torch.device("cpu"))
    write_model(model, tokenizer, POSITIONS, folder, None)
    return own, CTranslate2Engine(folder, tokenizer, settings, "cpu", threads, lambda: own)


def assert_same(found, expected):
    """Equal tokens in equal order, probabilities but for rounding."""
    assert [[h.tokens for h in row] for row in found] == [[h.tokens for h in row] for row in expected]
    for a, b in zip(itertools.chain(*found), itertools.chain(*expected), strict=True):
        assert a.log_prob == pytest.approx(b.log_prob, rel=1e-4, abs=1e-4)
        assert a.score == pytest.approx(b.score, rel=1e-4, abs=1e-4)


# ------------------------------------------------------------------------------------------------------------ the model


@pytest.mark.slow
@pytest.mark.parametrize("positions", ["sinusoidal", "learned", "rotary"])
@pytest.mark.parametrize("activation", ["relu", "gelu", "swiglu"])
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_every_option_gives_the_same_probabilities(tmp_path, norm, activation, positions):
    for ties in ("all", "decoder", "none"):
        tokenizer = JointPieces() if ties == "all" else Pieces()
        model = random_model(tokenizer, norm=norm, activation=activation, positions=positions, tie_embeddings=ties)
        folder = tmp_path / ties
        folder.mkdir()
        write_model(model, tokenizer, POSITIONS, folder, None)
        assert largest_difference(model, tokenizer, folder) < 1e-4
    stored = {ties: (tmp_path / ties / "model.bin").stat().st_size for ties in ("all", "decoder", "none")}
    assert stored["none"] - stored["decoder"] > 0.9 * 4 * 16 * 21  # a matrix that is tied is stored once
    assert stored["decoder"] - stored["all"] > 0.9 * 4 * 16 * 21


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize(
    "options",
    [
        {"norm_type": "rms"},
        {"norm_type": "scale", "fix_norm": True},
        {"fix_norm": True, "tie_embeddings": "none", "output_bias": True},
        {"norm_type": "rms", "output_bias": True, "layer_drop": 0.5},
        {"preset": "marian"},
        {"positions": "sinusoidal_halves", "activation": "swish", "start": "zero", "tie_embeddings": "none"},
    ],
)
def test_norms_and_bias_give_the_same_probabilities(tmp_path, norm, options):
    model = random_model(JointPieces(), norm=norm, **options)
    write_model(model, JointPieces(), POSITIONS, tmp_path, None)
    assert largest_difference(model, JointPieces(), tmp_path) < 1e-4


@pytest.mark.parametrize(
    ("option", "named"),
    [({"qk_norm": "l2"}, "model.qk_norm: l2"), ({"attention_window": 9}, "model.attention_window: 9")],
)
def test_what_cannot_be_expressed_is_refused_by_its_key(option, named):
    run = SimpleNamespace(path="runs/one")
    config = SimpleNamespace(model=TransformerConfig(**SMALL), search=SearchConfig())
    check_expressible(run, config)
    config.model = TransformerConfig(**SMALL, **option)
    with pytest.raises(
        ExportError, match=f"runs/one: CTranslate2 cannot express {named}; use PyTorch: remove --engine"
    ):
        check_expressible(run, config)


def test_a_model_with_other_weights_is_told_from_this_one(tmp_path):
    model = random_model(Pieces(), tie_embeddings="none")
    write_model(model, Pieces(), POSITIONS, tmp_path, None)
    for parameter in (model.src_embedding.weight, model.encoder[1].feed_forward.outer.bias, model.output.weight):
        before = parameter.detach().clone()
        with torch.no_grad():
            parameter.add_(0.05 * torch.randn_like(parameter))
        assert largest_difference(model, Pieces(), tmp_path) > 1e-3
        with torch.no_grad():
            parameter.copy_(before)
    assert largest_difference(model, Pieces(), tmp_path) < 1e-4


@pytest.mark.parametrize(("quantize", "share"), [("int8", 0.5), ("float16", 0.6)])
def test_quantized_weights_take_less_room(tmp_path, quantize, share):
    model = random_model(Pieces(), d_model=64, d_ff=256, scale=0.0, tie_embeddings="none")
    sizes = []
    for number, kind in enumerate([None, quantize]):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_model(model, Pieces(), POSITIONS, folder, kind)
        sizes.append((folder / "model.bin").stat().st_size)
    assert sizes[1] < share * sizes[0]
    assert largest_difference(model, Pieces(), tmp_path / "1") < 0.1
    assert largest_difference(model, Pieces(), tmp_path / "0") < 1e-4  # the model itself is left as it was


def test_int8_weights_leave_room_for_the_sum_of_two_products():
    layer = LinearSpec()
    layer.weight = np.array([[1.0, -0.5, 0.01], [0.0, 0.0, 0.0], [-8.0, 4.0, 0.1], [1e-40, 0.0, 0.0]], dtype=np.float32)
    layer.bias = np.zeros(3, dtype=np.float32)
    layer.validate()
    round_to_int8(layer)
    assert layer.weight.numpy().tolist() == [
        [64, -32, 1],
        [0, 0, 0],
        [-64, 32, 1],
        [0, 0, 0],
    ]  # 0.64 and 0.8 round to 1
    assert layer.weight_scale.numpy().tolist() == [64, 64, 8, 64]
    assert layer.bias.dtype == "float32"
    assert 2 * 255 * 64 <= np.iinfo(np.int16).max < 2 * 255 * 65


def test_int8_products_do_not_overflow(tmp_path):
    """All weights of a matrix are ± its largest, the worst case of 16-bit sums; rounding alone would change nothing."""
    model = random_model(Pieces(), d_model=64, d_ff=256, num_heads=4, tie_embeddings="none")
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, torch.nn.Linear):
                layer.weight.copy_(
                    torch.where(torch.rand(layer.weight.shape[1]) < 0.9, 0.1, -0.1).expand_as(layer.weight)
                )
        for layer in (model.src_embedding, model.tgt_embedding, model.output):
            layer.weight.copy_(torch.randn_like(layer.weight))
    write_model(model, Pieces(), POSITIONS, tmp_path, "int8")
    pairs = random_pairs(model, Pieces())
    translator = ctranslate2.Translator(str(tmp_path), compute_type="int8", intra_threads=1)
    scored = translator.score_batch(
        [Pieces().src_pieces(s) for s, _ in pairs], [Pieces().tgt_pieces(t) for _, t in pairs]
    )
    apart = [
        (ours - torch.tensor(found.log_probs)).abs().max().item()
        for ours, found in zip(log_probs(model, Pieces(), pairs), scored, strict=True)
    ]
    assert max(apart) < 1, apart  # 2.1 where sums overflow


# ----------------------------------------------------------------------------------------------------------- the search


@pytest.mark.slow
@pytest.mark.parametrize("beam_size", [1, 2, 5])
@pytest.mark.parametrize(("kind", "alpha"), [("gnmt", 1.0), ("gnmt", 0.6), ("average", 1.0), ("none", 1.0)])
def test_hypotheses_are_those_of_our_own_search(tmp_path, beam_size, kind, alpha):
    search = {"beam_size": beam_size, "length_penalty": kind, "alpha": alpha}
    own, other = engines(tmp_path, ending_model(), Pieces(), **search)
    sources = random_sources(Pieces())
    limits = [50] * len(sources)
    expected = own.search(sources, limits, 1)
    assert_same(other.search(sources, limits, 1), expected)
    assert len({len(row[0].tokens) for row in expected}) >= 5  # of many lengths, or the penalty is not tested
    assert other.searched_again == 0
    for nbest in range(2, beam_size + 1):
        assert_same(other.search(sources, limits, nbest), own.search(sources, limits, nbest))


def test_an_empty_translation_is_possible(tmp_path):
    model = random_model(Pieces(), tie_embeddings="none")
    prefer(model, {0: -20, 1: -20, 2: -20, 3: 9.0})
    own, other = engines(tmp_path, model, Pieces(), beam_size=3)
    assert_same(other.search([[5, 6]], [20], 3), own.search([[5, 6]], [20], 3))
    assert other.search([[5, 6]], [20], 1)[0][0].tokens == []
    assert not other.searched_again


@pytest.mark.parametrize("likely", [0, 1, 2])
def test_pad_unk_and_bos_are_never_produced_and_keep_their_probability(tmp_path, likely):
    model = ending_model()
    prefer(model, {**dict.fromkeys((0, 1, 2), -20.0), likely: -1.0})
    own, other = engines(tmp_path, model, Pieces(), beam_size=3)
    sources = random_sources(Pieces())
    limits = [50] * len(sources)
    assert_same(other.search(sources, limits, 3), own.search(sources, limits, 3))
    assert 0 < other.searched_again < len(sources)


@pytest.mark.parametrize("forbidden", [[2], [0, 1, 2]])
@pytest.mark.parametrize("beam_size", [4, 6])
def test_forbidden_tokens_of_the_first_step_need_no_other_engine(tmp_path, beam_size, forbidden):
    model = ending_model()
    with torch.no_grad():  # of the first position alone: forbidden tokens are likely there, and eos is possible
        model.tgt_positions.weight[:, 2] = 0.0
        model.tgt_positions.weight[0, 2] = 4.0
        model.decoder_norm.weight[2] = 1.0
        model.output.weight[:, 2] = 0.0
        model.output.weight[forbidden, 2] = 9.0
        model.output.weight[Pieces.eos_id, 2] = -0.5
    own, other = engines(tmp_path, model, Pieces(), beam_size=beam_size, length_penalty="none")
    sources = random_sources(Pieces(), count=100)
    limits = [50] * len(sources)
    assert_same(other.search(sources, limits, 1), own.search(sources, limits, 1))
    everything = own.search(sources, limits, beam_size)
    assert_same(other.search(sources, limits, beam_size), everything)
    assert not other.searched_again
    assert 20 < sum(any(not h.tokens for h in row) for row in everything) < 80  # eos is one of the W best, and is not


def test_each_sentence_has_its_own_limit_of_length(tmp_path):
    own, other = engines(tmp_path, ending_model(), Pieces(), beam_size=3)
    sources = random_sources(Pieces())
    limits = [4 + number % 20 for number in range(len(sources))]
    expected = own.search(sources, limits, 1)
    assert_same(other.search(sources, limits, 1), expected)
    reached = sum(len(row[0].tokens) == limit for row, limit in zip(expected, limits, strict=True))
    assert 5 < reached < len(sources) - 5
    assert other.searched_again < 5
    for nbest in (2, 3):
        assert_same(other.search(sources, limits, nbest), own.search(sources, limits, nbest))


@pytest.mark.parametrize("batch_tokens", [1, 100, 8192])
def test_batches_of_several_threads_change_nothing(tmp_path, batch_tokens):
    own, other = engines(tmp_path, ending_model(), Pieces(), threads=3, beam_size=3, batch_tokens=batch_tokens)
    for count in (0, 1, 2, 40):
        sources = random_sources(Pieces(), count)
        limits = [4 + number % 20 for number in range(count)]
        assert_same(other.search(sources, limits, 1), own.search(sources, limits, 1))


def test_a_beam_wider_than_the_vocabulary(tmp_path):
    own, other = engines(tmp_path, ending_model(special=0.0), Pieces(), beam_size=30)
    sources = random_sources(Pieces(), count=4)
    assert_same(other.search(sources, [6] * 4, 30), own.search(sources, [6] * 4, 30))


def test_learned_positions_are_used_to_the_last(tmp_path):
    model = random_model(Pieces(), tie_embeddings="none", positions="learned", max_positions=16)
    prefer(model, {0: -20, 1: -20, 2: -20, 3: -20})
    own, other = engines(tmp_path, model, Pieces(), beam_size=2)
    sources = [[4 + i for i in range(15)], [7]]  # 15 and eos
    assert_same(other.search(sources, [15, 15], 2), own.search(sources, [15, 15], 2))


def test_output_that_is_no_number_past_the_limit_is_said_so(tmp_path):
    model = random_model(Pieces(), tie_embeddings="none", positions="learned")
    prefer(model, {0: -20, 1: -20, 2: -20, 3: -20})
    with torch.no_grad():
        model.tgt_positions.weight[3] = math.nan  # where eos closes what has come to the limit
    own, other = engines(tmp_path, model, Pieces(), beam_size=3)
    for engine in (own, other):
        with pytest.raises(TrainingError, match="not a number"):
            engine.search([[5, 6]], [3], 1)


def test_output_that_is_no_number_is_said_so(tmp_path):
    model = random_model(Pieces(), tie_embeddings="none")
    with torch.no_grad():
        model.decoder_norm.bias[0] = math.nan
    _, other = engines(tmp_path, model, Pieces(), beam_size=2)
    with pytest.raises(TrainingError, match="not a number"):
        other.search([[5]], [10], 1)


# ------------------------------------------------------------------------------------------------------------- refusals


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(
        ExportError, match=r"CTranslate2 cannot be imported .*; install it: .* -m pip install ctranslate2"
    ):
        import_ctranslate2()


def test_devices():
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") in ("cpu", "cuda")
    with pytest.raises(DeviceError, match="CTranslate2 cannot run on mps here; use --device auto or "):
        resolve_device("mps")


def test_a_damaged_model_is_named(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"no model")
    with pytest.raises(ExportError, match=r"cannot be loaded .*; delete it, and it will be made again"):
        CTranslate2Engine(tmp_path, Pieces(), SearchConfig(), "cpu", 1, pytest.fail)


def test_prefixes_give_the_hypotheses_of_our_own_search(tmp_path):
    own, other = engines(tmp_path, ending_model(3), Pieces(), beam_size=3, length_penalty="gnmt", alpha=0.8)
    sources = random_sources(Pieces(), count=30)
    prefixes = [[min(i, 20) for i in row[: n % 4]] for n, row in enumerate(random_sources(Pieces(), 30, seed=2))]
    limits = [40 if n % 5 else max(1, len(prefix)) for n, prefix in enumerate(prefixes)]
    for nbest in (1, 3):
        found = other.search(sources, limits, nbest, prefixes)
        assert_same(found, own.search(sources, limits, nbest, prefixes))
        assert all(h.tokens[: len(p)] == p for row, p in zip(found, prefixes, strict=True) for h in row)
    assert 0 < other.searched_again < 20


def test_a_repeated_search_that_ends_within_the_limit(tmp_path):
    """Int8 products depend on the batch, so what CTranslate2 broke off before may end when it is searched again."""
    _, engine = engines(tmp_path, random_model(JointPieces()), JointPieces(), beam_size=2, length_penalty="none")

    def told(*hypotheses):
        pieces = [pieces for pieces, _ in hypotheses]
        scores = [log_prob / len(pieces) ** ALPHA for pieces, log_prob in hypotheses]
        return SimpleNamespace(result=lambda: SimpleNamespace(hypotheses=pieces, scores=scores))

    first = told((["s4", "s5", "s6", "s7"], -2.0), (["s4", "</s>"], -1.0))
    second = told((["s4", "</s>"], -1.0), (["</s>"], -1.5), (["s7", "</s>"], -3.0))
    answers, limits = [[first], [second]], []

    class Translator:
        def translate_batch(self, *_, max_decoding_length, **options):
            limits.append(max_decoding_length)
            return answers[len(limits) - 1]

    engine.translator = Translator()
    [[best]] = engine.search([[5, 6]], [3], 1)
    assert limits == [4, 3]
    assert best.tokens == [4]
    assert best.log_prob == pytest.approx(-1.0)
