"""``nmt runs``."""

import csv
import io
import json
import shutil
import subprocess
import sys

from nmt.cli import main
from nmt.run import listing
from nmt.run.directory import Run
from nmt.translation.pytorch_loading import load
from tests.runs import train


def listed(capsys, *arguments) -> list[dict]:
    assert main(["runs", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_finished_run_and_a_running_one(task, capsys) -> None:
    run = train(task)
    capsys.readouterr()
    [row] = listed(capsys, run.path.parent)
    name, scores = next(iter(json.loads((run.path / "run.json").read_text())["scores"].items()))
    assert (row["name"], row["state"], row["model"]) == ("run", "finished", "rnn additive")
    assert row["tests"] == {name: scores["bleu"]}
    assert row["parameters"] == sum(p.numel() for p in load(run, run.load_config()).engine.model.parameters())
    assert row["steps"] == json.loads((run.path / "run.json").read_text())["steps"]
    # Another process holds the lock
    code = (
        "import sys; from nmt.storage.locks import RunLock; from pathlib import Path; lock = RunLock(Path(sys.argv[1]))"
    )
    code += "; print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen([sys.executable, "-c", code, run.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    assert listed(capsys, run.path.parent)[0]["state"] == "running"
    holder.communicate()
    assert listed(capsys, run.path.parent)[0]["state"] == "finished"
    # Without its final model a run is stopped
    shutil.rmtree(run.model)
    assert listed(capsys, run.path)[0]["state"] == "stopped"


def test_foreign_and_broken_folders_have_a_line_each(tmp_path, capsys) -> None:
    runs = tmp_path / "runs"
    for name, text in (("yaml", "[1"), ("list", "[1]"), ("bytes", "\udcff"), ("deep", "[" * 9999), ("ok", "seed: 1")):
        (runs / name).mkdir(parents=True)
        (runs / name / "config.yaml").write_bytes(text.encode("utf-8", "surrogateescape"))
    (runs / "photos").mkdir()
    (runs / "group" / "inner").mkdir(parents=True)
    (runs / "group" / "inner" / "config.yaml").write_text("model: {type: [1]}")
    (runs / "ok" / "metrics.jsonl").write_text('{"step": 7, "valid/bleu": 3.5}\n{"step": 8, "valid/bleu": NaN}\n{"st')
    (runs / "ok" / "checkpoints").write_text("a file")
    (runs / "ok" / "evaluation").mkdir()
    (runs / "ok" / "evaluation" / "a.json").write_text("[]")
    found = {row["name"]: row for row in listed(capsys, runs)}
    assert sorted(found) == ["bytes", "deep", "group/inner", "list", "ok", "yaml"]
    assert {name for name, row in found.items() if row["state"] == "broken"} == {"bytes", "deep", "list", "yaml"}
    assert all(found[name]["problem"] for name in ("bytes", "deep", "list", "yaml"))
    assert (found["ok"]["steps"], found["ok"]["valid_bleu"], found["ok"]["state"]) == (8, 3.5, "stopped")
    assert found["ok"]["problem"] == f"{runs / 'ok/evaluation/a.json'}: damaged; evaluate the run again"
    # The same in the other forms
    assert main(["runs", str(runs), "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["run"] for row in rows] == sorted(found)
    assert main(["runs", str(runs)]) == 0
    text = capsys.readouterr().out
    assert text.count("cannot be read") == 3
    assert main(["runs", str(tmp_path / "nothing")]) == 2


def test_no_two_columns_have_one_name() -> None:
    [heading, row] = listing.cells([listing.Row("a", valid_bleu=1.0, tests={"valid": 2.0, "news": 3.0})])
    assert heading[6:] == ["valid BLEU", "valid BLEU (evaluated)", "news BLEU", "problem"]
    assert row[6:] == ["1.00", "2.00", "3.00", ""]


def test_no_torch_is_loaded(tmp_path) -> None:
    code = "import sys; from nmt.cli import main; main(['runs', sys.argv[1]]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, tmp_path]).returncode == 0
    assert listing.rows(tmp_path) == []
    assert not Run(tmp_path).started
