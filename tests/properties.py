"""What must hold for whatever a user hands over.

``tests/integration/test_properties.py`` tries each property a few times; for hours of it::

    python -m tests.properties [NAME ...] --minutes 60 --seed 1

which prints how much was tried and found, and ends with exit code 1 if a property was broken.
"""

import argparse
import contextlib
import gzip
import io
import json
import logging
import os
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from nmt.cli import main as nmt_main
from nmt.cli.commands.translate import Options, translate_file
from nmt.config.load import load_config
from nmt.config.search import SearchConfig
from nmt.config.sources import JsonlSource, TextSource, TsvSource
from nmt.data.sources import read_pairs
from nmt.data.sources.base import Reading
from nmt.errors import CheckpointError, ConfigError, DataError, NmtError
from nmt.run import checkpoint as checkpoints
from nmt.translation.pytorch import TorchEngine
from nmt.translation.translator import Translator
from tests.conftest import BASE, Place, make_place
from tests.unit.translation.test_translator import LETTERS, Copier, Letters

ODD = "\r\t\v\f\x1b\x1c\x85\u200b\u200f\u2028\u2029\ufeff\ufffd\U0001f469\u200d\U0001f467"
LINE = st.one_of(
    st.sampled_from(["", " ", "one two three", "\u2028", "a" * 300, "▁", "<s> </s> <unk>"]),
    st.text(st.sampled_from("abc  " + ODD)),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\n")),
)
LINES = st.lists(LINE, max_size=200)
EDIT = st.tuples(st.sampled_from(["cut", "flip", "put", "swap"]), st.floats(0, 1), st.binary(min_size=1, max_size=8))


def edited(content: bytes, edits: list[tuple[str, float, bytes]]) -> bytes:
    """``content`` with bytes cut off, flipped, put in or exchanged at relative places."""
    data = bytearray(content)
    for kind, where, payload in edits:
        at = int(where * max(0, len(data) - 1))
        if kind == "cut":
            del data[at:]
        elif kind == "put":
            data[at:at] = payload
        elif kind == "swap":
            data[at : at + len(payload)] = payload
        elif data:
            data[at] ^= 1 << (payload[0] % 8)
    return bytes(data)


def refused(error: NmtError) -> Counter[str]:
    message = str(error)
    assert message
    assert "\n" not in message
    return Counter(refused=1)


# ------------------------------------------------------------------------------------- configurations raise ConfigError

KEYS = st.sampled_from([
    "data", "data.train", "data.test", "data.test.x", "data.cleaning.max_ratio", "tokenizer", "tokenizer.sampling",
    "tokenizer.normalization", "tokenizer.vocab_size", "tokenizer.joint",
    "model", "model.type", "model.d_model", "model.dropout", "model.attention", "train", "train.max_steps",
    "train.optimizer.lr", "train.optimizer.betas", "train.schedule.name", "train.validate_every", "train.average",
    "search", "search.alpha", "evaluation.tokenize", "seed", "name", "runs", "x.y",
])  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.sampled_from(["rnn", "transformer", "epoch", "1e-4", "~", "0x1f", "2026-01-01", "!!python/name:os", "*a"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)
YAML = st.one_of(
    st.just(BASE),
    st.builds(edited, st.just(BASE), st.lists(EDIT, min_size=1, max_size=6)),
    st.binary(max_size=60),
    st.text(st.sampled_from("abc:-[]{}&*!|>%@`\"'#,?\t\n 01.~<"), max_size=60).map(str.encode),
    VALUES.map(lambda value: json.dumps(value).encode()),
)
OVERRIDES = st.lists(
    st.one_of(
        st.builds(lambda key, value: f"{key}={json.dumps(value)}", KEYS, VALUES),
        st.builds(lambda key, text: f"{key}={text}", KEYS, st.text(max_size=12)),
        st.text(max_size=12),
    ),
    max_size=3,
)


def check_config(place: Place, content: bytes, overrides: list[str]) -> Counter[str]:
    """Only ConfigError comes out of a configuration; one that loads is written and loaded again as it is."""
    place.write("fuzz.yaml", content)
    try:
        config = load_config("fuzz.yaml", overrides)
    except ConfigError:
        return Counter(refused=1)
    place.write("again.yaml", config.to_yaml().encode())
    assert load_config("again.yaml") == config
    return Counter(loaded=1)


# ---------------------------------------------------------------------------------------------- corpora raise DataError

CORPUS = st.one_of(
    st.binary(max_size=80),
    LINES.map(lambda lines: "\n".join(lines).encode()),
    st.lists(st.dictionaries(st.sampled_from(["en", "de", "x"]), VALUES, max_size=3), max_size=5).map(
        lambda rows: "\n".join(map(json.dumps, rows)).encode()
    ),
    st.builds(edited, st.just("one\teins\r\ntwo\tzwei\n\nü\tö".encode()), st.lists(EDIT, max_size=4)),
)


def check_corpus(
    place: Place, kind: str, src: bytes, tgt: bytes, packed: bool, edits: list[tuple[str, float, bytes]]
) -> Counter[str]:
    """Only DataError comes out of a corpus; the pairs of a good one are its lines, none lost and none added."""
    end = ".gz" if packed else ""
    for name, content in (("fuzz.a", src), ("fuzz.b", tgt)):
        place.write(name + end, edited(gzip.compress(content, 1), edits) if packed else content)
    sources = {
        "text": lambda: TextSource(kind="text", src=f"fuzz.a{end}", tgt=f"fuzz.b{end}"),
        "tsv": lambda: TsvSource(kind="tsv", path=f"fuzz.a{end}"),
        "jsonl": lambda: JsonlSource(kind="jsonl", path=f"fuzz.a{end}"),
    }
    try:
        pairs = list(read_pairs(sources[kind](), Reading(("en", "de"))))
    except DataError as error:
        return refused(error)
    assert all("\n" not in side and "\0" not in side for pair in pairs for side in pair)
    if kind != "jsonl" and not edits:
        lines = src.removeprefix(b"\xef\xbb\xbf").split(b"\n")
        lines = lines if lines[-1] else lines[:-1]
        blank = [line for line in lines if not line.decode().strip() and b"\t" not in line]
        assert len(pairs) == len(lines) - (len(blank) if kind == "tsv" else 0)
    return Counter(read=1, pairs=len(pairs))


# ----------------------------------------------------------------------------------- checkpoints raise CheckpointError


def check_checkpoint(place: Place, file: int, edits: list[tuple[str, float, bytes]], model: bool) -> Counter[str]:
    """Only CheckpointError comes out of a damaged checkpoint or model, or else just what was put in."""
    original = place.run / "model" if model else checkpoints.list_checkpoints(place.run / "checkpoints")[-1]
    folder = place.path / "fuzz" / original.name
    shutil.rmtree(folder.parent, ignore_errors=True)
    shutil.copytree(original, folder)
    files = sorted(folder.iterdir())
    path = files[file % len(files)]
    path.write_bytes(edited(path.read_bytes(), edits))
    names = [p.stem for p in original.glob("*.safetensors")]
    try:
        if model:
            found: Any = checkpoints.read_model(folder)
            expected: Any = checkpoints.read_model(original)
        else:
            ours, theirs = checkpoints.open_checkpoint(folder), checkpoints.open_checkpoint(original)
            found = ({name: ours.tensors(name) for name in names}, ours.state)
            expected = ({name: theirs.tensors(name) for name in names}, theirs.state)
    except CheckpointError as error:
        return refused(error)
    assert found[1] == expected[1]
    assert _equal(found[0], expected[0])
    return Counter(harmless=1)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    return torch.equal(one, other)


# ------------------------------------------------------------------------------------------------- lines in, lines out


def check_translate(place: Place, lines: list[str], end: str, last: bool, options: dict[str, Any]) -> Counter[str]:
    """Exactly as many lines come out as went in, in their order."""
    content = end.join(lines) + (end if last else "")
    place.write("fuzz.in", content.encode())
    count = content.count("\n") + (not content.endswith("\n") and content not in ("", "\ufeff"))
    if "\n" not in content and "\r" in content[:-1]:  # one line by our rule, several on an old Mac
        with pytest.raises(DataError, match="carriage return"):
            translate_file("c", "fuzz.in", "fuzz.out", Options(**options))
        return Counter(refused=1)
    translate_file("c", "fuzz.in", "fuzz.out", Options(**options))
    found = (place.path / "fuzz.out").read_bytes().decode()
    assert found.count("\n") == count * (1 if options["jsonl"] else options["nbest"])
    assert found.endswith("\n") or not count
    if options["jsonl"]:
        expected = content.removeprefix("\ufeff").split("\n")[:count]
        assert [json.loads(line)["source"] for line in found.split("\n")[:-1]] == [
            line.removesuffix("\r") for line in expected
        ]
    # The order, by a model that copies what its tokenizer knows of each line.
    letters: Any = Letters()
    width = max(options["beam_size"], options["nbest"])
    search = SearchConfig(beam_size=width)
    translator = Translator(TorchEngine(Copier(), letters, search, torch.device("cpu")), letters, search)
    cut = [line[:40].replace("\n", "") for line in lines]
    copied = [best[0].text for best in translator.translate(cut)]
    known = [line.strip("\r") if line.strip() else "" for line in cut]
    letters_of = ("".join(letter for letter in line if letter in LETTERS) for line in known)
    assert copied == [re.sub("\r+", " ", text) for text in letters_of]
    return Counter(lines=count + len(cut))


def check_bytes(place: Place, content: bytes) -> Counter[str]:
    """Text to translate that is no text ends in one line and leaves no output."""
    place.write("fuzz.in", content)
    (place.path / "fuzz.out").unlink(missing_ok=True)
    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = nmt_main(["translate", "c", "-i", "fuzz.in", "-o", "fuzz.out", "--beam-size", "1"])
    if code == 0:
        return Counter(lines=(place.path / "fuzz.out").read_bytes().count(b"\n"))
    assert code == 2
    assert len([line for line in said.getvalue().splitlines() if line.startswith("nmt: ")]) == 1
    assert "Traceback" not in said.getvalue()
    assert not (place.path / "fuzz.out").exists()
    return Counter(refused=1)


Check = Callable[..., Counter[str]]
PROPERTIES: dict[str, tuple[Check, dict[str, st.SearchStrategy[Any]]]] = {
    "config": (check_config, {"content": YAML, "overrides": OVERRIDES}),
    "corpus": (check_corpus, {
        "kind": st.sampled_from(["text", "tsv", "jsonl"]), "src": CORPUS, "tgt": CORPUS, "packed": st.booleans(),
        "edits": st.lists(EDIT, max_size=3),
    }),
    "checkpoint": (check_checkpoint, {
        "file": st.integers(0, 9), "edits": st.lists(EDIT, min_size=1, max_size=4), "model": st.booleans(),
    }),
    "translate": (check_translate, {
        "lines": st.one_of(LINES, st.lists(LINE, min_size=100, max_size=300)).map(
            lambda lines: [line for line in lines if not line.endswith("\r")]
        ),
        "end": st.sampled_from(["\n", "\r\n"]), "last": st.booleans(),
        "options": st.fixed_dictionaries({
            "beam_size": st.integers(1, 3), "nbest": st.integers(1, 2), "jsonl": st.booleans(), "scores": st.booleans(),
        }),
    }),
    "bytes": (check_bytes, {"content": st.one_of(st.binary(max_size=60), CORPUS)}),
}  # fmt: skip


def run_property(name: str, place: Place, seed: int, examples: int) -> Counter[str]:
    """Try a property ``examples`` times with inputs that follow from ``seed``; return counts of what happened.

    Raises:
        AssertionError, Exception: the property is broken, by the input shown in a note.
    """
    check, strategies = PROPERTIES[name]
    counts: Counter[str] = Counter()

    def once(**values: Any) -> None:
        counts.update(check(place, **values), tried=1)

    test = given(**strategies)(once)
    test = settings(
        max_examples=examples, deadline=None, database=None, phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )(test)  # fmt: skip
    hypothesis.seed(seed)(test)()
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", choices=[[], *PROPERTIES], help="properties to try (default: all)")
    parser.add_argument("--minutes", type=float, default=1.0, help="of each property")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    finds = 0
    with tempfile.TemporaryDirectory() as folder:
        place = make_place(Path(folder))
        os.chdir(folder)
        logging.disable(logging.WARNING)  # sources cut to the limit, by the thousand
        for name in arguments.names or PROPERTIES:
            counts: Counter[str] = Counter()
            started, seed = time.monotonic(), arguments.seed
            while time.monotonic() - started < 60 * arguments.minutes:
                try:
                    counts.update(run_property(name, place, seed, 200))
                except Exception as error:
                    finds += 1
                    print(
                        f"{name}: seed {seed}: BROKEN: {error!r}",
                        *getattr(error, "__notes__", []),
                        sep="\n",
                        flush=True,
                    )
                seed += 1
            minutes = (time.monotonic() - started) / 60
            numbers = ", ".join(f"{count:,} {what}" for what, count in sorted(counts.items()))
            print(f"{name}: {minutes:.1f} min, seeds {arguments.seed} to {seed - 1}: {numbers}", flush=True)
        os.chdir("/")
    print(f"{finds} finds")
    return 1 if finds else 0


if __name__ == "__main__":
    sys.exit(main())
