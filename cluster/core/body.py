"""A request's body, from bytes to one JSON object in which nothing is ambiguous.

orjson refuses malformed JSON, a byte-order mark, trailing bytes, NaN, bad UTF-8 and lone surrogates. Added
here: depth, and repeated keys, which parsers resolve differently and orjson drops in silence.
"""

import re
from typing import Any

import orjson

from cluster.core.invalid import InvalidRequest

MAX_DEPTH = 64
"""Deepest nesting of objects and arrays."""
MAX_CONTAINERS = 100_000
"""Most objects and arrays at one depth: no real request comes near, and counting more takes long."""

_JSON = re.compile(r'application/json(?:\s*;\s*charset="?utf-?8"?)?\s*', re.IGNORECASE)
_MAX_HEADER = 256


def decode(body: bytes, *, content_type: str | None, content_encoding: str | None = None) -> dict[str, Any]:
    """Return the JSON object in ``body``.

    ``content_type`` and ``content_encoding`` are the headers' values. Raises `InvalidRequest`: 415 for a
    body that is declared as something else than plain JSON in UTF-8, 400 for one that is wrong.
    """
    _check_headers(content_type, content_encoding)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _unreadable(f"{error.msg} at byte {error.pos}" if body else "the body is empty") from None
    if type(document) is not dict:
        raise _unreadable("the body must be one JSON object")
    if _keys(document) != _written_keys(body):
        raise _unreadable("an object in it has the same key twice")
    return document


def _check_headers(content_type: str | None, content_encoding: str | None) -> None:
    if content_encoding not in (None, "", "identity"):
        raise InvalidRequest(
            "Unsupported content encoding: send the body uncompressed.",
            code="unsupported_media_type",
            status=415,
        )
    if content_type == "application/json":
        return
    if not content_type or len(content_type) > _MAX_HEADER or _JSON.fullmatch(content_type) is None:
        raise InvalidRequest(
            "Unsupported media type: send the body as JSON in UTF-8, with the header "
            "'Content-Type: application/json'.",
            code="unsupported_media_type",
            status=415,
        )


def _unreadable(reason: str) -> InvalidRequest:
    return InvalidRequest(
        "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your "
        "HTTP library correctly. The API expects a JSON payload, but what was sent was not valid JSON: "
        f"{reason}.)"
    )


def _keys(document: dict[str, Any]) -> int:
    """Count the keys of all objects, one level at a time. Raises `InvalidRequest` beyond ``MAX_DEPTH``."""
    level: list[Any] = [document]
    count = 0
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for node in level:
            if type(node) is dict:
                count += len(node)
                below += [item for item in node.values() if type(item) is dict or type(item) is list]
            else:
                below += [item for item in node if type(item) is dict or type(item) is list]
        if not below:
            return count
        if len(below) > MAX_CONTAINERS:
            raise _unreadable(f"it has more than {MAX_CONTAINERS} objects and arrays at one depth")
        level = below
    raise _unreadable(f"it is nested deeper than {MAX_DEPTH} levels")


def _written_keys(body: bytes) -> int:
    """Count the keys as written: the colons of a valid JSON text that stand outside its strings."""
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(body.split(b'"')[::2]).count(b":")
