"""The description of the interface in the format of OpenAPI 3.1."""

from __future__ import annotations

from typing import Any

from nmt import __version__
from nmt.serve.limits import Limits
from nmt.text.placeholders import KINDS

TEXTS = {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
SENTENCE = {
    "type": "object",
    "properties": {
        "words": {"type": "array", "items": {"type": "string"}, "description": "of the source, the end included"},
        "translations": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "text": {"type": "string"},
                    "words": {"type": "array", "items": {"type": "string"}},
                    "weights": {
                        "description": "for each word of the translation, its attention to each of the source",
                        "type": "array",
                        "items": {"type": "array", "items": {"type": "number"}},
                    },
                },
            },
        },
    },
}
ATTENTION = {"type": "object", "properties": {"sentences": {"type": "array", "items": SENTENCE}}}
TRANSLATED = {
    "type": "object",
    "required": ["translatedText"],
    "properties": {
        "translatedText": TEXTS,
        "alternatives": {"type": "array", "description": "for a list of texts, a list for each"},
        "detectedLanguage": {"description": "with source auto; nothing is detected, the confidence is 0"},
        "warnings": {"type": "array", "items": {"type": "string"}},
    },
}
LANGUAGES = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "code": {"type": "string"},
            "name": {"type": "string"},
            "targets": {"type": "array", "items": {"type": "string"}},
        },
    },
}
ERRORS = {
    400: "The request is wrong; the message says how.",
    408: "The body did not arrive in time.",
    413: "The text or the body is too large.",
    500: "The text cannot be translated.",
    503: "Too many lines are waiting, or the server is stopping.",
    504: "There was no answer in time.",
}


def description(limits: Limits) -> dict[str, Any]:
    status = {"type": "object", "properties": {"status": {"type": "string"}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "nmt serve", "version": __version__, "description": "Translation in LibreTranslate's shape."},
        "paths": {
            "/translate": {"post": _posted("Translate texts, line by line.", TRANSLATED, limits)},
            "/attention": {"post": _posted("Translate lines, with attention between words.", ATTENTION, limits)},
            "/languages": {"get": _got("The languages, and those into which each is translated.", LANGUAGES)},
            "/health": {"get": _got("Whether the server works.", status)},
            "/metrics": {"get": _got("Counters in the text format of Prometheus.", {"type": "string"}, "text/plain")},
            "/openapi.json": {"get": _got("This description.", {"type": "object"})},
            "/": {"get": _got("A page to translate with.", {"type": "string"}, "text/html")},
        },
        "components": {
            "schemas": {
                "Error": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}},
                "Request": _request(limits),
            }
        },
    }


def _request(limits: Limits) -> dict[str, Any]:
    text = f"at most {limits.characters:,} characters and {limits.lines:,} lines in all"
    return {
        "type": "object",
        "required": ["q", "source", "target"],
        "properties": {
            "q": {**TEXTS, "description": text},
            "source": {"type": "string", "description": "code of a language, or auto where only one is possible"},
            "target": {"type": "string"},
            "format": {
                "type": "string",
                "enum": ["text", "html"],
                "default": "text",
                "description": "html: tags, attributes, scripts and code stay; paragraphs are split into sentences",
            },
            "protect": {
                "description": "placeholders that stay as they are: true for all kinds; default: as the run is set",
                "oneOf": [{"type": "boolean"}, {"type": "array", "items": {"type": "string", "enum": list(KINDS)}}],
            },
            "split": {"type": "boolean", "description": "split lines into sentences; default: as the run is set"},
            "alternatives": {"type": "integer", "minimum": 0, "default": 0},
        },
    }


def _posted(summary: str, schema: dict[str, Any], limits: Limits) -> dict[str, Any]:
    body = {"schema": {"$ref": "#/components/schemas/Request"}}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {
        **_got(summary, schema),
        "requestBody": {
            "required": True,
            "description": f"At most {limits.body:,} bytes.",
            "content": {"application/json": body, "application/x-www-form-urlencoded": body},
        },
    } | {
        "responses": {
            **_got(summary, schema)["responses"],
            **{str(status): {"description": text, "content": error} for status, text in ERRORS.items()},
        }
    }


def _got(summary: str, schema: dict[str, Any], kind: str = "application/json") -> dict[str, Any]:
    return {
        "summary": summary,
        "responses": {"200": {"description": "The answer.", "content": {kind: {"schema": schema}}}},
    }
