"""What holds for every model behind the interface."""

import itertools

import pytest
import torch

from nmt.config.model import RNNConfig, TransformerConfig
from nmt.models.build import build_model, count_parameters
from nmt.models.seq2seq import Memory
from nmt.search.beam import beam_search
from nmt.search.scoring import LengthPenalty

PAD, BOS, EOS, VOCAB = 0, 2, 3, 13
RNN = {"type": "rnn", "d_model": 8, "d_hidden": 6, "d_attention": 5, "dropout": 0.0}
TRANSFORMER = {
    "type": "transformer", "d_model": 8, "d_ff": 12, "num_heads": 2, "encoder_layers": 2, "decoder_layers": 2,
    "dropout": 0.0,
}  # fmt: skip

# Encoders of other widths than the decoders; with ``attention: none`` the decoder reads their summary alone.
ENCODERS = {
    "recurrent": {"type": "recurrent", "d_model": 5, "d_hidden": 7, "dropout": 0.0},
    "recurrent-lstm-deep": {
        "type": "recurrent", "cell": "lstm", "d_model": 5, "d_hidden": 7, "num_layers": 3, "residual": True,
        "dropout": 0.0},
    "recurrent-one-bidirectional": {
        "type": "recurrent", "cell": "lstm", "d_model": 5, "d_hidden": 7, "num_layers": 3, "residual": True,
        "bidirectional": "first", "dropout": 0.0},
    "transformer": {
        "type": "transformer", "d_model": 6, "d_ff": 10, "num_heads": 3, "num_layers": 2, "dropout": 0.0},
    "transformer-post-learned": {
        "type": "transformer", "d_model": 6, "d_ff": 10, "num_heads": 3, "num_layers": 1, "norm": "post",
        "positions": "learned", "max_positions": 32, "dropout": 0.0},
    "transformer-options": {
        "type": "transformer", "d_model": 6, "d_ff": 10, "num_heads": 3, "num_layers": 2, "norm_type": "scale",
        "qk_norm": "l2", "attention_window": 2, "layer_drop": 0.5, "dropout": 0.0},
    "transformer-rotary": {
        "type": "transformer", "d_model": 12, "d_ff": 10, "num_heads": 3, "num_layers": 1, "positions": "rotary",
        "dropout": 0.0},
    "convolutional": {
        "type": "convolutional", "d_model": 5, "d_hidden": 7, "num_layers": 2, "dropout": 0.0},
    "convolutional-sinusoidal": {
        "type": "convolutional", "d_model": 6, "num_layers": 1, "kernel": 5, "positions": "sinusoidal",
        "dropout": 0.0},
}  # fmt: skip
DECODERS = {
    "rnn": {**RNN, "decoder_layers": 2},
    "rnn-none": {**RNN, "attention": "none"},
    "transformer": {**TRANSFORMER, "tie_embeddings": "decoder"},
}


def config_of(raw: dict, **changes):
    return (RNNConfig if raw["type"] == "rnn" else TransformerConfig).model_validate({**raw, **changes})


CONFIGS = {
    **{f"rnn-{a}": RNNConfig(**RNN, attention=a)
       for a in ("additive", "general", "dot", "scaled_dot", "euclidean", "none")},
    "rnn-gnmt": RNNConfig(**RNN, preset="gnmt", encoder_layers=3, decoder_layers=3),
    "rnn-lstm-deep": RNNConfig(**RNN, cell="lstm", encoder_layers=3, decoder_layers=3, residual=True),
    "rnn-gru-deep": RNNConfig(**RNN, encoder_layers=2, decoder_layers=2),
    **{f"rnn-{a.replace('_', '-')}": RNNConfig(**RNN, alignment=a, window=1)
       for a in ("local_monotonic", "local_predictive")},
    **{f"rnn-hard-{e}": RNNConfig(**RNN, alignment="hard", hard={"estimator": e}) for e in ("reinforce", "gumbel")},
    "rnn-input-feeding": RNNConfig(**RNN, input_feeding=True),
    "rnn-lstm-deep-input-feeding": RNNConfig(**RNN, cell="lstm", decoder_layers=3, residual=True, input_feeding=True),
    "rnn-hops": RNNConfig(**RNN, hops=3),
    "rnn-local-hops-input-feeding": RNNConfig(
        **RNN, alignment="local_monotonic", window=2, hops=2, input_feeding=True),
    "transformer": TransformerConfig(**TRANSFORMER),
    "transformer-post-gelu-learned": TransformerConfig(
        **TRANSFORMER, norm="post", activation="gelu", positions="learned", max_positions=32),
    "transformer-swiglu-rotary": TransformerConfig(**TRANSFORMER, activation="swiglu", positions="rotary"),
    "transformer-marian": TransformerConfig(**TRANSFORMER, preset="marian"),
    "rnn-output-bias": RNNConfig(**RNN, output_bias=True),
    "transformer-rms-l2": TransformerConfig(**TRANSFORMER, norm_type="rms", qk_norm="l2", positions="rotary"),
    "transformer-post-scale": TransformerConfig(**TRANSFORMER, norm="post", norm_type="scale", qk_norm="layer"),
    "transformer-scale-fixed": TransformerConfig(**TRANSFORMER, norm_type="scale", fix_norm=True, output_bias=True),
    "transformer-window-1": TransformerConfig(**TRANSFORMER, attention_window=1, layer_drop=0.5),
    "transformer-window-3": TransformerConfig(**TRANSFORMER, attention_window=3, positions="rotary"),
    **{f"{encoder}-to-{decoder}": config_of(DECODERS[decoder], encoder=ENCODERS[encoder])
       for decoder in DECODERS for encoder in ENCODERS},
}  # fmt: skip


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS.keys())
def model(request):
    torch.manual_seed(0)
    model = build_model(request.param, VOCAB, VOCAB, PAD).eval()
    if getattr(request.param, "output_bias", False):  # 0 at first
        torch.nn.init.normal_(model.output.bias)
    return model


def batch():
    src = torch.tensor([[5, 6, 7, 8, 3], [9, 4, 3, PAD, PAD], [4, 3, PAD, PAD, PAD]])
    tgt_in = torch.tensor([[BOS, 4, 5, 6], [BOS, 7, PAD, PAD], [BOS, 8, 9, PAD]])
    return src, src != PAD, tgt_in


@torch.no_grad()
def test_stepwise_logits_equal_teacher_forced_logits(model):
    src, src_mask, tgt_in = batch()
    memory = model.encode(src, src_mask)
    forced = model.project(model.decode(memory, tgt_in))  # [B, T, V]
    state = model.init_state(memory)
    for t in range(tgt_in.size(1)):
        logits, state = model.step(tgt_in[:, t], state)
        assert torch.allclose(logits, forced[:, t], atol=1e-5)


@torch.no_grad()
def test_padding_changes_nothing(model):
    src, src_mask, tgt_in = batch()
    together = model(src, src_mask, tgt_in)
    for row, (s, t) in enumerate([(5, 4), (3, 2), (2, 3)]):
        alone = model(src[row : row + 1, :s], src_mask[row : row + 1, :s], tgt_in[row : row + 1, :t])
        assert torch.allclose(alone[0], together[row, :t], atol=1e-5)


@torch.no_grad()
def test_later_target_tokens_do_not_reach_earlier_positions(model):
    src, src_mask, tgt_in = batch()
    changed = tgt_in.clone()
    changed[:, 2:] = 11
    assert torch.equal(model(src, src_mask, tgt_in)[:, :2], model(src, src_mask, changed)[:, :2])


@torch.no_grad()
def test_every_row_of_a_beam_continues_its_own_history(model):
    """Steps with W rows a sentence, reordered and with a sentence gone, equal fresh single runs of each history."""
    src, src_mask, _ = batch()
    state = model.init_state(model.encode(src, src_mask), beam_size=2)  # rows: a0 a1 b0 b1 c0 c1
    histories = [[BOS] for _ in range(6)]

    def feed(tokens):
        nonlocal state
        for history, token in zip(histories, tokens, strict=True):
            history.append(token)
        logits, state = model.step(torch.tensor([h[-1] for h in histories]), state)
        return logits

    model_step = model.step(torch.full((6,), BOS), state)
    state = model_step[1]
    feed([4, 5, 6, 7, 8, 9])
    rows = [1, 1, 4, 5]  # sentence a continues its second row twice, sentence b is finished
    state = state.select(torch.tensor(rows))
    histories = [list(histories[r]) for r in rows]
    sentences = [0, 0, 2, 2]
    logits = feed([10, 11, 12, 4])
    for row, (sentence, history) in enumerate(zip(sentences, histories, strict=True)):
        forced = model(src[sentence : sentence + 1], src_mask[sentence : sentence + 1], torch.tensor([history]))
        assert torch.allclose(model.project(forced[0, -1]), logits[row], atol=1e-5)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("width", [1, 3])
def test_a_long_search_with_random_parents(model, width):
    """Thirty steps, more than a cache takes room for at once; two of three sentences leave on the way."""
    src, src_mask, _ = batch()
    state = model.init_state(model.encode(src, src_mask), beam_size=width)
    sentences, histories = [0, 1, 2], [[] for _ in range(3 * width)]
    generator = torch.Generator().manual_seed(1)
    for length in range(30):
        tokens = torch.randint(4, 13, (len(histories),), generator=generator) if length else torch.tensor([BOS])
        tokens = tokens.expand(len(histories))
        histories = [[*history, int(token)] for history, token in zip(histories, tokens, strict=True)]
        logits, state = model.step(tokens, state)
        if length == 29:
            break
        staying = [i for i in range(len(sentences)) if (length, i) not in [(9, 1), (25, 0)]]
        rows = [i * width + int(torch.randint(width, (), generator=generator)) for i in staying for _ in range(width)]
        state, sentences = state.select(torch.tensor(rows)), [sentences[i] for i in staying]
        histories = [histories[row] for row in rows]
    assert sentences == [2]
    for row, history in enumerate(histories):
        forced = model(src[2:3], src_mask[2:3], torch.tensor([history]))
        assert torch.allclose(model.project(forced[0, -1]), logits[row], atol=1e-5)


@torch.no_grad()
def test_a_wide_beam_equals_brute_force(model):
    """All hypotheses of up to 3 of 2 words, scored by teacher forcing."""
    words, longest = (4, 5), 3
    src, src_mask, _ = batch()
    sequences = [list(tokens) for n in range(longest + 1) for tokens in itertools.product(words, repeat=n)]
    found = beam_search(
        model.step,
        model.init_state(model.encode(src, src_mask), beam_size=len(sequences)),
        torch.full((len(src),), longest),
        beam_size=len(sequences),
        bos_id=BOS,
        eos_id=EOS,
        penalty=LengthPenalty("none"),
        nbest=len(sequences),
        forbidden=sorted({*range(VOCAB)} - {*words, EOS}),
    )
    for sentence, hypotheses in enumerate(found):
        expected = {}
        for tokens in sequences:
            one = slice(sentence, sentence + 1)
            hidden = model(src[one], src_mask[one], torch.tensor([[BOS, *tokens]]))
            log_probs = model.project(hidden)[0].log_softmax(-1)
            expected[tuple(tokens)] = sum(float(p[w]) for p, w in zip(log_probs, [*tokens, EOS], strict=True))
        best = sorted(expected, key=expected.__getitem__, reverse=True)
        assert [tuple(one.tokens) for one in hypotheses] == best
        assert [one.log_prob for one in hypotheses] == pytest.approx([expected[tokens] for tokens in best], abs=1e-4)


@torch.no_grad()
def test_attention_maps_are_distributions_over_the_real_source(model):
    src, src_mask, tgt_in = batch()
    maps = model.attention_maps(src, src_mask, tgt_in)
    if getattr(model.config, "attention", "") == "none":
        assert maps is None
        return
    layers, heads = (2, 2) if model.config.type == "transformer" else (getattr(model.config, "hops", 1), 1)
    assert maps.shape == (layers, 3, heads, 4, 5)
    assert maps.min() >= 0
    assert maps[:, 1, :, :, 3:].abs().max() == 0
    alignment = getattr(model.config, "alignment", "soft")
    if alignment == "local_predictive":  # a Gaussian of at most 1 multiplies the distribution
        assert ((maps.sum(-1) > 0) & (maps.sum(-1) < 1)).all()
    else:
        assert torch.allclose(maps.sum(-1), torch.ones(layers, 3, heads, 4), atol=1e-5)
    if alignment == "hard":
        assert maps.unique().tolist() == [0, 1]


@torch.no_grad()
def test_the_attention_of_steps_is_that_of_the_maps(model):
    """Of the last layer or hop, averaged over the heads."""
    src, src_mask, tgt_in = batch()
    maps = model.attention_maps(src, src_mask, tgt_in)
    if maps is None:
        return
    state = model.init_state(model.encode(src, src_mask))
    for t in range(tgt_in.size(1)):
        _, state, weights = model.attending_step(tgt_in[:, t], state)
        assert torch.allclose(weights, maps[-1].mean(1)[:, t], atol=1e-5)


def test_every_parameter_gets_a_gradient(model):
    src, src_mask, tgt_in = batch()
    model.train(getattr(model.config, "alignment", "soft") == "hard")  # its maximum, in evaluation, has no gradient
    result = model(src, src_mask, tgt_in)
    hidden, extras = (result, {}) if isinstance(result, torch.Tensor) else result
    (model.project(hidden).logsumexp(-1).sum() + sum(x.sum() for x in extras.values())).backward()
    idle = [name for name, p in model.named_parameters() if p.grad is None and p.requires_grad]
    # Without attention the memory's states are not read, only their summary; everything else always is.
    assert not idle


def logits_and_gradients(model):
    src, src_mask, tgt_in = batch()
    logits = model.project(model(src, src_mask, tgt_in))
    logits.log_softmax(-1)[..., 4].sum().backward()
    return logits, {name: p.grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("options", [{}, {"norm": "post"}, {"positions": "learned", "max_positions": 32}])
def test_a_transformer_encoder_of_its_own_section_computes_the_same(options):
    """With the weights of a plain Transformer, whose names differ."""
    sizes = {key: TRANSFORMER[key] for key in ("d_model", "d_ff", "num_heads", "dropout")}
    encoder = {"type": "transformer", "num_layers": 2, **sizes, **options}
    plain, other = (
        build_model(config_of(TRANSFORMER, encoder=section, **options), VOCAB, VOCAB, PAD).eval()
        for section in (None, encoder)
    )

    def renamed(name):
        if name.startswith("encoder.") and not name.startswith("encoder_norm"):
            return name.replace("encoder.", "encoder.layers.", 1)
        return name.replace("encoder_norm", "encoder.norm").replace("src_positions", "encoder.positions")

    other.load_state_dict({renamed(name): tensor for name, tensor in plain.state_dict().items()})
    (expected, gradients), (found, same) = logits_and_gradients(plain), logits_and_gradients(other)
    assert torch.equal(expected, found)
    assert {renamed(name) for name in gradients} == same.keys()
    assert all(torch.equal(gradient, same[renamed(name)]) for name, gradient in gradients.items())


@pytest.mark.parametrize("attention", ["additive", "none"])
def test_a_recurrent_encoder_of_its_own_section_is_the_usual_one(attention):
    encoder = {"type": "recurrent", "d_model": 8, "d_hidden": 6, "dropout": 0.0}
    models = []
    for section in (None, encoder):
        torch.manual_seed(0)
        models.append(build_model(config_of(RNN, attention=attention, encoder=section), VOCAB, VOCAB, PAD))
    plain, other = (logits_and_gradients(model) for model in models)
    assert torch.equal(plain[0], other[0])
    assert list(plain[1]) == list(other[1])
    assert all(torch.equal(plain[1][name], other[1][name]) for name in plain[1])


def test_the_vector_of_a_source_is_its_summary_or_the_mean_of_its_tokens():
    states = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [50.0, 50.0]], [[4.0, 5.0], [0.0, 0.0], [-7.0, 9.0]]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert Memory(states, mask).vector().tolist() == [[2.0, 4.0], [4.0, 5.0]]
    assert Memory(states, mask).filled_up(8).vector().tolist() == [[2.0, 4.0], [4.0, 5.0]]
    summary = torch.tensor([[7.0], [8.0]])
    assert Memory(states, mask, summary).vector() is summary


@pytest.mark.parametrize("ties", ["all", "decoder", "none"])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_embeddings_are_tied_beside_an_encoder_of_its_own_section(encoder, ties):
    section = {**ENCODERS[encoder], "d_model": 12}
    for decoder in DECODERS.values():
        model = build_model(config_of(decoder, d_model=12, tie_embeddings=ties, encoder=section), VOCAB, VOCAB, PAD)
        assert (model.src_embedding.weight is model.tgt_embedding.weight) == (ties == "all")
        assert (model.output.weight is model.tgt_embedding.weight) == (ties != "none")
        assert model.src_embedding.weight.shape == (VOCAB, 12)


@pytest.mark.parametrize("ties", ["all", "decoder", "none"])
@pytest.mark.parametrize("base", [RNN, TRANSFORMER], ids=["rnn", "transformer"])
def test_tied_embeddings_share_one_matrix_and_count_once(base, ties):
    model = build_model(config_of(base, tie_embeddings=ties), VOCAB, VOCAB, PAD)
    assert (model.src_embedding.weight is model.tgt_embedding.weight) == (ties == "all")
    assert (model.output.weight is model.tgt_embedding.weight) == (ties != "none")
    matrices = {"all": 1, "decoder": 2, "none": 3}[ties]
    named = dict(model.named_parameters())
    tables = [n for n, p in named.items() if p.shape == (VOCAB, 8)]
    assert len(tables) == matrices
    assert count_parameters(model)[1] == VOCAB * 8 * min(matrices, 2)
