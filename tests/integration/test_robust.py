"""``nmt evaluate --robust``."""

import json

import sacrebleu

from nmt.cli import main
from nmt.evaluation.robustness import VARIANTS


def test_each_variant_is_shown_and_stored_beside_the_set(place, capsys) -> None:
    stored = place.run / "evaluation"
    assert main(["evaluate", "c"]) == 0
    plain, translations = json.loads((stored / "tiny.json").read_text()), (stored / "tiny.hyp").read_bytes()
    capsys.readouterr()
    assert main(["evaluate", "c", "--robust"]) == 0
    shown = capsys.readouterr().out
    assert (stored / "tiny.hyp").read_bytes() == translations
    original = json.loads((stored / "tiny.json").read_text())
    assert all(original[section].pop("bleu-uncased") for section in ("signatures", "intervals"))
    assert original.pop("bleu-uncased") >= original["bleu"]
    assert original == plain
    assert not (stored / "earlier").exists()
    sources = (place.path / "test.src").read_text().splitlines()
    references = (place.path / "test.tgt").read_text().splitlines()
    for name in VARIANTS:
        stem = stored / f"tiny@{name}"
        hypotheses = stem.with_name(f"{stem.name}.hyp").read_text().splitlines()
        record = json.loads(stem.with_name(f"{stem.name}.json").read_text())
        assert record["chrf"] == sacrebleu.corpus_chrf(hypotheses, [references]).score
        [row] = [line.split() for line in shown.splitlines() if line.startswith(f"{name} ")]
        folded = [[line.casefold() for line in lines] for lines in (hypotheses, references)]
        assert record["bleu-uncased"] == sacrebleu.corpus_bleu(folded[0], [folded[1]]).score
        assert {f"{record['chrf']:.2f}", f"{record['bleu-uncased']:.2f}"} <= {*row}
        lines = [json.loads(line) for line in stem.with_name(f"{stem.name}.jsonl").read_text().splitlines()]
        assert row[1] == str(sum(one["source"] != source for one, source in zip(lines, sources, strict=True)))


def test_a_plain_evaluation_keeps_the_further_scores_of_the_same_translations(place) -> None:
    stored, config = place.run / "evaluation", place.run / "config.yaml"
    assert main(["evaluate", "c", "--robust"]) == 0
    files = [stored / f"tiny.{ending}" for ending in ("json", "jsonl", "hyp")]
    before = [path.read_text() for path in files]
    assert main(["evaluate", "c"]) == 0
    after = [path.read_text() for path in files]
    assert json.loads(after[0]) == json.loads(before[0])
    assert after[1:] == before[1:]
    assert "bleu-uncased" in json.loads((place.run / "run.json").read_text())["scores"]["tiny"]
    # Other settings of the metrics
    text = config.read_text()
    assert "lowercase: false" in text
    config.write_text(text.replace("lowercase: false", "lowercase: true"))
    assert main(["evaluate", "c"]) == 0
    record = json.loads(files[0].read_text())
    assert record["signatures"].keys() == {"bleu", "chrf", "ter"}
    assert not {"bleu-uncased"} & record.keys()
    assert "bleu-uncased" not in json.loads(files[1].read_text().splitlines()[0])


def test_variants_of_a_file_and_of_another_search(place, capsys) -> None:
    command = ["evaluate", "c", "--robust", "--src", "test.src", "--ref", "test.tgt"]
    assert main(command) == 0
    assert "test.src with changed sources:" in capsys.readouterr().out
    assert any((place.run / "evaluation" / "files").glob("test.src@upper.*.json"))
    assert main(["evaluate", "c", "--robust", "--set", "search.beam_size=1"]) == 0
    assert (place.run / "evaluation" / "tiny@upper@beam_size=1.json").exists()
