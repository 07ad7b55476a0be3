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


def test_a_later_evaluation_adds_its_scores(place, tmp_path) -> None:
    before = card.load(Run(place.run))
    assert main(["evaluate", "c", "--set", "search.beam_size=1", "--set-name", "valid"]) == 0
    found = card.load(Run(place.run))
    [name] = found["scores"].keys() - before["scores"].keys()
    assert name == "valid@beam_size=1"
    record = json.loads((place.run / "evaluation" / f"{name}.json").read_text())
    assert found["scores"][name]["bleu"] == record["bleu"]
    assert {key: found[key] for key in before if key != "scores"} == {
        key: before[key] for key in before if key != "scores"
    }
    assert before["scores"].items() <= found["scores"].items()
    assert f"## Scores on {name}" in (place.run / "run.md").read_text()


def test_scores_of_an_earlier_end_are_dropped(tmp_path) -> None:
    run = Run(tmp_path)
    run.manifest_path.write_text("{}")
    one = {"bleu": 1.0, "signatures": {"bleu": "x"}}
    card.begin(run, {}, {}, 0)
    card.end(run, 5, 1.0, "max_steps", {"test": one})
    card.add_scores(run, {"valid": one})
    card.end(run, 5, 1.0, "max_steps", {"test": {**one, "bleu": 2.0}})  # evaluated again, not trained
    assert card.load(run)["scores"] == {"test": {**one, "bleu": 2.0}, "valid": one}
    card.begin(run, {}, {}, 5)
    card.end(run, 9, 1.0, "max_steps", {"test": one})
    assert card.load(run)["scores"] == {"test": one}


def test_machines_of_all_ranks(tmp_path) -> None:
    run = Run(tmp_path)
    run.manifest_path.write_text("{}")
    card.begin(run, {}, {"ranks": 2}, 0, [{"cores": 4}, {"cores": 8}])
    [sitting] = card.load(run)["sittings"]
    assert sitting["machine"] == {"cores": 4}
    assert sitting["machines"] == [{"cores": 4}, {"cores": 8}]


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
