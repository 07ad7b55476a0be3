"""Attention learns given word alignments: from files to the error rate, and to the same bits after a kill."""

import pytest

from nmt.cli import main
from nmt.config.load import load_config
from nmt.data.prepare import prepare_corpus
from nmt.insight.attention import merged, read_maps
from nmt.run.differences import differences
from nmt.run.directory import Run
from nmt.translation.loading import load_translator
from tests.integration.test_scripts import script
from tests.runs import train_through_kills

TRAIN = {
    "max_steps": 30, "validate_every": 30, "valid_beam_size": 1, "checkpoint_every": 15, "batch_tokens": 512,
    "schedule": {"name": "constant", "warmup_steps": 3}, "ema_decay": None, "optimizer": {"lr": 0.01},
    "terms": {"guided_alignment": {"weight": 2.0}},
}  # fmt: skip


def aligned(task, part="train"):
    """Write the alignments of a part, whose translations are its sentences backwards, and return the path."""
    path = task.folder / f"{part}.align"
    counts = [len(line.split()) for line in task.paths[f"{part}.src"].read_text().splitlines()]
    path.write_text("".join(" ".join(f"{n}-{count - 1 - n}" for n in range(count)) + "\n" for count in counts))
    return path


def guided(task, family, name, **train):
    src, tgt = (str(task.paths[f"train.{side}"]) for side in ("src", "tgt"))
    data = {"train": {"kind": "text", "src": src, "tgt": tgt, "alignments": str(task.folder / "train.align")}}
    tokenizer = {"vocab_size": 36, "sampling": {"alpha": 0.5}}  # other subwords of the same words in each epoch
    sections = {"search": {"beam_size": 1}, "evaluation": {"metrics": ["bleu"]}}
    return task.config_file(family, name, data=data, tokenizer=tokenizer, train={**TRAIN, **train}, **sections)


def test_attention_learns_alignments_and_a_resume_ends_with_the_same_bits(task, monkeypatch, capsys):
    aligned(task)
    assert main(["train", str(guided(task, "transformer", "alone"))]) == 0
    alone = Run(task.folder / "runs" / "alone")
    config = load_config(guided(task, "transformer", "killed"))
    killed = train_through_kills(config, [7, 20], monkeypatch)
    assert list(differences(alone, killed)) == []
    # The error rate that the script prints is that of maps read sentence by sentence
    files = [str(task.paths["test.src"]), str(task.paths["test.tgt"]), str(aligned(task, "test"))]
    capsys.readouterr()
    options = ["--src", files[0], "--tgt", files[1], "--gold", files[2], "--heads"]
    assert script(monkeypatch, "alignment_error.py", str(alone.path), *options) == 0
    table = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| /")]
    head = next(row for row in table if row[1] == "layer 1, head 1")
    translator = load_translator(alone)
    tokenizer, right, words = translator.tokenizer, 0, 0
    lines = [task.paths[f"test.{side}"].read_text().splitlines() for side in ("src", "tgt")]
    for src, tgt in zip(*lines, strict=True):
        ids = tokenizer.encode_src([src])[0], tokenizer.encode_tgt([tgt])[0]
        [maps] = read_maps(translator.engine.model, tokenizer, ids[0], [ids[1]])
        weights = merged(maps.cross[0, 0, :-1, :-1], tokenizer.tgt_words(ids[1]), tokenizer.src_words(src))
        found = weights.argmax(1).tolist()
        words += len(found)
        right += sum(place == len(found) - 1 - n for n, place in enumerate(found))
    assert float(head[2]) == pytest.approx(1 - right / words, abs=6e-4)
    assert right / words > 0.4  # by chance 0.25: a sentence has four words
    assert (
        script(monkeypatch, "alignment_error.py", str(alone.path), *options[:-1], "--threshold", "0.3", "--shift") == 0
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (lambda lines: lines[:-3], "train.align has 597 lines, fewer than"),
        (lambda lines: [*lines, "0-0"], "train.align has 601 lines but"),
        (lambda lines: ["0-9", *lines[1:]], "train.align:1: 0-9: the target line has"),
        (lambda lines: [lines[0], "9-0", *lines[2:]], "train.align:2: 9-0: the source line has"),
        (lambda lines: [""] * 600, "none of 600 training pairs has word alignments that fit its subwords"),
        (lambda lines: ["0:1", *lines[1:]], "train.align:1: the word alignments are '0:1'; write them as 0-0 1-2"),
    ],
)
def test_files_that_do_not_fit_are_one_clear_line(task, capsys, content, said):
    path = aligned(task)
    path.write_text("".join(f"{line}\n" for line in content(path.read_text().splitlines())))
    assert main(["train", str(guided(task, "rnn", "run"))]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert said in error


def test_links_stay_with_their_pairs(task, capsys):
    """Pairs before a pair are dropped or skipped; blank lines are pairs without links."""
    path = aligned(task)
    lines = path.read_text().splitlines()
    lines[5], lines[9] = "", "x"
    path.write_text("".join(f"{line}\n" for line in lines))
    src = task.paths["train.src"].read_text().splitlines()
    src[2] = "one " * 300
    task.paths["train.src"].write_text("".join(f"{line}\n" for line in src))
    config = guided(task, "rnn", "run")
    overrides = ["--set", "data.train.on_bad_row=skip", "data.cleaning.max_tokens=60"]
    assert main(["prepare", str(config), *overrides]) == 0

    corpus = prepare_corpus(load_config(config, overrides[1:]).data)
    text = corpus.part("train")
    links = {text.src(n): text.links(n) for n in range(len(text))}
    assert src[9] not in links
    assert src[2] not in links
    for number, line in enumerate(src):
        if line in links:
            assert links[line] == lines[number]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--src", "a"], "--src, --tgt and --gold belong together; name all three files"),
        (["--sentences", "0"], "--sentences 0: must be at least 1"),
        (["--threshold", "2"], "--threshold 2.0: must be above 0 and at most 1"),
        (["--src", "test.src", "--tgt", "test.tgt", "--gold", "bad"], "bad:2: '0=1' is not a link"),
        (["--src", "test.src", "--tgt", "test.tgt", "--gold", "short"], "the files have different numbers of lines"),
        (["--src", "test.src", "--tgt", "test.tgt", "--gold", "far"], "line 1: word 99 of the source"),
    ],
)
def test_errors_of_the_script(place, monkeypatch, capsys, options, said):
    count = len((place.path / "test.src").read_text().splitlines())
    place.write("bad", b"0-0\n0=1\n" + b"\n" * (count - 2))
    place.write("far", b"99-0\n" + b"\n" * (count - 1))
    place.write("short", b"0-0\n")
    assert script(monkeypatch, "alignment_error.py", "c", *options) == 2
    assert said in capsys.readouterr().err
