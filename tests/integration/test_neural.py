"""COMET and MetricX. Their packages are replaced by ones with the same interface, whose scores count equal words."""

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean

import pytest

from nmt.cli import main
from nmt.evaluation.neural import PACKAGES, interval

COMET = """
import json, os
from types import SimpleNamespace

def download_model(name):
    if os.environ.get("HF_HUB_OFFLINE") != "1" or name != "Unbabel/cached":
        raise OSError(f"{name} is not in the cache")
    return name

def load_from_checkpoint(path):
    return Model()

class Model:
    def predict(self, data, batch_size, gpus, progress_bar):
        with open("process", "w") as file:
            file.write(str(os.getpid()))
        if any("crash" in row["src"] for row in data):
            raise RuntimeError("out of memory")
        scores = [len({*row["mt"].split()} & {*row["ref"].split()}) / len(row["ref"].split()) for row in data]
        return SimpleNamespace(scores=scores, system_score=sum(scores) / len(scores))
"""
METRICX = """
import argparse, json
parser = argparse.ArgumentParser()
for name in ("tokenizer", "model_name_or_path", "max_input_length", "batch_size", "input_file", "output_file"):
    parser.add_argument(f"--{name}", required=True)
given = parser.parse_args()
assert given.tokenizer == "google/mt5-xl"
with open(given.input_file) as source, open(given.output_file, "w") as target:
    for row in map(json.loads, source):
        row["prediction"] = abs(len(row["hypothesis"].split()) - len(row["reference"].split()))
        print(json.dumps(row), file=target)
"""


@pytest.fixture
def packages(place, monkeypatch) -> Path:
    """The replaced packages, on PYTHONPATH."""
    folder = place.path / "packages"
    for name, text in (("comet/__init__", COMET), ("metricx24/__init__", ""), ("metricx24/predict", METRICX)):
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(root)]))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("HF_HOME", str(place.path / "cache"))
    (place.path / "metricx-xl").mkdir()
    return folder


def rows(place) -> list[dict]:
    return [json.loads(line) for line in (place.run / "evaluation/tiny.jsonl").read_text().splitlines()]


def equal(hypothesis: str, reference: str) -> float:
    return len({*hypothesis.split()} & {*reference.split()}) / len(reference.split())


def test_scores_are_stored_shown_and_compared(place, packages, capsys) -> None:
    assert main(["evaluate", "c", "--comet", "Unbabel/cached", "--metricx", "metricx-xl"]) == 0
    shown = capsys.readouterr().out
    found = json.loads((place.run / "evaluation/tiny.json").read_text())["neural"]
    expected = [equal(row["hypothesis"], row["reference"]) for row in rows(place)]
    assert [row["comet"] for row in rows(place)] == expected
    assert found["comet"]["score"] == pytest.approx(fmean(expected))
    assert found["comet"]["interval"] == list(interval(expected))
    assert found["comet"]["model"] == "Unbabel/cached"
    lengths = [abs(len(row["hypothesis"].split()) - len(row["reference"].split())) for row in rows(place)]
    assert found["metricx"]["score"] == pytest.approx(fmean(lengths))
    assert f"{fmean(expected):.4f} [" in shown
    assert "MetricX: metricx-xl, lower is better" in shown
    assert Path("process").read_text() != str(os.getpid())
    # The run card and the comparison have them
    assert "comet" in json.loads((place.run / "run.json").read_text())["scores"]["tiny"]["neural"]
    Path("runs/d").mkdir()
    for name in ("config.yaml", "manifest.json", "evaluation", "model"):
        Path(f"runs/d/{name}").symlink_to(place.run / name)
    assert main(["compare", "c", "runs/d", "--csv", "out.csv"]) == 0
    assert f"scores,c,comet,{found['comet']['score']}" in Path("out.csv").read_text()
    # An evaluation that does not ask keeps them for the same translations, and none for others
    stored, before = (place.run / "evaluation/tiny.json").read_text(), rows(place)
    capsys.readouterr()
    assert main(["evaluate", "c"]) == 0
    assert "COMET" not in capsys.readouterr().out
    assert json.loads((place.run / "evaluation/tiny.json").read_text()) == json.loads(stored)
    assert rows(place) == before
    assert "comet" in json.loads((place.run / "run.json").read_text())["scores"]["tiny"]["neural"]
    assert main(["evaluate", "c", "--set", "search.beam_size=1"]) == 0
    assert "neural" not in json.loads((place.run / "evaluation/tiny@beam_size=1.json").read_text())


def test_another_interpreter_runs_the_metric(place, packages, monkeypatch, capsys) -> None:
    """An environment that has neither nmt nor its libraries: the interpreter isolated from its site-packages."""
    wrapper = place.path / "python"
    monkeypatch.delenv("PYTHONPATH")
    wrapper.write_text(f'#!/bin/sh\nPYTHONPATH="{packages}" exec {sys.executable} -S "$@"\n')
    wrapper.chmod(0o755)
    assert main(["evaluate", "c", "--comet", "Unbabel/cached"]) == 2
    assert "set NMT_COMET_PYTHON to its python" in capsys.readouterr().err
    monkeypatch.setenv("NMT_COMET_PYTHON", str(wrapper))
    assert main(["evaluate", "c", "--comet", "Unbabel/cached"]) == 0
    assert "COMET: Unbabel/cached" in capsys.readouterr().out
    monkeypatch.setenv("NMT_COMET_PYTHON", "missing/python")
    assert main(["evaluate", "c", "--comet", "Unbabel/cached"]) == 2
    assert "NMT_COMET_PYTHON=missing/python: cannot be started: No such file" in capsys.readouterr().err


def test_several_references_are_averaged(place, packages) -> None:
    Path("other.tgt").write_text("eins zwei\n" * 20)
    assert (
        main(["evaluate", "c", "--src", "test.src", "--ref", "test.tgt", "other.tgt", "--comet", "Unbabel/cached"]) == 0
    )
    [path] = (place.run / "evaluation/files").glob("*.jsonl")
    for row in map(json.loads, path.read_text().splitlines()):
        both = [equal(row["hypothesis"], one) for one in (row["reference"], *row["further_references"])]
        assert row["comet"] == pytest.approx(fmean(both))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--comet", "Unbabel/other"], "evaluation.comet: the model Unbabel/other is neither on disk nor in the cache"),
        (["--metricx", "google/x-xl"], "evaluation.metricx: the model google/x-xl is neither on disk nor in the cache"),
        (["--comet", "Unbabel/cached", "--src", "crash", "--ref", "crash"], "COMET failed with the model"),
    ],
)
def test_missing_models_and_failures_have_one_line(place, packages, capsys, arguments, told) -> None:
    Path("crash").write_text("crash\n")
    assert main(["evaluate", "c", *arguments]) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("nmt: ")]
    assert told in line


@pytest.mark.parametrize(("name", "package"), [("comet", "pip install unbabel-comet"), ("metricx", "PYTHONPATH")])
def test_missing_packages_are_told_before_the_training(place, capsys, name, package) -> None:
    if find_spec(PACKAGES[name]) is not None:
        pytest.skip(f"{PACKAGES[name]} is installed")
    assert main(["train", "c.yaml", "--set", f"evaluation.{name}=some/model", "name=new"]) == 2
    error = capsys.readouterr().err
    assert f"evaluation.{name}: needs the package" in error
    assert package in error
    assert not Path("runs/new/model").exists()
