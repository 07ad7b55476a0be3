"""Presets of models."""

import pytest

from nmt.config.compare import config_diff, fixed_settings
from nmt.config.presets import PRESETS
from tests.unit.config.configurations import BASE, load, message

SIZES = ("d_model", "d_hidden", "encoder_layers", "decoder_layers")


def test_a_preset_gives_the_values_of_omitted_keys(tmp_path):
    """Sizes: Wu et al. 2016, section 8.3; residual connections: figure 1."""
    model = load(tmp_path, BASE, "model={type: rnn, preset: gnmt}").model
    assert [getattr(model, size) for size in SIZES] == [1024, 1024, 8, 8]
    assert (model.cell, model.bidirectional, model.residual, model.residual_from) == ("lstm", "first", True, 3)
    own = load(tmp_path, BASE, "model={type: rnn, preset: gnmt, d_model: 32, residual: false}").model
    assert [getattr(own, size) for size in SIZES] == [32, 1024, 8, 8]
    assert not own.residual


def test_a_preset_leaves_out_what_has_no_effect_beside_the_given_keys(tmp_path):
    given = "preset: gnmt, attention: none, residual: false, encoder: {type: transformer}"
    model = load(tmp_path, BASE, f"model={{type: rnn, {given}}}").model
    plain = load(tmp_path, BASE, "model={type: rnn}").model
    for key in ("d_attention", "residual_from", "encoder_layers", "bidirectional"):
        assert getattr(model, key) == getattr(plain, key)
    assert message(tmp_path, BASE, f"model={{type: rnn, {given}, encoder_layers: 3}}").startswith(
        "--set: model.encoder_layers: 3 has no effect"
    )


def test_a_preset_is_its_values(tmp_path, monkeypatch):
    """A run stores them: it reads back equal under another table, and resumes from a configuration without preset."""
    config = load(tmp_path, BASE, "model={type: rnn, preset: gnmt, d_model: 32}")
    values = ", ".join(f"{key}: {value}" for key, value in PRESETS["rnn"]["gnmt"].items() if key != "d_model")
    written = load(tmp_path, BASE, f"model={{type: rnn, {values}, d_model: 32}}".replace("True", "true"))
    assert config_diff(fixed_settings(config), written) == config_diff(fixed_settings(written), config) == ""
    assert "model.d_hidden" in config_diff(fixed_settings(config), load(tmp_path, BASE, "model={type: rnn}"))
    monkeypatch.setitem(PRESETS["rnn"], "gnmt", {"d_hidden": 7})
    assert load(tmp_path, config.to_yaml()) == config


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model={type: rnn, preset: gnm}", "--set: model.preset: \"gnm\" is not one of 'gnmt' (did you mean gnmt?)"),
        ("model={type: rnn, preset: [gnmt]}", "--set: model.preset: a list is not one of 'gnmt' (did you mean gnmt?)"),
        (
            "model={type: rnn, preset: gnmt, d_hiden: 3}",
            "--set: model.d_hiden: unknown key; did you mean model.d_hidden?",
        ),
        ("model={type: rnn, preset: gnmt, d_hidden: x}", '--set: model.d_hidden: "x" (text) should be an integer'),
    ],
)
def test_mistakes_beside_a_preset_are_named_once(tmp_path, override, expected):
    assert message(tmp_path, BASE, override) == expected
