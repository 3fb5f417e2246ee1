"""Who sent a request, from its ``Authorization`` header alone.

Whatever is wrong with the header or the key, the answer is the same in words and in time, so that guessing
learns nothing.
"""

import re
from collections.abc import Iterable

from cluster.gateway.ports import Caller, KeyStore

MAX_HEADER_BYTES = 8192 + 16
"""Longest header looked at: no credential is longer than 8 KiB."""

_BEARER = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._-]+)")


class AuthenticationFailed(Exception):  # noqa: N818  the outcome's word
    """No live key came with the request: 401 ``invalid_api_key``, one message for every cause."""

    message = (
        "Incorrect API key provided. Send a live key in the header 'Authorization: Bearer <key>'; "
        "your administrator creates keys."
    )
    code = "invalid_api_key"

    def __init__(self) -> None:
        super().__init__(self.message)


def authenticate(headers: Iterable[tuple[bytes, bytes]], keys: KeyStore) -> Caller:
    """Return the caller of a request with these ASGI headers. Raises `AuthenticationFailed`."""
    caller = keys.find(_token(headers))
    if caller is None:
        raise AuthenticationFailed
    return caller


def _token(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the bearer token; an empty one, which is nobody's, for any header that is not exactly right."""
    values = [value for name, value in headers if name == b"authorization"]
    if len(values) != 1 or len(values[0]) > MAX_HEADER_BYTES:
        return ""
    match = _BEARER.fullmatch(values[0])
    return match[1].decode() if match else ""
