"""The length penalty that a training chooses: stored in the run, used by every command, unless the user sets it."""

import json
import logging

import pytest

from nmt import pipeline
from nmt.cli import main
from nmt.evaluation import tuning
from nmt.run.alpha import read
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
