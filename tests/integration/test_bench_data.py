"""benchmarks/bench_data.py and bench_clean.py: the corpora they grow, what they measure, the sections they write."""

import itertools
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import bench_clean
import bench_data

from nmt.data.rules import PAIR_RULES

BASE = [(f"s{i} a b c", f"t{i} x y z") for i in range(2000)]


def grown(count, seed=1):
    return list(itertools.islice(bench_data.grow(BASE, seed), count))


def test_a_corpus_grows_by_edits_and_its_head_stays():
    pairs = grown(10_000)
    assert grown(3000) == pairs[:3000]
    assert grown(3000, seed=2) != pairs[:3000]
    lacking = sum(not tgt for _, tgt in pairs)
    assert 1 <= lacking <= 30  # 10 in the mean
    assert len(set(pairs[:2000]) & set(BASE)) >= 1980  # the real pairs themselves come first
    assert pairs[:2000] != BASE
    assert 0.975 < len(set(pairs)) / len(pairs) < 0.999
    words = {word for src, _ in pairs for word in src.split()}
    assert len(words) > 1.1 * len({word for src, _ in BASE for word in src.split()})


def test_memory_is_that_of_all_processes_together():
    child = "import time; held = bytearray(300 << 20); time.sleep(1)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    found = bench_data.measure([sys.executable, "-c", parent], [])
    assert 300 << 20 < found.peak < 500 << 20
    assert found.seconds > 1


def test_lines_are_timed_and_the_last_one_ends_it():
    program = "import sys, time\nfor i in range(100): print('line', i, file=sys.stderr, flush=True); time.sleep(0.1)"
    found = bench_data.measure([sys.executable, "-c", program], ["line 1 ", "line 2"], "line 4")
    assert "line 1 " not in found.marks
    assert 0.2 <= found.marks["line 2"] <= found.seconds - 0.2
    assert found.seconds < 9


def test_a_command_that_fails_says_why():
    with pytest.raises(bench_data.DataError, match=r"ended with exit code 3: no such thing$"):
        bench_data.measure(
            [sys.executable, "-c", "import sys; print('no such thing', file=sys.stderr); sys.exit(3)"], []
        )


def test_the_section(task, monkeypatch, tmp_path, capsys):
    out = tmp_path / "made" / "data.md"
    (tmp_path / "work").mkdir()
    arguments = [
        "bench_data.py", "--pairs", "2000", "3000", "--repeats", "1", "--steps", "2", "--vocab-size", "50",
        "--src", str(task.paths["train.src"]), "--tgt", str(task.paths["train.tgt"]),
        "--folder", str(tmp_path / "work"), "--out", str(out),
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", arguments)
    bench_data.main()
    section = out.read_text(encoding="utf-8")
    assert section in capsys.readouterr().out
    assert section.startswith("## Data at scale\n")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:3] == "| 2"]
    rows += [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:3] == "| 3"
    ]
    assert [row[0] for row in rows] == ["2,000", "3,000"]
    for row in rows:
        pairs, prepare, rate, peak, first, peak_of_training = (
            float(row[i].replace(",", "")) for i in (0, 2, 4, 5, 6, 7)
        )
        assert rate == pytest.approx(pairs / prepare, rel=0.05)
        assert sum(map(float, row[3].split(" + "))) <= prepare + 0.2
        assert 0 < first < 60
        assert 100 < peak < 4000  # MiB
        assert 100 < peak_of_training < 4000
    assert not list((tmp_path / "work").iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--src", "a"], "--src and --tgt belong together: one file of sources, one of their translations"),
        (
            ["--pairs", str(10**15)],
            r"bench-data-\w+: \d+ GB are free, about 700000000 needed; name a place by --folder",
        ),
    ],
)
def test_mistakes(monkeypatch, arguments, message):
    monkeypatch.setattr(sys, "argv", ["bench_data.py", *arguments])
    with pytest.raises(bench_data.DataError, match=message):
        bench_data.main()


def test_cleaning_is_measured_with_and_without_rules(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench_clean.py", "--pairs", "300", "600", "--out", str(tmp_path / "clean.md")])
    bench_clean.main()
    results = json.loads((tmp_path / "clean.json").read_text())
    assert results["sizes"] == [300, 600]
    for name in ("none", "all"):
        assert all(seconds > 0 and memory > 1 << 25 and kept for seconds, memory, kept in results["results"][name])
    assert [row[0].strip("`") for row in results["rules"]] == [*PAIR_RULES]
    assert "| all | 10,000,000 (extrapolated) |" in capsys.readouterr().out
