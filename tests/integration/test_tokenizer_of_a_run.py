"""``tokenizer.run``: a training with the tokenizer of another run."""

import shutil
from pathlib import Path

import pytest
import yaml

from nmt.cli import main
from nmt.config.load import load_config
from nmt.data.tokenizer import Tokenizer
from nmt.run.directory import Run

OTHER = b"one two three\tdrei zwei eins\nsix seven\tsieben sechs\nfour\tvier\nfive\tf\xc3\xbcnf\n" * 3


def other(place, **more):
    """Write ``d.yaml``: another corpus, with the tokenizer of the run ``c``."""
    raw = yaml.safe_load(Path("c.yaml").read_text())
    raw["data"]["train"] = {"kind": "tsv", "path": place.write("other.tsv", OTHER), "header": False}
    raw["data"]["cleaning"] = {"drop_duplicates": False}
    raw["tokenizer"] = {"run": "c", **more}
    raw["train"]["max_steps"] = 2
    Path("d.yaml").write_text(yaml.safe_dump(raw))


def pieces(run: str) -> bytes:
    return (Path("runs") / run / "tokenizer" / "joint.model").read_bytes()


def test_a_training_has_the_tokenizer_and_its_keys(place, capsys):
    other(place)
    assert main(["train", "d.yaml"]) == 0
    assert pieces("d") == pieces("c")
    assert Tokenizer.load(Run.open("d").tokenizer).fingerprint == Tokenizer.load(Run.open("c").tokenizer).fingerprint
    there, here = (load_config(f"{name}.yaml").tokenizer for name in "cd")
    assert here.model_copy(update={"run": None}) == there
    assert (
        main(["translate", "c", "--ensemble", "d", "-i", place.write("in.txt", b"one two\n"), "-o", "out.txt"]) == 0
    )  # an ensemble


def test_a_started_run_needs_the_other_one_no_longer(place, capfd):
    other(place)
    assert main(["train", "d.yaml"]) == 0
    shutil.rmtree("runs/c")
    assert main(["train", "d.yaml", "--set", "train.max_steps=3"]) == 0
    assert main(["train", "d.yaml", "--set", "name=e"]) == 2
    assert capfd.readouterr().err.splitlines()[-1] == "nmt: tokenizer.run: c: no such run; runs here: d"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"vocab_size": 50},
            "nmt: tokenizer.run: c: brings its tokenizer: tokenizer.vocab_size is 50 here and 36 there; remove "
            "these keys. Those that may differ: sampling",
        ),
        ({"run": "nothing"}, "nmt: tokenizer.run: nothing: no such run; runs here: c"),
    ],
)
def test_mistakes_are_one_line(place, capfd, more, message):
    other(place, **more)
    assert main(["train", "d.yaml"]) == 2
    assert capfd.readouterr().err.splitlines() == [message]
    assert not Path("runs/d").exists()


def test_a_tag_that_the_tokenizer_lacks(place, capfd):
    other(place)
    assert main(["train", "d.yaml", "--set", "data.train.tag=<new>"]) == 2
    assert capfd.readouterr().err.splitlines()[-1] == (
        "nmt: data.train: the vocabulary of tokenizer.run lacks <new>; remove the tag or modifier, or name one that "
        "was trained with it"
    )


def test_not_beside_a_model_to_start_from(place, capfd):
    other(place)
    assert main(["train", "d.yaml", "--set", "init={from: c}"]) == 2
    assert "tokenizer.run: init.from brings its own tokenizer; remove tokenizer.run" in capfd.readouterr().err
