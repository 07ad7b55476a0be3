"""``nmt init``, from files to a configuration that trains unedited."""

import csv
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
import yaml

from nmt.cli import main
from nmt.cli.commands.init import parse_time
from nmt.config.load import load_config
from nmt.errors import ConfigError
from nmt.training.trainer import Trainer
from tests.conftest import write_corpus

FILES = ["train.src", "train.tgt"]
LANGUAGES = ["--langs", "en-de"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder, train=400)
    return folder


@pytest.fixture
def here(corpus, tmp_path, monkeypatch) -> Path:
    """The current folder, with the corpus; temporary folders are made in ``tmp`` beside it."""
    shutil.copytree(corpus, tmp_path / "here")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.slow
def test_the_configuration_trains_unedited(here, capsys):
    before = files(here)
    assert main(["init", "mine", *FILES, *LANGUAGES, "--time", "10m"]) == 0
    out, err = capsys.readouterr()
    # Three pairs, an estimate and the next command; a file, and nothing else
    lines = (here / "train.src").read_text(encoding="utf-8").splitlines()
    assert all(f"  {line}\n" in out for line in (lines[0], lines[-1]))
    assert "train configs/mine.yaml" in out
    assert "warning" not in err
    assert files(here) - before == {"configs", "configs/mine.yaml"}
    assert not list((here.parent / "tmp").iterdir())
    # The configuration
    assert main(["config", "mine"]) == 0
    assert main(["train", "mine", "--set", "train.max_steps=3", "train.schedule.warmup_steps=1"]) == 0
    assert "lowered" not in capsys.readouterr().err  # the vocabulary is one that the text can fill


def test_given_validation_and_test_sets(here):
    given = ["--valid", "valid.src", "valid.tgt", "--test", "test.src", "test.tgt", "--test", "test.src", "test.tgt"]
    assert main(["init", "mine", *LANGUAGES, *given, "--time", "5m", *FILES]) == 0
    config = load_config("configs/mine.yaml")
    assert config.data.valid.src == "valid.src"
    assert list(config.data.test) == ["test", "test-2"]
    assert "# 20 pairs, which choose the best checkpoint." in Path("configs/mine.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", ["tsv", "csv", "folder", "stem"])
def test_every_kind_that_a_name_tells(here, kind):
    pairs = list(zip(*(Path(name).read_text(encoding="utf-8").splitlines() for name in FILES), strict=True))
    if kind == "folder":
        Path("folder").mkdir()
        for name in FILES:
            shutil.copy(name, f"folder/{name}")
    elif kind == "tsv":
        Path("a.tsv").write_text("".join(f"{src}\t{tgt}\n" for src, tgt in pairs), encoding="utf-8")
    elif kind == "csv":
        with Path("a.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("en", "de"), *pairs])
    data = {"tsv": "a.tsv", "csv": "a.csv", "folder": "folder", "stem": "train"}[kind]
    assert main(["init", "mine", data, *LANGUAGES]) == 0
    assert yaml.safe_load(Path("configs/mine.yaml").read_text(encoding="utf-8"))["data"]["train"] == data
    load_config("mine")


# ---------------------------------------------------------------------------------------------------------- fine-tuning


def tuning(name: str) -> dict:
    return yaml.safe_load(Path(f"configs/{name}.yaml").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_a_fine_tuning_has_the_data_of_its_run_and_trains(place, capsys):
    """The run ``c`` was trained on 300 pairs, at the default rate of 1e-3."""
    Path("new").mkdir()
    write_corpus(Path("new"), train=500)
    given = ["init", "tuned", "new/train.src", "new/train.tgt", *LANGUAGES, "--from", "c", "--time", "5m"]
    assert main(given) == 0
    found = tuning("tuned")
    assert found["init"] == {"from": "c"}
    assert {"model", "tokenizer"}.isdisjoint(found)
    new, old = found["data"]["train"]
    assert (new["name"], new["weight"], new["source"]["src"]) == ("new", 1, "new/train.src")
    assert (old["name"], old["weight"], old["source"]["src"]) == ("old", 1, "train.src")
    assert list(found["data"]["test"]) == ["heldout", "old-tiny"]
    assert found["train"]["optimizer"] == {"lr": 2.5e-4}
    # 20 passes, of which half are old pairs
    config = load_config("tuned")
    assert 0 < config.train.max_steps < 2000
    capsys.readouterr()
    assert main(["train", "tuned", "--set", "train.max_steps=3", "train.schedule.warmup_steps=1"]) == 0
    assert (place.path / "runs/tuned/init/init.json").is_file()
    assert "old-tiny" in capsys.readouterr().out


def test_a_fine_tuning_learns_new_pieces_for_unknown_characters(place, monkeypatch):
    lines = [f"{'ωψφ' * 3} {number}" for number in range(300)]
    for side in ("src", "tgt"):
        Path(f"greek.{side}").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    for name in ("train.src", "valid.src", "test.src"):
        Path(name).unlink()  # the data of the run are not here
    assert main(["init", "greek", "greek.src", "greek.tgt", *LANGUAGES, "--from", "runs/c", "--time", "5m"]) == 0
    found = tuning("greek")
    assert found["init"] == {"from": "runs/c", "extend_vocabulary": 500}
    assert found["data"]["train"]["src"] == "greek.src"
    assert list(found["data"]["test"]) == ["heldout"]
    assert found["train"]["optimizer"] == {"lr": 5e-4}
    assert "train.src of the run is not here" in Path("configs/greek.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("none", "init.from: none: no such run, file or folder; runs here: c"),
        ("train.src", "init.from: train.src: is not a model that can be read"),
        ("store", "init.from: store: contains no model"),
        ("", "--from: is empty; name a run"),
    ],
)
def test_a_model_that_does_not_exist(place, capfd, model, message):
    assert main(["init", "tuned", *FILES, *LANGUAGES, "--from", model]) == 2
    err = capfd.readouterr().err
    assert err.startswith(f"nmt: {message}"), err
    assert err.count("\n") == 1
    assert not Path("configs").exists()


# --------------------------------------------------------------------------------------------------------------- errors

ERRORS = [
    (["mine", *FILES], "--langs is missing: the codes of source and target language, such as --langs en-de"),
    (["mine", *FILES, "--langs", "en"], "--langs en: give two language codes, such as en-de, or pt-BR:en"),
    (["mine", *FILES, "--langs", "en-de-fr"], "--langs en-de-fr: give two language codes"),
    (["mine", *FILES, "--langs", "quechua-Español"], "--langs quechua-Español: give the codes of the languages: qu-es"),
    (["mine", *FILES, "--langs", "pt-BR:english"], "--langs pt-BR:english: give the codes of the languages: pt-BR:en"),
    (["mine", *FILES, "--langs", "en-en"], "--langs en-en: source and target are the same language; name two"),
    (["mine", *FILES, "--langs", "EN-en"], "--langs EN-en: source and target are the same language; name two"),
    (["mine", *FILES, "--langs", "zh-Hans-en"], "--langs zh-Hans-en: give two language codes, such as en-de, or"
     " pt-BR:en with hyphens inside"),
    (["mine", "a\x07\nb.tsv", *LANGUAGES], "a\\x07\\nb.tsv: the name has a control character; rename it"),
    (["mine", *FILES, *LANGUAGES, "--time", "0m"], "--time 0m: is too short to train anything; give at least 1m"),
    (["mine", *FILES, *LANGUAGES, "--time", "9" * 400 + "h"], f"--time {'9' * 400}h: is too long; give at most 365d"),
    (["mine", *LANGUAGES], "name the data: one file, folder or hub id, or two text files"),
    (["configs/mine.yaml", *FILES, *LANGUAGES], "configs/mine.yaml: is not a valid name; use letters from a to"
     " z, digits, dots, hyphens and underscores; try mine"),
    (["-", *FILES, *LANGUAGES], "-: is not a valid name; use letters"),
    (["Übung für alle", *FILES, *LANGUAGES], "Übung für alle: is not a valid name; use letters from a to z,"
     " digits, dots, hyphens and underscores; try Ubung-fur-alle"),
    (["mine", *FILES, *LANGUAGES, "--time", "2h", "30m"], "30m: is a time, not a file; write it after --time, in one"
     " word such as 1h30m"),
    (["mine", *FILES, *LANGUAGES, "--time", "10"], "--time 10: is not a duration; write a number with d, h, m or s,"
     " such as 30m, 8h or 1h30m"),
    (["mine", *FILES, *LANGUAGES, "--time", "soon"], "--time soon: is not a duration"),
    (["mine", *FILES, *LANGUAGES, "--time", "20s"], "--time 20s: is too short to train anything; give at least 1m"),
    (["mine", *FILES, "test.src", *LANGUAGES], "3 names of data: give one file, folder or hub id, or two text files"),
    (["mine", "train.src", "train.src", *LANGUAGES], "train.src: is given as source and as target; name the file of"
     " each language"),
    (["mine", "train.src", "none.tgt", *LANGUAGES], "none.tgt: no such file"),
    (["mine", "none.tsv", *LANGUAGES], "none.tsv: no such file"),
    (["mine", "train.src", "valid.tgt", *LANGUAGES], "train.src has 400 lines but valid.tgt has 20; line n of one must"
     " translate line n of the other"),
    (["mine", "valid.src", "valid.tgt", *LANGUAGES], "valid.src and valid.tgt: 20 pairs, too few to train a model;"
     " give at least 200, better some thousands"),
    (["mine", *FILES, *LANGUAGES, "--valid", "none.tsv"], "none.tsv: no such file"),
    (["mine", *FILES, *LANGUAGES, "--test", "test.src", "train.tgt"], "test.src has 20 lines but train.tgt has 400"),
    (["mine", *FILES, *LANGUAGES, "--test", "train"], "train: 400 of its 400 pairs are training pairs; name other data,"
     " or none"),
    (["mine", "a.de", "a.en", *LANGUAGES], "a.de and a.en: the source comes first: write a.en a.de, or --langs de-en"),
    (["mine", "a.en", "a.de"], "--langs is missing: the codes of source and target language, such as --langs en-de, as"
     " the names of the files end"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"), ERRORS, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_errors_are_one_line(here, capfd, arguments, message):
    before = files(here)
    assert main(["init", *arguments]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"nmt: {message}"), err
    assert err.count("\n") == 1
    assert files(here) == before


def test_a_configuration_is_replaced_only_by_force(here, capfd):
    Path("configs").mkdir()
    Path("configs/mine.yaml").write_text("mine\n", encoding="utf-8")
    assert main(["init", "mine", *FILES, *LANGUAGES]) == 2
    assert "nmt: configs/mine.yaml: exists; choose another name, or replace it with --force" in capfd.readouterr().err
    assert Path("configs/mine.yaml").read_text(encoding="utf-8") == "mine\n"
    assert main(["init", "mine", *FILES, *LANGUAGES, "--force"]) == 0
    load_config("mine")


def test_the_name_of_a_run_is_refused(here, capfd):
    (here / "runs/mine/checkpoints/step-00000003").mkdir(parents=True)
    assert main(["init", "mine", *FILES, *LANGUAGES, "--force"]) == 2
    assert "runs/mine: a run of this name exists" in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_measuring_leaves_nothing(here, capfd, monkeypatch, number):
    def interrupted(self, batches):
        assert list((here.parent / "tmp").iterdir())
        os.kill(os.getpid(), number)

    monkeypatch.setattr(Trainer, "update", interrupted)
    before = files(here)
    assert main(["init", "mine", *FILES, *LANGUAGES]) == 128 + number
    assert files(here) == before
    assert not list((here.parent / "tmp").iterdir())
    assert capfd.readouterr().err.count("nmt: ") == 1


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("10m", 10), ("8h", 480), ("1h30m", 90), ("1.5h", 90), ("2d", 2880), ("90s", 1.5), ("8 H", 480)],
)
def test_times(text, minutes):
    assert parse_time(text) == pytest.approx(minutes)


@pytest.mark.parametrize("text", ["", "h", "10x", "-5m", "1e3m", "m10", "10m5"])
def test_no_times(text):
    with pytest.raises(ConfigError, match="is not a duration"):
        parse_time(text)


def test_a_configuration_that_cannot_be_written_is_found_before_the_work(here, monkeypatch, capsys):
    (here / "configs").touch()
    assert main(["init", "mine", *FILES, *LANGUAGES]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("nmt: configs/mine.yaml: cannot be written: configs is not a folder; rename it")
    (here / "configs").unlink()
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert main(["init", "mine", *FILES, *LANGUAGES]) == 2
    assert capsys.readouterr().err.startswith("nmt: configs/mine.yaml: cannot be written: this folder is read-only; ")
    assert not (here / "configs").exists()
