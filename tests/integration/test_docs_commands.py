"""The commands and the Python code of the documentation run, on models of the tiny task."""

import gzip
import json
import runpy
import shlex
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest
import yaml

from nmt.cli import main
from nmt.data import demo
from nmt.evaluation import comparison, scores
from tests.conftest import Task
from tests.pages import PAGES, ROOT, blocks, commands_of

# Commands that begin so are not run, and why.
OTHERWISE = {
    "make ": "installs or downloads packages; test_make_targets_exist checks the name",
    "pip install": "installs packages",
    "python -m pip install": "installs packages",
    "python3 -m venv": "installs packages",
    "docker ": "needs Docker and the network",
    "curl ": "needs a server; test_serve.py sends such requests",
    "nmt serve": "ends with a signal; test_serve.py starts servers",
    "torchrun ": "needs several processes or machines; test_distributed.py starts them",
    "srun ": "needs a cluster",
    "eflomal-align": "is the command of another package",
    "paste ": "is a program of the system",
    "python FOLDER/translate.py": "needs ONNX Runtime; test_export_targets.py runs it",
    "nmt export RUN --to onnx": "needs ONNX Runtime; test_export_targets.py runs it",
    "NMT_COMET_PYTHON=": "needs the model of COMET; test_neural.py runs a metric",
    "nmt evaluate RUN --comet": "needs the model of COMET; test_neural.py runs a metric",
    "python scripts/multi30k_tmx.py": "downloads Multi30k",
    "nmt train finetune-demo": "needs the corpus of scripts/multi30k_tmx.py",
    "python scripts/torture.py": "runs for hours; test_scripts.py runs it for seconds",
    "python scripts/faults.py": "runs for hours; test_scripts.py runs it for seconds",
    "python -m tests.properties": "runs for an hour; test_properties.py runs it for seconds",
    "nmt sweep demo": "trains several models; test_sweep.py does, and test_docs.py plans this one",
    "nmt sweep configs/experiments/": "trains for hours; test_docs.py plans it",
}  # fmt: skip
ADDING = "adding.md"  # whose commands need its diffs; test_adding.py applies the diffs and runs commands
# Placeholders of the documentation, in this order.
NAMES = [
    ("RUN...", "demo"), ("RUN2", "a2"), ("RUN3", "a3"), ("runs/RUN", "runs/demo"), ("RUN", "demo"),
    ("-o FILE", "-o output.txt"), ("FILE", "input.txt"), ("-o FOLDER", "-o folder"), ("DIR", "runs"),
    ("--sentences 100", "--sentences 3"),
    ("int8", "float16"),  # in int8 so small a model translates otherwise; test_export.py quantizes a better one
]  # fmt: skip
# The runs that commands name; the others are made by the commands.
TRANSFORMERS = ["demo", "mine", "teacher", "reverse", "multi30k-transformer", "a", "b"]
TRANSFORMERS += [f"{letter}{number}" for letter in "abc" for number in (1, 2, 3)]
RNNS = ["demo-rnn", "multi30k-rnn", "multi30k-rnn-none"]
DONE: set[str] = set()  # pages share commands
SHORT = {"train": ["--set", "train.max_steps=2"], "scripts/alignment_error.py": ["--sentences", "5"]}


def plain(words: list[str]) -> str:
    """A command without the folder of the environment."""
    return f"{' '.join(words)} ".removeprefix(".venv/bin/")


def reason(words: list[str]) -> str | None:
    """Why a command is not run."""
    return next((why for start, why in OTHERWISE.items() if plain(words).startswith(start)), None)


def filled_in(words: list[str]) -> list[str]:
    """A command with names in place of its placeholders."""
    text = shlex.join([Path(words[0]).name, *words[1:]])
    for name, value in NAMES:
        text = text.replace(name, value)
    return shlex.split(text)


def shell_blocks() -> list:
    """Each block with commands that are run."""
    return [
        pytest.param(block, id=f"{page.relative_to(ROOT)}-{number}")
        for page in PAGES
        if page.name != ADDING
        for number, block in enumerate(blocks(page, "sh"), 1)
        if not all(map(reason, commands_of(block)))
    ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Task:
    """A run of each family, good enough for ``nmt tune`` and exports."""
    task = Task(tmp_path_factory.mktemp("docs"), held=8)
    data = yaml.safe_load(task.config_file("rnn").read_text())["data"]
    for family, steps, model in (("rnn", 100, {}), ("transformer", 250, {"preset": "marian"})):
        config = task.config_file(
            family, name=family, data={"test": {"test_2016_flickr": data["test"]["tiny"]}},
            model={**model, "dropout": 0.0}, search={"beam_size": 4},
            train={"max_steps": steps, "validate_every": steps // 2, "keep_last": 2, "optimizer": {"lr": 0.004}},
        )  # fmt: skip
        assert main(["train", str(config)]) == 0
    return task


@pytest.fixture
def folder(trained, tmp_path, monkeypatch) -> Path:
    """The current folder, with the files that the documentation names; small samples save time."""
    monkeypatch.setattr(demo, "generate", partial(demo.generate, train_size=2000, valid_size=10, test_size=10))
    monkeypatch.setattr(scores, "RESAMPLES", 20)
    monkeypatch.setattr(comparison, "PairedTest", partial(comparison.PairedTest, n_samples=20))
    lines = {
        side: trained.paths[f"train.{side}"].read_text(encoding="utf-8").splitlines(keepends=True)
        for side in ("src", "tgt")
    }
    for language, side in (("en", "src"), ("de", "tgt"), ("zh", "tgt")):
        (tmp_path / f"train.{language}").write_text("".join(lines[side][:260]), encoding="utf-8")
        (tmp_path / f"test.{language}").write_text("".join(lines[side][:6]), encoding="utf-8")
    few = "".join(lines["src"][:3])
    for name in ("input.txt", "chapter.txt", "text.en", "sentences.en", "a.en"):
        (tmp_path / name).write_text(few, encoding="utf-8")
    for name in ("a.de", "starts.de"):
        (tmp_path / name).write_text("".join(lines["tgt"][:3]), encoding="utf-8")
    (tmp_path / "page.html").write_text("<p>one two <b>three</b></p>\n", encoding="utf-8")
    (tmp_path / "requests.jsonl").write_text(json.dumps({"source": "one two", "prefix": "zwei"}) + "\n")
    (tmp_path / "test.align").write_text("0-0\n" * 6)
    (tmp_path / "news.de.gz").write_bytes(gzip.compress(few.encode()))
    (tmp_path / "data/mine").mkdir(parents=True)
    (tmp_path / "configs").mkdir()
    for name, family in (("demo", "transformer"), ("mine", "transformer"), ("demo-rnn", "rnn"), ("reverse", "rnn")):
        raw = yaml.safe_load(trained.config_file(family, name=name).read_text())
        where = tmp_path if name == "reverse" else tmp_path / "configs"
        (where / f"{name}.yaml").write_text(yaml.safe_dump({**raw, "runs": "runs"}), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    place_run(trained, "a1")
    return tmp_path


def place_run(trained: Task, word: str) -> None:
    """Put a trained run where a word of a command says, if it names one."""
    name = word.removeprefix("runs/").removesuffix(".yaml")
    for family, names in (("transformer", TRANSFORMERS), ("rnn", RNNS)):
        if name in names:
            shutil.rmtree(Path("runs", name), ignore_errors=True)
            shutil.copytree(trained.folder / "runs" / family, Path("runs", name))


def run(command: list[str], monkeypatch, capsys) -> None:
    """Run a command of the documentation in this process."""
    program, *rest = command
    rest += SHORT.get(rest[0], [])
    if program == "python":
        monkeypatch.setattr(sys, "argv", rest)
        with pytest.raises(SystemExit) as ended:
            runpy.run_path(str(ROOT / rest[0]), run_name="__main__")
        code = ended.value.code
    else:
        assert program == "nmt", f"{shlex.join(command)}: neither runs nor is in OTHERWISE"
        with Path("input.txt").open(encoding="utf-8") as text:
            monkeypatch.setattr(sys, "stdin", text)
            code = main(rest)
    err = capsys.readouterr().err
    assert code == 0, f"{shlex.join(command)}: {err}"
    assert "Traceback" not in err


@pytest.mark.parametrize("block", shell_blocks())
def test_commands_run(block, trained, folder, monkeypatch, capsys):
    for words in commands_of(block):
        if reason(words) is not None:
            continue
        command = filled_in(words)
        if (text := shlex.join(command).replace("mine", "demo")) in DONE:
            continue
        DONE.add(text)
        if command[1] == "init":
            Path(f"configs/{command[2]}.yaml").unlink(missing_ok=True)
        elif command[1] not in ("train", "check"):
            for word in command[2:]:
                place_run(trained, word)
        run(command, monkeypatch, capsys)
        if command[1] == "train":  # two steps teach nothing that the next commands could use
            place_run(trained, command[2])


def test_no_reason_is_left_over():
    commands = [plain(words) for page in PAGES for words in commands_of("".join(blocks(page, "sh")))]
    assert [start for start in OTHERWISE if not any(one.startswith(start) for one in commands)] == []


@pytest.mark.parametrize("page", ["docs/python.md", "docs/zh/quickstart.md"])
def test_python_runs(page, trained, folder):
    for name in ("demo", "mine"):
        place_run(trained, name)
    found = blocks(ROOT / page, "python")
    assert found
    for block in found:
        exec(block, {})
