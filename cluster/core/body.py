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
MAX_VALUES = 50_000
"""Most values in all objects and arrays: no real request comes near, and more would take long to check."""

_JSON = re.compile(r'application/json(?:\s*;\s*charset="?utf-?8"?)?\s*', re.IGNORECASE)
_MAX_HEADER = 256
_BEFORE_VALUES = (b"{", b"[", b",")


def decode(body: bytes, *, content_type: str | None, content_encoding: str | None = None) -> dict[str, Any]:
    """Return the JSON object in ``body``.

    ``content_type`` and ``content_encoding`` are the headers' values. Raises `InvalidRequest`: 415 for a
    body that is declared as something else than plain JSON in UTF-8, 400 for one that is wrong.
    """
    _check_headers(content_type, content_encoding)
    if _too_many_values(body):
        raise _unreadable(f"it holds more than {MAX_VALUES} values")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _unreadable(f"{error.msg} at byte {error.pos}" if body else "the body is empty") from None
    if type(document) is not dict:
        raise _unreadable("the body must be one JSON object")
    if _keys(document) != _outside_strings(_unescaped(body)).count(b":"):
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
        level = below
    raise _unreadable(f"it is nested deeper than {MAX_DEPTH} levels")


def _too_many_values(body: bytes) -> bool:
    """Whether a JSON text has more than ``MAX_VALUES`` values, before anything is made of them."""
    if len(body) <= MAX_VALUES or sum(map(body.count, _BEFORE_VALUES)) <= MAX_VALUES:  # strings included
        return False
    plain = _unescaped(body)
    if plain.count(b'"') > 4 * MAX_VALUES:  # two a string, and at most one key beside a value
        return True
    return sum(map(_outside_strings(plain).count, _BEFORE_VALUES)) > MAX_VALUES


def _unescaped(body: bytes) -> bytes:
    """Return a JSON text without the escapes that touch its quotes."""
    return body.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in body else body


def _outside_strings(plain: bytes) -> bytes:
    """Return what of a JSON text without escapes stands outside its strings."""
    return b"".join(plain.split(b'"')[::2])
