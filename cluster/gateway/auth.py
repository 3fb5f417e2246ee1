"""Who sent a request, from its ``Authorization`` header alone.

Whatever is wrong with the header or the key, the answer is the same in words and in time, so that guessing
learns nothing. An address that fails again and again is told to stop. A live key is looked up first and works
from any address, so that nobody can lock out those who share one with a guesser.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable

from starlette.types import Scope

from cluster.core.addresses import Address, counted_as
from cluster.core.guessing import count_failure
from cluster.gateway.http_errors import NotAuthenticated, Overloaded, RequestFailed, TooManyFailures
from cluster.gateway.ports import Caller, KeyStore

MAX_HEADER_BYTES = 8192 + 16
"""Longest header looked at: no credential is longer than 8 KiB."""
MAX_ADDRESSES = 10_000
"""Addresses whose failures are counted: about 2 MiB. Those that failed least recently are forgotten."""

_BEARER = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._-]+)")


class Authenticator:
    """Finds the caller of each request.

    ``address_of`` tells the client's address and is asked only after a failure; ``now`` is the monotonic
    clock, in seconds.
    """

    def __init__(
        self, keys: KeyStore, address_of: Callable[[Scope], Address | None], *, now: Callable[[], float]
    ) -> None:
        self._keys, self._address_of, self._now = keys, address_of, now
        self._full_at_s: OrderedDict[int, float] = OrderedDict()

    def __call__(self, scope: Scope) -> Caller:
        """Return the caller. Raises `NotAuthenticated`, `TooManyFailures`, or `Overloaded` without keys."""
        token = _token(scope["headers"])
        caller = self._keys.find(token)
        if caller is None:
            raise self._failure(scope, token)
        return caller

    def _failure(self, scope: Scope, token: str) -> RequestFailed:
        if not self._keys.can_judge(token):
            return Overloaded(
                "The server has yet to load the keys that it would check yours with. Please try again.",
                code="keys_not_loaded",
                retry_after_s=1,
            )
        source = counted_as(self._address_of(scope))
        full_at_s = count_failure(self._full_at_s.get(source, 0.0), self._now())
        if full_at_s is None:
            self._full_at_s.move_to_end(source)
            return TooManyFailures()
        self._full_at_s[source] = full_at_s
        self._full_at_s.move_to_end(source)
        if len(self._full_at_s) > MAX_ADDRESSES:
            self._full_at_s.popitem(last=False)
        return NotAuthenticated()


def _token(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the bearer token; an empty one, which is nobody's, for any header that is not exactly right."""
    values = [value for name, value in headers if name == b"authorization"]
    if len(values) != 1 or len(values[0]) > MAX_HEADER_BYTES:
        return ""
    match = _BEARER.fullmatch(values[0])
    return match[1].decode() if match else ""
