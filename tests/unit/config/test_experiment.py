"""The whole configuration: versions of its defaults, keys without effect, and what it is written as."""

import json
import re
import subprocess
import sys

import pytest

from nmt.config.compare import config_diff, fixed_settings
from nmt.config.experiment import FORMER_DEFAULTS, json_schema
from nmt.errors import ConfigError
from tests.unit.config.configurations import BASE, load, message


def test_resolved_yaml_loads_to_the_same_configuration(tmp_path):
    config = load(tmp_path)
    assert load(tmp_path, config.to_yaml()) == config


def test_schema_has_every_key_and_lets_out_the_name_and_what_init_brings():
    schema = json_schema()
    json.dumps(schema)
    assert not {"name", "model"} & {*schema["required"]}
    assert schema["anyOf"] == [{"required": ["model"]}, {"required": ["init"]}]
    assert "train" in schema["properties"]


def test_the_configuration_does_not_import_torch():
    code = "import nmt.cli, nmt.config.load, nmt.config.compare, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_version_of_the_defaults_chooses_what_omitted_keys_mean(tmp_path, monkeypatch):
    former = {"search.alpha": 0.25, "tokenizer.sampling.alpha": 0.7, "data.cleaning.max_chars": 77}
    monkeypatch.setitem(FORMER_DEFAULTS, 1, former)
    now, before = load(tmp_path), load(tmp_path, BASE, "defaults=1")
    assert (now.defaults, now.search.alpha, now.data.cleaning.max_chars) == (2, None, 1000)
    assert (before.defaults, before.search.alpha, before.data.cleaning.max_chars) == (1, 0.25, 77)
    assert before.tokenizer.sampling is None  # a section that is off stays off
    assert load(tmp_path, BASE, "defaults=1", "search.alpha=0.5").search.alpha == 0.5
    sampled = load(tmp_path, BASE, "defaults=1", "tokenizer.sampling={nbest: 4}").tokenizer.sampling
    assert (sampled.alpha, sampled.nbest) == (0.7, 4)


def test_a_run_of_the_first_version_reads_its_corpus_as_that_did(tmp_path):
    assert load(tmp_path, BASE, "defaults=1").data.reading == "lenient"
    assert load(tmp_path).data.reading == "strict"


def test_a_former_default_reaches_the_variant_of_a_section_that_has_its_key(tmp_path):
    """LSTMs had no forget bias; a Transformer has none."""
    lstm = "model={type: rnn, cell: lstm}"
    assert load(tmp_path, BASE, lstm).model.forget_bias == 1.0
    before = load(tmp_path, BASE, lstm, "defaults=1")
    assert (before.model.forget_bias, before.model.source_encoder.forget_bias) == (0.0, 0.0)
    assert load(tmp_path, BASE, lstm, "model.forget_bias=2", "defaults=1").model.forget_bias == 2.0
    assert load(tmp_path, BASE, "defaults=1").model == load(tmp_path).model
    load(tmp_path, BASE, "model={type: rnn}", "defaults=1")  # a GRU has none either, and needs no line for it
    assert message(tmp_path, BASE, "model={}", "defaults=1") == "--set: model.type: missing; one of: rnn, transformer"
    stored = fixed_settings(before)
    del stored["model.forget_bias"]  # as the first version wrote it
    assert config_diff(stored, before) == ""
    assert "model.forget_bias" in config_diff(stored, load(tmp_path, BASE, lstm, "model.forget_bias=2", "defaults=1"))


def test_an_update_of_varying_layers_is_not_compiled(tmp_path):
    options = ["model={type: transformer, layer_drop: 0.1}", "train.compile=true"]
    load(tmp_path, BASE, options[0])
    load(tmp_path, BASE, options[1])
    with pytest.raises(ConfigError, match=r"true compiles one sequence of layers, but model\.layer_drop"):
        load(tmp_path, BASE, *options)
    encoder = "model={type: rnn, encoder: {type: transformer, layer_drop: 0.1}}"
    with pytest.raises(ConfigError, match=r"true compiles one sequence of layers, but model\.encoder\.layer_drop"):
        load(tmp_path, BASE, encoder, options[1])


def test_the_tokenizer_of_the_first_defaults(tmp_path):
    former = load(tmp_path, BASE, "defaults=1", "tokenizer.sampling={}").tokenizer
    assert former.rules == ("nmt_nfkc", "nmt_nfkc")
    assert (former.sampling.alpha, former.sampling.method) == (0.1, "line")
    now = load(tmp_path, BASE, "tokenizer.sampling={}").tokenizer
    assert now.rules == ("nmt_nfkc", "whitespace")
    assert (now.sampling.strength("unigram"), now.sampling.strength("bpe"), now.sampling.method) == (0.3, 0.1, "batch")


def test_one_value_for_both_languages_or_one_each(tmp_path):
    both = load(tmp_path, BASE, "tokenizer.normalization=nfkc_cf", "tokenizer.vocab_size=90").tokenizer
    assert (both.rules, both.sizes) == (("nfkc_cf", "nfkc_cf"), (90, 90))
    source = load(tmp_path, BASE, "tokenizer.normalization={src: nfkc_cf}").tokenizer
    assert source.rules == ("nfkc_cf", "whitespace")
    sizes = "tokenizer={joint: false, vocab_size: {src: 90, tgt: 30}}"
    assert load(tmp_path, BASE, sizes, "model={type: rnn}").tokenizer.sizes == (90, 30)


def test_a_stored_configuration_reads_back_equal_whatever_the_defaults_become(tmp_path, monkeypatch):
    before = load(tmp_path)
    monkeypatch.setitem(FORMER_DEFAULTS, 1, {"search.alpha": 0.25})
    assert load(tmp_path, before.to_yaml()) == before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["tokenizer.normalization={src: nmt_nfkc_cf}"], "normalization nmt_nfkc_cf leaves no case to mark; remove it"),
        (["tokenizer.sampling={method: line}"], "sampling.method: line would divide the symbols of case: inline"),
    ],
)
def test_case_that_cannot_be_marked_is_refused(tmp_path, overrides, message):
    with pytest.raises(ConfigError, match=re.escape(f"tokenizer: {message}")):
        load(tmp_path, BASE, "tokenizer.case=inline", *overrides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["train.terms={r_drop: {}, simcut: {}}"],
            "train.terms: r_drop and simcut each train two passes to predict alike; keep one of them",
        ),
        (
            ["train.terms={word_dropout: {tgt: 0.0}}"],
            "train.terms.word_dropout: src and tgt are both 0: no word is dropped; raise one, or write null",
        ),
        (
            ["train.terms={r_drop: {}}", "model.dropout=0"],
            "train.terms.r_drop: without dropout both passes are the same; raise model.dropout, or write null",
        ),
        (
            ["train.terms={r_drop: {}}", "model.dropout=0", "model.layer_drop=0.5"],  # drawn once for both passes
            "train.terms.r_drop: without dropout both passes are the same; raise model.dropout, or write null",
        ),
        (
            ["train.bidirectional_epochs=2", "tokenizer.joint=false", "model.tie_embeddings=none"],
            "train.bidirectional_epochs: both directions need one vocabulary; set tokenizer.joint: true",
        ),
        (
            ["train.bidirectional_epochs=2", "train.max_epochs=2"],
            "train: bidirectional_epochs (2) leaves no epoch of max_epochs (2) to source to target alone; lower it, or",
        ),
        (["train.terms={cutoff: {rate: 1.0}}"], "train.terms.cutoff.rate: 1.0 (number) should be less than 1"),
        (["train.terms={z_loss: 0}"], "train.terms.z_loss: 0 (integer) should be greater than 0"),
        (["train.terms={cutoff: {kind: word}}"], "train.terms.cutoff.kind: \"word\" is not one of 'token', 'span'"),
    ],
)
def test_regularisers_that_cannot_be_are_refused(tmp_path, overrides, message):
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        load(tmp_path, BASE, *overrides)
    assert "\n" not in str(error.value)


def test_r_drop_takes_any_noise(tmp_path):
    load(tmp_path, BASE, "train.terms={r_drop: {}}")
    load(tmp_path, BASE, "train.terms={r_drop: {}, word_dropout: {}}", "model.dropout=0")
    load(tmp_path, BASE, "train.terms={r_drop: {}}", "model.dropout=0", "model.attention_dropout=0.1")
    encoder = "model.encoder={type: transformer, dropout: 0.1}"
    load(tmp_path, BASE, "train.terms={r_drop: {}}", "model={type: rnn, dropout: 0}", encoder)
    load(tmp_path, BASE, "train.terms={r_drop: {}}", "model={type: rnn, dropout: 0, alignment: hard}")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.schedule.factor=0.1", "train.schedule.factor: 0.1 has no effect: the cosine schedule does not use it"),
        (
            "train.schedule={name: inverse_sqrt, total_steps: 9}",
            "train.schedule.total_steps: 9 has no effect: the inverse_sqrt schedule",
        ),
        (
            "train.schedule={name: constant, min_lr: 0.1}",
            "train.schedule.min_lr: 0.1 has no effect: the constant schedule does not use it; inverse_sqrt, cosine, "
            "linear and plateau do; remove it",
        ),
        ("model.max_positions=9", "model.max_positions: 9 has no effect: sinusoidal positions have no longest"),
        ("model={type: rnn, attention: none, d_attention: 9}", "model.d_attention: 9 has no effect: attention: none"),
        (
            "model={type: rnn, attention: none, alignment: hard}",
            'model.alignment: "hard" has no effect: attention: none reads no source positions; remove it',
        ),
        ("model={type: rnn, attention: none, hops: 2}", "model.hops: 2 has no effect: attention: none reads no source"),
        (
            "model={type: rnn, attention: none, input_feeding: true}",
            "model.input_feeding: true has no effect: attention",
        ),
        ("model={type: rnn, window: 3}", "model.window: 3 has no effect: only local alignment has a window"),
        (
            "model={type: rnn, hard: {estimator: gumbel}}",
            'model.hard.estimator: "gumbel" has no effect: only alignment: hard uses it; remove it',
        ),
        (
            "model={type: rnn, alignment: hard, hard: {temperature: 0.5}}",
            "model.hard.temperature: 0.5 has no effect: estimator: reinforce has no temperature; gumbel has; remove it",
        ),
        (
            "model={type: rnn, alignment: hard, hard: {estimator: gumbel, entropy_weight: 0.5}}",
            "model.hard.entropy_weight: 0.5 has no effect: estimator: gumbel has no such term; reinforce has",
        ),
    ],
)
def test_a_key_without_effect_is_refused(tmp_path, override, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        load(tmp_path, BASE, override)
    load(tmp_path, BASE, override, "defaults=1")  # earlier versions ignored it
