"""The whole line, from a YAML file to BLEU, through the commands a user types."""

import io
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import sacrebleu
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nmt.cli import main
from nmt.training.reporting import TAGS, TRAIN_LOSS
from tests.conftest import Task

LEARN = {"batch_tokens": 512, "optimizer": {"lr": 5e-3}, "schedule": {"warmup_steps": 30}, "samples": 3}


@pytest.mark.parametrize(("family", "steps"), [("rnn", 400), ("transformer", 800)])
def test_from_yaml_to_bleu(tmp_path, family, steps, capsys, caplog, monkeypatch):
    task = Task(tmp_path, train=2000, held=60)
    train = {**LEARN, "max_steps": steps, "validate_every": steps // 2, "log_every": steps // 4}
    config = str(task.config_file(family, train=train))
    assert main(["train", config]) == 0
    out = capsys.readouterr().out
    bleu = float(re.search(r"^tiny\s+([\d.]+)", out, re.M)[1])
    assert bleu > 60  # an untrained model stays under 10
    assert "BLEU: nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:" in out
    assert "chrF2: nrefs:1|" in out
    assert out.count("\nhypothesis  ") == 3
    run = task.folder / "runs" / "run"
    assert f"nmt translate {run} " in out
    for said in ("parameters", "source and", "epoch  ", "cpu with 1 threads, fp32", "starting at step 0"):
        assert said in caplog.text

    # What was scored is what lies in the run, and scores the same by sacreBLEU's own function on the raw files.
    references = task.paths["test.tgt"].read_text(encoding="utf-8").splitlines()
    hypotheses = (run / "evaluation" / "tiny.hyp").read_text(encoding="utf-8").splitlines()
    stored = json.loads((run / "evaluation" / "tiny.json").read_text())
    assert stored["bleu"] == pytest.approx(sacrebleu.corpus_bleu(hypotheses, [references]).score)
    assert f"{stored['bleu']:.2f}" == f"{bleu:.2f}"

    # Translating the same file gives the same lines; evaluating again the same scores.
    target = task.folder / "out.txt"
    assert main(["translate", str(run), "-i", str(task.paths["test.src"]), "-o", str(target)]) == 0
    assert target.read_text(encoding="utf-8").splitlines() == hypotheses
    assert main(["evaluate", str(run)]) == 0
    assert re.search(rf"^tiny\s+{bleu:.2f}", capsys.readouterr().out, re.M)
    own = ["evaluate", str(run), "--src", str(task.paths["test.src"]), "--ref", str(task.paths["test.tgt"])]
    assert main(own) == 0
    assert re.search(rf"^test.src\s+{bleu:.2f}", capsys.readouterr().out, re.M)

    # A pipe: standard input to standard output, one line for each.
    lines = ["one two", "", "  ", "three four five"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(lines).encode())))
    assert main(["translate", str(run)]) == 0
    piped = capsys.readouterr().out.split("\n")
    assert len(piped) == 5
    assert piped[0]
    assert piped[3]
    assert piped[1] == piped[2] == piped[4] == ""

    # A finished run says so and what to do instead; asked for more steps, it goes on.
    assert main(["train", config]) == 0
    again = capsys.readouterr().out
    assert again.startswith(f"This run is finished ({steps} steps). To continue it")
    assert again.endswith(out)

    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    valid = [m for m in metrics if "valid/bleu" in m]
    assert [m["step"] for m in valid] == [steps // 2, steps]
    assert valid[-1]["valid/loss"] < 1
    assert set(valid[0]) >= {"valid/loss", "valid/ppl", "valid/accuracy", "valid/bleu", "valid/chrf"}
    assert [m["step"] for m in metrics if "train/loss" in m] == [steps // 4, steps // 2, 3 * steps // 4, steps]

    board = EventAccumulator(str(run), size_guidance={"images": 0}).Reload()
    always = {tag for name, tag in TAGS.items() if name != "train/mfu"}
    assert always | {TRAIN_LOSS} <= set(board.Tags()["scalars"])
    assert len(board.Tags()["images"]) == 3
    assert {"settings/text_summary", "samples/text_summary"} <= set(board.Tags()["tensors"])
    for tag in ("train/loss", "valid/bleu"):
        here = [(m["step"], m[tag]) for m in metrics if tag in m]
        assert [(e.step, pytest.approx(e.value, rel=1e-5)) for e in board.Scalars(TAGS[tag])] == here

    manifest = json.loads((run / "manifest.json").read_text())
    assert len(manifest["tokenizer"]) == 64


def test_nbest_scores_and_jsonl(task, capsys):
    config = str(task.config_file("rnn"))
    assert main(["train", config]) == 0
    run = str(task.folder / "runs" / "run")
    source = task.folder / "in.txt"
    source.write_text("one two\n\nthree\n")
    capsys.readouterr()
    assert main(["translate", run, "-i", str(source), "--nbest", "2", "--scores"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 6
    scores = [float(score) for score, _ in rows]
    assert scores[0] >= scores[1]
    assert scores[4] >= scores[5]
    assert main(["translate", run, "-i", str(source), "--nbest", "2", "--jsonl"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [f["source"] for f in found] == ["one two", "", "three"]
    assert [t["text"] for t in found[0]["translations"]] == [text for _, text in rows[:2]]
    assert main(["translate", run, "-i", str(source), "--beam-size", "1"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_garbage_is_collected_once_a_command_has_loaded(task):
    """The commands share a process, because loading takes longest; frozen objects are released between them."""
    config, run = str(task.config_file("rnn", train={"max_steps": 2})), str(task.folder / "runs" / "run")
    program = """
import gc, json, sys
from nmt.cli import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["nmt", *arguments]
    gc.unfreeze()
    assert (code := main()) == 0, code
    assert gc.isenabled(), arguments
    assert gc.get_freeze_count() > 10_000, arguments
"""
    commands = [["prepare", config], ["train", config], ["evaluate", run], ["translate", run]]
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(commands)], input="one\n", capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr


def test_output_goes_through_pipes_and_links(task, tmp_path):
    assert main(["train", str(task.config_file("rnn"))]) == 0
    run, folder = str(task.folder / "runs" / "run"), tmp_path / "files"
    folder.mkdir()
    source, plain, link, pipe = (folder / name for name in ("in.txt", "plain", "link", "pipe"))
    source.write_text("one two\n", encoding="utf-8")
    plain.write_text("before\n", encoding="utf-8")
    link.symlink_to(plain)
    assert main(["translate", run, "-i", str(source), "-o", str(link)]) == 0
    assert link.is_symlink()
    expected = plain.read_text(encoding="utf-8")
    assert expected != "before\n"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, encoding="utf-8")
    try:
        assert main(["translate", run, "-i", str(source), "-o", str(pipe)]) == 0
        assert reader.communicate(timeout=60)[0] == expected
    finally:
        reader.kill()
    assert pipe.is_fifo()
    plain.write_text("before\n", encoding="utf-8")
    read, write = os.pipe()
    with plain.open("a") as opened:  # as the shell's >> and >(...) have it
        for descriptor in (write, opened.fileno()):
            assert main(["translate", run, "-i", str(source), "-o", f"/dev/fd/{descriptor}"]) == 0
    os.close(write)
    with os.fdopen(read, encoding="utf-8") as piped:
        assert piped.read() == expected
    assert plain.read_text(encoding="utf-8") == "before\n" + expected
    assert sorted(file.name for file in folder.iterdir()) == ["in.txt", "link", "pipe", "plain"]


def test_mistakes_end_in_one_line_and_exit_code_2(task, capsys, tmp_path):
    config = str(task.config_file("rnn"))
    assert main(["train", config]) == 0
    run = str(task.folder / "runs" / "run")
    capsys.readouterr()
    cases = [
        (["translate", "nowhere"], "nowhere: no such run"),
        (["translate", str(tmp_path)], "is not a run directory"),
        (["translate", run, "-i", str(tmp_path / "none.txt")], "none.txt"),
        (
            ["translate", run, "-i", str(task.paths["test.src"]), "-o", str(tmp_path / "no" / "where")],
            "cannot be opened",
        ),
        (["evaluate", run, "--set-name", "other"], "no such set in this run; there are: valid, tiny"),
        (["evaluate", run, "--src", "a"], "--src and --ref belong together"),
        (["train", config, "--set", "model.d_model=16"], "was started with another configuration (model.d_model is 32"),
        (["config"], "name a configuration file"),
    ]
    for arguments, expected in cases:
        assert main(arguments) == 2, arguments
        out, err = capsys.readouterr()
        assert out == ""
        assert expected in err
        assert "Traceback" not in err
        assert len(err.strip().splitlines()) == 1, err


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="torch.compile needs a C++ compiler")
def test_a_compiled_model_trains_as_the_plain_one(task):
    losses = {}
    for compiled in (False, True):
        train = {"compile": compiled, "max_steps": 4, "log_every": 1, "validate_every": 4}
        config = task.config_file("transformer", f"run-{compiled}", train=train, model={"dropout": 0.0})
        assert main(["train", str(config)]) == 0
        lines = (task.folder / f"runs/run-{compiled}/metrics.jsonl").read_text().splitlines()
        losses[compiled] = [m["train/loss"] for m in map(json.loads, lines) if "train/loss" in m]
    assert len(losses[True]) == 4
    assert losses[True] == pytest.approx(losses[False], rel=1e-5)
