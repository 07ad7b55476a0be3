"""Back-translation and sequence-level distillation: resumed, shared and read by a training."""

import contextlib
import gzip
import json

import pytest

from nmt.augment import parts
from nmt.cli import main
from nmt.config.data import DataConfig
from nmt.data.prepare import prepare_corpus
from nmt.storage import atomic

SAMPLE = ["--search", "method=sample", "temperature=0.5", "max_length_ratio=4", "max_length_offset=40"]


@pytest.fixture
def mono(place, monkeypatch) -> str:
    """A file of 42 lines, 2 of them blank and 1 too long, in blocks of 8."""
    monkeypatch.setattr(parts, "BLOCK", 8)
    lines = (place.path / "valid.src").read_text().splitlines() + (place.path / "test.src").read_text().splitlines()
    lines = [*lines[:9], "", "one " * 100, " \t", *lines[9:39]]
    (place.path / "mono.gz").write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode()))
    return "mono.gz"


def back(out, *more, mono="mono.gz") -> int:
    return main(["backtranslate", "c", "--mono", mono, "--out", out, *SAMPLE, *more])


def corpus_of(source: dict):
    held = {"kind": "text", "src": "test.tgt", "tgt": "test.src"}
    data = {"src_lang": "de", "tgt_lang": "en", "train": source, "valid": held, "store": "other-store"}
    return prepare_corpus(DataConfig.model_validate(data))


def test_rows_are_the_lines_of_the_file_with_their_translations(place, mono, capsys):
    assert back("bt.tsv") == 0
    told = capsys.readouterr().out
    lines = gzip.decompress((place.path / mono).read_bytes()).decode().splitlines()
    rows = [line.split("\t") for line in (place.path / "bt.tsv").read_text().splitlines()]
    assert rows
    assert all(given == lines[int(number) - 1] for _, given, number in rows)
    account = json.loads((place.path / "bt.tsv.manifest").read_text())
    assert account["skipped"]["blank lines"] == 2
    assert account["skipped"]["lines with more subwords than the model reads"] == 1
    assert account["pairs"] == len(rows) == 42 - sum(account["skipped"].values())
    assert '{name: back, source: {kind: tsv, path: "bt.tsv", header: false}, tag: "<bt>", weight: 1}' in told
    assert not (place.path / "bt.tsv.parts").exists()


def test_killed_and_resumed_is_one_run(place, mono, monkeypatch, capsys):
    assert back("whole.jsonl.gz", "--scores") == 0
    write, written = parts.write_text, []

    def killed(path, text):
        if len(written) % 3 == 2:
            written.append(None)
            raise KeyboardInterrupt
        write(path, text)
        written.append(path.name)

    monkeypatch.setattr(parts, "write_text", killed)
    with contextlib.suppress(KeyboardInterrupt):
        assert back("killed.jsonl.gz", "--scores") == 130
    assert not (place.path / "killed.jsonl.gz").exists()
    # A block of other settings and a block that is damaged are not used.
    monkeypatch.setattr(parts, "write_text", write)
    (place.path / "killed.jsonl.gz.parts" / written[0]).write_text('{"rows": [')
    assert main(["backtranslate", "c", "--mono", mono, "--out", "killed.jsonl.gz", "--shard", "1/6"]) == 0
    assert back("killed.jsonl.gz", "--scores", "--search", "batch_tokens=40") == 0
    assert (place.path / "killed.jsonl.gz").read_bytes() == (place.path / "whole.jsonl.gz").read_bytes()


@pytest.mark.parametrize("search", [["--search", "no_repeat_ngram=1", "max_length_offset=60"], SAMPLE])
def test_any_batch_size_and_any_shards_give_the_same_corpus(place, mono, search, capsys):
    command = ["backtranslate", "c", "--mono", mono, *search]
    assert main([*command, "--out", "whole.tsv"]) == 0
    for number in (2, 1):
        assert not (place.path / "shards.tsv").exists()
        more = ["--search", f"batch_tokens={20 * number}"]
        assert main([*command, "--out", "shards.tsv", "--shard", f"{number}/2", *more]) == 0
    assert "left to other shards" in capsys.readouterr().out
    assert (place.path / "shards.tsv").read_bytes() == (place.path / "whole.tsv").read_bytes()
    assert main([*command, "--out", "shards.tsv"]) == 0
    assert "was whole already" in capsys.readouterr().out


@pytest.mark.parametrize("out", ["bt.tsv", "bt.tsv.gz", "bt.jsonl", "folder", "other/"])
def test_a_training_reads_the_corpus(place, mono, out, capsys):
    import yaml

    assert back(out) == 0
    printed = capsys.readouterr().out
    dataset = yaml.safe_load(printed[printed.index("data:") :])["data"]["train"][1]
    assert dataset["tag"] == "<bt>"
    rows = json.loads(
        (place.path / (out.rstrip("/") + ("/manifest.json" if "." not in out else ".manifest"))).read_text()
    )
    corpus = corpus_of(dataset["source"])
    assert corpus.manifest["read"] == rows["pairs"] > 0


def test_scores_are_those_of_nmt_score_and_filter(place, mono, capsys):
    assert back("bt.tsv", "--scores") == 0
    rows = [line.split("\t") for line in (place.path / "bt.tsv").read_text().splitlines()]
    place.write("s", "".join(f"{given}\n" for _, given, *_ in rows).encode())
    place.write("t", "".join(f"{synthetic}\n" for synthetic, *_ in rows).encode())
    capsys.readouterr()
    assert main(["score", "c", "--src", "s", "--tgt", "t", "--mean"]) == 0
    expected = [float(line) for line in capsys.readouterr().out.split()]
    found = [float(row[3]) for row in rows]
    assert found == pytest.approx(expected, abs=2e-4)
    least = sorted(found)[len(found) // 2]
    assert back("best.tsv", "--min-score", str(least - 1e-3)) == 0
    kept = [float(line.split("\t")[3]) for line in (place.path / "best.tsv").read_text().splitlines()]
    assert kept == [score for score in found if score >= least - 1e-3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "bt.txt"], "--out bt.txt: the ending .txt is not known"),
        (["--out", ""], "--out: the name is empty"),
        (["--out", "no/such/bt.tsv"], "--out no/such/bt.tsv: no/such: no such folder; make it"),
        (["--out", "valid.src"], "--out valid.src: the ending .src is not known"),
        (["--out", "runs"], "runs: exists, and was not written by this command"),
        (["--out", "x.tsv", "--shard", "0/3"], "--shard 0/3: the shards of 3 are 1/3 to 3/3"),
        (["--out", "x.tsv", "--shard", "2"], "--shard 2: must be i/n"),
        (["--out", "x.tsv", "--min-score", "nan"], "--min-score nan: must be a number"),
        (["--out", "x.tsv", "--mono", "none.txt"], "none.txt"),
        (["--out", "x.tsv", "--mono", "empty"], "empty: has no lines; name another file"),
        (["--out", "x.tsv", "--mono", "blank"], "x.tsv: not written, no pair of 3 lines is left (3 blank lines)"),
        (["--out", "x.tsv", "--mono", "/dev/null"], "/dev/null"),
        (["--out", "x.tsv", "--tag", "<x>"], "<x>"),
    ],
)
def test_mistakes_are_one_line(place, mono, arguments, message, capsys):
    place.write("empty", b"")
    place.write("blank", b"\n \n\n")
    given = arguments if "--mono" in arguments else [*arguments, "--mono", mono]
    assert main(["backtranslate", "c", *given]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("nmt: ")]
    assert len(error) == 1
    assert message in error[0]


def test_an_existing_corpus_of_other_settings_stays(place, mono, capsys):
    assert back("bt.tsv") == 0
    before = (place.path / "bt.tsv").read_bytes()
    assert back("bt.tsv", "--search", "seed=2") == 2
    assert "search.seed is null there, 2 now" in capsys.readouterr().err
    place.write("more", b"one two\n")
    assert back("bt.tsv", mono="more") == 2
    assert "was made of other text" in capsys.readouterr().err
    assert (place.path / "bt.tsv").read_bytes() == before


def test_a_full_disk_leaves_no_corpus(place, mono, monkeypatch, capsys):
    def full(*arguments):
        raise OSError(28, "No space left on device", "bt.tsv")

    monkeypatch.setattr(atomic, "fsync", lambda path: None)
    monkeypatch.setattr("nmt.augment.output.Output._line", full)
    assert back("bt.tsv") != 0
    assert not (place.path / "bt.tsv").exists()
    monkeypatch.undo()
    monkeypatch.chdir(place.path)
    monkeypatch.setattr(parts, "BLOCK", 8)
    assert back("bt.tsv") == 0


# -------------------------------------------------------------------------------------------------------- distillation


def distil(out, *more) -> int:
    return main(["distil", "c", "--out", out, *more])


def rows_of(path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text().splitlines()]


def test_the_training_sources_get_the_translations_of_the_teacher(place, capsys):
    assert distil("d.tsv", *SAMPLE) == 0
    rows = rows_of(place.path / "d.tsv")
    sources = (place.path / "train.src").read_text().splitlines()
    assert {source for source, *_ in rows} <= {*sources}
    assert '{name: distilled, source: {kind: tsv, path: "d.tsv", header: false}, weight: 1}' in capsys.readouterr().out
    place.write("s", "".join(f"{source}\n" for source, *_ in rows).encode())
    assert main(["translate", "c", "-i", "s", "-o", "t", *SAMPLE]) == 0
    assert [target for _, target, _ in rows] == (place.path / "t").read_text().splitlines()


def test_of_the_n_best_the_nearest_to_the_reference_is_kept(place, capsys):
    """As brute force over the translations that nmt translate writes, with sacreBLEU's own function."""
    from sacrebleu import sentence_chrf

    search = [*SAMPLE, "max_length_offset=300"]
    files = ["--source", "valid.src", "--reference", "valid.tgt"]
    assert distil("d.tsv", *files, "--choose", "chrf", "--nbest", "6", *search) == 0
    command = ["translate", "c", "-i", "valid.src", "-o", "n.jsonl", "--jsonl", "--nbest", "6", *search]
    assert main(command) == 0
    references = (place.path / "valid.tgt").read_text().splitlines()
    found = [json.loads(line) for line in (place.path / "n.jsonl").read_text().splitlines()]
    best = {}
    for number, (row, reference) in enumerate(zip(found, references, strict=True), 1):
        whole = [one["text"] for one in row["translations"] if one["text"]]
        best[number] = max(whole, key=lambda text: sentence_chrf(text, [reference]).score)
    rows = rows_of(place.path / "d.tsv")
    assert {int(number): text for _, text, number in rows} == best
    # The same of the candidates in the file, without a run
    more = ["--candidates", "n.jsonl", "--reference", "valid.tgt", "--choose", "chrf", "--langs", "en-de"]
    assert main(["distil", *more, "--out", "k.tsv"]) == 0
    assert {int(number): text for _, text, number in rows_of(place.path / "k.tsv")} == best
    # And by score
    assert main(["distil", "--candidates", "n.jsonl", "--langs", "en-de", "--out", "s.jsonl"]) == 0
    chosen = [json.loads(line) for line in (place.path / "s.jsonl").read_text().splitlines()]
    for row, one in zip(found, chosen, strict=True):
        whole = [each for each in row["translations"] if each["text"]]
        assert one["de"] == max(whole, key=lambda each: each["score"])["text"]


def test_several_runs_are_one_teacher(place, capsys):
    """The average of a model with itself is that model."""
    files = ["--source", "valid.src", *SAMPLE]
    assert distil("one.tsv", *files) == 0
    assert main(["distil", "c", "runs/c", "--out", "two.tsv", *files]) == 0
    assert (place.path / "one.tsv").read_bytes() == (place.path / "two.tsv").read_bytes()
    settings = [json.loads((place.path / f"{name}.tsv.manifest").read_text())["settings"] for name in ("one", "two")]
    assert settings[0]["weights"] != settings[1]["weights"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "RUN is missing"),
        (["c", "none"], "none: no such run"),
        (["c", "--ensemble-average", "probability"], "--ensemble-average: needs several runs"),
        (["c", "--langs", "en-de"], "the languages are those of the run"),
        (["c", "--dataset", "x"], "--dataset x: no such dataset"),
        (["c", "--source", "valid.src", "--choose", "bleu"], "--choose bleu: needs the translations of people"),
        (["c", "--reference", "valid.tgt"], "--reference: has no effect with --choose score"),
        (["c", "--tag", "<x>"], "--tag: is only for --source; the training pairs have their own"),
        (["c", "--nbest", "0"], "--nbest 0: must be 1 or more"),
        (["--candidates", "valid.src"], "--langs: name the languages"),
        (["c", "--candidates", "valid.src"], 'valid.src:1: must be {"source": TEXT'),
        (["c", "--candidates", "n.jsonl"], "n.jsonl:1: a translation has no score; correct it"),
        (["c", "--candidates", "text.jsonl"], 'text.jsonl:1: a translation has the score "1", which is no number'),
        (["c", "--candidates", "three.jsonl"], 'three.jsonl:1: must be {"source": TEXT'),
        (["c", "--candidates", "half.jsonl"], "half.jsonl:1: key 'text' contains \\ud800, half of a surrogate pair"),
        (["--candidates", "n.jsonl", "--langs", "ende"], "--langs ende: name the languages"),
        (["c", "--candidates", "n.jsonl", "--nbest", "2"], "--nbest: has no effect with --candidates"),
        (["c", "--candidates", "n.jsonl", "--choose", "bleu", "--reference", "valid.tgt"], "n.jsonl has 1 line"),
    ],
)
def test_mistakes_in_distillation_are_one_line(place, arguments, message, capsys):
    place.write("n.jsonl", b'{"source": "one", "translations": [{"text": "eins"}]}\n')
    place.write("text.jsonl", b'{"source": "one", "translations": [{"text": "eins", "score": "1"}]}\n')
    place.write("three.jsonl", b'{"source": 3, "translations": [{"text": "eins", "score": 1}]}\n')
    place.write("half.jsonl", b'{"source": "one", "translations": [{"text": "eins \\ud800", "score": 1}]}\n')
    assert main(["distil", *arguments, "--out", "x.tsv"]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("nmt: ")]
    assert len(error) == 1
    assert message in error[0]
