"""Which weights a training keeps, and when it ends."""

import math
import random
from dataclasses import replace

import pytest
import torch
import yaml

from nmt import pipeline
from nmt.cli import main
from nmt.run import checkpoint as checkpoints
from nmt.run.directory import Run
from nmt.run.selection import Quality
from nmt.runtime.device import Place
from nmt.training.optim import mean_weights
from nmt.translation.loading import load_translator
from tests.runs import EVERY_2, origin, same, train, validations


@pytest.fixture
def scripted(monkeypatch):
    """Validations whose qualities are given, in order; the last one again when there are no more."""

    def script(*qualities: Quality):
        rest = list(qualities)
        call = pipeline.Validator.__call__

        def told(self, model):
            found = call(self, model)
            return replace(found, quality=rest.pop(0) if len(rest) > 1 else rest[0])

        monkeypatch.setattr(pipeline.Validator, "__call__", told)

    return script


def quality(bleu=0.0, chrf=0.0, loss=1.0, matches=0):
    return Quality(loss, bleu, chrf, matches)


# ------------------------------------------------------------------------------------------------------------ selection


def test_words_whose_bleu_is_always_0_keep_the_model_that_learned_them(tmp_path, capsys, caplog):
    """Latin letters to Cyrillic, a word a line: no line has a 4-gram."""
    rng = random.Random(1)
    table = dict(zip("abdeikmnorstuvz", "абдеикмнорстувз", strict=True))
    words = sorted({"".join(rng.choices(list(table), k=rng.randint(3, 6))) for _ in range(1200)})
    rng.shuffle(words)
    parts = {"train": words[120:], "valid": words[:60], "test": words[60:120]}
    data = {"src_lang": "hr", "tgt_lang": "sr", "store": str(tmp_path / "store")}
    for part, lines in parts.items():
        for side, text in (("src", lines), ("tgt", ["".join(table[c] for c in word) for word in lines])):
            (tmp_path / f"{part}.{side}").write_text("".join(f"{line}\n" for line in text), encoding="utf-8")
        source = {"kind": "text", **{side: str(tmp_path / f"{part}.{side}") for side in ("src", "tgt")}}
        data[part] = {"t": source} if part == "test" else source
    raw = {
        "name": "run", "runs": str(tmp_path / "runs"), "data": data, "tokenizer": {"type": "char", "vocab_size": 60},
        "model": {"type": "rnn", "d_model": 32, "d_hidden": 32, "d_attention": 32, "dropout": 0.0},
        "train": {
            "max_steps": 120, "validate_every": 20, "batch_tokens": 512, "patience": 2, "valid_beam_size": 1,
            "optimizer": {"lr": 1e-2}, "schedule": {"name": "constant", "warmup_steps": 5}, "threads": 1,
            "device": "cpu",
        },
    }  # fmt: skip
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf-8")
    assert main(["train", str(tmp_path / "run.yaml")]) == 0
    run = Run(tmp_path / "runs" / "run")
    found = validations(run)
    assert max(row["valid/bleu"] for row in found) == 0
    assert len(found) > 3  # patience of 2 did not end it while the loss fell
    best = max(found, key=lambda row: (row["valid/chrf"], -row["valid/loss"]))
    assert best["valid/chrf"] > 2 * found[0]["valid/chrf"]
    assert origin(run)["steps"] == [best["step"]]
    assert "(best by chrF)" in caplog.text
    assert "the final model was chosen by chrF: BLEU in validation says too little" in caplog.text


def test_a_chance_match_at_the_start_is_not_the_best_for_ever(task, scripted):
    scripted(quality(14, 12, 4.0, 1), quality(0, 30, 2.0), quality(2, 40, 1.5, 3), quality(1, 55, 1.2, 2))
    run = train(task, train={**EVERY_2, "patience": 2, "max_steps": 8})
    assert origin(run)["steps"] == [8]


def test_what_is_no_number_is_not_kept_and_does_not_hold_the_training(task, scripted):
    nothing = quality(math.nan, math.nan, math.nan)
    scripted(nothing, quality(0, 5, 3.0), nothing, quality(0, 4, 3.5), quality(0, 4, 3.5))
    run = train(task, train={**EVERY_2, "score": "loss", "keep_best": 2})
    assert origin(run)["steps"] == [4]
    kept = checkpoints.list_checkpoints(run.checkpoints)
    assert [path.name for path in kept] == ["step-00000004", "step-00000008", "step-00000010"]


@pytest.mark.parametrize(("selection", "stopped", "kept"), [("validated", 8, 4), ("score", 6, 2)])
def test_a_loss_that_falls_is_progress_while_bleu_says_nothing(task, scripted, selection, stopped, kept):
    scripted(quality(0, 2, 5.0), quality(0, 1, 4.0), quality(0, 1, 4.1), quality(0, 1, 4.2))
    run = train(task, train={**EVERY_2, "patience": 2, "selection": selection})
    last = checkpoints.open_checkpoint(checkpoints.list_checkpoints(run.checkpoints)[-1])
    assert last.step == stopped
    assert origin(run)["steps"] == [kept]


def test_the_plateau_schedule_counts_the_same_progress(task, scripted):
    scripted(quality(0, 2, 5.0), quality(0, 1, 4.0), quality(0, 1, 3.0), quality(0, 1, 2.0), quality(0, 1, 2.5))
    schedule = {"name": "plateau", "warmup_steps": 1, "patience": 0}
    run = train(task, train={**EVERY_2, "schedule": schedule})
    last = checkpoints.open_checkpoint(checkpoints.list_checkpoints(run.checkpoints)[-1])
    assert last.state["progress"]["plateau_cuts"] == 1


@pytest.mark.parametrize("change", ["evaluation.tokenize=char", "evaluation.lowercase=true", "search.beam_size=1"])
def test_scores_of_other_settings_are_made_again(task, caplog, change):
    run = train(task, train={**EVERY_2, "max_steps": 6})
    [key, value] = change.split("=")
    caplog.clear()
    train(task, overrides=[change, "train.max_steps=8"], train={**EVERY_2, "max_steps": 6})
    assert f"settings of the validation changed ({key}: " in caplog.text
    assert caplog.text.count("scored again") == len({6, origin(run)["steps"][0]} - {8}) + 1
    for path, state in checkpoints.states(run.checkpoints).items():
        assert str(state["scored_with"][key]).lower() == value
        assert checkpoints.open_checkpoint(path).score == state["quality"]["bleu"]
    # As if all had been trained under these settings: training does not depend on them.
    other = train(task, "other", [change, "train.max_steps=8"], train={**EVERY_2, "max_steps": 6})
    assert origin(run)["steps"] == origin(other)["steps"]
    caplog.clear()
    train(task, overrides=[change, "train.max_steps=10"], train={**EVERY_2, "max_steps": 6})
    assert "scored again" not in caplog.text


# ------------------------------------------------------------------------------------------------------------- averages


def test_the_mean_of_the_last_checkpoints_takes_in_the_best_one_and_is_validated_beside_it(task, scripted, caplog):
    train_section = {**EVERY_2, "patience": 2, "average": 2, "keep_last": 2}
    best, mean = quality(30, 50, 1.0, 99), quality(31, 51, 1.0, 99)
    worse = quality(20, 40, 1.0, 99)
    scripted(worse, best, worse, worse, mean)
    run = train(task, train=train_section)
    info = origin(run)
    assert info["steps"] == [4, 8]  # patience ended it at 8; of the last two, 6 gives way to the best
    assert [(c["steps"], c["bleu"], c["chosen"]) for c in info["candidates"]] == [([4, 8], 31, True), ([4], 30, False)]
    assert "final model: mean of steps 4, 8 (BLEU 31.00, chrF 51.00, loss 1.000)" in caplog.text
    weights = [checkpoints.open_checkpoint(run.checkpoints / f"step-{s:08d}").weights for s in (4, 8)]
    assert same(checkpoints.read_model(run.model)[0], mean_weights(weights))

    scripted(worse, best, worse, worse, worse)
    run = train(task, "worse", train=train_section)
    assert (origin(run)["steps"], origin(run)["averaged"]) == ([4], False)
    assert same(checkpoints.read_model(run.model)[0], weights[0])

    scripted(worse, best, worse, worse)
    former = train(task, "former", train={**train_section, "selection": "score"})
    assert origin(former)["steps"] == [6, 8]


def test_too_few_checkpoints_to_average_are_told(task, caplog):
    run = train(task, train={**EVERY_2, "max_steps": 4, "average": 5, "keep_last": 5})
    assert "train.average: 5, but only 2 checkpoints can be averaged" in caplog.text
    assert {tuple(c["steps"]) for c in origin(run)["candidates"]} >= {(2, 4)}


@pytest.mark.parametrize("raw_is_better", [True, False])
def test_the_moving_average_is_validated_beside_the_raw_weights(task, scripted, raw_is_better):
    ema, raw = quality(30, 50, 1.0, 99), quality(31 if raw_is_better else 29, 50, 1.0, 99)
    scripted(ema, raw)
    run = train(task, train={**EVERY_2, "max_steps": 2, "ema_decay": 0.9})
    file = "model" if raw_is_better else "ema"
    expected = checkpoints.open_checkpoint(run.checkpoints / "step-00000002").tensors(file)
    assert same(checkpoints.read_model(run.model)[0], expected)
    assert origin(run)["averaged"] is not raw_is_better


def test_scores_in_the_model_are_those_of_its_weights(task):
    run = train(task, train={**EVERY_2, "average": 2, "keep_last": 2, "ema_decay": 0.5})
    chosen = next(c for c in origin(run)["candidates"] if c["chosen"])
    translator = load_translator(run)
    config = run.load_config()
    prepared = pipeline.prepare(config)
    validator = pipeline.Validator(config, prepared, Place(torch.device("cpu"), torch.float32))
    found = validator(translator.engine.model.eval()).quality
    assert chosen["loss"] == pytest.approx(found.loss)
    assert chosen["bleu"] == pytest.approx(found.bleu)
