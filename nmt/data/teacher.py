"""A teacher's most probable tokens at every target position of an encoded corpus, memory-mapped.

A folder has ``starts.npy`` [pairs + 1], the position at which the targets of each pair begin; ``ids.npy`` and
``log_probs.npy`` [positions, K], the latter in half precision, most probable first; and ``manifest.json``. A target of
n subwords has n + 1 positions: the last one predicts eos.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nmt.config.compare import digest
from nmt.config.data import DataConfig
from nmt.config.sources import as_tags
from nmt.data.arrow import SMALL_FILE, releasing
from nmt.data.batch import TopK
from nmt.data.encoded import EncodedCorpus, ParallelDataset
from nmt.data.file_hashes import read_manifest, verify_entry
from nmt.data.tokenizer import Tokenizer
from nmt.errors import DataError
from nmt.storage.atomic import fsync, new_directory, sha256, write_json, write_text

FORMAT = 1
NAMES = "starts.npy", "ids.npy", "log_probs.npy"
BLOCK = 2048  # pairs that are written together


def identity(encoded: EncodedCorpus, tokenizer: Tokenizer, data: DataConfig) -> dict[str, Any]:
    """The settings and checksums that a teacher's distributions depend on."""
    manifest = encoded.manifest
    return {
        "pairs": len(encoded.train),
        "train": manifest["files"]["train.arrow"] if "files" in manifest else manifest["key"],
        "corpus": manifest["corpus"],
        "tokenizer": tokenizer.fingerprint,
        "max_tokens": manifest["max_tokens"],
        "tags": [list(as_tags(one.tag)) for one in data.datasets],
    }


class Teacher:
    """The distributions of a teacher.

    Args:
        folder: of ``nmt distil --word-level``.
        expected: the identity of the corpus that a training reads, see :func:`identity`.
        store: where checksums are cached.

    Attributes:
        top_k: tokens at each position.
        key: name of the content: equal keys mean equal distributions.

    Raises:
        DataError: the folder is missing or damaged, or was made of other data or with another tokenizer.
    """

    def __init__(self, folder: Path, expected: Mapping[str, Any], store: Path):
        if not folder.is_dir():
            raise DataError(
                f"train.terms.distillation.from: {folder}: no such folder; write it with nmt distil --word-level"
            )
        manifest = read_manifest(folder)
        if manifest.get("format") != FORMAT or not isinstance(manifest.get("identity"), dict):
            raise DataError(f"train.terms.distillation.from: {folder}: was not written by nmt distil --word-level")
        if differing := _differing(manifest["identity"], expected):
            raise DataError(f"train.terms.distillation.from: {folder}: was made {differing}")
        verify_entry(folder, store)
        self.top_k = int(manifest["top_k"])
        self.key = digest(manifest["files"])
        self._starts, self._ids, self._log_probs = (_mapped(folder / name) for name in NAMES)

    def read(self, rows: npt.NDArray[Any]) -> TopK:
        """Ids and log-probabilities [M, K] at the targets of pairs, one pair after another, each with its eos.

        Args:
            rows: [B] of the encoded corpus.
        """
        ids, log_probs = [], []
        for row in releasing(rows.tolist(), self):
            positions = slice(int(self._starts[row]), int(self._starts[row + 1]))
            ids.append(self._ids[positions].astype(np.int32))
            log_probs.append(self._log_probs[positions].astype(np.float32))
        return np.concatenate(ids), np.concatenate(log_probs)

    def release(self) -> None:
        """See :meth:`nmt.data.arrow.MappedArrow.release`."""
        for array in (self._starts, self._ids, self._log_probs):
            if array.nbytes > SMALL_FILE and isinstance(array.base, mmap.mmap):
                array.base.madvise(mmap.MADV_DONTNEED)


def _mapped(path: Path) -> npt.NDArray[Any]:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}; delete the folder {path.parent} and run again") from None


def _differing(there: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What a teacher's distributions and a training do not have in common, in words; empty if nothing."""
    if there.get("tokenizer") != now["tokenizer"]:
        return "with another tokenizer; both need the same vocabulary: set tokenizer.run of the student to the teacher"
    if there.get("train") != now["train"]:
        words = [
            f"{name} is {there.get(key)} there, {now[key]} now"
            for key, name in (("pairs", "the number of pairs"), ("max_tokens", "cleaning.max_tokens"))
            if there.get(key) != now[key]
        ] or [f"the corpus is {there.get('corpus')} there, {now['corpus']} now"]
        return (
            f"of other training data ({'; '.join(words)}); run nmt distil --word-level with --config and the "
            "configuration of the student"
        )
    if there.get("tags") != now["tags"]:
        return f"with other tags before the sources ({there.get('tags')} there, {now['tags']} now); give the same tags"
    return ""


# ------------------------------------------------------------------------------------------------------------- writing


class TeacherWriter:
    """Writes the distributions of a teacher block by block, in a folder that gets its name when it is whole.

    A process that was killed resumes after the last whole block. Several processes may write different blocks.

    Args:
        path: of the folder.
        about: JSON data of the manifest, on which the distributions depend.

    Raises:
        DataError: the folder exists and is another one, or cannot be written.
    """

    def __init__(self, path: Path, about: Mapping[str, Any], dataset: ParallelDataset, top_k: int, vocabulary: int):
        self.path, self.about, self.dataset, self.top_k = path, dict(about), dataset, top_k
        self.dtypes = {"ids.npy": np.dtype("<u2" if vocabulary <= 1 << 16 else "<u4"), "log_probs.npy": np.dtype("<f2")}
        self.key = digest(FORMAT, self.about, top_k, BLOCK)
        self.folder = path.with_name(f"{path.name}.{self.key}.parts")
        self.blocks = -(-len(dataset) // BLOCK)

    @property
    def is_whole(self) -> bool:
        """Whether the folder is complete.

        Raises:
            DataError: another folder or file has the name.
        """
        if not self.path.exists():
            return False
        try:
            if read_manifest(self.path).get("key") == self.key:
                return True
        except DataError:
            pass
        raise DataError(
            f"{self.path}: exists, and is not of this teacher, data and --top-k; name another --out, or remove it"
        )

    def begin(self) -> None:
        """Create the files with their final sizes, unless another process has done so."""
        starts = np.zeros(len(self.dataset) + 1, np.int64)
        for start in range(0, len(self.dataset), BLOCK):
            lengths = self.dataset.lengths(start, start + BLOCK)[1] + 1
            starts[start + 1 : start + 1 + len(lengths)] = starts[start] + np.cumsum(lengths, dtype=np.int64)
            self.dataset.release()
        self.starts = starts
        if self.folder.is_dir():
            return
        try:
            with new_directory(self.folder, replace=False) as folder:
                np.save(folder / "starts.npy", starts)
                for name, dtype in self.dtypes.items():
                    with (folder / name).open("wb") as file:
                        file.write(self._header(dtype))
                        file.truncate(file.tell() + int(starts[-1]) * self.top_k * dtype.itemsize)
        except OSError as error:
            raise DataError(f"{self.folder}: cannot be written: {error.strerror}; name another --out") from None

    def _header(self, dtype: np.dtype[Any]) -> bytes:
        shape = int(self.starts[-1]), self.top_k
        head = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        buffer = BytesIO()
        np.lib.format.write_array_header_1_0(buffer, head)
        return buffer.getvalue()

    def missing(self) -> list[int]:
        """The numbers of the blocks that no process has written."""
        return [number for number in range(self.blocks) if not self._mark(number).exists()]

    def rows(self, block: int) -> range:
        """The pairs of a block."""
        return range(block * BLOCK, min((block + 1) * BLOCK, len(self.dataset)))

    def write(self, block: int, pairs: Iterable[TopK]) -> None:
        """Write the ids and log-probabilities [T + 1, K] of the pairs of a block, in order."""
        ids, log_probs = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
        rows = self.rows(block)
        first, last = int(self.starts[rows.start]), int(self.starts[rows.stop])
        assert ids.shape == log_probs.shape == (last - first, self.top_k)
        for (name, dtype), values in zip(self.dtypes.items(), (ids, log_probs), strict=True):
            self._put(name, dtype, values.astype(dtype), first)
        write_text(self._mark(block), "")

    def _put(self, name: str, dtype: np.dtype[Any], values: npt.NDArray[Any], first: int) -> None:
        """Write rows of a file from the ``first`` on. Not through a mapping: a full disk would kill the process."""
        path = self.folder / name
        data, place = memoryview(values.tobytes()), len(self._header(dtype)) + first * self.top_k * dtype.itemsize
        try:
            descriptor = os.open(path, os.O_WRONLY)
            try:
                while data:
                    written = os.pwrite(descriptor, data, place)
                    data, place = data[written:], place + written
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from None

    def finish(self) -> None:
        """Write the manifest, and give the folder its name."""
        sums = {name: sha256(self.folder / name) for name in NAMES}
        about = {"format": FORMAT, "key": self.key, "top_k": self.top_k, **self.about, "files": sums}
        try:
            write_json(self.folder / "manifest.json", about)
            self.folder.rename(self.path)
            fsync(self.path.parent)
        except FileNotFoundError:  # another process was faster
            with suppress(DataError):
                if self.is_whole:
                    return
            raise
        for number in range(self.blocks):
            (self.path / self._mark(number).name).unlink(missing_ok=True)

    def _mark(self, block: int) -> Path:
        return self.folder / f"done-{block:06d}"
