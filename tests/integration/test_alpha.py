"""The length penalty that a training chooses: stored in the run, used by every command, unless the user sets it."""

import json
import logging
import os
import re

import pytest

from nmt import pipeline
from nmt.cli import main
from nmt.evaluation import tuning
from nmt.run.alpha import read, read_tuned
from nmt.run.directory import Run
from nmt.translation.loading import load_translator
from tests.integration.test_distributed import train as train_on_ranks

TRAIN = {"max_steps": 60, "validate_every": 30, "schedule": {"warmup_steps": 10}, "optimizer": {"lr": 0.01}}


def score_with(run: Run, alpha: float, measure: str) -> float:
    """Score on the validation set of a translator with this alpha: by the evaluation, not by the choice."""
    config = run.load_config()
    corpus = pipeline.prepare(config).corpus
    one = tuning.TestSet.of(corpus, "valid")
    translated = load_translator(run, {"alpha": alpha}).translate(one.sources)
    return getattr(tuning.score([best.text for best, *_ in translated], one.references, config.evaluation), measure)


@pytest.mark.parametrize("family", ["rnn", "transformer"])
def test_the_choice_is_the_best_of_all_alphas_and_used_everywhere(task, family, caplog, capsys, monkeypatch):
    monkeypatch.chdir(task.folder)
    caplog.set_level(logging.INFO, "nmt")
    file = str(task.config_file(family, train=TRAIN, search={"beam_size": 4}))
    assert main(["train", file]) == 0
    run = Run(task.folder / "runs" / "run")
    record = json.loads(run.alpha.read_text())
    alpha = record["alpha"]
    assert f"length penalty: alpha {alpha:g}, with " in caplog.text
    # The best by one search for each alpha
    scores = {key: score_with(run, float(key), record["measure"]) for key in ("0", "0.6", "1", "1.4", "2")}
    assert scores == pytest.approx({key: record["scores"][key] for key in scores})
    assert record["scores"][f"{alpha:g}"] == max(record["scores"].values())
    # Used by the evaluation; the configuration still leaves it open
    stored = json.loads((run.evaluation / "tiny.json").read_text())
    assert stored["search"]["alpha"] == alpha
    assert run.load_config().search.alpha is None
    caplog.clear()
    assert main(["evaluate", "run"]) == 0
    assert json.loads((run.evaluation / "tiny.json").read_text()) == stored
    assert f"with alpha {alpha:g} (chosen on the validation set)" in caplog.text
    assert load_translator(run).search.alpha == alpha
    assert load_translator(run, {"alpha": 0.3}).search.alpha == 0.3
    # Once chosen, it is read; deleted, it is chosen again, the same
    monkeypatch.setattr(tuning, "translations", lambda *_: pytest.fail("chosen again"))
    assert main(["train", file]) == 0
    monkeypatch.undo()
    monkeypatch.chdir(task.folder)
    before = run.alpha.read_bytes()
    for content in (None, b"{", b'{"alpha": -1}', before.replace(record["model"].encode(), b"0" * 64)):
        run.alpha.unlink() if content is None else run.alpha.write_bytes(content)
        assert load_translator(run).search.alpha == 1.0  # of these weights, none is known
        assert main(["train", file]) == 0
        assert run.alpha.read_bytes() == before
    # Of this length penalty alone
    run.alpha.write_text(json.dumps(record | {"alpha": 0.6}))
    assert load_translator(run).search.alpha == 0.6
    assert load_translator(run, {"length_penalty": "average"}).search.alpha == 1.0
    run.alpha.write_text(json.dumps(record | {"alpha": 0.6, "basis": {}}))
    assert load_translator(run).search.alpha == 1.0
    # Set by the user
    assert main(["train", file, "--set", "search.alpha=0.4"]) == 0
    assert json.loads((run.evaluation / "tiny.json").read_text())["search"]["alpha"] == 0.4
    assert load_translator(run).search.alpha == 0.4
    check_tune(run, file, caplog, capsys)


def check_tune(run: Run, file: str, caplog, capsys) -> None:
    """``nmt tune`` on a trained run."""
    assert main(["train", file]) == 0
    before = {path: path.read_bytes() for path in run.evaluation.glob("tiny*")}
    usual = load_translator(run).search
    capsys.readouterr()
    assert main(["tune", "run", "--beams", "1", "3", "--dry-run"]) == 0
    assert not run.tuned.exists()
    shown = capsys.readouterr().out
    assert main(["tune", "run", "--beams", "1", "3"]) == 0
    without_times = [re.sub(r"[\d.]+$", "", line) for line in capsys.readouterr().out.splitlines()]
    assert without_times[:-1] == [re.sub(r"[\d.]+$", "", line) for line in shown.splitlines()]
    tuned = read_tuned(run)
    assert tuned is not None
    assert [row.beam_size for row in tuned.rows] == [1, 3, 4]  # with that of the run
    # Each score is that of the search which the row names; the choice is the smallest beam that is as good as the best
    for row in tuned.rows:
        config, one = run.load_config(), tuning.TestSet.of(pipeline.prepare(run.load_config()).corpus, "valid")
        found = load_translator(run, {"beam_size": row.beam_size, "alpha": row.alpha}).translate(one.sources)
        texts = [best.text for best, *_ in found]
        assert getattr(tuning.score(texts, one.references, config.evaluation), tuned.measure) == pytest.approx(
            row.score
        )
        assert row.score == pytest.approx(max(row.scores.values()))
    good = [row.beam_size for row in tuned.rows if row.score >= max(each.score for each in tuned.rows) - 0.1]
    assert tuned.beam_size == min(good)
    # A damaged file is named, once
    stored = run.tuned.read_bytes()
    run.tuned.write_bytes(stored[:-9])
    assert main(["translate", str(run.path), "-i", os.devnull]) == 0
    assert caplog.text.count(f"{run.tuned}: is ignored: it is damaged; nmt tune {run.path} writes a new one") == 1
    run.tuned.write_bytes(stored)
    # Used by commands, unless the user says otherwise; not by the training
    search = load_translator(run).search
    assert (search.beam_size, search.alpha) == (tuned.beam_size, tuned.alpha)
    assert load_translator(run, {"beam_size": 2}).search.beam_size == 2
    assert load_translator(run, {"length_penalty": "average"}).search.alpha == 1.0
    assert load_translator(run, {"method": "sample"}).search.method == "sample"
    assert main(["reproduce", "run", "--decode-only"]) == 0
    assert "reproduced to the last digit" in capsys.readouterr().out
    assert main(["evaluate", "run"]) == 0
    assert json.loads((run.evaluation / "tiny.json").read_text())["search"]["beam_size"] == tuned.beam_size
    assert main(["reproduce", "run", "--decode-only"]) == 0
    assert main(["train", file]) == 0
    assert {path: path.read_bytes() for path in before} == before
    # Of these weights alone
    record = run.tuned.read_text()
    run.tuned.write_text(record.replace(tuned.model, "0" * 64))
    assert load_translator(run).search == usual
    run.tuned.write_text(record)
    assert main(["tune", "run", "--reset"]) == 0
    assert load_translator(run).search == usual


def test_what_cannot_be_tuned_is_refused(place, capsys):
    for words, expected in (
        (["c", "--beams", "0"], "--beams 0: must be from 1 to 1000"),
        (["c", "--sentences", "0"], "--sentences 0: must be 1 or more"),
    ):
        assert main(["tune", *words]) == 2
        assert expected in capsys.readouterr().err
    assert main(["tune", "c", "--reset"]) == 0
    assert "was not tuned" in capsys.readouterr().out


def test_two_ranks_choose_what_one_process_chooses(task):
    quiet = {**TRAIN, "max_steps": 40, "samples": 0}
    assert main(["train", str(task.config_file("rnn", train={**quiet, "accumulate": 2}, model={"dropout": 0.0}))]) == 0
    ranks = train_on_ranks(task, 2, task.config_file("rnn", "two", train=quiet, model={"dropout": 0.0}))
    assert ranks.codes == [0, 0], ranks.output
    one, two = (read(Run(task.folder / "runs" / name)) for name in ("run", "two"))
    assert (one.alpha, one.scores) == (two.alpha, two.scores)


@pytest.mark.parametrize(
    "search", [{"alpha": 1.0}, {"beam_size": 1}, {"length_penalty": "none"}, {"method": "sample", "seed": 3}]
)
def test_nothing_is_chosen_where_it_is_set_or_could_change_nothing(task, search, monkeypatch):
    monkeypatch.setattr(tuning, "translations", lambda *_: pytest.fail("chosen"))
    if "method" in search:
        search = {"beam_size": 5, **search}
    assert main(["train", str(task.config_file("rnn", search=search))]) == 0
    run = Run(task.folder / "runs" / "run")
    assert not run.alpha.exists()
    assert load_translator(run).search.alpha == 1.0


def test_runs_of_the_first_version_keep_alpha_1(task):
    assert task.config("rnn", defaults=1).search.alpha == 1.0
    assert task.config("rnn").search.alpha is None
