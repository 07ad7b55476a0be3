"""Subwords: SentencePiece models for both languages behind one interface."""

from __future__ import annotations

import gc
import hashlib
import io
import json
import logging
import math
import re
import tempfile
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, cached_property, partial
from itertools import accumulate, chain, groupby
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import sentencepiece as spm

from nmt.config.tokenizer import SamplingConfig, TokenizerConfig
from nmt.data import source_tokenizer
from nmt.data.source_tokenizer import SourceTokenizer
from nmt.errors import TokenizerError
from nmt.runtime.progress import waiting
from nmt.runtime.threads import usable_cores
from nmt.storage.atomic import build_once, sha256, write_json
from nmt.text.placeholders import SYMBOL, symbol

if TYPE_CHECKING:
    from nmt.data.casing import Casing
    from nmt.data.corpus import Corpus, TextPart
    from nmt.data.subword_sampling import BatchSampler, Sampler

log = logging.getLogger(__name__)

PAD_ID, UNK_ID, BOS_ID, EOS_ID = 0, 1, 2, 3
# SentencePiece divides its work among this many threads. Sums of floats, and so the model, depend on their number,
# which must not depend on the machine.
TRAINING_THREADS = 8
# SentencePiece starts a thread for each list of texts, which takes as long as it takes to encode ten sentences.
FEW = 16
VOCABULARY = "vocabulary.json"  # sizes of the vocabularies of imported models
SAMPLE_SEED = 1  # of the sample of training lines
# SentencePiece's unigram training takes about 23 bytes per character of its text: 1.4 GB for this much text.
TRAINING_BYTES = 60_000_000

# The rule "whitespace": tabs, line ends and separators become spaces (which SentencePiece collapses and trims);
# the byte order mark and control characters are removed. Joiners and zero-width spaces stay: they are orthography.
_SPACES = "\t\n\v\f\r\x85\u2028\u2029"
_REMOVED = "".join(chr(code) for code in range(1, 0x20) if chr(code) not in _SPACES) + "\x7f\ufeff"

# With byte_fallback a model may write any byte, a line end too, and a word model spells the spaces of unknown
# words in bytes.
_TO_SPACE = str.maketrans("\n\r▁", "   ")


class Symbols(NamedTuple):
    """Pieces of the source vocabulary that no training decides on.

    Attributes:
        tags: stand before a sentence, and are never read in a text: a sentence with the word ``<2de>`` has other ids.
        words: are read in texts, each as one piece; those of placeholders are in the target vocabulary, too.
    """

    tags: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


NO_SYMBOLS = Symbols()


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
            raise TokenizerError(f"{path}: holds joint.model and separate models too; keep one kind")
        self.joint = joint.exists()
        source = path / source_tokenizer.FILE
        files = [joint] if self.joint else [source, separate[1]] if source.exists() else separate
        if not any(file.exists() for file in files):
            raise TokenizerError(f"{path}: holds no tokenizer (joint.model, or src.model and tgt.model)")
        self._tgt = _load(files[-1])
        self._source = SourceTokenizer(source) if source in files else None
        self._src: Any = self._source or (self._tgt if self.joint else _load(files[0]))
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
        part = corpus.part("train")
        sides: dict[str, tuple[int, ...]] = {"joint": (0, 1)} if config.joint else {"src": (0,), "tgt": (1,)}
        if source is not None:
            sides = {"tgt": (1,)}
        with build_once(path) as folder:
            for name, columns in sides.items():
                given = symbols if 0 in columns else Symbols(words=tuple(filter(SYMBOL.fullmatch, symbols.words)))
                for file, model in _train(config, part, columns, name, given, casing).items():
                    (folder / f"{file}.model").write_bytes(model)
            if source is not None:
                (folder / source_tokenizer.FILE).write_text(json.dumps(source, ensure_ascii=False), encoding="utf-8")
            files = sorted(file for file in folder.iterdir() if file.suffix == ".model" or source is not None)
            write_json(folder / "manifest.json", {"files": {file.name: sha256(file) for file in files}})
        return cls(path)

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
        return _words(self._src.encode(text, out_type="serialized_proto"))

    def tgt_text_words(self, text: str) -> list[int]:
        """As :meth:`src_words`, of a target text."""
        return _words(self._tgt.encode(text, out_type="serialized_proto"))

    def src_words_of(self, ids: Sequence[int]) -> list[int]:
        """As :meth:`tgt_words`, of source ids."""
        return _words(self._src.decode([int(i) for i in ids], out_type="serialized_proto"), _TO_SPACE)

    def tgt_words(self, ids: Sequence[int]) -> list[int]:
        """The word of each target id, as a place in the words (``split()``) of its decoded text; -1 without words."""
        return _words(self._tgt.decode([int(i) for i in ids], out_type="serialized_proto"), _TO_SPACE)

    def tgt_groups(self, ids: Sequence[int]) -> list[int]:
        """The word of each target id, from 0. Unlike in :meth:`tgt_words`, an unknown piece stays within its word.

        A word begins where white space stands in the text; in a model of words, at each piece.
        """
        trainer = _proto(self._tgt.serialized_model_proto()).trainer_spec
        whole = trainer.model_type == trainer.WORD
        starts = [whole or str(piece).startswith("▁") for piece in self.tgt_pieces(ids)]
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
        trainer = _proto(model.serialized_model_proto()).trainer_spec
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


def _words(aligned: bytes, table: Mapping[int, int] = MappingProxyType({})) -> list[int]:
    """The word that holds the first character of each piece, from SentencePiece's offsets of pieces in the text.

    A piece without a character, such as a space or a byte of a character, belongs to the word that follows.

    Args:
        aligned: the serialized ``SentencePieceText``.
        table: translation of characters before the text is split.
    """
    from sentencepiece import sentencepiece_pb2

    found: Any = sentencepiece_pb2.SentencePieceText()  # type: ignore[attr-defined]
    found.ParseFromString(aligned)
    words = re.finditer(r"\S+", found.text.translate(table))
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


def processor_of(model: bytes) -> spm.SentencePieceProcessor:
    """A model that is known to be whole."""
    found = spm.SentencePieceProcessor()
    found.LoadFromSerializedProto(model)
    return found


def _listed_sizes(path: Path, names: list[str], most: list[int]) -> list[int]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["sizes"]
        sizes = [int(found[name]) for name in names]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TokenizerError(f"{path}: cannot be read, or damaged: {error}") from None
    if any(not EOS_ID < size <= limit for size, limit in zip(sizes, most, strict=True)):
        raise TokenizerError(f"{path}: is of other models than those beside it")
    return sizes


def parse_model(file: Path) -> Any:
    """A SentencePiece model as a ``ModelProto``.

    Raises:
        TokenizerError: it cannot be read, or is damaged.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        return _proto(file.read_bytes())
    except OSError as error:
        raise TokenizerError(f"{file}: cannot be read: {error.strerror or error}") from None
    except DecodeError:
        raise TokenizerError(f"{file}: not a SentencePiece model, or damaged") from None


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


def sample_lines(
    part: TextPart, columns: Sequence[int], limit: int, max_bytes: int = TRAINING_BYTES, casing: Casing | None = None
) -> Iterator[str]:
    """The lines of one or both columns of ``part``, or a fixed random sample of them.

    Args:
        limit: the most lines.
        max_bytes: approximate limit of the text in UTF-8.
        casing: puts some of the lines into another case.
    """
    return chain.from_iterable(lines for _, lines in sampled_blocks(part, columns, limit, max_bytes, casing))


def sampled_blocks(
    part: TextPart, columns: Sequence[int], limit: int, max_bytes: int = TRAINING_BYTES, casing: Casing | None = None
) -> Iterator[tuple[int, list[str]]]:
    """The lines of :func:`sample_lines` in blocks, each with its column."""
    import numpy as np  # not at the top: translation starts without NumPy and Arrow
    import pyarrow.compute as pc

    from nmt.data.arrow import integers, read_batches

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
    start = first = 0  # line, row
    for batch in read_batches(part.path):
        for column in columns:
            rows = np.flatnonzero(chosen[start : start + batch.num_rows])
            start += batch.num_rows
            lines = batch.column(column).take(integers(rows)).to_pylist()
            yield column, lines if casing is None else casing(first + rows, lines)
        first += batch.num_rows


# ---------------------------------------------------------------------------------------------------------- training


def _train(
    config: TokenizerConfig,
    part: TextPart,
    columns: tuple[int, ...],
    name: str,
    symbols: Symbols,
    casing: Casing | None,
) -> dict[str, bytes]:
    """The models of one vocabulary by file name: one model, or two models with different normalization."""
    rules = [config.rules[column] for column in columns]
    size = config.sizes[columns[0]]
    if len(set(rules)) == 1 and rules[0] != "whitespace":

        def lines() -> Iterator[str]:
            return sample_lines(part, columns, config.train_sentences, casing=casing)

        return {name: _fit(config, size, rules[0], lines, name, len(part), symbols)}

    # SentencePiece has one rule per model. Normalise the text first, then write the rule of each side into its model.
    def normalised() -> Iterator[str]:
        for column, block in sampled_blocks(part, columns, config.train_sentences, casing=casing):
            yield from _normalise(block, config.rules[column])

    model = _fit(config, size, "identity", normalised, name, len(part), symbols)
    if len(set(rules)) == 1:
        return {name: _with_rule(model, rules[0])}
    return {side: _with_rule(model, rule) for side, rule in zip(("src", "tgt"), rules, strict=True)}


def _fit(
    config: TokenizerConfig,
    size: int,
    rule: str,
    lines: Callable[[], Iterable[str]],
    name: str,
    pairs: int,
    symbols: Symbols,
) -> bytes:
    """A SentencePiece model of at most ``size`` pieces.

    Raises:
        TokenizerError: the size is too small, or SentencePiece cannot train for another reason.
    """
    more: dict[str, Any] = {"control_symbols": list(symbols.tags)} if symbols.tags else {}
    if symbols.words:
        more["user_defined_symbols"] = list(symbols.words)
    try:
        return _run_trainer(config, size, rule, lines(), **more)
    except RuntimeError as error:
        if "Vocabulary size too high" not in str(error):
            raise TokenizerError(_explain(size, str(error), name)) from None
    try:
        model = _run_trainer(config, size, rule, lines(), hard_vocab_limit=False, **more)
    except RuntimeError as error:
        raise TokenizerError(_explain(size, str(error), name)) from None
    log.warning("%s", _lowered(_where(name), size, model, pairs))
    return model


def _run_trainer(config: TokenizerConfig, size: int, rule: str, lines: Iterable[str], **more: Any) -> bytes:
    out = io.BytesIO()
    train = partial(
        spm.SentencePieceTrainer.train,
        sentence_iterator=iter(lines),
        model_writer=out,
        model_type=config.type,
        vocab_size=size,
        character_coverage=config.character_coverage,
        byte_fallback=config.byte_fallback,
        normalization_rule_name=rule,
        pad_id=PAD_ID,
        unk_id=UNK_ID,
        bos_id=BOS_ID,
        eos_id=EOS_ID,
        num_threads=TRAINING_THREADS,
        max_sentence_length=1 << 30,  # bytes; SentencePiece skips longer lines without a message
        minloglevel=3,
        **more,
    )
    waiting("training the tokenizer", train)
    return out.getvalue()


def _lowered(where: str, size: int, model: bytes, pairs: int) -> str:
    """One line about a vocabulary that the text cannot fill; for subwords with a size to try instead.

    That size is about 30 times the root of the number of pairs: 2,000 pieces for 5,000 pairs, 12,000 for 160,000.
    These are near the best ones of Sennrich and Zhang 2019 (table 2) and Gowda and May 2020.
    """
    found = _proto(model)
    pieces = len(found.pieces)
    text = f"warning: {where}: {size} lowered to {pieces}, all the pieces that the training text can fill"
    letters = sum(len(piece.piece) == 1 for piece in found.pieces)
    better = max(round(30 * math.sqrt(pairs), -2), 2 * letters)
    if found.trainer_spec.model_type in (found.trainer_spec.UNIGRAM, found.trainer_spec.BPE) and better < 0.8 * pieces:
        text += f"; most of them are rare: for {pairs:,} pairs, a size of about {better:.0f} is better"
    return text


def _where(name: str) -> str:
    return "tokenizer.vocab_size" if name == "joint" else f"tokenizer.vocab_size ({name})"


def _explain(size: int, message: str, name: str) -> str:
    if found := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        return (
            f"{_where(name)}: {size} is too small for the characters of the training text and the special pieces, "
            f"{found[1]} in all; set it higher than that, or lower tokenizer.character_coverage"
        )
    if "sentences_.empty()" in message:
        return f"tokenizer: the training text of {name} is empty; there is nothing to learn from"
    return f"tokenizer: SentencePiece cannot train ({' '.join(message.split())}); try another vocab_size"


# ------------------------------------------------------------------------------------------------------ normalization


def _proto(model: bytes) -> Any:
    from sentencepiece import sentencepiece_model_pb2

    found: Any = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    found.ParseFromString(model)
    return found


def _with_rule(model: bytes, rule: str) -> bytes:
    """A model with the same pieces that normalises text by another rule, in SentencePiece itself too."""
    out = io.BytesIO()
    with _rule(rule) as setting:  # compile the rule by training a model of one letter
        options: dict[str, Any] = {f"normalization_{key}": value for key, value in setting.items()}
        spm.SentencePieceTrainer.train(
            sentence_iterator=iter(["a"]), model_writer=out, model_type="char", minloglevel=3, **options
        )
    found = _proto(model)
    found.normalizer_spec.name = rule
    found.normalizer_spec.precompiled_charsmap = _proto(out.getvalue()).normalizer_spec.precompiled_charsmap
    changed: bytes = found.SerializeToString(deterministic=True)
    return changed


def _normalise(lines: list[str], rule: str) -> list[str]:
    if rule != "whitespace":
        found: list[str] = _normalizer(rule).normalize(lines)
        return found
    # The rule changes only characters that are not printable in the sense of Python, and few lines have them.
    return [line if line.isprintable() else _normalizer(rule).normalize(line) for line in lines]


@cache
def _normalizer(rule: str) -> spm.SentencePieceNormalizer:
    """A rule from text to text, in which spaces stay spaces."""
    spm.set_min_log_level(3)  # do not report the file
    plain: dict[str, Any] = {"add_dummy_prefix": False, "escape_whitespaces": False, "remove_extra_whitespaces": False}
    with _rule(rule) as setting:
        return spm.SentencePieceNormalizer(**setting, **plain)


@contextmanager
def _rule(rule: str) -> Iterator[dict[str, Any]]:
    """Options that give SentencePiece a rule: ``rule_name``, or ``rule_tsv`` with a temporary file."""
    if rule != "whitespace":
        yield {"rule_name": rule}
        return
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as file:
        file.write("".join(f"{ord(char):X}\t20\n" for char in _SPACES))
        file.write("".join(f"{ord(char):X}\t\n" for char in _REMOVED))
        file.flush()
        yield {"rule_tsv": file.name}
