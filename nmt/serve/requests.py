"""Bodies of requests: read within limits, and checked."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from nmt.errors import ConfigError
from nmt.serve.limits import Limits, Refused
from nmt.serve.model import Ask, Served
from nmt.text.documents import parse
from nmt.text.placeholders import KINDS, Segment
from nmt.translation.texts import kinds_of

if TYPE_CHECKING:
    from starlette.requests import Request

FORM = "application/x-www-form-urlencoded"
BREAKS = re.compile(r"(\r\n|\r|\n)")
BAD = re.compile("[\0\ud800-\udfff]")  # what no text in UTF-8 holds


@dataclass(frozen=True)
class Wanted:
    """A request for translations.

    Attributes:
        texts: the parts of each: lines or paragraphs to translate (``Segment``), and what stays.
        several: ``q`` was a list.
        replaced: characters of the request that were replaced by U+FFFD.
        detected: the client left it to the server to find the source language.
    """

    model: Served
    texts: list[list[str]]
    ask: Ask
    several: bool
    replaced: int
    detected: bool

    @property
    def lines(self) -> list[str]:
        """The lines to translate, without blank ones; paragraphs of HTML with their markup."""
        return [part for text in self.texts for part in text if isinstance(part, Segment)]


async def read_wanted(request: Request, models: Sequence[Served], limits: Limits, attention: bool = False) -> Wanted:
    """
    Raises:
        Refused: the body is too large, too slow, or not what is described in ``/openapi.json``.
    """
    body = await _read_body(request, limits)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    given = _form(body) if kind == FORM else _json(body)
    # Texts
    q: Any = given.get("q")
    strings: list[Any] = q if isinstance(q, list) else [q]
    if not all(isinstance(each, str) for each in strings):
        raise Refused(400, "q: must be a text or a list of texts")
    if sum(map(len, strings)) > limits.characters:
        raise Refused(413, f"q: {sum(map(len, strings)):,} characters; at most {limits.characters:,} in a request")
    replaced = sum(len(BAD.findall(each)) for each in strings)
    # Languages and counts
    source, target = _text(given, "source"), _text(given, "target")
    model = _chosen(models, source, target)
    if (form := given.get("format") or "text") not in ("text", "html"):
        raise Refused(400, f"format: {_shown(form)} is not supported; must be text or html")
    document = form == "html"
    if attention and document:
        raise Refused(400, "format: attention is of text, not of html")
    texts = [_parts(BAD.sub("\ufffd", each), document) for each in strings]
    ask = Ask(
        _alternatives(given, model) + 1, attention, _kinds(given, model), _switch(given, "split", model.usual.split)
    )
    if attention and not model.attends:
        raise Refused(400, "this model gives no attention: it has none, or runs in CTranslate2")
    wanted = Wanted(model, texts, ask, isinstance(q, list), replaced, source == "auto")
    if (count := max(len(wanted.lines), len(texts))) > limits.lines:
        raise Refused(413, f"q: {count:,} lines; at most {limits.lines:,} in a request")
    return wanted


async def _read_body(request: Request, limits: Limits) -> bytes:
    length = request.headers.get("content-length", "")
    too_large = Refused(413, f"the body is too large; at most {limits.body:,} bytes")
    if length.isdigit() and int(length[:20]) > limits.body:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(limits.reading):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limits.body:
                    raise too_large
    except TimeoutError:
        raise Refused(408, f"the body did not arrive within {limits.reading:g} s") from None
    return bytes(body)


def _json(body: bytes) -> dict[str, Any]:
    try:
        given = json.loads(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise Refused(400, "the body is not in UTF-8") from None
    except RecursionError:
        raise Refused(400, "the body is nested too deeply") from None
    except ValueError as error:
        raise Refused(400, f"the body is not JSON: {error}") from None
    if not isinstance(given, dict):
        raise Refused(400, 'the body must be an object, such as {"q": "…", "source": "en", "target": "de"}')
    return given


def _form(body: bytes) -> dict[str, Any]:
    """The fields of a form; ``q`` may be repeated."""
    try:
        fields = parse_qs(body.decode("utf-8"), keep_blank_values=True, errors="replace", max_num_fields=10_000)
    except ValueError:
        raise Refused(400, "the body is not a form in UTF-8, or has too many fields") from None
    return {name: values if name == "q" and len(values) > 1 else values[-1] for name, values in fields.items()}


def _text(given: dict[str, Any], key: str) -> str:
    value = given.get(key)
    if not isinstance(value, str):
        raise Refused(400, f"{key}: must be a language code, see /languages")
    return value


def _parts(text: str, document: bool) -> list[str]:
    if document:
        return parse(text, "html")
    pieces = enumerate(BREAKS.split(text))
    return [Segment.of(piece) if place % 2 == 0 and piece.strip() else piece for place, piece in pieces]


def _kinds(given: dict[str, Any], model: Served) -> tuple[str, ...]:
    """The kinds of placeholders to keep: true for all, false for none, or their names in a list or with commas."""
    value = given.get("protect")
    if value is None or value == "":
        return tuple(model.usual.protect)
    if isinstance(value, str):
        value = {"true": True, "false": False}.get(value, value.split(","))
    words = ["all" if value else "none"] if isinstance(value, bool) else value
    try:
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            return kinds_of(words)
    except ConfigError:
        pass
    raise Refused(400, f"protect: must be true, false, or a list of kinds: {', '.join(KINDS)}")


def _switch(given: dict[str, Any], key: str, usual: bool) -> bool:
    value = given.get(key)
    if value is None or value == "":
        return usual
    if value in ("true", "false"):
        return bool(value == "true")
    if not isinstance(value, bool):
        raise Refused(400, f"{key}: must be true or false")
    return value


def _chosen(models: Sequence[Served], source: str, target: str) -> Served:
    """The model of two languages. ``auto`` is the source language where only one leads to the target."""
    found = [each for each in models if each.target == target and source in (each.source, "auto")]
    if len(found) == 1:
        return found[0]
    if found:
        codes = ", ".join(each.source for each in found)
        raise Refused(400, f"source: auto, and several languages are possible; must be one of {codes}")
    pairs = ", ".join(f"{each.source} to {each.target}" for each in models)
    raise Refused(400, f"{_shown(source)} to {_shown(target)} is not served; served: {pairs}")


def _alternatives(given: dict[str, Any], model: Served) -> int:
    value = given.get("alternatives") or 0
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,4}", value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < model.most:
        raise Refused(400, f"alternatives: must be a whole number from 0 to {model.most - 1}")
    return value


def _shown(value: object) -> str:
    """A value of the client in an error message: short, and in one line."""
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
