"""The thin programs in scripts/ do what their first lines say."""

import importlib
import runpy
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


@pytest.mark.parametrize(("steps", "end"), [(2, 200), (300, 300)])  # the warm-up of the demo has 200 steps
def test_a_training_to_disturb_may_end_in_its_warm_up(monkeypatch, steps, end):
    monkeypatch.syspath_prepend(SCRIPTS)
    trainings = importlib.import_module("trainings")
    [first] = trainings.trainings("demo", [f"train.max_steps={steps}"], "first")
    _, config, _, *overrides = first.arguments(first.run)
    train = load_config(config, overrides).train
    assert (train.max_steps, train.schedule.total_steps) == (steps, end)


def test_the_table_of_languages_is_that_of_its_sources(monkeypatch, capsys, tmp_path):
    for package in ("babel", "pycountry"):
        pytest.importorskip(package, reason=f"needs {package}")
    assert script(monkeypatch, "languages.py") == 0
    assert capsys.readouterr().out == "languages.tsv has all of CLDR and ISO 639-1\n"
    table = (SCRIPTS.parent / "nmt" / "config" / "languages.tsv").read_text(encoding="utf-8")
    edited = table.replace("yue\t", "yuu\t", 1).replace("; deutsch", "").replace("ara arb\tArab:EG", "arb\tLatn:EG")
    (tmp_path / "table.tsv").write_text(edited, encoding="utf-8")
    differences = runpy.run_path(str(SCRIPTS / "languages.py"))["differences"]
    assert [*differences(tmp_path / "table.tsv")] == [
        "ar: CLDR has the likely script Arab:EG, the table Latn:EG",
        "ar: ISO 639 has the equal code ara",
        "de: CLDR has more names: deutsch",
        "yue: CLDR has this language, the table does not",
    ]
