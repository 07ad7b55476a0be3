"""Settings that a run keeps, and those that differ from it."""

from nmt.config.compare import config_diff, fixed_settings, flatten
from nmt.config.experiment import FORMER_DEFAULTS
from tests.unit.config.configurations import BASE, load


def test_flatten():
    assert flatten({"a": {"b": 1, "c": [2]}, "d": {}}) == {"a.b": 1, "a.c": [2], "d": {}}


def test_a_later_key_at_its_default_is_no_difference(tmp_path):
    config = load(tmp_path)
    stored = fixed_settings(config)
    for later in ("train.clip_norm", "data.cleaning.drop_overlap"):
        del stored[later]
    assert config_diff(stored, config) == ""
    assert config_diff(stored, load(tmp_path, BASE, "train.clip_norm=0.5")) == (
        "train.clip_norm is null in the run, 0.5 in your configuration"
    )


def test_a_later_key_whose_default_changes_behaviour_follows_the_run(tmp_path, monkeypatch):
    monkeypatch.setitem(FORMER_DEFAULTS, 1, {"train.clip_norm": 7.0})
    run = load(tmp_path, BASE, "defaults=1")
    stored = {k: v for k, v in fixed_settings(run).items() if k != "train.clip_norm"}
    assert config_diff(stored, run) == ""
    assert "train.clip_norm" in config_diff(stored, load(tmp_path, BASE, "defaults=1", "train.clip_norm=0.5"))


def test_settings_that_may_differ_or_have_no_effect_are_not_compared(tmp_path):
    stored = fixed_settings(load(tmp_path))
    changed = load(tmp_path, BASE, "train.max_steps=9", "search.beam_size=2", "evaluation.lowercase=true", "runs=r")
    assert config_diff(stored, changed) == ""
    assert config_diff({**stored, "train.schedule.factor": 0.1, "model.max_positions": 9}, changed) == ""
    assert "seed is 1 in the run, 2 in your configuration" in config_diff(stored, load(tmp_path, BASE, "seed=2"))


def test_every_key_has_a_place_among_those_that_may_differ_or_not(tmp_path):
    fixed = fixed_settings(load(tmp_path, BASE, "data.test={a: {kind: holdout, fraction: 0.1}}"))
    assert {"seed", "model.d_model", "data.test.a.fraction", "train.optimizer.lr"} <= fixed.keys()
    assert (
        not {"runs", "data.store", "train.max_steps", "search.alpha", "evaluation.lowercase", "defaults"} & fixed.keys()
    )


def test_test_sets_come_and_go_but_stay_what_they_are(tmp_path):
    def tests(text):
        return load(tmp_path, BASE, f"data.test={{{text}}}")

    one = "news.2014: {kind: tsv, path: a, src_column: 2}"
    for before, now in [
        ("", one),
        (one, ""),
        (one, f"{one}, more: {{kind: demo, part: test}}"),
        (one, "x: " + one[11:]),
    ]:
        assert config_diff(fixed_settings(tests(before)), tests(now)) == ""
    assert config_diff(fixed_settings(tests(one)), tests(one.replace("2}", "3}"))) == (
        "data.test.news.2014.src_column is 2 in the run, 3 in your configuration"
    )
    assert config_diff(fixed_settings(tests(one)), tests(one.replace("path: a", "path: b"))) == ""  # known by content
