"""Comparison of two groups of runs, on runs whose translations are written by hand."""

import csv
import hashlib
import io
import json
import random
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from nmt.cli import main
from nmt.config.evaluation import EvaluationConfig
from nmt.config.load import validate_config
from nmt.errors import DataError
from nmt.evaluation import comparison, comparison_report
from nmt.evaluation.comparison import Words, health, rarest_words
from nmt.evaluation.evaluated import EvaluatedRun, Stored, common
from nmt.run.directory import Run

WORDS = ["the", "a", "dog", "cat", "house", "tree", "sees", "finds", "small", "green", "old", "man", "quickly"]


def lines(count: int = 40, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(5, 14))) for _ in range(count)]


def damaged(text: list[str], rate: float, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choice(WORDS) if rng.random() < rate else w for w in line.split()) for line in text]


def config(name: str, **more) -> dict:
    source = {"kind": "text", "src": "x", "tgt": "y"}
    data = {"src_lang": "en", "tgt_lang": "de", "train": source, "valid": source, "test": {"tiny": source}}
    return {"name": name, "data": data, "model": {"type": "rnn"}, "train": {"max_steps": 5}, **more}


def write(folder: Path, name: str, sets: dict[str, tuple], **more) -> Run:
    run = Run(folder / name)
    run.evaluation.mkdir(parents=True)
    run.config_path.write_text(yaml.safe_dump(config(name, **more)))
    run.manifest_path.write_text("{}")
    for label, (sources, references, hypotheses) in sets.items():
        text = "".join(f"{line}\n" for line in hypotheses)
        rows = [
            {"source": s, "reference": r, "hypothesis": h}
            for s, r, h in zip(sources, references, hypotheses, strict=True)
        ]
        (run.evaluation / f"{label}.hyp").write_text(text)
        (run.evaluation / f"{label}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        record = {"sentences": len(rows), "hypotheses": hashlib.sha256(text.encode()).hexdigest()}
        (run.evaluation / f"{label}.json").write_text(json.dumps(record))
    return run


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Runs a1, a2, b1, b2 with seeds 1 and 2, of which b are better."""
    sources, references = lines(seed=1), lines()
    for seed in (1, 2):
        for name, rate, attention in (("a", 0.4, "dot"), ("b", 0.2, "general")):
            found = damaged(references, rate, 10 * seed + len(attention))
            model = {"type": "rnn", "attention": attention}
            write(tmp_path / "runs", f"{name}{seed}", {"tiny": (sources, references, found)}, seed=seed, model=model)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sacrebleu(folder: Path, names: tuple[str, str], kind: str) -> list[str]:
    """p-values of BLEU, chrF and TER by sacreBLEU's command, of the second run against the first, with 4 digits."""
    (folder / "ref").write_text("".join(f"{line}\n" for line in lines()))
    for name in names:  # the command names the systems by their files
        shutil.copyfile(folder / "runs" / name / "evaluation" / "tiny.hyp", folder / name)
    command = [sys.executable, "-m", "sacrebleu", "ref", "-i", *names, "-m", "bleu", "chrf", "ter"]
    command += ["--ter-case-sensitive", kind, "-f", "text", "--no-color"]  # its JSON fails: float32
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return re.findall(r"\(p = ([\d.]+)\)", done.stdout)


def csv_of(path: Path) -> dict[tuple, str]:
    return {tuple(row[:3]): row[3] for row in csv.reader(io.StringIO(path.read_text()))}


@pytest.mark.parametrize("names", [("a1", "b1"), ("b2", "b1")])
def test_p_values_are_those_of_the_command(folder, names) -> None:
    assert main(["compare", names[0], "--", names[1], "--csv", "out.csv", "--set-name", "tiny"]) == 0
    found = csv_of(folder / "out.csv")
    for kind, label in (("--paired-bs", "p bootstrap"), ("--paired-ar", "p randomisation")):
        ours = [
            f"{float(found[(label, f'{names[1]} - {names[0]}', metric)]):.4f}" for metric in ("bleu", "chrf", "ter")
        ]
        assert ours == sacrebleu(folder, names, kind)


def test_means_deviations_keys_and_pairs(folder, capsys) -> None:
    assert main(["compare", "a1", "a2", "--", "b2", "b1", "--csv", "out.csv"]) == 0
    found, text = csv_of(folder / "out.csv"), capsys.readouterr().out
    for side in "ab":
        values = [float(found[("scores", f"{side}{seed}", "bleu")]) for seed in (1, 2)]
        assert float(found[("mean", side.upper(), "bleu")]) == pytest.approx(statistics.mean(values))
        assert float(found[("sd", side.upper(), "bleu")]) == pytest.approx(statistics.stdev(values))
    assert {key[1] for key in found if key[0] == "p bootstrap"} == {"b1 - a1", "b2 - a2"}  # the seeds pair them
    assert {key[1] for key in found if key[0] == "keys"} == {"seed", "model.attention"}
    assert found[("keys", "model.attention", "B")] == "general"
    assert "no BLEU by training frequency" in text
    assert "±" in text
    # Without equal seeds every pair is tested
    assert main(["compare", "a1", "--", "b1", "b2", "--csv", "out.csv"]) == 0
    assert {key[1] for key in csv_of(folder / "out.csv") if key[0] == "p bootstrap"} == {"b1 - a1", "b2 - a1"}


def test_every_form_and_text_that_is_markup(folder, capsys) -> None:
    one, other = lines(5, 1), lines(5)
    for name, text in (("x_1", "<script>alert(1)</script> & dog"), ("y_1", "$a$ \\cat")):
        write(folder / "runs", name, {"tiny": (one, other, [text] * 5)})
    forms = ["--html", "o.html", "--latex", "o.tex", "--plot", "o.png", "--csv", "o.csv"]
    assert main(["compare", "x_1", *forms, "--", "y_1"]) == 0
    page, tex = (folder / "o.html").read_text(), (folder / "o.tex").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "http" not in page
    assert "A: x\\_1 &" in tex
    assert tex.count("\\\\") == 4  # heading, A, B, difference
    assert (folder / "o.png").read_bytes().startswith(b"\x89PNG")


def test_equal_translations_are_no_significant_difference(folder, capsys) -> None:
    shutil.copytree("runs/a1", "runs/copy")
    assert main(["compare", "a1", "copy", "--latex", "o.tex"]) == 0
    told = capsys.readouterr().out
    assert "note: a1 and copy have the same translations" in told
    [bleu] = [line for line in told.splitlines() if line.startswith("a1  copy  BLEU")]
    assert bleu.split()[3:] == ["+0.00", "0.0010", "0.0001"]  # as sacreBLEU's command has it, but without a star


def test_one_training_in_a_group_twice_is_told(folder, capsys) -> None:
    shutil.copytree("runs/a1", "runs/copy")
    assert main(["compare", "a1", "copy", "a2", "--", "b1", "b2"]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if "same seed" in line]
    assert told == [
        "note: a1 and copy have the same seed and the same translations: A counts one training twice, and its interval "
        "over seeds is too narrow"
    ]


def test_the_cost_of_a_run_that_is_trained_further_is_that_of_its_translations(folder, capsys) -> None:
    run = Run(folder / "runs/a1")
    for path, content in (
        (run.model / "model.json", {"last_step": 40, "training_seconds": 120.0, "steps": [30], "sha256": {}}),
        (run.checkpoints / "step-00000090/state.json", {"progress": {"step": 90, "seconds": 300.0}}),
        (run.metrics, {"step": 95}),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content) + "\n")
    cost = Stored("a1", run).read("tiny").cost
    assert (cost.steps, cost.minutes) == (40, 2.0)
    assert main(["compare", "a1", "b1"]) == 0
    assert "note: runs/a1 is not finished: the training is saved up to step 90, but" in capsys.readouterr().out


def test_minus_signs_in_latex(folder) -> None:
    group = comparison.Group((1.0, 3.0))  # the interval of the mean: 2 - 12.706 * 1
    assert comparison_report._spread(group, True, 2) == r"2.00 $\pm$ 1.41 [$-$10.71, 14.71]"
    assert comparison_report._spread(group, False, 2) == "2.00 ± 1.41 [-10.71, 14.71]"


def test_two_runs_need_no_parting(folder, capsys) -> None:
    assert main(["compare", "a1", "b1"]) == 0
    assert "BLEU by words of the source" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["a1", "a2", "b1"], "with -- between them"),
        (["a1", "--"], "no run after --"),
        (["--", "a1"], "no run before --"),
        (["a1", "--", "--", "b1"], "no run between one -- and the next"),
        (["a1", "--", "a1"], "named twice"),
        (["a1", "--", "nothing"], "no such run"),
        (["a1", "--", "fresh"], "not evaluated yet"),
        (["a1", "--", "elsewhere"], "no common test set: tiny: evaluated for a1 but not for elsewhere"),
        (["a1", "--", "other_set"], "add it to data.test of other_set and repeat nmt train, which evaluates"),
        (["a1", "--", "others"], "the references of a1 and others differ, first in line 3"),
        (["a1", "--", "sources"], "the sources of a1 and sources differ, first in line 1"),
        (["a1", "--", "short"], "has 40 sources in a1 but 39 in short"),
        (["a1", "--", "torn"], "damaged"),
        (["a1", "--", "record"], "tiny.json: damaged; evaluate the run again: nmt evaluate runs/record\n"),
        (["record", "--", "a1"], "tiny.json: damaged"),
        (["a1", "--", "news"], "tiny: evaluated for a1 but not for news (which has valid, news)"),
        (
            ["a1", "news", "--set-name", "valid"],
            "valid.json: damaged; evaluate the run again: nmt evaluate runs/news --set-name valid",
        ),
        (["a1", "--", "b1", "--set-name", "news"], "no run has results of this set; evaluated are a1: tiny"),
        (["a1", "--", "b1", "--plot", "x.doc"], "not an image format"),
        (["a1", "--", "b1", "--plot", ""], "--plot: the name is empty"),
        (["a1", "--", "b1", "--csv", "x", "--latex", "./x"], "--csv names the same file"),
        (["a1", "--", "stale"], "are of earlier weights; evaluate the run again: nmt evaluate runs/stale"),
        (["a1", "--", "b1", "--csv", "no/where.csv"], "cannot be opened"),
    ],
)
def test_each_mistake_has_one_line(folder, capsys, arguments, told) -> None:
    sources, references = lines(seed=1), lines()
    changed = [*references[:2], "another", *references[3:]]
    runs = folder / "runs"
    write(runs, "fresh", {})
    write(runs, "elsewhere", {"news": (lines(seed=5), references, references)})
    other = write(runs, "other_set", {"news": (lines(seed=5), references, references)})
    other.config_path.write_text(other.config_path.read_text().replace("tiny:", "news:"))
    write(runs, "others", {"tiny": (sources, changed, references)})
    write(runs, "sources", {"tiny": (lines(seed=6), references, references)})
    write(runs, "short", {"tiny": (sources[:39], references[:39], references[:39])})
    stale = write(runs, "stale", {"tiny": (sources, references, references)})
    stale.model.mkdir()
    (stale.model / "model.json").write_text('{"sha256": {"model.safetensors": "new"}}')
    about = json.loads((stale.evaluation / "tiny.json").read_text())
    (stale.evaluation / "tiny.json").write_text(json.dumps({**about, "model": "old"}))
    record = write(runs, "record", {"tiny": (sources, references, references)})
    (record.evaluation / "tiny.json").write_text('{"bleu": 3')
    news = write(runs, "news", {"news": (lines(seed=5), references, references)})
    (news.evaluation / "valid.json").write_text("[]")
    torn = write(runs, "torn", {"tiny": (sources, references, references)})
    (torn.evaluation / "tiny.hyp").write_text("x\n" * 40)
    try:
        code = main(["compare", *arguments])
    except SystemExit as ended:
        code = ended.code
    error = capsys.readouterr().err
    assert code == 2
    assert told in error
    assert error.count("\n") == 1


def test_a_set_under_another_name_is_found_by_its_sources(folder) -> None:
    sources, references = lines(seed=1), lines()
    write(folder / "runs", "c", {"flickr": (sources, references, references)})
    stored = [Stored(name, Run(folder / "runs" / name)) for name in ("a1", "c")]
    name, found = common(stored)
    assert (name, [one.name for one in found]) == ("tiny", ["a1", "c"])
    assert common(stored, "flickr")[0] == "flickr"
    with pytest.raises(DataError, match="no run has results"):
        common(stored, "valid")


def evaluated(*rows: tuple[str, str, str]) -> EvaluatedRun:
    sources, references, hypotheses = (list(column) for column in zip(*rows, strict=True))
    return EvaluatedRun("r", validate_config(config("r"), "r"), sources, references, hypotheses)


def test_alarms() -> None:
    good = ("one two three four", "eins zwei drei vier", "eins zwei drei vier")
    words = Words(EvaluationConfig())
    fine = health(evaluated(*[good] * 9), words)
    assert (fine.loops, fine.copies, fine.empty, fine.length, fine.alarms) == (0, 0, 0, 1, [])
    # 4-grams of "a a a a a a": 3 of the same, at least 2 more than in source and reference
    looped = ("one two three four", "eins zwei drei vier", "a a a a a a")
    copied = ("one two three four", "eins zwei drei vier", "one two drei vier")
    named = ("Ann met Bob Carr", "Ann traf Bob Carr", "Ann traf Bob Carr")  # names are in the reference as well
    found = health(evaluated(good, looped, copied, named, ("a", "b", "")), words)
    assert (found.loops, found.copies, found.empty) == (0.2, 0.2, 0.2)
    assert found.length == pytest.approx((4 + 6 + 4 + 4) / (4 + 4 + 4 + 4 + 1))
    assert len(found.alarms) == 3
    assert health(evaluated(("x", "a b c d e", "a b c")), words).alarms == [
        "the translations have 60% of the length of the references"
    ]


def test_three_groups(folder, capsys) -> None:
    """Each is compared with the first; the sentences are those of the first and the best of the others."""
    sources, references = lines(seed=1), lines()
    write(folder / "runs", "c", {"tiny": (sources, references, references)}, seed=1)
    assert main(["compare", "a1", "--", "b1", "b2", "--", "c", "--csv", "out.csv"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^C \(c\) +100\.00 \[100\.00, 100\.00\]", shown, re.MULTILINE)
    kinds = ("scores", "mean", "upper", "difference")
    found = csv.reader(io.StringIO(Path("out.csv").read_text()))
    rows = {tuple(row[:3]): float(row[3]) for row in found if row[0] in kinds}
    b = [rows["scores", name, "bleu"] for name in ("b1", "b2")]
    assert rows["mean", "B", "bleu"] == pytest.approx(statistics.mean(b))
    half = 12.706204736 * abs(b[0] - b[1]) / 2  # t for one degree of freedom, and s / √2 = |b1 - b2| / 2
    assert rows["upper", "B", "bleu"] - rows["mean", "B", "bleu"] == pytest.approx(half, rel=1e-6)
    assert rows["difference", "c - a1", "bleu"] == pytest.approx(100 - rows["scores", "a1", "bleu"])
    assert "sentences on which C is better by most" in shown


@pytest.mark.parametrize(("freedom", "table"), [(1, 12.7062), (2, 4.3027), (4, 2.7764), (9, 2.2622), (30, 2.0423)])
def test_quantiles_of_student_s_distribution(freedom, table) -> None:
    """Values of printed tables."""
    assert comparison.student_quantile(0.975, freedom) == pytest.approx(table, abs=5e-5)


def test_frequency_of_the_rarest_word() -> None:
    words = Words(EvaluationConfig())
    training = ["the dog .", "the cat", "the dog"]
    assert rarest_words(["the dog", "the cat", "the fish", "", "the"], training, words) == [2, 1, 0, 0, 3]
    run = evaluated(*[("s", "the dog runs home", "the dog runs home")] * 3, ("s", "the dog runs home", "no"))
    bins = comparison.binned(([run], [run]), [0, 1, 5, 7], (0, 1, 4, 9), EvaluationConfig())
    assert [(one.label, one.sentences) for one in bins] == [("0", 1), ("1", 1), ("5-9", 2)]
    assert bins[0].bleu == (pytest.approx(100), pytest.approx(100))
    assert bins[2].bleu[0] < 100


def test_sentences_that_differ_most() -> None:
    texts = ["the old dog sees a cat", "a small tree", "the green house"]
    a = evaluated(*[("s", text, text) for text in texts[:2]], ("s", texts[2], "nothing"))
    b = evaluated(("s", texts[0], "wrong"), *[("s", text, text) for text in texts[1:]])
    found = comparison.compare("tiny", ([a], [b]), list)
    better, worse = found.extremes(2)
    assert ([one.number for one in better], [one.number for one in worse]) == ([3], [1])
    assert "sentences on which B is better by most" in comparison_report.text(found)
    # Of several runs: the mean, and the translation nearest to it
    worst, half = (evaluated(*[("s", text, cut) for text in texts]) for cut in ("", "the old dog sees a cat"))
    found = comparison.compare("tiny", ([worst, half, half], [b]), list)
    [first] = [one for one in found.sentences if one.number == 1]
    assert (first.hypotheses[0], first.chrf[0]) == ("the old dog sees a cat", pytest.approx(200 / 3))
