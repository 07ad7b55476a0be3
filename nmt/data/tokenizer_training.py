"""Training of SentencePiece models on the text of a corpus, and their normalization rules."""

from __future__ import annotations

import io
import logging
import math
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import sentencepiece as spm

from nmt.config.tokenizer import TokenizerConfig
from nmt.data.inline_casing import kept, mark
from nmt.data.sentencepiece_model import BOS_ID, CASE_MARKERS, EOS_ID, PAD_ID, UNK_ID, proto_of, with_languages
from nmt.errors import TokenizerError
from nmt.runtime.progress import waiting
from nmt.text.case import has_dotless_i

if TYPE_CHECKING:
    from nmt.data.casing import Casing
    from nmt.data.corpus import TextPart

log = logging.getLogger(__name__)

# SentencePiece divides its work among this many threads. Sums of floats, and so the model, depend on their number,
# which must not depend on the machine.
TRAINING_THREADS = 8
SAMPLE_SEED = 1  # of the sample of training lines
# SentencePiece's unigram training takes about 23 bytes per character of its text: 1.4 GB for this much text.
TRAINING_BYTES = 60_000_000

# The rule "whitespace": tabs, line ends and separators become spaces (which SentencePiece collapses and trims);
# the byte order mark and control characters are removed. Joiners and zero-width spaces stay: they are orthography.
_SPACES = "\t\n\v\f\r\x85\u2028\u2029"
_REMOVED = "".join(chr(code) for code in range(1, 0x20) if chr(code) not in _SPACES) + "\x7f\ufeff"


class Symbols(NamedTuple):
    """Pieces of the source vocabulary that no training decides on.

    Attributes:
        tags: stand before a sentence, and are never read in a text: a sentence with the word ``<2de>`` has other ids.
        words: are read in texts, each as one piece; those of placeholders are in the target vocabulary, too.
    """

    tags: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


NO_SYMBOLS = Symbols()


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
            yield column, lines if casing is None else casing(first + rows, lines, column)
        first += batch.num_rows


# ---------------------------------------------------------------------------------------------------------- training


def train_models(
    config: TokenizerConfig,
    part: TextPart,
    columns: tuple[int, ...],
    name: str,
    symbols: Symbols,
    casing: Casing | None,
    languages: tuple[str, str],
) -> dict[str, bytes]:
    """The models of one vocabulary by file name: one model, or two models with different normalization."""
    # Text, marked where the case is inline
    rules = [config.rules[column] for column in columns]
    size = config.sizes[columns[0]]
    inline = config.case == "inline"
    marks = [partial(mark, symbols=kept(symbols.words), dotless=has_dotless_i(one)) for one in languages]
    if inline:
        symbols = symbols._replace(words=(*symbols.words, *CASE_MARKERS))

    def blocks() -> Iterator[tuple[int, list[str]]]:
        for column, block in sampled_blocks(part, columns, config.train_sentences, casing=casing):
            yield column, [*map(marks[column], block)] if inline else block

    def finished(model: bytes) -> bytes:
        return with_languages(model, [languages[column] for column in columns]) if inline else model

    # One model
    if len(set(rules)) == 1 and rules[0] != "whitespace":

        def lines() -> Iterator[str]:
            return chain.from_iterable(block for _, block in blocks())

        return {name: finished(_fit(config, size, rules[0], lines, name, len(part), symbols))}

    # SentencePiece has one rule per model. Normalise the text first, then write the rule of each side into its model.
    def normalised() -> Iterator[str]:
        for column, block in blocks():
            yield from _normalise(block, config.rules[column])

    model = finished(_fit(config, size, "identity", normalised, name, len(part), symbols))
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
    found = proto_of(model)
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


def _with_rule(model: bytes, rule: str) -> bytes:
    """A model with the same pieces that normalises text by another rule, in SentencePiece itself too."""
    out = io.BytesIO()
    with _rule(rule) as setting:  # compile the rule by training a model of one letter
        options: dict[str, Any] = {f"normalization_{key}": value for key, value in setting.items()}
        spm.SentencePieceTrainer.train(
            sentence_iterator=iter(["a"]), model_writer=out, model_type="char", minloglevel=3, **options
        )
    found = proto_of(model)
    found.normalizer_spec.name = rule
    found.normalizer_spec.precompiled_charsmap = proto_of(out.getvalue()).normalizer_spec.precompiled_charsmap
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
