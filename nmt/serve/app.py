"""The application: its paths, and their answers. Errors are JSON: ``{"error": "one line"}``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from nmt.serve.computing import described
from nmt.serve.limits import Limits, Refused
from nmt.serve.metrics import Metrics
from nmt.serve.model import Answer, Served
from nmt.serve.openapi import description
from nmt.serve.page import page
from nmt.serve.requests import Wanted, read_wanted
from nmt.text.placeholders import Segment

log = logging.getLogger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]

HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


def new_app(models: Sequence[Served], limits: Limits, metrics: Metrics) -> Starlette:
    """The application for models with distinct pairs of languages."""
    api = Api(models, limits, metrics)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        for model in models:
            await asyncio.to_thread(model.batcher.stop)

    endpoints: dict[str, tuple[str, Endpoint]] = {
        "/": ("GET", api.page),
        "/translate": ("POST", api.translate),
        "/attention": ("POST", api.attention),
        "/languages": ("GET", api.languages),
        "/health": ("GET", api.health),
        "/metrics": ("GET", api.metrics_text),
        "/openapi.json": ("GET", api.openapi),
    }
    routes = [
        Route(path, answering(path, endpoint, metrics), methods=[method])
        for path, (method, endpoint) in endpoints.items()
    ]
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers={HTTPException: _no_such_path})
    app.router.redirect_slashes = False  # a redirect would name the host that the client gave
    return app


def answering(path: str, endpoint: Endpoint, metrics: Metrics) -> Endpoint:
    """An endpoint whose errors are answers, and which is counted."""

    async def answered(request: Request) -> Response:
        started = time.monotonic()
        try:
            response = await endpoint(request)
        except Refused as error:
            response = refusal(error.status, error.message)
        except ClientDisconnect:
            response = refusal(499, "the client has gone")
        except Exception as error:
            log.error("%s: %s", path, described(error))
            log.debug("", exc_info=error)
            response = refusal(500, "the server has failed; its log says why")
        metrics.request(path, response.status_code, time.monotonic() - started)
        return response

    return answered


def refusal(status: int, message: str) -> Response:
    """An error as JSON. After one while a body arrives, the rest of the body is not read."""
    headers = dict(HEADERS)
    if status in (408, 413):
        headers["Connection"] = "close"
    if status in (503, 504):
        headers["Retry-After"] = "1"
    return JSONResponse({"error": message}, status, headers)


async def _no_such_path(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    messages = {404: "no such path; see /openapi.json", 405: f"{request.method}: not here; see /openapi.json"}
    message = messages.get(error.status_code, error.detail)
    response = refusal(error.status_code, message)
    response.headers.update(error.headers or {})
    return response


class Api:
    """The endpoints."""

    def __init__(self, models: Sequence[Served], limits: Limits, metrics: Metrics) -> None:
        self.models, self.limits, self.metrics = models, limits, metrics
        self.html, self.policy = page(models, limits)
        self.description = description(limits)

    async def translate(self, request: Request) -> Response:
        wanted = await read_wanted(request, self.models, self.limits)
        answers = await self._answers(request, wanted)
        # One list of lines for each text and rank; breaks and blank lines stay
        found = iter(answers)
        texts = [[next(found) if isinstance(part, Segment) else part for part in text] for text in wanted.texts]
        ranked = [[_joined(text, rank) for rank in range(wanted.ask.nbest)] for text in texts]
        alternatives = [each[1:] for each in ranked]
        result: dict[str, Any] = {
            "translatedText": [each[0] for each in ranked] if wanted.several else ranked[0][0],
        }
        if wanted.ask.nbest > 1:
            result["alternatives"] = alternatives if wanted.several else alternatives[0]
        if wanted.detected:  # in LibreTranslate's words: nothing was detected
            unknown = {"language": wanted.model.source, "confidence": 0}
            result["detectedLanguage"] = [unknown] * len(texts) if wanted.several else unknown
        if warnings := _warnings(wanted, answers):
            result["warnings"] = warnings
        return JSONResponse(result, headers=HEADERS)

    async def attention(self, request: Request) -> Response:
        wanted = await read_wanted(request, self.models, self.limits, attention=True)
        answers = await self._answers(request, wanted)
        return JSONResponse({"sentences": [answer.attention for answer in answers]}, headers=HEADERS)

    async def languages(self, _: Request) -> Response:
        targets: dict[str, list[str]] = {}
        for model in self.models:
            targets.setdefault(model.source, []).append(model.target)
            targets.setdefault(model.target, [])
        found = [{"code": code, "name": code, "targets": each} for code, each in targets.items()]
        return JSONResponse(found, headers=HEADERS)

    async def health(self, _: Request) -> Response:
        dead = [model.name for model in self.models if not model.alive]
        if dead:
            return JSONResponse({"status": "failed"}, 503, HEADERS)
        return JSONResponse({"status": "ok"}, headers=HEADERS)

    async def metrics_text(self, _: Request) -> Response:
        queues = {model.name: len(model.batcher.jobs) for model in self.models}
        return PlainTextResponse(self.metrics.text(queues), headers=HEADERS, media_type="text/plain; version=0.0.4")

    async def openapi(self, _: Request) -> Response:
        return JSONResponse(self.description, headers=HEADERS)

    async def page(self, _: Request) -> Response:
        return HTMLResponse(self.html, headers={**HEADERS, "Content-Security-Policy": self.policy})

    async def _answers(self, request: Request, wanted: Wanted) -> list[Answer]:
        """Wait for the answers to the lines, but not longer than the client and the limit do.

        Raises:
            Refused: the queue is full, the time is over, or a line cannot be translated.
        """
        futures = wanted.model.submit(wanted.ask, wanted.lines)
        answers = asyncio.gather(*(asyncio.wrap_future(future) for future in futures))
        answers.add_done_callback(_retrieved)
        gone = asyncio.ensure_future(_gone(request))
        try:
            both: set[asyncio.Future[Any]] = {answers, gone}
            done, _ = await asyncio.wait(both, timeout=self.limits.seconds, return_when=asyncio.FIRST_COMPLETED)
            if answers in done:
                return answers.result()
            if gone in done:
                raise Refused(499, "the client has gone")
            raise Refused(504, f"no answer within {self.limits.seconds:g} s; send less text, or try again later")
        finally:
            answers.cancel()
            gone.cancel()


def _retrieved(answers: asyncio.Future[list[Answer]]) -> None:
    """Read the outcome of lines that nobody waits for any more; asyncio would log it."""
    if not answers.cancelled():
        answers.exception()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _joined(parts: Sequence[Answer | str], rank: int) -> str:
    """A text from its translated lines; one with fewer hypotheses gives its last."""
    return "".join(part if isinstance(part, str) else part.texts[min(rank, len(part.texts) - 1)] for part in parts)


def _warnings(wanted: Wanted, answers: Sequence[Answer]) -> list[str]:
    many = len(answers) > 1
    found = [
        f"line {number}: {warning}" if many else warning
        for number, answer in enumerate(answers, 1)
        for warning in answer.warnings
    ]
    if wanted.replaced:
        found.insert(0, f"NUL characters or lone surrogates, replaced by U+FFFD ({wanted.replaced})")
    return found
