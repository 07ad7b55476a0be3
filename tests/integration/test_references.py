"""Several reference translations of a test set: the scores are those of sacreBLEU's command."""

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from nmt.cli import main


def shuffled(path: str, seed: int) -> list[str]:
    """Lines with the words in another order."""
    rng = random.Random(seed)
    return [" ".join(rng.sample(words, len(words))) for words in map(str.split, Path(path).read_text().splitlines())]


@pytest.fixture
def references(place) -> list[str]:
    """Three files: the references of the test set, and two others."""
    for seed, name in ((1, "one.tgt"), (2, "two.tgt")):
        Path(name).write_text("".join(f"{line}\n" for line in shuffled("test.tgt", seed)))
    return ["test.tgt", "one.tgt", "two.tgt"]


def sacrebleu(hypotheses: Path, references: list[str]) -> list[dict]:
    """Scores of sacreBLEU's command: BLEU, chrF, TER."""
    command = [
        sys.executable,
        "-m",
        "sacrebleu",
        *references,
        "-i",
        str(hypotheses),
        "-m",
        "bleu",
        "chrf",
        "ter",
        "-w",
        "6",
    ]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def check(record: dict, expected: list[dict]) -> None:
    for name, found in zip(("bleu", "chrf", "ter"), expected, strict=True):
        assert record[name] == pytest.approx(found["score"], abs=1e-6)
        assert record["signatures"][name].startswith("nrefs:3|")


def test_a_test_set_with_three_references(place, references, capsys) -> None:
    """In the configuration: stored, compared, and scored again only when the references change."""
    path = place.run / "config.yaml"
    raw = yaml.safe_load(path.read_text())
    raw["data"]["test"]["tiny"]["references"] = references[1:]
    path.write_text(yaml.safe_dump(raw))
    assert main(["evaluate", "c"]) == 0
    folder = place.run / "evaluation"
    record = json.loads((folder / "tiny.json").read_text())
    check(record, sacrebleu(folder / "tiny.hyp", references))
    rows = [json.loads(line) for line in (folder / "tiny.jsonl").read_text().splitlines()]
    assert [row["further_references"][1] for row in rows] == Path("two.tgt").read_text().splitlines()
    # The comparison needs no file, and has the same score
    Path("two.tgt").write_text("")
    shutil.copytree(place.run, "runs/other")
    capsys.readouterr()
    assert main(["compare", "c", "other", "--csv", "out.csv"]) == 0
    assert f"scores,c,bleu,{record['bleu']}" in Path("out.csv").read_text()
    assert "nrefs:3" in capsys.readouterr().out
    # A file of another length is refused
    assert main(["evaluate", "c"]) == 2
    assert "two.tgt has 0 lines, but test.tiny has 20 pairs" in capsys.readouterr().err


def test_files_with_several_references(place, references, capsys) -> None:
    assert main(["evaluate", "c", "--src", "test.src", "--ref", *references]) == 0
    [path] = (place.run / "evaluation/files").glob("*.json")
    check(json.loads(path.read_text()), sacrebleu(path.with_suffix(".hyp"), references))
    assert main(["evaluate", "c", "--src", "test.src", "--ref", "test.tgt", "train.tgt"]) == 2
    assert "test.src has 20 lines but train.tgt has 300" in capsys.readouterr().err


@pytest.mark.parametrize("part", ["train", "valid"])
def test_only_test_sets_have_further_references(place, part, capsys) -> None:
    assert main(["prepare", "c.yaml", "--set", f"data.{part}.references=one.tgt", "name=new"]) == 2
    assert f"{part}.references: has no effect, only test sets have them" in capsys.readouterr().err
