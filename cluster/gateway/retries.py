"""Second attempts: how many at once, and which requests get none because replicas die of them.

A replica that is lost takes every request on it along, so one loss says nothing about a request. One that was
on two of them is taken for poison and refused for a while: it must not cost a third. Where many look like
poison at once it is an outage, which no single request has caused, and all are forgiven.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

from cluster.core.retries import may_retry

REFUSED_S = 600.0
"""Seconds for which poison is refused: about what a replica takes to load the larger model."""
MAX_POISON = 16
"""Requests that may look like poison at once; of more none is: they are the victims of an outage."""
MAX_SUSPECTS = 4096
"""Requests remembered for one loss; a replica runs some hundreds."""


class Retries:
    """Counts second attempts against their budget, and knows poison. One per gateway."""

    def __init__(self, secret: bytes) -> None:
        self.poison = Poison(secret)
        self.active = 0
        """Requests that are being relayed; the relay counts them."""
        self._retrying = 0

    @contextmanager
    def second_attempt(self) -> Iterator[None]:
        """Count a second attempt for the length of the context."""
        self._retrying += 1
        try:
            yield
        finally:
            self._retrying -= 1

    @property
    def allowed(self) -> bool:
        """Whether the budget has room for one more second attempt."""
        return may_retry(retrying=self._retrying, active=self.active)


class Poison:
    """Requests during whose attempts replicas were lost, by a keyed hash of the body that engines get.

    That body carries the salt of its tenant, so that one tenant's losses never refuse another's request.
    Times are seconds of the monotonic clock.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret[: blake2b.MAX_KEY_SIZE]
        self._suspects: OrderedDict[bytes, float] = OrderedDict()
        """When each cost its first replica, oldest first."""
        self._refused: OrderedDict[bytes, float] = OrderedDict()
        """When each cost its second, oldest first."""

    def refuses(self, body: bytes, now_s: float) -> bool:
        """Return whether a request with this body must not run. Costs nothing while no replica is lost."""
        _forget(self._refused, now_s)
        return bool(self._refused) and self._key(body) in self._refused

    def lost(self, body: bytes, now_s: float) -> bool:
        """Note that a replica was lost under a request; return whether the request is poison now."""
        _forget(self._suspects, now_s)
        key = self._key(body)
        if self._suspects.pop(key, None) is None and key not in self._refused:
            self._suspects[key] = now_s
            if len(self._suspects) > MAX_SUSPECTS:
                self._suspects.popitem(last=False)
            return False
        self._refused[key] = now_s
        self._refused.move_to_end(key)
        if len(self._refused) > MAX_POISON:
            self._refused.clear()
        return key in self._refused

    def answered(self, body: bytes, now_s: float) -> None:
        """Note that a request was answered: no replica dies of it."""
        _forget(self._suspects, now_s)
        if self._suspects:
            self._suspects.pop(self._key(body), None)

    def _key(self, body: bytes) -> bytes:
        return blake2b(body, digest_size=16, key=self._secret).digest()


def _forget(times: OrderedDict[bytes, float], now_s: float) -> None:
    while times and now_s - next(iter(times.values())) > REFUSED_S:
        times.popitem(last=False)
