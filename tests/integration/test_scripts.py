"""The thin programs in scripts/ do what their first lines say."""

import importlib
import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest

from nmt.cli import main
from nmt.config.load import load_config

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def run(task):
    assert main(["train", str(task.config_file("rnn"))]) == 0
    return str(task.folder / "runs" / "run")


def script(monkeypatch, name, *arguments):
    """Run a script in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    try:
        runpy.run_path(str(SCRIPTS / name), run_name="__main__")
    except SystemExit as end:
        return end.code or 0
    return 0


def test_decode_equals_nmt_translate(task, run, monkeypatch):
    source, one, other = (str(task.folder / name) for name in ("in", "one", "other"))
    Path(source).write_text("one two\n\nthree four\n")
    assert main(["translate", run, "-i", source, "-o", one]) == 0
    assert script(monkeypatch, "decode.py", run, "-i", source, "-o", other) == 0
    assert Path(one).read_text() == Path(other).read_text()
    assert Path(one).read_text().count("\n") == 3
    assert script(monkeypatch, "decode.py", "nowhere") == 2


def test_bleu_by_length_prints_a_table_and_draws_a_plot(task, run, monkeypatch, capsys):
    plot = task.folder / "lengths.png"
    arguments = [run, "--set-name", "tiny", "--labels", "ours", "--edges", "3", "5", "--plot", str(plot)]
    capsys.readouterr()
    assert script(monkeypatch, "bleu_by_length.py", *arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| source words | sentences | ours |"
    counts = [int(line.split("|")[2]) for line in lines[2:]]
    lengths = [len(line.split()) for line in task.paths["test.src"].read_text().splitlines()]
    assert counts == [sum(n <= 3 for n in lengths), sum(3 < n <= 5 for n in lengths), sum(n > 5 for n in lengths)]
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_experiment_trains_variants_and_compares_them(task, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    folder, plot = task.folder / "experiments", task.folder / "variants.png"
    folder.mkdir()
    task.config_file("rnn", name="base", train={"max_steps": 4})
    (folder / "scores.yaml").write_text(
        "test: tiny\nset: [train.max_steps=6]\nvariants:\n  additive: {config: base.yaml}\n"
        "  scaled dot: {config: base.yaml, set: [model.attention=scaled_dot]}\n"
    )
    arguments = [str(folder / "scores.yaml"), "--runs", str(task.folder / "runs"), "--jobs", "2", "--edges", "3"]
    capsys.readouterr()
    assert script(monkeypatch, "experiment.py", *arguments, "--plot", str(plot)) == 0
    first = capsys.readouterr().out
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in first.splitlines()]
    assert rows[0] == ["variant", "parameters", "steps", "minutes", "BLEU", "chrF2", "1-3 words", "4+ words"]
    assert [[row[0], row[2]] for row in rows[2:]] == [["additive", "6"], ["scaled dot", "6"]]
    stored = json.loads((task.folder / "runs/scores-scaled-dot/evaluation/tiny.json").read_text())
    assert rows[3][4:6] == [f"{stored['bleu']:.1f}", f"{stored['chrf']:.1f}"]
    assert load_config(task.folder / "runs/scores-scaled-dot/config.yaml").model.attention == "scaled_dot"
    assert plot.read_bytes().startswith(b"\x89PNG")
    # Finished runs are reused
    assert script(monkeypatch, "experiment.py", *arguments) == 0
    assert capsys.readouterr().out == first
    assert "is finished" in (task.folder / "runs/scores-additive.log").read_text()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("test: other", "one: no test set other; there are: tiny"),
        ("equal_time: {variant: three, steps: 2}", "equal_time.variant: three: no such variant; there are: one, two"),
        ("set: [model.d_hiden=3]", "model.d_hiden: unknown key; did you mean model.d_hidden?"),
    ],
)
def test_mistakes_are_found_before_the_first_variant_trains(task, monkeypatch, capsys, changes, message):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    folder, runs = task.folder / "experiments", task.folder / "runs"
    folder.mkdir()
    task.config_file("rnn", name="base")
    test = "" if changes.startswith("test") else "test: tiny\n"
    variants = "variants:\n  one: {config: base.yaml}\n  two: {config: base.yaml, set: [seed=2]}\n"
    (folder / "wrong.yaml").write_text(f"{test}{changes}\n{variants}")
    assert script(monkeypatch, "experiment.py", str(folder / "wrong.yaml"), "--runs", str(runs)) == 2
    assert message in capsys.readouterr().err
    assert not runs.exists()


def test_an_experiment_names_the_variants_that_failed(task, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    task.config_file("rnn", name="base")
    (task.folder / "e").mkdir()
    variants = "{one: {config: base.yaml, set: [data.train.src=missing]}}"
    (task.folder / "e/failing.yaml").write_text(f"test: tiny\nvariants: {variants}")
    arguments = [str(task.folder / "e/failing.yaml"), "--runs", str(task.folder / "runs")]
    assert script(monkeypatch, "experiment.py", *arguments) == 2
    assert "one: the training failed" in capsys.readouterr().err


def test_an_experiment_gives_all_variants_the_same_time(task, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    folder = task.folder / "experiments"
    folder.mkdir()
    task.config_file("rnn", name="base")
    (folder / "time.yaml").write_text(
        "test: tiny\nequal_time: {variant: small, steps: 12}\nvariants:\n  small: {config: base.yaml}\n"
        "  large: {config: base.yaml, set: [model.d_hidden=256]}\n"
    )
    runs = task.folder / "runs"
    assert script(monkeypatch, "experiment.py", str(folder / "time.yaml"), "--runs", str(runs)) == 0
    seconds = json.loads((runs / "time-seconds.json").read_text())
    steps = {name: load_config(runs / f"time-{name}/config.yaml").train.max_steps for name in ("small", "large")}
    assert steps == {"small": 12, "large": max(1, round(12 * seconds["small"] / seconds["large"]))}
    assert steps["large"] < 12
    # What was measured is kept: other numbers would change the settings of the runs
    (runs / "time-seconds.json").write_text(json.dumps({"small": 1.0, "large": 3.0}))
    shutil.rmtree(runs / "time-large")
    assert script(monkeypatch, "experiment.py", str(folder / "time.yaml"), "--runs", str(runs)) == 0
    assert load_config(runs / "time-large/config.yaml").train.max_steps == 4
    # The variant that sets the time need not be among those to train
    arguments = [str(folder / "time.yaml"), "--runs", str(task.folder / "others"), "--only", "large"]
    assert script(monkeypatch, "experiment.py", *arguments) == 0
    assert json.loads((task.folder / "others/time-seconds.json").read_text()).keys() == {"small", "large"}
    assert load_config(task.folder / "others/time-large/config.yaml").train.max_steps < 12
    assert not (task.folder / "others/time-small").exists()


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (None, [], "none.yaml: No such file"),
        ("test: [", [], "not valid YAML"),
        ("variant: {}", [], "none.yaml: not an experiment: test: Field required; variants: Field required; variant: "),
        ("test: t\nvariants: {a: {config: c.yaml}}", ["--only", "b"], "b: no such variant; there are: a"),
        ("test: t\nvariants: {a: {config: c.yaml}}", ["--runs", "r"], "c.yaml: no such configuration file"),
    ],
)
def test_experiment_names_mistakes(tmp_path, monkeypatch, capsys, content, arguments, message):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "none.yaml"
    if content is not None:
        path.write_text(content)
    assert script(monkeypatch, "experiment.py", str(path), *arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["c", "--set-name", "x"], "runs/c: no test set x; there are: tiny"),
        (["c", "--set-name", "tiny", "--labels", "a", "b"], "--labels: 2 names for 1 runs; give one for each"),
        (["c", "--set-name", "tiny", "--edges", "3", "2"], "--edges: 3 2 must increase and be at least 1"),
        (["c", "--set-name", "tiny", "--plot", "a.b"], "a.b: .b is not an image format that can be written; use"),
        (["c", "copy", "--set-name", "tiny"], "copy/evaluation/tiny.hyp: No such file or directory; evaluate the run"),
    ],
)
def test_bleu_by_length_refuses_in_one_line(place, monkeypatch, capsys, arguments, said):
    shutil.copytree(place.run, "copy")
    Path("copy/evaluation/tiny.hyp").unlink()
    assert script(monkeypatch, "bleu_by_length.py", *arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"bleu_by_length: {said}")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(("steps", "end"), [(2, 200), (300, 300)])  # the warm-up of the demo has 200 steps
def test_a_training_to_disturb_may_end_in_its_warm_up(monkeypatch, steps, end):
    monkeypatch.syspath_prepend(SCRIPTS)
    trainings = importlib.import_module("trainings")
    [first] = trainings.trainings("demo", [f"train.max_steps={steps}"], "first")
    _, config, _, *overrides = first.arguments(first.run)
    train = load_config(config, overrides).train
    assert (train.max_steps, train.schedule.total_steps) == (steps, end)
