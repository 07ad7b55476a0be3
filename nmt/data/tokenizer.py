"""Subwords: SentencePiece models for both languages behind one interface."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import accumulate, groupby
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import sentencepiece as spm

from nmt.config.tokenizer import SamplingConfig, TokenizerConfig
from nmt.data import source_tokenizer
from nmt.data.inline_casing import MARKED_WORD
from nmt.data.sentencepiece_model import (
    BOS_ID,
    CASE_MARKERS,
    EOS_ID,
    PAD_ID,
    UNK_ID,
    MarkedProcessor,
    load_model,
    proto_of,
)
from nmt.data.source_tokenizer import SourceTokenizer
from nmt.data.tokenizer_training import NO_SYMBOLS, Symbols, train_models
from nmt.errors import TokenizerError
from nmt.runtime.threads import usable_cores
from nmt.storage.atomic import build_once, sha256, write_json
from nmt.text.placeholders import SYMBOL, symbol

if TYPE_CHECKING:
    from nmt.data.casing import Casing
    from nmt.data.corpus import Corpus
    from nmt.data.subword_sampling import BatchSampler, Sampler

log = logging.getLogger(__name__)

# SentencePiece starts a thread for each list of texts, which takes as long as it takes to encode ten sentences.
FEW = 16
VOCABULARY = "vocabulary.json"  # sizes of the vocabularies of imported models
_WORD = re.compile(r"\S+")
# With byte_fallback a model may write any byte, a line end too, and a word model spells the spaces of unknown
# words in bytes.
_TO_SPACE = str.maketrans("\n\r▁", "   ")


class Tokenizer:
    """Convert text to ids and back. The ids have no bos or eos, which batches add.

    Args:
        path: the folder with ``joint.model``, or with ``src.model`` and ``tgt.model``. A joint vocabulary whose sides
            are normalised by different rules is two models with the same pieces. ``vocabulary.json`` is for a model
            that has more pieces than the vocabulary: those behind its size are unknown.

    Raises:
        TokenizerError: the tokenizer does not exist, or is damaged.
    """

    pad_id, unk_id, bos_id, eos_id = PAD_ID, UNK_ID, BOS_ID, EOS_ID

    def __init__(self, path: Path):
        self.path = path
        joint, separate = path / "joint.model", [path / "src.model", path / "tgt.model"]
        if not path.is_dir():
            raise TokenizerError(f"{path}: no such tokenizer folder; nmt prepare makes one")
        if joint.exists() and any(file.exists() for file in separate):
            raise TokenizerError(f"{path}: contains joint.model and separate models too; keep one kind")
        self.joint = joint.exists()
        source = path / source_tokenizer.FILE
        files = [joint] if self.joint else [source, separate[1]] if source.exists() else separate
        if not any(file.exists() for file in files):
            raise TokenizerError(f"{path}: contains no tokenizer (joint.model, or src.model and tgt.model)")
        self._tgt = load_model(files[-1])
        self._source = SourceTokenizer(source) if source in files else None
        self._src: Any = self._source or (self._tgt if self.joint else load_model(files[0]))
        if isinstance(self._src, MarkedProcessor):
            self._src = self._src.of_side(0)
        models = [self._tgt] if self.joint else [self._src, self._tgt]
        sizes = [int(model.get_piece_size()) for model in models]
        if (listed := path / VOCABULARY).exists():
            sizes = _listed_sizes(listed, [file.stem for file in files], sizes)
            files.append(listed)
        self.src_vocab_size, self.tgt_vocab_size = sizes[0], sizes[-1]
        self.fingerprint = hashlib.sha256(" ".join(sha256(file) for file in files).encode()).hexdigest()

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        return cls(path)

    @classmethod
    def train(
        cls,
        config: TokenizerConfig,
        corpus: Corpus,
        path: Path,
        symbols: Symbols = NO_SYMBOLS,
        source: Mapping[str, Any] | None = None,
        casing: Casing | None = None,
    ) -> Tokenizer:
        """Train on the training part and write the models to the folder ``path``, all or none.

        The same text, configuration, symbols and casing give the same bytes.

        Args:
            casing: puts some of the lines into another case.
            source: content of :data:`nmt.data.source_tokenizer.FILE`, if the source is read by the tokenizer of a
                pretrained encoder.

        Raises:
            TokenizerError: the vocabulary size does not suit the text.
            DataError: ``path`` cannot be written.
        """
        part, languages = corpus.part("train"), (corpus.manifest["src_lang"], corpus.manifest["tgt_lang"])
        sides: dict[str, tuple[int, ...]] = {"joint": (0, 1)} if config.joint else {"src": (0,), "tgt": (1,)}
        if source is not None:
            sides = {"tgt": (1,)}
        with build_once(path) as folder:
            for name, columns in sides.items():
                given = symbols if 0 in columns else symbols_of_targets(symbols)
                for file, model in train_models(config, part, columns, name, given, casing, languages).items():
                    (folder / f"{file}.model").write_bytes(model)
            if source is not None:
                (folder / source_tokenizer.FILE).write_text(json.dumps(source, ensure_ascii=False), encoding="utf-8")
            files = sorted(file for file in folder.iterdir() if file.suffix == ".model" or source is not None)
            write_json(folder / "manifest.json", {"files": {file.name: sha256(file) for file in files}})
        return cls(path)

    @property
    def is_whole(self) -> bool:
        """Whether the vocabularies have all pieces of their models."""
        sides = ((self._src, self.src_vocab_size), (self._tgt, self.tgt_vocab_size))
        return all(int(model.get_piece_size()) == size for model, size in sides)

    @property
    def marks_case(self) -> bool:
        """Whether the models read text whose case is marked, see :mod:`nmt.data.inline_casing`."""
        return any(isinstance(model, MarkedProcessor) for model in (self._src, self._tgt))

    @property
    def source_special(self) -> Sequence[int]:
        """See :attr:`SourceTokenizer.special`; nothing for a source that SentencePiece reads."""
        return self._source.special if self._source is not None else ()

    def summary(self) -> str:
        """One line for users: the sizes of the vocabularies."""
        src, tgt = self.src_vocab_size, self.tgt_vocab_size
        shared = [self._src.id_to_piece(i) for i in range(src)] == [self._tgt.id_to_piece(i) for i in range(tgt)]
        sizes = f"{src:,} pieces, shared" if shared else f"{src:,} source and {tgt:,} target pieces"
        return f"tokenizer {self.path}: {sizes}"

    def encode_src(self, texts: Sequence[str], num_threads: int | None = None) -> list[list[int]]:
        return _listed(_encode(self._src, texts, num_threads), self._src, self.src_vocab_size)

    def encode_tgt(self, texts: Sequence[str], num_threads: int | None = None) -> list[list[int]]:
        return _listed(_encode(self._tgt, texts, num_threads), self._tgt, self.tgt_vocab_size)

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """Plain text of target ids, one line per sequence, without pad, bos and eos; an unknown piece is ⁇."""
        if not ids:
            return []
        plain = [[int(i) for i in row if i not in (PAD_ID, BOS_ID, EOS_ID)] for row in ids]
        texts = map(self._tgt.decode, plain) if len(plain) < FEW else self._tgt.decode(plain)
        return [text.translate(_TO_SPACE).strip(" ") for text in texts]

    @cached_property
    def tags(self) -> list[str]:
        """The tags of the source vocabulary, see :class:`Symbols`."""
        special = (PAD_ID, BOS_ID, EOS_ID)
        return [
            str(self._src.id_to_piece(i))
            for i in range(self.src_vocab_size)
            if self._src.is_control(i) and i not in special
        ]

    @cached_property
    def placeholders(self) -> int:
        """How many symbols ``<ph0>``, ``<ph1>``, ... of placeholders both vocabularies have."""
        sides = ((self._src, self.src_vocab_size), (self._tgt, self.tgt_vocab_size))
        number = 0
        while all(UNK_ID < model.piece_to_id(symbol(number)) < size for model, size in sides):
            number += 1
        return number

    def reads(self, word: str) -> bool:
        """Whether a text's word, such as ``<ph0>``, is a piece of the source, and of the target if it is a symbol."""
        sides = [self.src_pieces(self.encode_src([word])[0])]
        if SYMBOL.fullmatch(word):
            sides.append(self.tgt_pieces(self.encode_tgt([word])[0]))
        return all(word in pieces for pieces in sides)

    def lacking(self, symbols: Symbols) -> Symbols:
        """Those of the symbols that the vocabularies do not have."""
        tags, words = (dict.fromkeys(each) for each in symbols)
        return Symbols(
            tuple(tag for tag in tags if tag not in self.tags), tuple(word for word in words if not self.reads(word))
        )

    def tag_ids(self, tags: Sequence[str]) -> list[int]:
        """The ids of tags.

        Raises:
            TokenizerError: the vocabulary does not have one of them.
        """
        known = self.tags if tags else []
        for tag in tags:
            if tag not in known:
                there = f"it has: {', '.join(known)}" if known else "it has none"
                raise TokenizerError(f"{self.path}: the vocabulary has no tag {tag or repr(tag)}; {there}")
        return [int(self._src.piece_to_id(tag)) for tag in tags]

    def src_pieces(self, ids: Sequence[int]) -> list[str]:
        return [self._src.id_to_piece(int(i)) for i in ids]

    def tgt_pieces(self, ids: Sequence[int]) -> list[str]:
        return [self._tgt.id_to_piece(int(i)) for i in ids]

    def src_words(self, text: str) -> list[int]:
        """The word of each source piece, as a place in ``text.split()``; -1 where the text has no words."""
        if self._source is not None:
            return self._source.words(text)
        return _words(self._src, self._src.encode(text, out_type="serialized_proto"))

    def tgt_text_words(self, text: str) -> list[int]:
        """As :meth:`src_words`, of a target text."""
        return _words(self._tgt, self._tgt.encode(text, out_type="serialized_proto"))

    def src_words_of(self, ids: Sequence[int]) -> list[int]:
        """As :meth:`tgt_words`, of source ids."""
        return _words(self._src, self._src.decode([int(i) for i in ids], out_type="serialized_proto"), _TO_SPACE)

    def tgt_words(self, ids: Sequence[int]) -> list[int]:
        """The word of each target id, as a place in the words (``split()``) of its decoded text; -1 without words."""
        return _words(self._tgt, self._tgt.decode([int(i) for i in ids], out_type="serialized_proto"), _TO_SPACE)

    def tgt_groups(self, ids: Sequence[int]) -> list[int]:
        """The word of each target id, from 0. Unlike in :meth:`tgt_words`, an unknown piece stays within its word.

        A word begins where white space stands in the text; in a model of words, at each piece. A marker of case belongs
        to the word that follows.
        """
        trainer = proto_of(self._tgt.serialized_model_proto()).trainer_spec
        whole, pieces = trainer.model_type == trainer.WORD, self.tgt_pieces(ids)
        starts = [whole or str(piece).startswith("▁") for piece in pieces]
        if isinstance(self._tgt, MarkedProcessor):
            after = [False, *(piece in CASE_MARKERS for piece in pieces)]
            starts = [start and not marked for start, marked in zip(starts, after, strict=False)]
        return list(accumulate(int(start and place > 0) for place, start in enumerate(starts)))

    def decode_copying(self, ids: Sequence[int], copies: Mapping[int, str]) -> str:
        """The text of target ids, with other text in place of some words.

        Args:
            copies: by the number of a word, see :meth:`tgt_groups`.
        """
        parts, kept = list[str](), -1
        pairs = ((group if group in copies else kept, i) for group, i in zip(self.tgt_groups(ids), ids, strict=True))
        for group, chosen in groupby(pairs, lambda pair: pair[0]):
            parts.append(self.decode([[i for _, i in chosen]])[0] if group == kept else copies[group])
        return " ".join(filter(None, parts))

    def unknown_texts(self, side: str, texts: Sequence[str]) -> list[str]:
        """The texts of unknown pieces of a side (src, tgt): words for a word model, characters otherwise."""
        if side == "src" and self._source is not None:
            return self._source.unknown(texts)
        model, size = (self._src, self.src_vocab_size) if side == "src" else (self._tgt, self.tgt_vocab_size)
        trainer = proto_of(model.serialized_model_proto()).trainer_spec
        found = [
            piece
            for pieces in model.encode(list(texts), out_type=str)
            for piece in pieces
            if (number := model.piece_to_id(piece)) == UNK_ID or number >= size
        ]
        if trainer.model_type == trainer.WORD:
            return [piece.removeprefix("▁") for piece in found]
        return list("".join(found))

    def batch_samplers(self, sampling: SamplingConfig) -> tuple[BatchSampler, BatchSampler]:
        """Source and target; see :class:`nmt.data.subword_sampling.BatchSampler`."""
        from nmt.data.subword_sampling import BatchSampler

        src = BatchSampler(self._src, sampling, self.src_vocab_size)
        return src, src if self.joint else BatchSampler(self._tgt, sampling, self.tgt_vocab_size)

    def sample_src(self, text: str, sampling: SamplingConfig, seed: int) -> list[int]:
        """One segmentation, a function of the arguments alone; see :class:`nmt.data.subword_sampling.Sampler`."""
        return self._samplers[0].sample(text, sampling, seed)

    def sample_tgt(self, text: str, sampling: SamplingConfig, seed: int) -> list[int]:
        return self._samplers[1].sample(text, sampling, seed)

    @cached_property
    def _samplers(self) -> tuple[Sampler, Sampler]:
        from nmt.data.subword_sampling import Sampler

        src = Sampler(self._src, self.src_vocab_size)
        return src, src if self.joint else Sampler(self._tgt, self.tgt_vocab_size)


def symbols_of_targets(symbols: Symbols) -> Symbols:
    """Those that a separate vocabulary of the target has: the symbols of placeholders."""
    return Symbols(words=tuple(filter(SYMBOL.fullmatch, symbols.words)))


def _words(model: Any, aligned: bytes, table: Mapping[int, int] = MappingProxyType({})) -> list[int]:
    """The word that holds the first character of each piece, from SentencePiece's offsets of pieces in the text.

    A piece without a character, such as a space or a byte of a character, belongs to the word that follows. So does a
    marker of case.

    Args:
        aligned: the serialized ``SentencePieceText`` of the model.
        table: translation of characters before the text is split.
    """
    from sentencepiece import sentencepiece_pb2

    found: Any = sentencepiece_pb2.SentencePieceText()  # type: ignore[attr-defined]
    found.ParseFromString(aligned)
    marked = isinstance(model, MarkedProcessor)
    words = (MARKED_WORD if marked else _WORD).finditer(found.text.translate(table))
    ends = [len(found.text[: word.end()].encode()) for word in words]  # offsets are in bytes
    return [min(bisect_right(ends, piece.begin), len(ends) - 1) for piece in found.pieces]


def _encode(model: spm.SentencePieceProcessor, texts: Sequence[str], num_threads: int | None) -> list[list[int]]:
    if len(texts) < FEW:
        return [model.encode(text) for text in texts]
    # Use one thread for some sentences and all cores for a block of a corpus: starting a thread takes time.
    threads = num_threads or min(usable_cores(), 1 + len(texts) // 256)
    # Python's garbage collector would scan the new lists again and again, for as long as the encoding takes.
    collecting = gc.isenabled()
    gc.disable()
    try:
        ids: list[list[int]] = model.encode(list(texts), num_threads=threads)
    finally:
        if collecting:
            gc.enable()
    return ids


def _listed(ids: list[list[int]], model: spm.SentencePieceProcessor, size: int) -> list[list[int]]:
    """``ids`` with the unknown piece in place of those that the vocabulary lacks."""
    if model.get_piece_size() == size:
        return ids
    return [[i if i < size else UNK_ID for i in row] for row in ids]


def _listed_sizes(path: Path, names: list[str], most: list[int]) -> list[int]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["sizes"]
        sizes = [int(found[name]) for name in names]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TokenizerError(f"{path}: cannot be read, or damaged: {error}") from None
    if any(not EOS_ID < size <= limit for size, limit in zip(sizes, most, strict=True)):
        raise TokenizerError(f"{path}: is of other models than those beside it")
    return sizes
