"""The run card."""

import hashlib
import json
from dataclasses import asdict

from nmt.cli import main
from nmt.data.tokenizer import Tokenizer
from nmt.run import card
from nmt.run.directory import Run
from nmt.training.progress import Progress
from tests.runs import train, train_through_kills


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


def test_tokens_are_counted_over_resumes(task, monkeypatch) -> None:
    """An epoch reads each training pair once, whatever kills the training on the way."""
    train = {"max_steps": None, "max_epochs": 1, "validate_every": 4, "schedule": {"name": "constant"}}
    found = []
    for name, kills in (("whole", []), ("killed", [5])):
        run = train_through_kills(task.config("rnn", name, train=train), kills, monkeypatch)
        found.append(card.load(run)["tokens"])
    tokenizer = Tokenizer.load(run.tokenizer)
    sides = (tokenizer.encode_src, "src", "source"), (tokenizer.encode_tgt, "tgt", "target")
    for encode, ending, side in sides:
        lines = task.paths[f"train.{ending}"].read_text().splitlines()
        expected = sum(len(ids) + 1 for ids in encode(lines))  # and eos
        assert [one[side] for one in found] == [expected, expected]
    page = (run.path / "run.md").read_text()
    assert f"{found[0]['source']:,} source and {found[0]['target']:,} target subwords" in page
    assert "Most memory: " in page
    assert "Energy: " in page


def test_runs_of_earlier_versions_have_unknown_tokens() -> None:
    progress = Progress.of_state({"step": 4})
    progress.add_tokens(3, 4)
    assert progress.tokens is None
    new = Progress()
    new.add_tokens(3, 4)
    assert Progress.of_state(asdict(new)).tokens == {"source": 3, "target": 4}


def test_energy_of_all_sittings(tmp_path) -> None:
    run = Run(tmp_path)
    run.manifest_path.write_text("{}")
    for number in (1, 2):
        card.begin(run, {}, {"device": "cpu"}, 0)
        used = {"peak_memory": number << 20, "energy_joules": {"processor": 1.8e6}}
        card.end(run, 5, 1.0, "Interrupted", used=used)
    assert "Energy: 1 kWh of the processor." in (tmp_path / "run.md").read_text()
    assert "Most memory: 2 MiB (memory of the process)." in (tmp_path / "run.md").read_text()
    card.begin(run, {}, {"device": "cpu"}, 0)
    card.end(run, 5, 1.0, "Interrupted", used={"peak_memory": 1, "energy_joules": {}})
    assert "; 1 of 3 sittings without a measurement" in (tmp_path / "run.md").read_text()


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
    more = "scores", "searches"
    assert {k: v for k, v in found.items() if k not in more} == {k: v for k, v in before.items() if k not in more}
    assert found["searches"][name]["sentences"] == record["sentences"]
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
