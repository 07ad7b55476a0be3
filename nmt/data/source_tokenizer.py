"""The tokenizer of a pretrained encoder, in place of a SentencePiece model of the source.

Ids are those of the encoder, moved up by :data:`SHIFT`: the first ids are pad, unk, bos and eos as in every vocabulary
of nmt. They stand for the encoder's padding, unknown piece, first and last token.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nmt.advice import install
from nmt.errors import TokenizerError

FILE = "source.json"  # in the folder of a tokenizer: tokenizer.json of Hugging Face, and the ids of its special tokens
SHIFT = 4
SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")
UNK = 1


def import_tokenizers() -> Any:
    """The package.

    Raises:
        TokenizerError: it is not installed.
    """
    try:
        import tokenizers
    except ImportError as error:
        raise TokenizerError(
            f"a pretrained encoder needs the package tokenizers, which cannot be imported ({error}); install it: "
            f"{install('nmt-trainer[pretrained]')}"
        ) from None
    return tokenizers


class SourceTokenizer:
    """What :class:`nmt.data.tokenizer.Tokenizer` needs of a model of the source.

    Attributes:
        special: ids, in the encoder's numbers, of padding, unknown piece, first and last token.

    Raises:
        TokenizerError: the file cannot be read, or the package is missing.
    """

    def __init__(self, path: Path):
        tokenizers = import_tokenizers()
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            self.special: list[int] = [int(i) for i in stored["special"]]
            self._model = tokenizers.Tokenizer.from_str(json.dumps(stored["tokenizer"]))
        except Exception as error:  # of the package's own class
            raise TokenizerError(f"{path}: cannot be read, or damaged: {error}") from None
        self._model.no_truncation()
        self._model.no_padding()
        self._unknown = self.special[UNK]

    def get_piece_size(self) -> int:
        return SHIFT + int(self._model.get_vocab_size(with_added_tokens=True))

    def encode(self, texts: str | Sequence[str], num_threads: int | None = None) -> list[Any]:
        """The ids of one text, or of each, as SentencePiece's processor returns them."""
        one = isinstance(texts, str)
        found = self._model.encode_batch_fast([texts] if one else list(texts), add_special_tokens=False)
        ids = [[self._ours(i) for i in each.ids] for each in found]
        return ids[0] if one else ids

    def id_to_piece(self, i: int) -> str:
        return SPECIAL[i] if i < SHIFT else str(self._model.id_to_token(i - SHIFT))

    def is_control(self, i: int) -> bool:
        return False

    def words(self, text: str) -> list[int]:
        """The word of each piece, as a place in ``text.split()``; -1 where the text has no words."""
        ends, end = [], 0
        for word in text.split():
            end = text.index(word, end) + len(word)
            ends.append(end)
        offsets = self._model.encode(text, add_special_tokens=False).offsets  # characters; a space may come first
        return [min(bisect_right(ends, max(start, stop - 1)), len(ends) - 1) for start, stop in offsets]

    def unknown(self, texts: Sequence[str]) -> list[str]:
        """The texts of unknown pieces."""
        found = self._model.encode_batch(list(texts), add_special_tokens=False)
        return [
            text[slice(*offset)]
            for text, one in zip(texts, found, strict=True)
            for i, offset in zip(one.ids, one.offsets, strict=True)
            if i == self._unknown
        ]

    def _ours(self, i: int) -> int:
        return UNK if i == self._unknown else i + SHIFT
