"""A page of attention weights: one self-contained HTML file.

``page.html`` next to this module is the page without its data; it draws all maps in the browser. The weights of a
sentence are bytes, compressed by zlib and written in base64. Each row is rounded so that its bytes sum to
:data:`LEVELS`; see :func:`quantized`. The order of the bytes of a sentence is that of :func:`_bytes`.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nmt.errors import DataError
from nmt.insight.attention import BOS, EOS, Maps

LEVELS = 255  # the byte of a weight of 1
TEMPLATE = Path(__file__).with_name("page.html")


@dataclass(frozen=True)
class Side:
    """A sentence as subwords and as words.

    Attributes:
        pieces: subwords, eos at the end.
        words: what white space separates, eos at the end.
        word_of: the word of each subword.
    """

    pieces: list[str]
    words: list[str]
    word_of: list[int]

    @classmethod
    def of(cls, text: str, pieces: Sequence[str], word_of: Sequence[int]) -> Side:
        """The side of a text, without eos; ``word_of`` as from :meth:`nmt.data.tokenizer.Tokenizer.src_words`."""
        words = text.split()[: max(word_of, default=-1) + 1]
        if pieces and not words:  # subwords that are white space
            words, word_of = ["".join(pieces)], [0] * len(pieces)
        return cls([*pieces, EOS], [*words, EOS], [*word_of, len(words)])


@dataclass(frozen=True)
class Output:
    """A hypothesis.

    Attributes:
        score: normalised by length, as ``nmt translate --scores`` prints it.
        maps: of each model that reads the hypothesis: one, or each checkpoint of a training.
    """

    text: str
    score: float
    side: Side
    maps: list[Maps]


@dataclass(frozen=True)
class Sentence:
    """A source and its hypotheses, best first.

    Attributes:
        translations: with checkpoints, each one's translation of the source.
    """

    text: str
    side: Side
    outputs: list[Output]
    translations: list[str]


def page_text(
    title: str,
    model: str,
    languages: tuple[str, str],
    stops: Sequence[str],
    sentences: Sequence[Sentence],
    layer: str = "layer",
) -> str:
    """The page.

    Args:
        title: name of the run.
        model: one line on the model.
        languages: of source and target.
        stops: names of the checkpoints whose maps each output has; empty for those of one model.
        sentences: at least one.
        layer: what the first axis of the attention over the source counts.
    """
    data = {
        "title": title,
        "model": model,
        "languages": languages,
        "stops": list(stops),
        "shapes": _shapes(sentences),
        "bos": BOS,
        "layer": layer,
        "sentences": [_sentence(sentence) for sentence in sentences],
    }
    page = TEMPLATE.read_text(encoding="utf-8")
    hashes = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        for script in re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    ]
    parts = {
        "SCRIPT_HASHES": " ".join(f"'sha256-{one}'" for one in hashes),  # no other script may run
        "PAGE_TITLE": html.escape(title),
        "PAGE_DATA": inert(data),
    }
    return re.sub("|".join(parts), lambda found: parts[found[0]], page)


def inert(data: Mapping[str, Any]) -> str:
    """JSON in which no text ends the script element that holds it, or begins markup."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return re.sub(r"[<>&\u2028\u2029\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text)


def _sentence(sentence: Sentence) -> dict[str, Any]:
    outputs = [
        {"text": output.text, "score": round(output.score, 4), **_side(output.side)} for output in sentence.outputs
    ]
    packed = zlib.compress(b"".join(_bytes(sentence)), 9)
    return {
        "text": sentence.text,
        **_side(sentence.side),
        "outputs": outputs,
        "translations": sentence.translations,
        "data": base64.b64encode(packed).decode(),
    }


def _side(side: Side) -> dict[str, Any]:
    return {"pieces": side.pieces, "words": side.words, "of": side.word_of}


def _shapes(sentences: Sequence[Sentence]) -> dict[str, list[int]]:
    """Layers and heads of each kind of map; the page holds the kinds that are named here."""
    maps = sentences[0].outputs[0].maps[0]
    kinds: dict[str, Tensor | None] = {"cross": maps.cross}
    kinds.update(maps.methods.items())
    kinds.update(maps.self_maps.items())
    return {kind: list(weights.shape[:2]) for kind, weights in kinds.items() if weights is not None}


def _bytes(sentence: Sentence) -> Iterator[bytes]:
    """The weights of a sentence, row by row: for each subword that attends, all layers and heads.

    In turn for each checkpoint: the encoder's self-attention [S, layers, H, S] and the norms of the values
    [layers, H, S], then for each hypothesis the attention over the source [T, layers, H, S], shares by gradient and by
    erasure [T, 1, 1, S] each, and the decoder's self-attention [T, layers, H, t + 1]. Hypotheses that begin alike have
    equal rows there, of which zlib stores one. Norms are in units of 1/255 of the largest of their head: the page
    multiplies them with attention, and shows the shares of the products.
    """
    for stop in range(len(sentence.outputs[0].maps)):
        for number, output in enumerate(sentence.outputs):
            maps = output.maps[stop]
            if number == 0 and "encoder" in maps.self_maps:
                yield _rows(maps.self_maps["encoder"]).tobytes()
            if number == 0 and "norm" in maps.methods:
                norms = maps.methods["norm"]
                largest = norms.amax(-1, keepdim=True).clamp_min(torch.finfo(norms.dtype).tiny)
                yield (norms / largest * LEVELS).round().to(torch.uint8).numpy().tobytes()
            for weights in (maps.cross, maps.methods.get("gradient"), maps.methods.get("erase")):
                if weights is not None:
                    yield _rows(weights).tobytes()
            if "decoder" in maps.self_maps:
                for position, row in enumerate(_rows(maps.self_maps["decoder"])):
                    yield row[:, :, : position + 1].tobytes()


def _rows(weights: Tensor) -> npt.NDArray[np.uint8]:
    """Weights [layers, H, T, S] as bytes [T, layers, H, S]."""
    return quantized(weights.permute(2, 0, 1, 3).numpy())


def quantized(weights: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Weights [..., S] in units of 1/:data:`LEVELS`, each within one unit, rounded by the largest remainders.

    The sum of a row is kept but for half a unit: 255 for a distribution.

    Raises:
        DataError: a weight is not a number.
    """
    if not np.isfinite(weights).all():
        raise DataError("attention weights that are not numbers: the training of this model has diverged")
    scaled = weights.astype(np.float64) * LEVELS
    whole = np.floor(scaled)
    missing = np.rint(scaled.sum(-1, keepdims=True)) - whole.sum(-1, keepdims=True)
    rank = np.argsort(np.argsort(whole - scaled, axis=-1, kind="stable"), axis=-1, kind="stable")
    return np.clip(whole + (rank < missing), 0, LEVELS).astype(np.uint8)
