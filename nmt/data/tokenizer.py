"""Subwords: SentencePiece models for both languages behind one interface."""

from __future__ import annotations

import gc
import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import sentencepiece as spm

from nmt.config import TokenizerConfig
from nmt.cores import usable_cores
from nmt.errors import TokenizerError
from nmt.files import build_once, sha256, write_json

if TYPE_CHECKING:
    from nmt.data.corpus import Corpus, TextPart
    from nmt.data.sampling import Sampler

PAD_ID, UNK_ID, BOS_ID, EOS_ID = 0, 1, 2, 3
# SentencePiece shares its work out among this many threads. Sums of floats depend on their number, and so
# does the model: it must not follow the machine.
TRAINING_THREADS = 8
SAMPLE_SEED = 1  # of the choice of training lines
# SentencePiece's unigram training holds about 23 bytes for each character of its text: with this much, 1.4 GB.
TRAINING_BYTES = 60_000_000

# With byte_fallback a model may write any byte, a line end too, and a word model spells the spaces of unknown
# words in bytes.
_TO_SPACE = str.maketrans("\n\r▁", "   ")


class Tokenizer:
    """Text to ids and back. Ids carry no bos or eos: those belong to batches.

    Args:
        path: the folder with ``joint.model``, or with ``src.model`` and ``tgt.model``.

    Raises:
        TokenizerError: there is no such tokenizer, or it is damaged.
    """

    pad_id, unk_id, bos_id, eos_id = PAD_ID, UNK_ID, BOS_ID, EOS_ID

    def __init__(self, path: Path):
        self.path = path
        joint, separate = path / "joint.model", [path / "src.model", path / "tgt.model"]
        if not path.is_dir():
            raise TokenizerError(f"{path}: no such tokenizer folder; nmt prepare makes one")
        if joint.exists() and any(file.exists() for file in separate):
            raise TokenizerError(f"{path}: holds joint.model and separate models too; keep one kind")
        self.joint = joint.exists()
        files = [joint] if self.joint else separate
        if not any(file.exists() for file in files):
            raise TokenizerError(f"{path}: holds no tokenizer (joint.model, or src.model and tgt.model)")
        models = [_load(file) for file in files]
        self._src, self._tgt = models[0], models[-1]
        self.fingerprint = hashlib.sha256(" ".join(sha256(file) for file in files).encode()).hexdigest()

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        return cls(path)

    @classmethod
    def train(cls, config: TokenizerConfig, corpus: Corpus, path: Path) -> Tokenizer:
        """Train on the training part alone and store the model(s) in the folder ``path``, all or nothing.

        The same text and configuration give the same bytes.

        Raises:
            TokenizerError: the vocabulary size does not suit the text.
            DataError: ``path`` cannot be written.
        """
        part = corpus.part("train")
        sides = {"joint": (0, 1)} if config.joint else {"src": (0,), "tgt": (1,)}
        with build_once(path) as folder:
            for name, columns in sides.items():
                model = _train(config, sample_lines(part, columns, config.train_sentences), name)
                (folder / f"{name}.model").write_bytes(model)
            write_json(folder / "manifest.json", {"files": {f.name: sha256(f) for f in sorted(folder.glob("*.model"))}})
        return cls(path)

    @property
    def src_vocab_size(self) -> int:
        return int(self._src.get_piece_size())

    @property
    def tgt_vocab_size(self) -> int:
        return int(self._tgt.get_piece_size())

    def encode_src(self, texts: Sequence[str], num_threads: int | None = None) -> list[list[int]]:
        return _encode(self._src, texts, num_threads)

    def encode_tgt(self, texts: Sequence[str], num_threads: int | None = None) -> list[list[int]]:
        return _encode(self._tgt, texts, num_threads)

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Plain text, a line each, of target ids; pad, bos and eos are left out, an unknown piece is ⁇."""
        if not ids:
            return []
        plain = [[int(i) for i in row if i not in (PAD_ID, BOS_ID, EOS_ID)] for row in ids]
        return [text.translate(_TO_SPACE).strip(" ") for text in self._tgt.decode(plain)]

    def src_pieces(self, ids: Sequence[int]) -> list[str]:
        return [self._src.id_to_piece(int(i)) for i in ids]

    def tgt_pieces(self, ids: Sequence[int]) -> list[str]:
        return [self._tgt.id_to_piece(int(i)) for i in ids]

    def sample_src(self, text: str, alpha: float, nbest: int, seed: int) -> list[int]:
        """One segmentation of ``text``, a function of the arguments alone (see ``SamplingConfig``)."""
        return self._samplers[0].sample(text, alpha, nbest, seed)

    def sample_tgt(self, text: str, alpha: float, nbest: int, seed: int) -> list[int]:
        return self._samplers[1].sample(text, alpha, nbest, seed)

    @cached_property
    def _samplers(self) -> tuple[Sampler, Sampler]:
        from nmt.data.sampling import Sampler

        src = Sampler(self._src)
        return src, src if self.joint else Sampler(self._tgt)


def _encode(model: spm.SentencePieceProcessor, texts: Sequence[str], num_threads: int | None) -> list[list[int]]:
    # A thread has to be worth its start: a few sentences take one, a block of a corpus takes all cores.
    threads = num_threads or min(usable_cores(), 1 + len(texts) // 256)
    # Python's garbage collector would go through the new lists again and again, for as long as the encoding takes.
    collecting = gc.isenabled()
    gc.disable()
    try:
        ids: list[list[int]] = model.encode(list(texts), num_threads=threads)
    finally:
        if collecting:
            gc.enable()
    return ids


def _load(file: Path) -> spm.SentencePieceProcessor:
    model = spm.SentencePieceProcessor()
    try:
        model.LoadFromSerializedProto(file.read_bytes())
    except FileNotFoundError:
        raise TokenizerError(f"{file}: no such file; the other language's model is there") from None
    except OSError as error:
        raise TokenizerError(f"{file}: cannot be read: {error.strerror or error}") from None
    except RuntimeError:
        raise TokenizerError(f"{file}: not a SentencePiece model, or damaged") from None
    found = (model.pad_id(), model.unk_id(), model.bos_id(), model.eos_id())
    if found != (PAD_ID, UNK_ID, BOS_ID, EOS_ID):
        raise TokenizerError(
            f"{file}: its pad, unk, bos and eos have the ids {', '.join(map(str, found))} "
            "instead of 0, 1, 2, 3; train it with nmt prepare"
        )
    return model


def sample_lines(part: TextPart, columns: Sequence[int], limit: int, max_bytes: int = TRAINING_BYTES) -> Iterator[str]:
    """The lines of one or both columns of ``part``, or a fixed random sample of them.

    Args:
        limit: the most lines.
        max_bytes: about the most text, in UTF-8.
    """
    import numpy as np  # not at the top: translating, which trains nothing, starts without NumPy and Arrow
    import pyarrow.compute as pc

    from nmt.data.corpus import read_batches

    total = len(part) * len(columns)
    size = sum(
        pc.sum(pc.binary_length(batch.column(column))).as_py() or 0
        for batch in read_batches(part.path)
        for column in columns
    )
    if size > max_bytes:
        limit = min(limit, max(1, total * max_bytes // size))
    chosen = np.ones(total, dtype=bool)
    if total > limit:
        chosen[:] = False
        chosen[np.random.default_rng(SAMPLE_SEED).choice(total, limit, replace=False, shuffle=False)] = True
    start = 0
    for batch in read_batches(part.path):
        for column in columns:
            rows = np.flatnonzero(chosen[start : start + batch.num_rows])
            start += batch.num_rows
            yield from batch.column(column).take(rows).to_pylist()


def _train(config: TokenizerConfig, lines: Iterator[str], name: str) -> bytes:
    out = io.BytesIO()
    try:
        spm.SentencePieceTrainer.train(
            sentence_iterator=lines,
            model_writer=out,
            model_type=config.type,
            vocab_size=config.vocab_size,
            character_coverage=config.character_coverage,
            byte_fallback=config.byte_fallback,
            normalization_rule_name=config.normalization,
            pad_id=PAD_ID,
            unk_id=UNK_ID,
            bos_id=BOS_ID,
            eos_id=EOS_ID,
            num_threads=TRAINING_THREADS,
            max_sentence_length=1 << 30,  # bytes; a longer line would be skipped in silence
            minloglevel=3,
        )
    except RuntimeError as error:
        raise TokenizerError(_explain(config, str(error), name)) from None
    return out.getvalue()


def _explain(config: TokenizerConfig, message: str, name: str) -> str:
    where = "tokenizer.vocab_size" if name == "joint" else f"tokenizer.vocab_size ({name})"
    size = config.vocab_size
    if found := re.search(r"Vocabulary size too high .*value <= (\d+)", message):
        return f"{where}: {size} is more than the training text can fill; set it to {found[1]} or less"
    if found := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        return (
            f"{where}: {size} is too small for the characters of the training text and the special pieces, "
            f"{found[1]} in all; set it higher than that, or lower tokenizer.character_coverage"
        )
    if "sentences_.empty()" in message:
        return f"tokenizer: the training text of {name} is empty; there is nothing to learn from"
    return f"tokenizer: SentencePiece cannot train ({' '.join(message.split())}); try another vocab_size"
