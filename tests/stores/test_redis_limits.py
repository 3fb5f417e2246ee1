"""Facts about limits kept in a real Redis."""

from collections.abc import AsyncIterator

import pytest

from cluster.core.limits import Ask, Refusal, Reservation
from cluster.stores.redis_limits import RedisLimits
from cluster.stores.redis_script import SCRIPT
from tests.redis_servers import RedisServer
from tests.stores.limit_store_suite import MAX_REQUEST_S, Clock, LimitStoreSuite

pytestmark = pytest.mark.integration

_TIME = b"redis.call('TIME')"
_TEST_TIME = b"redis.call('MGET', 'test:s', 'test:us')"


class ClockedRedisLimits(RedisLimits):
    """The store on a clock that the test turns: the script reads two keys where it would read the time."""

    def __init__(self, server: RedisServer, clock: Clock) -> None:
        assert SCRIPT.count(_TIME) == 1
        super().__init__(
            server.settings(timeout_ms=5000),
            max_request_s=MAX_REQUEST_S,
            clock=clock,
            on_degraded=lambda _: None,
            script=SCRIPT.replace(_TIME, _TEST_TIME),
        )
        self._test_clock, self._side = clock, server.client()
        self.set_time()

    def set_time(self) -> None:
        """Tell Redis what time it is."""
        now_us = int(self._test_clock() * 1_000_000)
        self._side.mset({"test:s": now_us // 1_000_000, "test:us": now_us % 1_000_000})

    async def reserve(self, ask: Ask) -> Reservation | Refusal:
        """Reserve at the test's time."""
        self.set_time()
        return await super().reserve(ask)

    def settle(self, reservation: Reservation, *, tokens: int) -> None:
        """Settle at the test's time."""
        self.set_time()
        super().settle(reservation, tokens=tokens)

    async def __aexit__(self, *what: object) -> None:
        """Close the test's connection too."""
        assert not self.degraded
        self._side.close()
        await super().__aexit__(*what)


class TestRedisLimits(LimitStoreSuite):
    """What every store keeps."""

    @pytest.fixture
    async def store(self, redis_server: RedisServer, clock: Clock) -> AsyncIterator[RedisLimits]:
        async with ClockedRedisLimits(redis_server, clock) as store:
            yield store
