"""The choice of a fine-tuning, by the pace that was measured and what is known of the model."""

import json
from pathlib import Path

import pytest
import yaml

from nmt.config.load import load_config
from nmt.config.pretrained import Pretrained
from nmt.run.directory import Run
from nmt.starting.choose import Request
from nmt.starting.finetune import Base, base_of, choose_tuning
from nmt.starting.material import Languages, Material
from nmt.starting.measure import Measured
from nmt.starting.written import to_text
from nmt.training.estimate import Cost

LANGUAGES = Languages("en", "de")
NEW = {"kind": "text", "src": "a.en", "tgt": "a.de"}
OLD = {"name": "old", "source": {"kind": "text", "src": "old.en", "tgt": "old.de"}}
MODEL = Pretrained("run", Path("runs/base"), "base")


class Bench:
    """Answers with 0.1 seconds an update and 0.01 a validation line, and remembers what was asked."""

    def __init__(self, unknown=0.0):
        self.unknown, self.asked = unknown, []

    def measure(self, settings):
        self.asked.append(settings)
        unknown = 0.0 if "extend_vocabulary" in settings["init"] else self.unknown
        return Measured(Cost(10**6, 2**30, 0.1, 1.0, 95, 0.5, 0.5, 0.0, 50, 10**7, 4 * 10**7), 100.0, 8000, unknown)


def chosen(base, pairs=3_000, minutes=600, bench=None, **given):
    request = Request("x", LANGUAGES, minutes, **given)
    material = Material(NEW, "a", pairs, (3, 3), [(1, ("abc", "abc"))])
    return choose_tuning(request, material, base, "cpu", bench or Bench(), lambda line: None)


def written(choice):
    material = Material(NEW, "a", 3_000, (3, 3), [(1, ("abc", "abc"))])
    return to_text(choice, material, "cpu, 1 thread, bf16", "nmt init", "nmt train")


def test_the_new_pairs_alone_of_a_model_that_says_nothing_of_its_training():
    """20 passes of 100 updates over 84% of 3,000 pairs; a quarter of 3e-4."""
    choice = chosen(Base(Pretrained("huggingface", Path("opus"), "opus"), why="the model does not say it"))
    settings = choice.settings
    assert settings["init"] == {"from": "opus"}
    assert settings["data"]["train"] == NEW
    assert settings["data"]["test"] == {"heldout": {"kind": "holdout", "fraction": 0.08}}
    assert settings["train"]["max_steps"] == choice.steps == 1_700
    assert settings["train"]["optimizer"] == {"lr": 7.5e-5}
    assert settings["train"]["batch_tokens"] == 1024
    assert "The new pairs alone: the model does not say it." in written(choice)


def test_as_many_old_pairs_as_new_ones():
    base = Base(MODEL, 4e-3, 9_000, [{**OLD, "name": "old-a"}, {**OLD, "name": "old-b"}], {"old-t": OLD["source"]})
    choice = chosen(base)
    train = choice.settings["data"]["train"]
    assert [(each["name"], each["weight"]) for each in train] == [("new", 1), ("old-a", 0.5), ("old-b", 0.5)]
    assert list(choice.settings["data"]["test"]) == ["heldout", "old-t"]
    assert choice.settings["train"]["optimizer"] == {"lr": 1e-3}
    assert choice.settings["train"]["max_steps"] == 3_400
    text = yaml.safe_load(written(choice))
    assert text["data"] == choice.settings["data"]
    assert text["init"] == {"from": "base"}


def test_a_holdout_that_would_be_mostly_old_needs_a_validation_set():
    base = Base(MODEL, 4e-3, 90_000, [OLD], {"old-t": OLD["source"]})
    assert "name new ones with --valid" in chosen(base).why
    assert chosen(base).settings["data"]["train"] == NEW
    choice = chosen(base, valid="v.tsv", valid_pairs=70)
    assert choice.why == ""
    assert list(choice.settings["data"]["test"]) == ["old-t"]
    assert choice.valid_pairs == 70


def test_new_pieces_and_a_higher_rate_where_characters_are_unknown():
    bench = Bench(unknown=0.02)
    choice = chosen(Base(MODEL, 4e-3, 9_000, [OLD]), bench=bench)
    assert [each["init"].get("extend_vocabulary") for each in bench.asked] == [None, 500]
    assert bench.asked[0]["init"]["from"] == str(Path("runs/base").resolve())  # read from the folder of the bench
    assert choice.settings["init"] == {"from": "base", "extend_vocabulary": 500}
    assert choice.settings["train"]["optimizer"] == {"lr": 2e-3}


def test_the_time_ends_the_training():
    choice = chosen(Base(MODEL, 4e-3, 0, [], why="x"), minutes=2)
    assert choice.is_cut_short
    assert 900 < choice.steps < 1_100  # 1.75 minutes of 0.1 s, less the validations


def test_what_a_run_tells(place):
    base = base_of("c", "runs", LANGUAGES)
    assert (base.rate, base.pairs, base.why) == (load_config("c.yaml").train.optimizer.lr, 300, "")
    assert base.replay == [{"name": "old", "source": {"kind": "text", "src": "train.src", "tgt": "train.tgt"}}]
    assert base.tests == {"old-tiny": {"kind": "text", "src": "test.src", "tgt": "test.tgt"}}
    assert "the run translates en to de" in base_of("c", "runs", Languages("de", "en")).why
    Path("test.src").unlink()
    Path("train.tgt").unlink()
    base = base_of("runs/c", "runs", LANGUAGES)
    assert (base.replay, base.tests) == ([], {})
    assert base.why == "train.tgt of the run is not here"
    Run(Path("runs/c")).manifest_path.unlink()
    assert "manifest.json" in base_of("c", "runs", LANGUAGES).why


@pytest.mark.parametrize("kind", ["huggingface", "marian"])
def test_models_of_other_programs(tmp_path, kind):
    if kind == "huggingface":
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "marian"}))
    else:
        (tmp_path / "model.npz").write_bytes(b"")
    base = base_of(str(tmp_path), "runs", LANGUAGES)
    assert base.model.kind == kind
    assert (base.rate, base.replay) == (None, [])
    assert base.why


def test_new_pairs_have_the_tags_of_the_run():
    """All old pairs have one tag, so that new ones, and named sets, have it, too; with several only the user knows."""
    tests = {"old-a": {"kind": "demo", "part": "test", "tag": "<a>"}, "old-plain": {"kind": "demo", "part": "test"}}
    tagged = {**OLD, "tag": "<a>"}
    named = {"valid": "dev.tsv", "valid_pairs": 500, "tests": {"mine": "test.tsv"}}
    one = chosen(Base(MODEL, 1e-3, 3_000, [tagged], tests, tags=("<a>",)), **named).settings["data"]
    assert [dataset["tag"] for dataset in one["train"]] == ["<a>", "<a>"]
    assert one["valid"] == {"kind": "auto", "path": "dev.tsv", "tag": "<a>"}
    assert list(one["test"]) == ["mine", "old-a", "old-plain"]
    assert one["test"]["mine"] == {"kind": "auto", "path": "test.tsv", "tag": "<a>"}

    alone = chosen(Base(MODEL, 1e-3, 3_000, [], tests, "old.en is not here", tags=("<a>",))).settings["data"]
    assert alone["train"] == {**NEW, "tag": "<a>"}
    assert list(alone["test"]) == ["heldout", "old-a", "old-plain"]

    several = Base(MODEL, 1e-3, 3_000, [], tests, "old.en is not here", choices=("<a>", "<b>"))
    choice = chosen(several)
    assert choice.settings["data"]["train"] == NEW
    assert list(choice.settings["data"]["test"]) == ["heldout", "old-plain"]  # no training pair has the tag <a>
    assert "The run was trained with the tags <a>, <b>" in " ".join(written(choice).replace("#", "").split())
