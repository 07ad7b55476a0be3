"""SentencePiece models: the ids of special pieces, and models from files and bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sentencepiece as spm

from nmt.data.inline_casing import SYMBOLS, MarkedProcessor
from nmt.errors import TokenizerError

PAD_ID, UNK_ID, BOS_ID, EOS_ID = 0, 1, 2, 3


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
    """The processor of a model file.

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
    """The model, behind :class:`nmt.data.inline_casing.MarkedProcessor` if it was trained on marked text."""
    numbers = [model.piece_to_id(symbol) for symbol in SYMBOLS]
    if UNK_ID in numbers:
        return model
    about = proto_of(model.serialized_model_proto())
    user_defined = about.SentencePiece.USER_DEFINED
    return MarkedProcessor(model) if all(about.pieces[i].type == user_defined for i in numbers) else model
