"""``nmt sweep``: a grid of trainings, resumed, with failures, and compared."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nmt.cli import main
from nmt.config.load import load_config
from nmt.config.model import RNNConfig
from nmt.errors import ConfigError
from nmt.evaluation.comparison import differing_keys
from nmt.experiments.points import parse_grid, plan
from nmt.run.listing import row_of
from nmt.storage.locks import in_use

TINY = {"max_steps": 4, "validate_every": 4}
BLEU = {"metrics": ["bleu"]}


class Inside:
    """Runs what would be a process of its own in this one: PyTorch is not loaded again."""

    def __init__(self, command, **_):
        assert command[:3] == [sys.executable, "-m", "nmt"]
        self.code = main(command[3:])

    def wait(self) -> int:
        return self.code


@pytest.fixture
def inside(monkeypatch):
    monkeypatch.setattr("nmt.experiments.running.Popen", Inside)


def sweep(task, *arguments: str, name: str = "base", **train) -> int:
    path = task.folder / f"{name}.yaml"
    if not path.exists():
        task.config_file("rnn", name, train={**TINY, **train}, evaluation=BLEU)
    return main(["sweep", str(path), *arguments])


def made(task) -> dict[str, int]:
    """Steps of each run."""
    folder = task.folder / "runs"
    return {path.parent.name: row_of(path.parent, folder).steps for path in folder.glob("*/config.yaml")}


def test_a_grid_is_trained_compared_and_not_trained_again(task, inside, capsys) -> None:
    arguments = ["--grid", "model.attention=dot,scaled_dot", "--seeds", "2", "--set", "train.max_steps=3"]
    files = {option: task.folder / f"out.{option}" for option in ("html", "csv", "latex")}
    options = [word for option, path in files.items() for word in (f"--{option}", str(path))]
    assert sweep(task, *arguments, *options, "--plot", str(task.folder / "out.png")) == 0
    names = [f"base-attention-{one}-seed{seed}" for one in ("dot", "scaled_dot") for seed in (1, 2)]
    assert made(task) == dict.fromkeys(names, 3)
    configs = {name: load_config(task.folder / "runs" / name / "config.yaml") for name in names}
    assert [(one.model.attention, one.seed) for one in configs.values()] == [
        ("dot", 1), ("dot", 2), ("scaled_dot", 1), ("scaled_dot", 2),
    ]  # fmt: skip
    shown = capsys.readouterr().out
    bleu = [json.loads((task.folder / f"runs/{n}/evaluation/tiny.json").read_text())["bleu"] for n in names]
    assert re.search(rf"attention=scaled_dot \(2 runs\) +{(bleu[2] + bleu[3]) / 2:.2f} ± ", shown)
    assert "parameters" in shown
    assert all(path.stat().st_size for path in [*files.values(), task.folder / "out.png"])
    # Again: nothing is trained, and the comparison is the same
    before = {path: path.stat().st_mtime_ns for path in (task.folder / "runs").rglob("*") if path.is_file()}
    assert sweep(task, *arguments) == 0
    again = capsys.readouterr().out
    assert again.startswith("tiny: 20 sentences")
    assert shown.endswith(again)
    assert {path: path.stat().st_mtime_ns for path in (task.folder / "runs").rglob("*") if path.is_file()} == before
    # More steps: the runs continue
    arguments = [*arguments[:2], "--set", "train.max_steps=4", "--only", "attention=dot"]
    assert sweep(task, *arguments) == 0
    assert made(task) == {**dict.fromkeys(names, 3), names[0]: 4}


def test_a_failed_point_does_not_lose_the_others(task, inside, capsys) -> None:
    task.config_file("rnn", "base", train=TINY, evaluation=BLEU)
    missing = json.dumps({"kind": "text", "src": "missing", "tgt": "missing"})
    given = json.dumps({"kind": "text", "src": str(task.paths["train.src"]), "tgt": str(task.paths["train.tgt"])})
    assert sweep(task, "--grid", f"data.train={missing},{given}") == 1
    out, err = capsys.readouterr()
    assert "missing" in err
    assert "failed, and not part of the comparison" in err.splitlines()[-1]
    assert "tiny: 20 sentences" in out
    assert list(made(task).values()) == [4]


def test_a_stopped_sweep_resumes(task, monkeypatch, capfd) -> None:
    """SIGTERM reaches the training, which saves its state; the same command resumes it."""
    path = task.config_file(
        "rnn", "base", train={"max_steps": 5000, "validate_every": 5000, "log_every": 1}, evaluation=BLEU
    )
    command = [sys.executable, "-m", "nmt", "sweep", str(path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(command, env=environment)
    run = task.folder / "runs/base-seed1"
    metrics = run / "metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size) and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 128 + signal.SIGTERM
    assert "run the same command to resume the sweep" in capfd.readouterr().err
    assert not in_use(run)  # the training has ended with the sweep
    step = row_of(run, run.parent).steps
    assert 0 < step < 5000
    # The rest of the steps, of which a few are enough
    monkeypatch.setattr("nmt.experiments.running.Popen", Inside)
    assert main([*command[3:], "--set", f"train.max_steps={step + 2}"]) == 0
    assert [one["first_step"] for one in json.loads((run / "run.json").read_text())["sittings"]] == [0, step]


def test_other_searches_share_a_training(task, inside, monkeypatch, capsys) -> None:
    assert sweep(task, "--grid", "search.beam_size=1,3", "--csv", str(task.folder / "out.csv")) == 0
    assert made(task) == {"base-seed1": 4}
    folder = task.folder / "runs/base-seed1/evaluation"
    assert {path.name for path in folder.glob("*.hyp")} == {"tiny.hyp", "tiny@beam_size=1.hyp"}  # the run's beam is 3
    rows = (task.folder / "out.csv").read_text().splitlines()
    for label, name in (("1", "tiny@beam_size=1"), ("3", "tiny")):
        bleu = json.loads((folder / f"{name}.json").read_text())["bleu"]
        assert f"mean,beam_size={label},bleu,{bleu}" in rows
    assert "search.beam_size" in capsys.readouterr().out
    # Mistakes in searches of the trained run
    for arguments, told in (
        (["--grid", "search.beam_size=0"], "--grid: search.beam_size: 0 "),
        (["--grid", "search.temperature=1,2"], "--grid: search.temperature: 2.0 has no effect: search.method is beam"),
        (["--grid", "search.beam_size=1", "--set", "search.alhpa=1"], "--set: search.alhpa: unknown key; did you mean"),
        (["--set", "search.beam.size=1"], "--set search.beam.size=1: must be key=value of the section search"),
    ):
        assert main(["sweep", str(task.folder / "runs/base-seed1"), *arguments]) == 2
        assert told in capsys.readouterr().err
    # A run by its name, whose folder was renamed
    (task.folder / "runs/base-seed1").rename(task.folder / "runs/my run")
    monkeypatch.chdir(task.folder)
    assert main(["sweep", "my run", "--grid", "search.beam_size=1,3"]) == 0
    assert "beam_size=1 (my run@beam_size=1)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--grid", "model.atention=dot"], "--grid: model.atention: unknown key; did you mean model.attention?"),
        (["--grid", "model.attention=dot,dots"], '--grid: model.attention: "dots" is not one of'),
        (["--grid", "model={type: rnn},{type: rn}"], '--grid: model.type: "rn" is not known'),
        (["--set", "model.atention=dot", "--grid", "seed=1"], "--grid seed: use --seeds N"),
        (["--set", "model.atention=dot", "--grid", "model.dropout=0.1"], "--set: model.atention: unknown key"),
        (["--grid", "model.attention"], "--grid model.attention: must be key=value,value"),
        (["--grid", "model.attention=dot,dot"], "the value dot is given twice"),
        (["--grid", "model.attention=dot", "model.attention=none"], "model.attention is given twice"),
        (["--grid", "model.attention={a"], "not valid YAML"),
        (["--grid", "seed=1,2"], "use --seeds N"),
        (["--grid", "name=a,b"], "the sweep names its runs"),
        (["--grid", "model.dropout=0.1", "--set", "model.dropout=0"], "--set has the same key"),
        (["--grid", "search.beam_size=0"], "--grid: search.beam_size"),
        (["--grid", "model.alignment=hard", "model.attention=none"], '--grid: model.alignment: "hard" has no effect'),
        (["--set", "model.alignment=hard", "--grid", "model.attention=none"], "--set and --grid: model.alignment: "),
        (["--seeds", "0"], "--seeds 0: must be at least 1"),
        (["--jobs", "0"], "--jobs 0: must be at least 1"),
        (["--set-name", "news"], "no test set news; there are: tiny, valid"),
        (["--only", "x"], "--only: x: no such point; there are: base"),
        (["--plot", "x.doc"], "not an image format"),
    ],
)
def test_mistakes_are_refused_before_the_first_training(task, capsys, arguments, told) -> None:
    assert sweep(task, *arguments) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1
    assert not (task.folder / "runs").exists()


def test_a_run_of_other_settings_is_refused_before_the_first_training(task, inside, capsys) -> None:
    assert sweep(task) == 0
    assert sweep(task, "--set", "model.d_model=16", "--seeds", "2") == 2
    assert "base-seed1: was started with another configuration" in capsys.readouterr().err
    assert made(task) == {"base-seed1": 4}


# ---------------------------------------------------------------------------------------------------------- experiments


@pytest.fixture
def experiment(task):
    """Writes an experiment and returns its path."""
    task.config_file("rnn", "base", train=TINY, evaluation=BLEU)
    folder = task.folder / "experiments"
    folder.mkdir()

    def write(text: str) -> str:
        (folder / "try.yaml").write_text(text)
        return str(folder / "try.yaml")

    return write


def test_variants_of_an_experiment_get_the_same_time(task, experiment, inside, monkeypatch, capsys) -> None:
    monkeypatch.setattr("nmt.experiments.pace.TURNS", 2)
    monkeypatch.setattr("nmt.experiments.pace.UPDATES", 2)
    path = experiment(
        "test: tiny\nequal_time: {variant: small, steps: 12}\nconfig: base.yaml\nvariants:\n"
        "  small: {}\n  large one: {set: [model.d_hidden=256]}\n"
    )
    assert main(["sweep", path, "--only", "large one"]) == 0
    stored = json.loads((task.folder / "runs/try-sweep.json").read_text())
    small, large = (stored["seconds"][label][1] for label in ("small", "large one"))
    assert made(task) == {"try-large-one-seed1": max(1, round(12 * small / large))}
    # The other one has the steps of the file, by the times that are stored
    assert main(["sweep", path]) == 0
    assert made(task)["try-small-seed1"] == 12
    assert json.loads((task.folder / "runs/try-sweep.json").read_text())["seconds"] == stored["seconds"]
    assert "large one (try-large-one-seed1)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("variants: {a: {}}", "variants.a: has no config"),
        ("grid: {seed: [1]}\nconfig: base.yaml", "try.yaml: grid.seed: use --seeds N"),
        ("grid: {model.attention: [dots]}\nconfig: base.yaml", 'try.yaml: grid: model.attention: "dots" is not'),
        ("set: [model.d_hiden=3]\nconfig: base.yaml\nvariants: {a: {}}", "try.yaml: set: model.d_hiden: unknown key"),
        ("variants: {a: {config: base.yaml, set: [d]}}", "try.yaml: variants.a.set d: must be key=value"),
        ("variant: {}\nvariants: {}", "not an experiment: variant: "),
        ("config: x.yaml\nvarients: {}", "not an experiment: varients: unknown key; did you mean variants?"),
        ("config: x.yaml\nequal_time: {varian: x}", "equal_time.varian: unknown key; did you mean variant?"),
        ("variants: {a: {sett: []}}", "variants.a.sett: unknown key; did you mean set?"),
        ("variants: {a: }", "variants.a: must be a mapping of keys to values"),
        ("grid: {model.attention: dot}", "grid.model.attention: must be a list, such as [a, b]"),
        ("grid: {model.attention: [dot]}", "neither variants nor config"),
        ("variants: {a: {config: none.yaml}}", "none.yaml: no such configuration file"),
        (
            "variants: {a: {config: base.yaml, set: [model.d_hiden=3]}}",
            "try.yaml: variants.a.set: model.d_hiden: unknown",
        ),
        ("config: base.yaml\nvariants: {a b: {}, a-b: {set: [model.d_model=16]}}", "rename one of them"),
        ("config: base.yaml\nequal_time: {variant: b, steps: 2}\nvariants: {a: {}}", "no such point; there are: a"),
    ],
)
def test_mistakes_of_an_experiment_have_one_line(task, experiment, capsys, text, told) -> None:
    assert main(["sweep", experiment(text)]) == 2
    err = capsys.readouterr().err
    assert told in err
    assert err.count("\n") == 1
    assert not (task.folder / "runs").exists()


def test_values_of_a_grid_are_yaml(task) -> None:
    words = ["a.b=1,1e-4,true,text", "c={type: x, y: [1, 2]},null"]
    assert parse_grid(words) == {"a.b": [1, 1e-4, True, "text"], "c": [{"type": "x", "y": [1, 2]}, None]}
    path = task.config_file("rnn", "base")
    found = plan(str(path), grid={"model.dropout": [0.0, 0.5], "search.beam_size": [1, 2]}, seeds=2)
    assert [point.label for point in found.points] == [
        f"dropout={d}, beam_size={b}" for d in ("0.0", "0.5") for b in (1, 2)
    ]
    assert [one.name for one in found.trainings] == [
        f"base-dropout-{d}-seed{s}" for d in ("0.0", "0.5") for s in (1, 2)
    ]


def test_a_key_of_the_file_without_effect_at_a_point_is_left_out(task, caplog) -> None:
    """General attention has no d_attention, which additive attention needs."""
    caplog.set_level("INFO", logger="nmt")
    path, grid = task.config_file("rnn", "base"), {"model.attention": ["additive", "general"]}
    given = load_config(path).model.d_attention
    assert given != RNNConfig.model_fields["d_attention"].default
    found = plan(str(path), grid=grid)
    additive, general = [point.trainings[0].resolved for point in found.points]
    assert additive.model.d_attention == given
    assert general.model.attention == "general"
    assert "attention=general: without model.d_attention, which would have no effect" in caplog.text
    assert [one.key for one in differing_keys([[additive], [general]])] == ["model.attention"]
    # What the command line says is refused as ever
    with pytest.raises(ConfigError, match=r"model\.d_attention: 5 has no effect"):
        plan(str(path), ["model.d_attention=5"], grid)


def test_the_experiments_of_the_repository_can_be_planned() -> None:
    files = sorted((Path(__file__).parents[2] / "configs/experiments").glob("*.yaml"))
    assert {path.stem for path in files} >= {"attention", "families", "beam", "vocabulary"}
    for path in files:
        assert len(plan(str(path)).points) > 1, path
