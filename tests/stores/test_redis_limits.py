"""Facts about limits kept in a real Redis."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.core.limits import Ask, Limits, Refusal, Reservation
from cluster.stores.memory_limits import MemoryLimits
from cluster.stores.redis_limits import RedisLimits
from cluster.stores.redis_script import SCRIPT
from tests.redis_servers import RedisServer
from tests.stores.limit_store_suite import MAX_REQUEST_S, Clock, LimitStoreSuite

pytestmark = pytest.mark.integration

_TIME = b"redis.call('TIME')"
_TEST_TIME = b"redis.call('MGET', 'test:s', 'test:us')"


async def confirmed(store: RedisLimits) -> None:
    """Return once Redis has confirmed every settlement, so that none is counted at a later time."""
    while store.unsettled:  # noqa: ASYNC110
        await asyncio.sleep(0)


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


LEVELS = st.builds(
    Limits,
    requests_per_min=st.none() | st.sampled_from([2, 7, 100_000_000]),
    tokens_per_min=st.none() | st.sampled_from([613, 1000, 100_000_000]),
    concurrent=st.none() | st.integers(1, 3),
    tokens_per_day=st.none() | st.sampled_from([1000, 10**15]),
)
STEPS_S = st.sampled_from([0.0, 0.000001, 0.3, 7.77, 59.999999, 1859.9, 1860.0, 43_200.0])
TOKENS = st.integers(0, 700) | st.sampled_from([10**5, 99_999_999, 10**12])
RESERVES = st.tuples(STEPS_S, TOKENS, st.sampled_from(["low", "high"]), st.integers(0, 2))
SETTLES = st.tuples(STEPS_S, TOKENS, st.none(), st.integers(0, 5))


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tenant=LEVELS, keys=st.tuples(LEVELS, LEVELS), history=st.lists(RESERVES | SETTLES, max_size=40))
def test_redis_decides_as_memory_does(
    redis_server: RedisServer, tenant: Limits, keys: tuple[Limits, Limits], history: list[Any]
) -> None:
    """Whatever is reserved and settled when, by keys with and without limits, both stores agree exactly."""
    levels = [(tenant,), (tenant, keys[0]), (tenant, keys[1])]
    asyncio.run(_play(redis_server, levels, history))


async def _play(server: RedisServer, levels: list[tuple[Limits, ...]], history: list[Any]) -> None:
    clock = Clock()
    clock.advance(43_190)  # ten seconds before midnight
    memory = MemoryLimits(clock, max_request_s=MAX_REQUEST_S)
    held: list[Reservation] = []
    with server.client() as side:
        side.flushall()
    async with ClockedRedisLimits(server, clock) as store:
        for number, (step_s, tokens, effort, which) in enumerate(history):
            clock.advance(step_s)
            if effort is not None:
                request = Ask(f"r{number}", "ads", f"key{which}", effort, tokens, levels[which])
                decision = await store.reserve(request)
                assert decision == await memory.reserve(request)
                held += [decision] if isinstance(decision, Reservation) else []
            elif held:
                reservation = held[-1 - which % len(held)]  # perhaps one that is settled already
                memory.settle(reservation, tokens=tokens)
                store.settle(reservation, tokens=tokens)
                await confirmed(store)
