"""Arrow files: memory, and arrays without pandas."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from nmt.data.arrow import BLOCK, ArrowWriter, MappedArrow, booleans, integers, lists, offsets_of, strings, to_numpy


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="what a process has mapped is told by Linux only")
@pytest.mark.parametrize("small", [True, False])
def test_pages_read_leave_memory_unless_the_file_is_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: bool
) -> None:
    path = tmp_path / "x.arrow"
    with ArrowWriter(path, pa.schema([("n", pa.int64())])) as out:
        out.write(pa.record_batch([pa.array(range(BLOCK))], names=["n"]))
    monkeypatch.setattr("nmt.data.arrow.SMALL_FILE", path.stat().st_size if small else 0)

    def resident() -> int:
        """KiB of the file in memory."""
        about = Path("/proc/self/smaps").read_text().split(str(path))[1]
        return int(about.split("Rss:")[1].split()[0])

    file = MappedArrow(path)
    numbers = file.batches[0].column(0).to_numpy()
    assert numbers.sum() == BLOCK * (BLOCK - 1) // 2
    assert resident() >= BLOCK * 8 // 1024
    file.release()
    assert (resident() > 0) == small
    assert numbers.sum() == BLOCK * (BLOCK - 1) // 2  # still there to be read


TEXTS = ["", "a", "größer", "\u2028 \U0001f600", "", "line\tend"]


@pytest.mark.parametrize("size", [0, 1, 6])
def test_arrays_are_those_of_arrow(size: int) -> None:
    texts, numbers = TEXTS[:size], np.arange(size)
    assert strings(texts).equals(pa.array(texts, pa.large_string()))
    assert booleans(numbers % 3 == 0).equals(pa.array(numbers % 3 == 0))
    for dtype in (np.uint16, np.uint32, np.int64):
        array = integers(numbers.astype(dtype))
        assert array.equals(pa.array(numbers.astype(dtype)))
        assert to_numpy(array).dtype == dtype
        assert to_numpy(array).tolist() == numbers.tolist()
        assert to_numpy(array.slice(size // 2)).tolist() == numbers[size // 2 :].tolist()
    rows = [list(range(i)) for i in range(size)]
    found = lists(np.array([n for row in rows for n in row], np.uint16), offsets_of(rows))
    assert found.equals(pa.array(rows, pa.large_list(pa.uint16())))


def test_a_strided_array_is_copied() -> None:
    assert integers(np.arange(6)[::2]).to_pylist() == [0, 2, 4]


def test_files_have_the_bytes_of_those_that_arrow_makes(tmp_path: Path) -> None:
    """The checksums of a corpus do not depend on how its arrays were made."""
    texts = TEXTS * 20_000  # more than one record batch
    for name, array in (("here", strings(texts)), ("there", pa.array(texts, pa.large_string()))):
        with ArrowWriter(tmp_path / name, pa.schema([("text", pa.large_string())])) as out:
            out.write(pa.record_batch([array], names=["text"]))
    assert (tmp_path / "here").read_bytes() == (tmp_path / "there").read_bytes()


@pytest.mark.slow
def test_preparing_imports_no_pandas(tmp_path: Path) -> None:
    (tmp_path / "train").write_text("".join(f"ein satz {i}\ta sentence {i}\n" for i in range(300)))
    (tmp_path / "valid").write_text("noch ein satz ☃\tanother one\n")
    code = """
import sys
from pathlib import Path
from nmt.config.data import DataConfig
from nmt.config.tokenizer import TokenizerConfig
from nmt.data.encoded import encode_corpus
from nmt.data.prepare import prepare_corpus
from nmt.data.tokenizer import Tokenizer
source = {name: {"kind": "tsv", "path": name} for name in ("train", "valid")}
test = {"x": {"kind": "holdout", "fraction": 0.1}}
for _ in range(2):
    corpus = prepare_corpus(DataConfig.model_validate({**source, "test": test, "store": "store"}))
tokenizer = Tokenizer.train(TokenizerConfig(vocab_size=60, train_sentences=100), corpus, Path("tokenizer"))
encoded = encode_corpus(corpus, tokenizer, 100, Path("store"))
assert encoded.unknown["valid"]["src"]["pieces"] > 0
assert encoded.train.lengths().sum() == sum(len(encoded.train.src(i)) + len(encoded.train.tgt(i)) for i in range(
    len(encoded.train)))
print("pandas" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("False\n", 0), done.stderr
