"""``nmt reproduce``: a run trained again is the same, and what differs is told."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import pytest

from nmt.cli import main
from nmt.run.directory import Run
from tests.conftest import Task


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    task = Task(tmp_path_factory.mktemp("reproduce"))
    for family in ("rnn", "transformer"):
        assert main(["train", str(task.config_file(family, name=family))]) == 0
    return task


@pytest.mark.parametrize("family", ["rnn", "transformer"])
def test_a_run_is_reproduced_to_the_last_digit(task, family, capsys):
    run = task.folder / "runs" / family
    assert main(["reproduce", str(run)]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"tiny: (\d+) of \1 translations are the same, all the same", shown), shown
    assert "final weights: the same bits" in shown
    assert shown.endswith("reproduced to the last digit\n")
    for name in ("hyp", "json"):
        one, other = (
            (folder / f"evaluation/tiny.{name}").read_text() for folder in (run, run.with_name(f"{family}-reproduced"))
        )
        assert one == other


def test_a_metric_that_an_evaluation_added_is_reproduced_too(task, tmp_path, capsys):
    run = task.folder / "runs" / "rnn"
    assert main(["evaluate", str(run), "--robust"]) == 0
    for how in (["--decode-only"], ["--into", str(tmp_path / "again")]):
        capsys.readouterr()
        assert main(["reproduce", str(run), *how]) == 0
        out = capsys.readouterr().out
        then, now = re.search(r"uncased BLEU (\S+) then, (\S+) now", out).groups()
        assert then == now
        assert out.endswith("reproduced to the last digit\n")


def falsify(stored: Path) -> None:
    """Change the first translation, and its record to match."""
    text = "another translation\n" + stored.read_text().partition("\n")[2]
    stored.write_text(text)
    record = json.loads(stored.with_suffix(".json").read_text())
    record["hypotheses"] = hashlib.sha256(text.encode()).hexdigest()
    stored.with_suffix(".json").write_text(json.dumps(record))


@pytest.mark.parametrize("how", [["--decode-only"], []])
def test_what_differs_is_told(task, tmp_path, how, capsys):
    run, stored = task.folder / "runs" / "rnn", task.folder / "runs/rnn/evaluation/tiny.hyp"
    whole = {path: path.read_bytes() for path in stored.parent.iterdir()}
    try:
        falsify(stored)
        into = [] if how else ["--into", str(tmp_path / "again")]
        assert main(["reproduce", str(run), *how, *into]) == 1
        out, err = capsys.readouterr()
        assert "the first other one is line 1" in out
        assert f"nmt: {run}: was not reproduced, see above" in err
    finally:
        for path, content in whole.items():
            path.write_bytes(content)


def test_a_set_that_a_training_does_not_score_is_compared_too(task, tmp_path, capsys):
    run, stored = task.folder / "runs" / "rnn", task.folder / "runs/rnn/evaluation/valid.hyp"
    assert main(["evaluate", str(run), "--set-name", "valid"]) == 0
    try:
        falsify(stored)
        assert main(["reproduce", str(run), "--into", str(tmp_path / "again")]) == 1
        assert re.search("^valid: .* the first other one is line 1$", capsys.readouterr().out, re.MULTILINE)
    finally:
        for path in stored.parent.glob("valid.*"):
            path.unlink()


@pytest.mark.parametrize("schedule", ["cosine", "inverse_sqrt"])
def test_a_training_that_a_clock_ended_is_reproduced(task, schedule, capsys):
    """The same number of updates, with the learning rates that followed the clock."""
    train = {"max_steps": None, "max_minutes": 0.03, "schedule": {"name": schedule, "warmup_steps": 2}}
    name = f"clock-{schedule}"
    assert main(["train", str(task.config_file("rnn", name=name, train=train))]) == 0
    run = task.folder / "runs" / name
    descents = Run(run).last_state()["progress"]["descents"]
    assert bool(descents) == (schedule == "cosine")
    assert main(["reproduce", str(run)]) == 0
    assert "final weights: the same bits" in capsys.readouterr().out
    both = run, run.with_name(f"{name}-reproduced")
    steps = [json.loads((path / "run.json").read_text())["steps"] for path in both]
    assert steps[0] == steps[1] > 2


def test_the_environment_is_that_of_the_run_card(task, capsys):
    """A start that another one resumed counts as well."""
    run = task.folder / "runs" / "rnn"
    path = run / "run.json"
    whole = path.read_text()
    card = json.loads(whole)
    try:
        [first] = card["sittings"]
        second = {**first, "first_step": 5, "torch": "1.0"}
        path.write_text(json.dumps({**card, "sittings": [first, second]}))
        assert main(["reproduce", str(run)]) == 0  # the same bits all the same
        out = capsys.readouterr().out
        assert "environment: torch: 1.0 before" in out
        assert "note: start 2 of the training had another environment than the one before (torch: " in out
    finally:
        path.write_text(whole)


def test_the_search_alone_stores_nothing(task, capsys):
    run = task.folder / "runs" / "transformer"
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
    assert main(["reproduce", str(run), "--decode-only"]) == 0
    assert capsys.readouterr().out.endswith("reproduced to the last digit\n")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"} == before


def test_under_other_versions_scores_are_judged_by_their_intervals(task, capsys, monkeypatch):
    run = task.folder / "runs" / "rnn"
    stored = run / "evaluation/tiny.json"
    whole = stored.read_text()
    monkeypatch.setattr("nmt.reproduction.changes", lambda before, now: "torch: 1.0 before, 2.0 now")
    record = json.loads(whole)
    try:
        for shift, code in ((0.0, 0), (1000.0, 1)):
            changed = record | {"chrf": record["chrf"] + 1e-6, "intervals": {"chrf": [shift, shift + 100.0]}}
            stored.write_text(json.dumps(changed))
            assert main(["reproduce", str(run), "--decode-only"]) == code
            out = capsys.readouterr().out
            assert "environment: torch: 1.0 before, 2.0 now" in out
            assert ("every score is inside its 95 % interval" in out) == (code == 0)
    finally:
        stored.write_text(whole)


def test_what_would_prove_nothing_is_refused(task, tmp_path, capsys, monkeypatch):
    """The run itself, its copy, an edited configuration, damaged translations, and a place that names no run."""
    monkeypatch.chdir(tmp_path)
    run, copy = task.folder / "runs" / "rnn", tmp_path / "my copy"
    shutil.copytree(run, copy)

    def told(*arguments) -> str:
        assert main(["reproduce", *map(str, arguments)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        return err

    assert f"{run}: is the run, so that nothing would be trained" in told(run, "--into", run)
    assert f"{copy}: is a copy of the run" in told(run, "--into", copy)
    assert 'nmt: --into : name: "" must be letters' in told(run, "--into", "")
    assert '--into a b: name: "a b" must be letters' in told(run, "--into", "a b")
    stored = copy / "evaluation" / "tiny.hyp"
    stored.write_text("another translation\n")
    assert f"nmt: {stored}: damaged, or of another evaluation; evaluate" in told(copy)
    stored.unlink()
    assert f"nmt: {stored}: no such file; evaluate the run again: nmt evaluate '{copy}'" in told(copy, "--decode-only")
    shutil.copy(run / "evaluation" / "tiny.hyp", stored)
    record = copy / "evaluation" / "tiny.json"
    record.write_text(record.read_text()[:50])
    assert f"nmt: {record}: damaged; evaluate the run again: nmt evaluate '{copy}'\n" in told(copy, "--decode-only")
    shutil.copy(run / "evaluation" / "tiny.json", record)
    edited = copy / "config.yaml"
    edited.write_text(re.sub("^seed: .*", "seed: 77", edited.read_text(), flags=re.MULTILINE))
    assert f"nmt: {edited}: was edited after the training; restore it (seed is " in told(copy)
    assert [path.name for path in tmp_path.iterdir()] == ["my copy"]


def test_other_data_and_unfinished_runs_are_refused(task, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    other = Task(tmp_path / "other")
    assert main(["train", str(other.config_file("rnn", name="x"))]) == 0
    path = other.folder / "train.src"
    path.write_text("four five\n" + path.read_text().partition("\n")[2])
    assert main(["reproduce", str(other.folder / "runs/x")]) == 2
    assert "its data have changed since the training" in capsys.readouterr().err
    (other.folder / "runs/x/model/model.json").unlink()
    assert main(["reproduce", str(other.folder / "runs/x")]) == 2
    assert "is not finished" in capsys.readouterr().err
