"""SentencePiece models: special pieces, models from files and bytes, and models of text whose case is marked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import sentencepiece as spm

from nmt.data.inline_casing import TITLE, UPPER, kept, mark, unmark
from nmt.errors import TokenizerError
from nmt.text.case import has_dotless_i

PAD_ID, UNK_ID, BOS_ID, EOS_ID = 0, 1, 2, 3
SPACE = "\u2581"  # SentencePiece's symbol of a space
CASE_MARKERS = (SPACE + TITLE, SPACE + UPPER)  # pieces of inline casing


def proto_of(model: bytes) -> Any:
    """The ``ModelProto`` of a serialized model."""
    from sentencepiece import sentencepiece_model_pb2

    found: Any = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    found.ParseFromString(model)
    return found


def parse_model(file: Path) -> Any:
    """A SentencePiece model as a ``ModelProto``.

    Raises:
        TokenizerError: it cannot be read, or is damaged.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        return proto_of(file.read_bytes())
    except OSError as error:
        raise TokenizerError(f"{file}: cannot be read: {error.strerror or error}") from None
    except DecodeError:
        raise TokenizerError(f"{file}: not a SentencePiece model, or damaged") from None


def processor_of(model: bytes) -> Any:
    """The processor of a model that is known to be whole."""
    found = spm.SentencePieceProcessor()
    found.LoadFromSerializedProto(model)
    return _reading_plain_text(found)


def load_model(file: Path) -> Any:
    """The processor of a model file. A model of both sides is that of the target, see :meth:`MarkedProcessor.of_side`.

    Raises:
        TokenizerError: the file is missing, cannot be read, is damaged, or has other special ids.
    """
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
    return _reading_plain_text(model)


def _reading_plain_text(model: spm.SentencePieceProcessor) -> Any:
    """The model, behind :class:`MarkedProcessor` if it was trained on marked text."""
    numbers = [model.piece_to_id(symbol) for symbol in CASE_MARKERS]
    if UNK_ID in numbers:
        return model
    about = proto_of(model.serialized_model_proto())
    symbols = {piece.piece for piece in about.pieces if piece.type == about.SentencePiece.USER_DEFINED}
    languages = list(about.trainer_spec.accept_language)
    return MarkedProcessor(model, symbols, languages) if symbols.issuperset(CASE_MARKERS) else model


def with_languages(model: bytes, languages: Sequence[str]) -> bytes:
    """A serialized model of marked text that knows the languages of its sides, if their rules of case differ.

    Models of other languages stay as they are.
    """
    if not any(map(has_dotless_i, languages)):
        return model
    found = proto_of(model)
    found.trainer_spec.accept_language[:] = list(languages)
    changed: bytes = found.SerializeToString(deterministic=True)
    return changed


class MarkedProcessor:
    """A SentencePiece model of marked text, which encodes and decodes plain text.

    Protocol buffers (``out_type="serialized_proto"``) hold the marked text, and positions in it.

    Args:
        symbols: the pieces that are symbols, whose case is not marked.
        languages: of the source and the target, or of the only side; empty if not known.
        side: of text that is read and written, a place in ``languages``.
    """

    def __init__(
        self, model: spm.SentencePieceProcessor, symbols: Iterable[str], languages: Sequence[str] = (), side: int = -1
    ):
        self.model, self._about = model, ({*symbols} - {*CASE_MARKERS}, tuple(languages))
        dotless = bool(languages) and has_dotless_i(languages[side])
        self._mark = partial(mark, symbols=kept(self._about[0]), dotless=dotless)
        self._unmark = partial(unmark, dotless=dotless)

    def of_side(self, side: int) -> MarkedProcessor:
        """The same model for text of another side."""
        return MarkedProcessor(self.model, *self._about, side=side)

    def __getattr__(self, name: str) -> Any:
        if name in ("model", "_about", "_mark", "_unmark"):  # while unpickled
            raise AttributeError(name)
        return getattr(self.model, name)

    def encode(self, text: str | Sequence[str], **options: Any) -> Any:
        return self.model.encode(_each(self._mark, text), **options)

    def normalize(self, text: str | Sequence[str], **options: Any) -> Any:
        return self.model.normalize(_each(self._mark, text), **options)

    def nbest_encode(self, text: str | Sequence[str], **options: Any) -> Any:
        return self.model.nbest_encode(_each(self._mark, text), **options)

    def nbest_encode_as_proto(self, text: str | Sequence[str], **options: Any) -> Any:
        return self.model.nbest_encode_as_proto(_each(self._mark, text), **options)

    def decode(self, ids: Sequence[Any], **options: Any) -> Any:
        found = self.model.decode(ids, **options)
        return found if isinstance(found, bytes) else _each(self._unmark, found)


def _each(change: Any, text: str | Sequence[str]) -> Any:
    return change(text) if isinstance(text, str) else [change(one) for one in text]
