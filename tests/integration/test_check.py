"""``nmt check``: exit codes, page, and the figures of a training."""

import re

from nmt.cli import main


def test_data_and_training_are_reported_and_no_run_is_written(task, capsys, caplog):
    config = task.config_file("rnn", train={"max_steps": 10, "schedule": {"warmup_steps": 50}})
    assert main(["check", str(config), "--html", str(task.folder / "page.html")]) == 0
    told = capsys.readouterr().out
    assert re.search(r"^ok +memory +[\d,]+ MiB", told, re.MULTILINE)
    assert re.search(r"^ok +time .* for 10 steps", told, re.MULTILINE)
    assert (told + caplog.text).count("come back from the tokenizer") == 1
    assert "warmup_steps (50) is longer than the run" in told
    assert "the validation set has 20 lines" in told
    assert "warmup_steps (50)" in (task.folder / "page.html").read_text(encoding="utf-8")
    assert not (task.folder / "runs").exists()


def test_a_page_that_cannot_be_written_is_found_before_the_work(task, capsys):
    assert main(["check", str(task.config_file("rnn")), "--html", "none/page.html"]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "none/page.html: cannot be opened: No such file or directory; make the folder none" in output.err


def test_a_problem_exits_with_1(task, capsys):
    path = task.paths["train.tgt"]
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join([*lines[2:], *lines[:2]]), encoding="utf-8")
    assert main(["check", str(task.config_file("rnn")), "--data-only"]) == 1
    output = capsys.readouterr()
    assert "shifted by 2 lines" in output.out
    assert output.err.count("\n") == 1


def test_a_training_warns_of_shifted_lines(task, caplog):
    path = task.paths["train.tgt"]
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    short = {"max_steps": 2, "validate_every": 2}
    assert main(["train", str(task.config_file("rnn", name="whole", train=short))]) == 0
    assert "shifted" not in caplog.text
    path.write_text("".join([*lines[2:], *lines[:2]]), encoding="utf-8")
    assert main(["train", str(task.config_file("rnn", name="shifted", train=short))]) == 0
    [warning] = [each for each in caplog.messages if "targets are shifted by 2 lines" in each]
    assert warning.startswith("warning: train: ")
    assert warning.endswith("(nmt check shows examples)")
    # A start that resumes or finds a finished run does not look again
    caplog.clear()
    assert main(["train", str(task.config_file("rnn", name="shifted", train=short))]) == 0
    assert "shifted" not in caplog.text
