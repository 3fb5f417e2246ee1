"""What is said to the limits script, and what it answers: commands as bytes, replies as decisions.

The script is ``redis_limits.lua``. All that stays the same from one request of a caller to the next is
encoded once: a command is then a prefix and a few numbers.
"""

import hashlib
import uuid
from functools import lru_cache
from importlib.resources import files

from cluster.core.effort import Effort
from cluster.core.limits import Account, Ask, Limits, Refusal, Reservation, refusal, reservation

GATEWAYS_KEY = b"gptoss:gateways"
"""Sorted set of the gateways that are alive."""

SCRIPT = files("cluster.stores").joinpath("redis_limits.lua").read_bytes()
_PER_LEVEL = 4
"""Numbers that the script tells of each level."""


def pack(*arguments: bytes | int) -> bytes:
    """Return a command in Redis' protocol."""
    return b"*%d\r\n" % len(arguments) + _bulks(*arguments)


class LimitScript:
    """Encodes the script's commands. ``lease_us`` is how long a reservation that nobody settles holds."""

    def __init__(self, *, lease_us: int, script: bytes = SCRIPT) -> None:
        self._lease_us = lease_us
        digest = hashlib.sha1(script, usedforsecurity=False).hexdigest()
        self._by_hash, self._by_text = _bulks(b"EVALSHA", digest.encode()), _bulks(b"EVAL", script)
        self._prefix = lru_cache(maxsize=8192)(self._encode_prefix)
        self.trial = [pack(b"SCRIPT", b"LOAD", script), *self._trial()]
        """Makes the server remember the script and go through it, so that a missing right shows at once."""

    def reserve(self, ask: Ask) -> bytes:
        """Return the command that takes all that ``ask`` wants, or nothing."""
        return self._encode(b"reserve", ask, 0)

    def adopt(self, ask: Ask) -> bytes:
        """Return the command that counts a reservation made elsewhere, unless it is known."""
        return self._encode(b"adopt", ask, 0)

    def settle(self, ask: Ask, *, used: int) -> bytes:
        """Return the command that corrects a reservation to the tokens ``used``."""
        return self._encode(b"settle", ask, used)

    def beat(self, gateway: bytes, *, counts_us: int) -> bytes:
        """Return the command that says a gateway is alive."""
        return b"*7\r\n" + self._by_hash + _bulks(1, GATEWAYS_KEY, b"beat", counts_us, gateway)

    def with_text(self, command: bytes) -> bytes:
        """Return the same command for a server that has forgotten the script."""
        return command.replace(self._by_hash, self._by_text, 1)

    def _trial(self) -> tuple[bytes, bytes]:
        none = Limits(requests_per_min=None, tokens_per_min=None, concurrent=None, tokens_per_day=None)
        ask = Ask("trial", f"trial-{uuid.uuid4().hex}", "", "low", 0, (none,))
        return self.adopt(ask), self.with_text(self.settle(ask, used=0))

    def _encode(self, command: bytes, ask: Ask, used: int) -> bytes:
        prefix = self._prefix(command, ask.tenant, ask.key_id, ask.effort, ask.limits)
        return prefix + _bulks(ask.request_id.encode(), ask.tokens, used)

    def _encode_prefix(
        self, command: bytes, tenant: str, key_id: str, effort: Effort, limits: tuple[Limits, ...]
    ) -> bytes:
        keys = _keys(tenant, key_id)[: 2 * len(limits)]
        numbers = [limit or 0 for level in limits for limit in _numbers(level)]
        arguments: tuple[bytes | int, ...] = (
            len(keys),
            *keys,
            command,
            self._lease_us,
            effort.encode(),
            *numbers,
        )
        return b"*%d\r\n" % (2 + len(arguments) + 3) + self._by_hash + _bulks(*arguments)


def decision(ask: Ask, reply: list[int]) -> Reservation | Refusal:
    """Return what the script's answer to a reserve means. Raises ``ValueError`` for an id that is held."""
    taken, rest = reply[0], reply[1:]
    if taken < 0:
        raise ValueError(f"request {ask.request_id} holds a reservation already")
    now_us = rest[0]
    accounts = [
        Account(
            requests=None if limits.requests_per_min is None else rest[start],
            tokens=None if limits.tokens_per_min is None else rest[start + 1],
            at_us=now_us,
            in_flight=rest[start + 2],
            spent=rest[start + 3],
        )
        for start, limits in zip(range(1, len(rest), _PER_LEVEL), ask.limits, strict=True)
    ]
    return reservation(accounts, ask) if taken else refusal(accounts, ask, now_us)


def spent(reply: list[int]) -> list[int]:
    """Return the day's tokens that the levels have spent, from the same answer."""
    return reply[_PER_LEVEL + 1 :: _PER_LEVEL]


def buckets(reply: list[int]) -> list[tuple[int, int]]:
    """Return what the levels' buckets of requests and of tokens hold, in units, from the same answer."""
    return [(reply[start], reply[start + 1]) for start in range(2, len(reply), _PER_LEVEL)]


def _bulks(*arguments: bytes | int) -> bytes:
    parts = [b"%d" % part if isinstance(part, int) else part for part in arguments]
    return b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts])


def _numbers(limits: Limits) -> tuple[int | None, ...]:
    return limits.requests_per_min, limits.tokens_per_min, limits.concurrent, limits.tokens_per_day


def _keys(tenant: str, key_id: str) -> list[bytes]:
    """Return the keys of both levels. The tenant's name in braces keeps them on one shard."""
    own = f"gptoss:{{{tenant}}}"
    return [f"{own}{part}".encode() for part in ("", ":leases", f":{key_id}", f":{key_id}:leases")]
