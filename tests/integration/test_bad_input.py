"""Everything a user can hand over that is wrong, through the command line.

Each case ends in the promised line on standard error and exit code 2: no traceback, and no file changed or added. Text
that is odd but right is below, in :data:`ODD`.
"""

import gzip
import io
import lzma
import os
import pickle
import random
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pytest
import yaml

from nmt import pipeline
from nmt.cli import main
from nmt.config.load import load_config
from nmt.errors import CheckpointError
from nmt.run import checkpoint as checkpoints
from nmt.run.directory import Run
from nmt.storage.atomic import seal
from tests.conftest import BASE, Place


@contextmanager
def as_nobody() -> Iterator[None]:
    """Drop the rights of the superuser, to whom nothing is forbidden; other users have none to drop."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def refused(
    place: Place, arguments: list[str], capfd, as_user: Callable[[], AbstractContextManager] = nullcontext
) -> str:
    """Run a command that must fail as promised; return its line."""
    before = place.files()
    capfd.readouterr()
    with as_user():
        assert main(arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert place.files() == before
    assert not list(place.path.rglob("*.tmp"))
    lines = [line for line in err.splitlines() if line.startswith("nmt: ")]
    assert len(lines) == 1, err
    return lines[0].removeprefix("nmt: ")


# ------------------------------------------------------------------------------------------------------- configurations

CONFIGS: list[tuple[bytes, str]] = [
    (b"", "c.yaml: is empty; start from a file in configs/"),
    (b"# only a comment\n", "c.yaml: is empty; start from a file in configs/"),
    (b"- data\n- model\n", "c.yaml: must be a mapping of keys to values, not a list"),
    (b"just words\n", "c.yaml: must be a mapping of keys to values, not a text"),
    (b"data: {train: [}\n", "c.yaml:1: not valid YAML: expected the node content, but found '}'"),
    (b"model:\n\ttype: rnn\n", "c.yaml:2: not valid YAML: found character '\\t' that cannot start any token; "
     "indent with spaces, not tabs"),
    (BASE + b"data: {}\n", "c.yaml:12: data: given twice; keep one"),
    (b"a: &a [*a]\n", "c.yaml:1: nested too deeply; a configuration has few levels"),
    (b"a: *nowhere\n", "c.yaml:1: not valid YAML: found undefined alias 'nowhere'"),
    (b"[" * 100_000, "c.yaml: not valid YAML: nested too deeply"),
    (BASE.replace(b"rnn", b"\xff"), f"c.yaml: not UTF-8 text (byte {BASE.index(b'rnn')}); save it as UTF-8"),
    (BASE + b"\0", "c.yaml: not valid YAML: unacceptable character #x0000: special characters are not allowed in "
     f'"<unicode string>", position {len(BASE)}'),
    (BASE + b"seed: !!python/object/apply:os.system ['touch executed']\n",
     "c.yaml:12: not valid YAML: could not determine a constructor for the tag "
     "'tag:yaml.org,2002:python/object/apply:os.system'"),
    (BASE + b"modle: {}\n", "c.yaml:12: modle: unknown key; did you mean model?"),
    (BASE.replace(b"model: {type: rnn, d_model: 16, d_hidden: 16}\n", b""),
     "c.yaml: model: missing; it has no default"),
    (BASE.replace(b"max_steps: 4", b"max_steps: many"),
     'c.yaml:10: train.max_steps: "many" (text) should be an integer'),
    (BASE.replace(b"max_steps: 4", b"max_steps: 0"),
     "c.yaml:10: train.max_steps: 0 (integer) should be greater than 0"),
    (BASE.replace(b"max_steps: 4", b"max_steps: 4, average: 9"),
     "c.yaml:10: train: averaging 9 checkpoints needs keep_last of at least that, not 2"),
    (BASE.replace(b"type: rnn", b"type: gru"), 'c.yaml:9: model.type: "gru" is not known; '
     "did you mean rnn with model.cell: gru?"),
    (BASE.replace(b"d_model: 16", b"d_model: .nan"), "c.yaml:9: model.d_model: NaN (number) should be an integer"),
    (BASE.replace(b"{tiny:", b"{valid:"),
     "c.yaml:6: data.test.valid: results would have the file names of the validation set; rename the test set"),
    (BASE.replace(b"{tiny:", b"{VALID:"),
     "c.yaml:6: data.test.VALID: results would have the file names of the validation set; rename the test set"),
    (BASE.replace(b"{tiny:", b"{a: {kind: holdout, fraction: 0.1}, A:"),
     "c.yaml:6: data.test.A: results would have the file names of data.test.a; rename the test set"),
    (BASE.replace(b"{tiny:", b"{" + b"x" * 101 + b":"),
     "c.yaml:6: data.test.xxxxxxxxxxxxxxxxxxxx...: a name of 101 characters; at most 100 fit"),
    (BASE + b"name: ../x\n",
     'c.yaml:12: name: "../x" must be letters, digits, \'_\', \'-\' and \'.\', not starting with \'.\' or \'-\''),
]  # fmt: skip


@pytest.mark.parametrize(("content", "expected"), CONFIGS, ids=range(len(CONFIGS)))
def test_configurations(place, capfd, content, expected):
    place.write("c.yaml", content)
    assert refused(place, ["train", "c.yaml"], capfd) == expected
    assert not (place.path / "executed").exists()


# -------------------------------------------------------------------------------------------------------------- corpora


def western(name: str) -> str:
    return (
        "convert the file to UTF-8; if it is Windows-1252 (Western European): "
        f"iconv -f WINDOWS-1252 -t UTF-8 < {name} > {name}.utf8"
    )


def workbook() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("[Content_Types].xml", "_rels/.rels", "xl/workbook.xml"):
            archive.writestr(name, "<x/>")
    return buffer.getvalue()


LINES = b"".join(b"line %d\n" % n for n in range(500))
ALPHABET = b"a b c d e f g h i j k l m n o p q r s t u v w x y z A B C D E F G H I J K L M N O P Q R S T U V W X Y Z\n"
TEXT = "{kind: text, src: a, tgt: b}"

CORPORA: dict[str, tuple[dict[str, bytes], str, str]] = {
    "more source lines": ({"a": b"x\ny\nz\n", "b": b"x\n"}, TEXT,
        "a has 3 lines but b has 1; line n of one must translate line n of the other"),
    "more target lines": ({"a": b"x\n", "b": b"x\ny"}, TEXT,
        "a has 1 line but b has 2; line n of one must translate line n of the other"),
    "missing file": ({"a": LINES}, TEXT, "b: no such file; check the path"),
    "packed under another name": ({"a": LINES, "b.gz": gzip.compress(LINES)}, TEXT,
        "b: no such file; did you mean b.gz?"),
    "folder": ({"a": LINES, "b/x": b""}, TEXT, "b: is a folder; name a file in it"),
    "truncated gzip": ({"a.gz": gzip.compress(LINES)[:-5], "b": LINES}, "{kind: text, src: a.gz, tgt: b}",
        "a.gz: gzip file cut off after line 500; copy it again"),
    "no gzip": ({"a.gz": LINES, "b": LINES}, "{kind: text, src: a.gz, tgt: b}",
        "a.gz: is not gzip-compressed, despite its name; rename or compress it"),
    "invalid UTF-8 in line 3": ({"a": b"x\ny\nz\xe4\n", "b": b"x\ny\nz\n"}, TEXT,
        "a:3: not valid UTF-8 (byte 0xe4 at column 2); " + western("a")),
    "Latin-1": ({"a": "größer\n".encode("latin-1"), "b": b"x\n"}, TEXT,
        "a:1: not valid UTF-8 (byte 0xf6 at column 3); " + western("a")),
    "UTF-16": ({"a": "hallo\n".encode("utf-16"), "b": b"x\n"}, TEXT,
        "a: is text in UTF-16; convert it to UTF-8: iconv -f UTF-16 -t UTF-8 < a > a.utf8"),
    "NUL byte in line 2": ({"a": b"x\ny\0\n", "b": b"x\ny\n"}, TEXT,
        "a:2: contains a NUL character; is it a text file, in UTF-8? if so, remove them: tr -d '\\000' < a > a.clean"),
    "empty files": ({"a": b"", "b": b""}, TEXT, "data.train: no sentence pairs in a and b"),
    "a byte order mark alone": ({"a": b"\xef\xbb\xbf", "b": b""}, TEXT, "data.train: no sentence pairs in a and b"),
    "blank lines only": ({"a": b"\n\n \n", "b": b"\n\n\n"}, TEXT,
        "data.train: cleaning leaves none of its 3 pairs (3 empty); see data.cleaning"),
    "one line of a million characters": ({"a": b"x" * 1_000_000, "b": b"y"}, TEXT,
        "data.train: cleaning leaves none of its 1 pair (1 too_long); see data.cleaning"),
    "a vocabulary without room for the letters": ({"a": ALPHABET, "b": ALPHABET}, TEXT,
        "tokenizer.vocab_size: 36 is too small for the characters of the training text and the special pieces, "
        "57 in all; set it higher than that, or lower tokenizer.character_coverage"),
    "too few columns": ({"a": b"x\ty\nz\n"}, "{kind: tsv, path: a}",
        "a:2: has 1 tab-separated column, the lines before it 2; correct it (a tab in a sentence?) or drop such "
        "lines: awk -F '\\t' 'NF == 2' a > a.clean"),
    "broken JSON": ({"a": b'{"en": "x", "de": "y"}\n{"en": \n'}, "{kind: jsonl, path: a}",
        "a:2: not valid JSON: Expecting value (column 8); correct the line, or set on_bad_row: skip"),
    "JSON of another kind": ({"a": b"[1, 2]\n"}, "{kind: jsonl, path: a}",
        "a:1: is an array, not an object with keys; JSON lines have one object on each line, converted by: "
        "jq -c '.[]' a > a.jsonl"),
    "JSON without the key": ({"a": b'{"en": "x", "fr": "y"}\n'}, "{kind: jsonl, path: a}",
        "a:1: no key 'de'; there is: en, fr; set src_key and tgt_key"),
    "a number for a text": ({"a": b'{"en": "x", "de": 3}\n'}, "{kind: jsonl, path: a}",
        "a:1: key 'de' is 3, which is not text; write each sentence in quotation marks"),
    "a lone surrogate": ({"a": b'{"en": "x \\ud83d", "de": "y"}\n'}, "{kind: jsonl, path: a}",
        "a:1: key 'en' contains \\ud83d, half of a surrogate pair and no character; remove it"),
    "an escaped NUL": ({"a": b'{"en": "x\\u0000", "de": "y"}\n'}, "{kind: jsonl, path: a}",
        "a:1: key 'en' contains a NUL character; remove it"),
    "deep JSON": ({"a": b"[" * 100_000 + b"\n"}, "{kind: jsonl, path: a}", "a:1: not valid JSON: nested too deeply"),
    "a header as a pair": ({"a": b"English\tGerman\none\teins\n"}, "{kind: tsv, path: a}",
        "a:1: looks like a header (English, German); set header: true to skip it, or header: false if it is a "
        "pair of sentences"),
    "commas for tabs": ({"a": b"en,de\none,eins\n"}, "{kind: tsv, path: a}",
        "a:1: has 1 tab-separated column, but src_column is 0 and tgt_column 1, counted from 0; comma-separated "
        "files (CSV) are kind: csv"),
    "no such heading": ({"a": b"en\tfr\none\tun\n"}, "{kind: tsv, path: a, src_column: en, tgt_column: de}",
        "a:1: no column 'de'; the header names: en, fr"),
    "a JSON array over several lines": ({"a": b'[\n{"en": "x", "de": "y"}\n]\n'}, "{kind: jsonl, path: a}",
        "a:1: not valid JSON: Expecting value (column 2); JSON lines have one object on each line, converted by: "
        "jq -c '.[]' a > a.jsonl"),
    "a translation memory": ({"a": b'<?xml version="1.0"?>\n<tmx version="1.4">\n', "b": b"x\ny\n"}, TEXT,
        "a: is a translation memory (TMX, XML), not lines of text; read it with kind: tmx and path"),
    "a workbook": ({"a": workbook(), "b": b"x\n"}, TEXT,
        "a: is an Excel workbook (XLSX); read it with kind: xlsx and path"),
    "a name alone, of a folder of several kinds": ({"d/a.tmx": b"<tmx/>", "d/b.zip": b""}, "d",
        "d: contains files of several kinds; name one of them, such as d/a.tmx, d/b.zip"),
    "a translation memory without the language": (
        {"a.tmx": b"<tmx><body><tu><tuv xml:lang='en-US'><seg>x</seg></tuv><tuv xml:lang='fr'><seg>y</seg></tuv></tu>"
         b"</body></tmx>"}, "a.tmx",
        "a.tmx: no unit has both en and de; it has: en-US (1 units), fr (1 units); name two of them as the languages "
        "(data.src_lang and data.tgt_lang, or --langs)"),
    "a CSV header as a pair": ({"a.csv": b"German,French\none,eins\n"}, "a.csv",
        "a.csv:1: looks like a header (German, French); set header: true to skip it, or header: false if it is a "
        "pair of sentences"),
    "rows skipped until none is left": ({"a.jsonl": b"{\n"}, "{kind: auto, path: a.jsonl, on_bad_row: skip}",
        "data.train: no sentence pairs in a.jsonl"),
    "lines that end in CR": ({"a": b"x\ry\rz\r", "b": b"x\ny\nz\n"}, TEXT,
        "a: its lines end in a carriage return (CR, old Mac OS), not in a newline; convert: "
        "tr '\\r' '\\n' < a > a.lf"),
    "an endless line": ({"a.gz": gzip.compress(b"x" * (5 << 20), 1), "b": b"x"}, "{kind: text, src: a.gz, tgt: b}",
        "a.gz:1: is longer than 4 MiB; a line has one sentence: break it into lines or delete it"),
    "a device": ({}, "{kind: text, src: /dev/zero, tgt: /dev/zero}",
        "/dev/zero: is a device; a corpus is read more than once: write it to a file and name that"),
    "a CSV file without the column": ({"a.csv": b"de;en\nx;y\n"}, "{kind: hub, path: a.csv, src_column: fr}",
        "a.csv:1: no column 'fr'; line 1 names: de, en; set src_column and tgt_column"),
    "a dataset that is elsewhere": (
        {"d/README.md": b"---\nconfigs:\n- data_files: https://example.org/x.csv\n---\n", "d/a.csv": b"en,de\nx,y\n"},
        "{kind: hub, path: d}", "d/README.md: names https://example.org/x.csv as data, which is not in this folder; "
        "download it into the folder"),
    "a dataset of several kinds": ({"d/all.csv": b"en,de\nx,y\n", "d/a.tmx": b"", "d/train.bin": b""},
        "{kind: hub, path: d}", "d: cannot be loaded: No (supported) data files found in d; name the file itself, such "
        "as path: d/all.csv"),
    "a dataset that is none": ({"d/x.bin": b"MZ"}, "{kind: hub, path: d, split: train}",
        "d: cannot be loaded: No (supported) data files found in d; name a folder with parquet, JSON or CSV files, "
        "or a hub id"),
}  # fmt: skip


@pytest.mark.parametrize("case", CORPORA)
def test_corpora(place, capfd, case):
    files, source, expected = CORPORA[case]
    for name, content in files.items():
        (place.path / name).parent.mkdir(exist_ok=True)
        place.write(name, content)
    assert refused(place, ["prepare", "c.yaml", "--set", f"data.train={source}"], capfd) == expected


ODD: dict[str, tuple[bytes, bytes, list[tuple[str, str]]]] = {
    "a byte order mark": (b"\xef\xbb\xbfone\n", b"\xef\xbb\xbfeins\n", [("one", "eins")]),
    "Windows line ends": (b"one\r\ntwo\r\n", b"eins\nzwei\n", [("one", "eins"), ("two", "zwei")]),
    "U+2028 and its like are characters": (
        "one\u2028two\u0085three\f\n".encode(), b"eins zwei drei\n", [("one\u2028two\u0085three\f", "eins zwei drei")]),
    "blank lines are dropped in pairs": (b"one\n\ntwo\n", b"eins\nx\nzwei\n", [("one", "eins"), ("two", "zwei")]),
    "right-to-left marks": ("\u200fone\u200e\n".encode(), b"eins\n", [("\u200fone\u200e", "eins")]),
    "emoji": ("one 👩‍👩‍👧🏽\n".encode(), "eins 👩‍👩‍👧🏽\n".encode(), [("one 👩‍👩‍👧🏽", "eins 👩‍👩‍👧🏽")]),
    "no newline at the end": (b"one\ntwo", b"eins\nzwei\n", [("one", "eins"), ("two", "zwei")]),
    "a line of a million characters": (b"one\n" + b"x" * 1_000_000 + b"\n", b"eins\ny\n", [("one", "eins")]),
}  # fmt: skip


@pytest.mark.parametrize("case", ODD)
def test_odd_but_right(place, case):
    src, tgt, expected = ODD[case]
    place.write("a", src)
    place.write("b", tgt)
    config = load_config("c.yaml", [f"data.train={TEXT}", "tokenizer.type=char", "tokenizer.vocab_size=60"])
    assert list(pipeline.prepare_corpus(config.data).part("train")) == expected


# ------------------------------------------------------------------------------- tokenizers, run directories, arguments


class Bomb:
    """Leaves a file where it is unpickled."""

    def __reduce__(self):
        return open, ("executed", "w")


PICKLE = pickle.dumps(Bomb())
assert pickle.loads(pickle.dumps(len)) is len  # the kind of pickle that would run


def write(name: str, content: bytes) -> Callable[[Place], object]:
    """Write a file beside the run."""
    return lambda place: place.write(name, content)


def spoil(name: str, content: bytes | None) -> Callable[[Place], None]:
    """Replace a file of the run, or remove it."""

    def apply(place: Place) -> None:
        path = place.run / name
        if content is None:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    return apply


def other_vocabulary(place: Place) -> None:
    assert main(["prepare", "c.yaml", "--set", "tokenizer.vocab_size=37"]) == 0
    found = {path.stat().st_size: path for path in place.path.glob("store/tokenizer-*/joint.model")}
    assert len(found) == 2
    shutil.copy(found[max(found)], place.run / "tokenizer" / "joint.model")


def another_run_here(place: Place) -> None:
    shutil.copytree(place.run, place.path / "runs" / "d")


def unfinished(place: Place) -> None:
    shutil.rmtree(place.run / "model")
    shutil.rmtree(place.run / "checkpoints")


def edited_config(place: Place) -> None:
    path = place.run / "config.yaml"
    path.write_text(path.read_text().replace("d_hidden: 16", "d_hidden: 24"))


TRANSLATE = ["translate", "c", "-i", "test.src", "-o", "out"]
REPEATED = zip(b"abc", (b"x", b"*a", b"*b"), strict=True)
ALIASES = b"".join(b"%c: &%c [%s]\n" % (name, name, b", ".join([value] * 30)) for name, value in REPEATED)  # 30³ values
MODEL_CHECKSUM = "runs/c/model: damaged: model.safetensors does not match its checksum"

RUNS: dict[str, tuple[Callable[[Place], object], list[str], str]] = {
    "no such run": (spoil("x", b""), ["translate", "nothing"], "nothing: no such run; runs here: c"),
    "no run directory": (spoil("x", b""), ["translate", "store"],
        "store: is not a run directory (it has no config.yaml); runs here: c"),
    "configuration gone": (spoil("config.yaml", None), ["evaluate", "runs/c"],
        "runs/c: is not a run directory (it has no config.yaml); there are no runs under runs/; train one first"),
    "configuration is no YAML": (spoil("config.yaml", b"a: [\n"), TRANSLATE,
        "runs/c/config.yaml: cannot be read: while parsing a flow node expected the node content, but found "
        "'<stream end>' in \"<unicode string>\", line 2, column 1: ^"),
    "configuration with code": (spoil("config.yaml", b"!!python/object/apply:os.system ['touch executed']"), TRANSLATE,
        "runs/c/config.yaml: cannot be read: could not determine a constructor for the tag "
        "'tag:yaml.org,2002:python/object/apply:os.system' in \"<unicode string>\", line 1, column 1: "
        "!!python/object/apply:os.system ... ^"),
    "configuration of aliases": (spoil("config.yaml", ALIASES), TRANSLATE,
        "runs/c/config.yaml:1: not valid YAML: more than 10,000 keys and values; a configuration has a few hundred"),
    "configuration of another model": (edited_config, TRANSLATE,
        "runs/c/model: does not fit this model: encoder.forwards.0.weight_ih_l0 is [48, 16], not [72, 16]"),
    "half made": (unfinished, TRANSLATE, "runs/c: has no validated checkpoint yet; train it first (nmt train)"),
    "tokenizer gone": (spoil("tokenizer/joint.model", None), TRANSLATE,
        "runs/c/tokenizer: contains no tokenizer (joint.model, or src.model and tgt.model)"),
    "tokenizer is text": (spoil("tokenizer/joint.model", b"hello\n"), TRANSLATE,
        "runs/c/tokenizer/joint.model: not a SentencePiece model, or damaged"),
    "tokenizer is a pickle": (spoil("tokenizer/joint.model", PICKLE), TRANSLATE,
        "runs/c/tokenizer/joint.model: not a SentencePiece model, or damaged"),
    "tokenizer of another vocabulary": (other_vocabulary, TRANSLATE,
        "runs/c/model: was trained with another tokenizer than the one in runs/c/tokenizer"),
    "model cut off": (lambda place: os.truncate(place.run / "model" / "model.safetensors", 100),
        TRANSLATE, MODEL_CHECKSUM),
    "model is a pickle": (spoil("model/model.safetensors", PICKLE), TRANSLATE, MODEL_CHECKSUM),
    "model gone": (spoil("model/model.safetensors", None), TRANSLATE,
        "runs/c/model: damaged: runs/c/model/model.safetensors: No such file or directory"),
    "model's account is no JSON": (spoil("model/model.json", b"{"), TRANSLATE,
        "runs/c/model: damaged: model.json cannot be read (Expecting property name enclosed in double quotes: "
        "line 1 column 2 (char 1))"),
    "a run of another configuration": (spoil("x", b""), ["train", "c.yaml", "--set", "model.d_hidden=24"],
        "runs/c: was started with another configuration (model.d_hidden is 16 in the run, 24 in your configuration); "
        "choose another name for this one "
        "(--set name=...) or remove the run"),
    "no such test set": (spoil("x", b""), ["evaluate", "c", "--set-name", "news"],
        "news: no such set in this run; there are: valid, tiny"),
    "source without reference": (spoil("x", b""), ["evaluate", "c", "--src", "test.src"],
        "--src and --ref belong together: one file of sources, one or more of references"),
    "references of another length": (spoil("x", b""), ["evaluate", "c", "--src", "test.src", "--ref", "train.tgt"],
        "test.src has 20 lines but train.tgt has 300; line n of one must match line n of the other"),
    "no such configuration": (spoil("x", b""), ["train", "d.yaml"],
        "d.yaml: no such configuration file; did you mean c.yaml?"),
    "a beam of none": (spoil("x", b""), ["translate", "c", "--beam-size", "0"],
        "--beam-size 0: must be 1 or more"),
    "no best at all": (spoil("x", b""), ["translate", "c", "--nbest", "0"], "--nbest 0: must be 1 or more"),
    "output is a folder": (spoil("x", b""), ["translate", "c", "-i", "test.src", "-o", "store"],
        "store: is a folder; name a file"),
    "output in no folder": (spoil("x", b""), ["translate", "c", "-i", "test.src", "-o", "no/where"],
        "no/where: cannot be opened: No such file or directory; make the folder no, or name another file"),
    "output is the input": (write("x", b"a\n"), ["translate", "c", "-i", "x", "-o", "./x"],
        "-o ./x: is the file that is read; name another file"),
    "alignments over the input": (write("x", b"a\n"), ["translate", "c", "-i", "x", "-o", "y", "--alignments", "x"],
        "--alignments x: is the file that is read; name another file"),
    "a table to translate": (write("x", b"PK\3\4xl/workbook"), ["translate", "c", "-i", "x"],
        "x: is an Excel workbook (XLSX); extract its sentences, one on a line"),
    "a translation memory to translate": (write("x", b"<tmx version='1.4'>\n"), ["translate", "c", "-i", "x"],
        "x: is a translation memory (TMX, XML), not lines of text; extract its sentences, one on a line"),
}  # fmt: skip


@pytest.mark.parametrize("case", RUNS)
def test_runs(place, capfd, case):
    prepare, arguments, expected = RUNS[case]
    prepare(place)
    assert refused(place, arguments, capfd) == expected
    assert not (place.path / "executed").exists()


# ------------------------------------------------------------------------------------------------------------ no access


@pytest.fixture
def open_place(place) -> Place:
    """The folder, all its own and all above it within reach of any user."""
    for folder in [place.path, *place.path.parents]:
        if folder.owner() != "root" or str(folder).startswith("/tmp/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    for path in [place.path, *place.path.rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o666)
    return place


ACCESS: dict[str, tuple[str, int, list[str], str]] = {
    "configuration": ("c.yaml", 0, ["train", "c.yaml"], "c.yaml: cannot be read: Permission denied"),
    "corpus": ("train.src", 0, ["prepare", "c.yaml"], "train.src: no permission to read it; check its owner and mode"),
    "tokenizer": ("runs/c/tokenizer/joint.model", 0, TRANSLATE,
        "runs/c/tokenizer/joint.model: cannot be read: Permission denied"),
    "model": ("runs/c/model/model.safetensors", 0, TRANSLATE,
        "runs/c/model/model.safetensors: cannot be read: Permission denied; nothing was changed; run the same command "
        "again when it can be read"),
    "text": ("test.src", 0, TRANSLATE, "test.src: no permission to read it; check its owner and mode"),
    "runs": ("runs", 0o555, ["train", "c.yaml", "--set", "name=d"],
        "runs/d: cannot be written to: Permission denied; check owner and mode, or train in another folder "
        "(--set runs=FOLDER)"),
    "run": ("runs/c", 0o555, ["train", "c.yaml"],
        "runs/c: cannot be written to: Permission denied; check owner and mode, or train in another folder "
        "(--set runs=FOLDER)"),
    "store": ("store", 0o555, ["prepare", "c.yaml", "--set", "data.cleaning.max_ratio=3"],
        "store/corpus-*: cannot be written: Permission denied; check space and permissions"),
}  # fmt: skip


@pytest.mark.parametrize("case", ACCESS)
def test_no_access(open_place, capfd, case):
    name, mode, arguments, expected = ACCESS[case]
    if name == "runs/c":
        (open_place.run / ".lock").unlink()
    (open_place.path / name).chmod(mode)
    line = refused(open_place, arguments, capfd, as_nobody)
    assert re.fullmatch(re.escape(expected).replace(r"\*", ".*"), line), line


@pytest.mark.parametrize("arguments", [[], ["--src", "test.src", "--ref", "test.tgt"]])
def test_scores_that_cannot_be_stored_are_shown(open_place, capsys, caplog, arguments):
    read_only(open_place.run)
    with as_nobody():
        assert main(["evaluate", "c", *arguments]) == 0
    out = capsys.readouterr().out
    assert "BLEU" in out
    assert "stored in" not in out
    assert "are not stored: runs/c/evaluation" in caplog.text
    assert "Permission denied; to keep them, redirect the output to a file (> FILE)" in caplog.text


def test_a_ctranslate2_model_that_cannot_be_kept_serves_once(open_place, monkeypatch, caplog, capsys):
    pytest.importorskip("ctranslate2")
    sizes = "{type: transformer, d_model: 16, d_ff: 16, num_heads: 2, encoder_layers: 1, decoder_layers: 1}"
    assert main(["train", "c.yaml", "--set", "name=t", f"model={sizes}"]) == 0
    assert main(["translate", "t", "-i", "test.src", "-o", "expected"]) == 0
    read_only(open_place.path / "runs" / "t")
    capsys.readouterr()
    with as_nobody():
        assert main(["export", "t", "--to", "ctranslate2"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith(
        "cannot be written: Permission denied; check space and permissions, or name another folder with -o FOLDER"
    )
    with as_nobody():
        assert main(["export", "t", "--to", "ctranslate2", "-o", "store/exported"]) == 0
    monkeypatch.setattr(tempfile, "tempdir", str(open_place.path / "store"))
    with as_nobody():
        assert main(["translate", "t", "-i", "test.src", "-o", "store/found", "--engine", "ctranslate2"]) == 0
    assert "cannot be written: Permission denied; using a temporary folder, for this command only" in caplog.text
    assert Path("store/found").read_text() == Path("expected").read_text()


def read_only(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)


# ---------------------------------------------------------------------------------------------------- text to translate

BAD_TEXTS: dict[str, tuple[bytes, str]] = {
    "binary": (bytes(range(256)), "in:1: contains a NUL character; is it a text file, in UTF-8? if so, "
        "remove them: tr -d '\\000' < in > in.clean"),
    "an ELF file": (b"\x7fELF\x02\x01\x01\xff",
        "in: is a program (ELF); it contains no sentences; name a text file"),
    "not UTF-8": (b"one two\xff",
        "in:1: not valid UTF-8 (byte 0xff at column 8); " + western("in")),
    "Latin-1 in line 2": (b"one\nsch\xf6n\n",
        "in:2: not valid UTF-8 (byte 0xf6 at column 4); " + western("in")),
    "cut inside a character": ("one ü".encode()[:-1],
        "in:1: not valid UTF-8 (byte 0xc3 at column 5); " + western("in")),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_TEXTS)
def test_texts(place, capfd, case):
    content, expected = BAD_TEXTS[case]
    place.write("in", content)
    assert refused(place, ["translate", "c", "-i", "in", "-o", "out", "--strict"], capfd) == expected


GOOD_TEXTS: dict[str, tuple[bytes, int]] = {
    "empty": (b"", 0),
    "packed by gzip": (gzip.compress(b"one\ntwo\n"), 2),
    "packed by xz": (lzma.compress(b"one\ntwo\n"), 2),
    "no newline at the end": (b"one\ntwo", 2),
    "one newline": (b"\n", 1),
    "a line of 50,000 words": (b"one\n" + b"two " * 50_000 + b"\nthree\n", 3),
    "a NUL and an invalid byte": (b"one\0\xff\ntwo\n", 2),
    "100,000 lines": (b"one\n\n" * 50_000, 100_000),
    "characters never seen": ("日本語\n👩‍👩‍👧🏽\n\u2028\u0085\n\u200f\x1b[31m\n".encode(), 4),
}


@pytest.mark.parametrize("case", GOOD_TEXTS)
def test_as_many_lines_out_as_in(place, case):
    content, count = GOOD_TEXTS[case]
    place.write("in", content)
    assert main(["translate", "c", "-i", "in", "-o", "out", "--beam-size", "1"]) == 0
    out = (place.path / "out").read_bytes()
    assert out.count(b"\n") == count
    assert out.endswith(b"\n") or not out


# ---------------------------------------------------------------------------------------------------------- checkpoints


def damage(folder: Path, kind: str, rng: random.Random) -> None:
    """Cut one file of a folder at a random place, or flip one of its bits."""
    path = rng.choice(sorted(folder.iterdir()))
    content = bytearray(path.read_bytes())
    place = rng.randrange(len(content))
    if kind == "cut":
        del content[place:]
    else:
        content[place] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["cut", "flip"])
def test_a_hundred_damaged_checkpoints(place, kind):
    """Each is found damaged, and the one before it is used; or what is read is what was written."""
    directory = place.run / "checkpoints"
    older, newest = checkpoints.list_checkpoints(directory)
    whole = checkpoints.open_checkpoint(newest)
    names = [path.stem for path in newest.glob("*.safetensors")]
    tensors = {name: whole.tensors(name) for name in names}
    shutil.copytree(newest, place.path / "kept")
    rng = random.Random(1)
    harmless = 0
    for _ in range(100):
        damage(newest, kind, rng)
        said: list[str] = []
        found = checkpoints.last_good(directory, said.append)
        if found.path == newest:  # white space in the JSON, say
            harmless += 1
            assert found.state == whole.state
            assert all(value.equal(tensors[name][key]) for name in names for key, value in found.tensors(name).items())
        else:
            assert found.path == older
            assert len(said) == 1
            assert str(newest) in said[0]
            shutil.rmtree(directory / f"damaged-{newest.name}")
        shutil.rmtree(newest, ignore_errors=True)
        shutil.copytree(place.path / "kept", newest)
    assert harmless <= 5


@pytest.mark.parametrize("kind", ["cut", "flip"])
def test_a_hundred_damaged_models(place, kind):
    weights, info = checkpoints.read_model(place.run / "model")
    shutil.copytree(place.run / "model", place.path / "kept")
    rng = random.Random(2)
    harmless = 0
    for _ in range(100):
        damage(place.run / "model", kind, rng)
        try:
            found = checkpoints.read_model(place.run / "model")
        except CheckpointError:
            pass
        else:
            harmless += 1
            assert found[1] == info
            assert all(value.equal(weights[key]) for key, value in found[0].items())
        shutil.rmtree(place.run / "model")
        shutil.copytree(place.path / "kept", place.run / "model")
    assert harmless <= 10


def test_a_damaged_newest_checkpoint_is_named_and_the_training_goes_on_from_the_one_before(place, capfd, caplog):
    older, newest = checkpoints.list_checkpoints(place.run / "checkpoints")
    os.truncate(newest / "optimizer.safetensors", 50)
    assert main(["train", "c.yaml", "--set", "train.max_steps=6"]) == 0
    assert (
        f"runs/c/checkpoints/{newest.name}: damaged: optimizer.safetensors does not match its checksum" in caplog.text
    )
    assert f"renamed to damaged-{newest.name}" in caplog.text
    assert f"resuming at step {int(older.name[5:])}" in caplog.text


def test_when_every_checkpoint_is_damaged_nothing_is_deleted(place, capfd):
    shutil.rmtree(place.run / "model")
    for path in checkpoints.list_checkpoints(place.run / "checkpoints"):
        (path / "state.json").write_bytes(PICKLE)
    capfd.readouterr()
    assert main(["train", "c.yaml"]) == 2
    assert capfd.readouterr().err.splitlines()[-1] == (
        "nmt: runs/c/checkpoints: no intact checkpoint is left; the damaged ones are kept as damaged-step-*; "
        "restore one from a backup, or move the run directory away to start from step 0"
    )
    assert len(list((place.run / "checkpoints").glob("damaged-step-*/model.safetensors"))) == 2
    assert not (place.path / "executed").exists()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("seed=2", "configuration (seed is 1 in the run, 2 in your configuration)"),
        ("train.optimizer.lr=0.1", "configuration (train.optimizer.lr is 0.001 in the run, 0.1 in your configuration)"),
        ("tokenizer.vocab_size=37", "configuration (tokenizer.vocab_size is 36 in the run, 37 in your configuration)"),
    ],
)
def test_checkpoints_swapped_between_runs(place, capfd, change, expected):
    assert main(["train", "c.yaml", "--set", "name=d", change]) == 0
    shutil.rmtree(place.path / "runs" / "d" / "checkpoints")
    shutil.copytree(place.run / "checkpoints", place.path / "runs" / "d" / "checkpoints")
    line = refused(place, ["train", "c.yaml", "--set", "name=d", change, "train.max_steps=6"], capfd)
    assert line == f"runs/d/checkpoints/step-00000004: was made with another {expected}"


def test_a_forged_checkpoint_is_not_executed(place, capfd):
    """A pickle with code in it, under our names and with a checksum that fits."""
    for path in checkpoints.list_checkpoints(place.run / "checkpoints"):
        state = checkpoints.open_checkpoint(path).state
        del state["sha256"]
        (path / "state.json").unlink()
        for name in ("model", "optimizer", "random"):
            (path / f"{name}.safetensors").write_bytes(PICKLE)
        seal(path, "state.json", state)
    (place.run / "model" / "model.safetensors").write_bytes(PICKLE)
    info = yaml.safe_load((place.run / "model" / "model.json").read_text())
    (place.run / "model" / "model.json").unlink()
    seal(place.run / "model", "model.json", {k: info[k] for k in info if k not in ("sha256", "checksum")})
    for arguments in (["train", "c.yaml", "--set", "train.max_steps=6"], TRANSLATE):
        line = refused(place, arguments, capfd)
        assert "model.safetensors: cannot be read: " in line
    assert not (place.path / "executed").exists()
    assert Run(place.run).has_model


# ----------------------------------------------------------------------------------------------------- the command line


def test_empty_names(place, capfd):
    assert refused(place, ["translate", "c", "-i", "test.src", "-o", ""], capfd) == "-o: the name is empty; name a file"
    assert refused(place, ["translate", ""], capfd) == "RUN is empty: no such run; runs here: c"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["translate", "c", "-i", "test.src", "--beam-size", "1001"], "--beam-size 1001: must be at most 1000"),
        (["translate", "c", "-i", "test.src", "--nbest", "1001"], "--nbest 1001: must be at most 1000"),
        (["translate", "x" * 5000], "File name too long; name another file or folder"),
        (["config", "x" * 5000], "File name too long; name another file or folder"),
    ],
)
def test_what_is_beyond_a_limit(place, capfd, arguments, said):
    assert refused(place, arguments, capfd).endswith(said)
