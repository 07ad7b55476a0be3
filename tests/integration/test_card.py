"""The run card."""

import hashlib
import json

from nmt.cli import main
from nmt.run import card
from nmt.run.directory import Run
from tests.runs import train


def test_a_card_tells_of_the_run(task) -> None:
    run = train(task)
    found = card.load(run)
    assert found is not None
    [sitting] = found["sittings"]
    assert found["state"] == "finished"
    assert found["steps"] == sitting["last_step"] > sitting["first_step"] == 0
    assert sitting["began"] <= sitting["end"]
    assert sitting["machine"]["cores"] >= 1
    assert {"torch", "sacrebleu", "python", "commit", "clean", "precision", "threads", "command"} <= set(sitting)
    assert found["config"]["seed"] == run.load_config().seed
    for name, scores in found["scores"].items():
        record = json.loads((run.evaluation / f"{name}.json").read_text())
        assert (scores["bleu"], scores["signatures"]) == (record["bleu"], record["signatures"])
        assert f"## Scores on {name}" in (run.path / "run.md").read_text()


def test_a_finished_run_keeps_its_card(place) -> None:
    before = hashlib.sha256((place.run / "run.json").read_bytes()).hexdigest()
    assert main(["evaluate", "c"]) == 0
    assert hashlib.sha256((place.run / "run.json").read_bytes()).hexdigest() == before


def test_a_sitting_per_start(tmp_path) -> None:
    run = Run(tmp_path)
    run.manifest_path.write_text("{}")
    card.begin(run, {}, {"torch": "1"}, 0)
    card.end(run, 5, 1.0, "Interrupted")
    card.begin(run, {}, {"torch": "2"}, 5)
    found = card.load(run)
    assert [(one["torch"], one["first_step"], one["end"] is None) for one in found["sittings"]] == [
        ("1", 0, False), ("2", 5, True)
    ]  # fmt: skip
    (tmp_path / "run.json").write_text("[")
    assert card.load(run) is None
