"""What outlives the death of Redis and of gateways, and what a death frees: real processes, killed."""

import asyncio
import logging
import time
from contextlib import AsyncExitStack
from signal import SIGKILL

import pytest

from cluster.stores.memory_limits import LEASE_GRACE_S
from cluster.stores.redis_limits import RedisLimits
from tests.redis_servers import RedisServer, StartRedis
from tests.stores.limit_crowd import Run
from tests.stores.limit_process import limit_process
from tests.stores.limit_store_suite import NO_LIMITS, admitted, ask, refused
from tests.stores.test_redis_outages import store_on, until

pytestmark = pytest.mark.integration

logger = logging.getLogger(__name__)
EVERYSEC = {"appendonly": "yes", "appendfsync": "everysec"}
LEASE_S = 2.0


async def spend(store: RedisLimits, tokens: int) -> None:
    """Reserve and settle one request of the day's budget."""
    store.settle(await admitted(store, ask(tokens, tokens_per_day=10**6)), tokens=tokens)
    await until(lambda: not store.unsettled)


def spent(server: RedisServer) -> int:
    """Return what Redis knows to be spent today."""
    with server.client() as client:
        return int(client.hget("gptoss:{ads}", "low") or 0)


async def test_budgets_outlive_a_killed_redis(start_redis: StartRedis) -> None:
    """Of what was spent before a kill -9, at most the last second is lost, with ``appendfsync everysec``.

    A kill alone loses nothing that was confirmed: the system has it already. A machine that loses its power
    loses what was not on its disk.
    """
    server = start_redis(**EVERYSEC)
    told: list[tuple[float, int]] = []
    async with store_on(server.settings()) as store:
        began_s = time.monotonic()
        while time.monotonic() - began_s < 1.5:
            await spend(store, 7)
            told.append((time.monotonic(), 7 * (len(told) + 1)))
        server.end(SIGKILL)
        killed_s = time.monotonic()
    server.start()
    at_least = max(tokens for when_s, tokens in told if when_s < killed_s - 1)
    known = spent(server)
    logger.info(
        "spent before the kill %d, known after it %d, a second before it %d", told[-1][1], known, at_least
    )
    assert at_least <= known <= told[-1][1]
    async with store_on(server.settings()) as store:
        assert (await refused(store, ask(10**6 - known + 1, tokens_per_day=10**6))).limit == "budget"
        await admitted(store, ask(10**6 - known, tokens_per_day=10**6))


async def test_what_runs_is_told_to_a_redis_that_lost_its_last_second(start_redis: StartRedis) -> None:
    """What a gateway holds is counted again after a loss, so that only what has ended may be lost."""
    server = start_redis(**EVERYSEC)
    async with store_on(server.settings()) as store:
        await spend(store, 100)
        log = next((server.folder / "appendonlydir").glob("*.incr.aof"))
        kept = log.stat().st_size
        await spend(store, 10)
        held = await admitted(store, ask(50, tokens_per_day=10**6))
        server.end(SIGKILL)
        with log.open("r+b") as file:
            file.truncate(kept)  # as after a loss of power
        server.start()
        await until(lambda: not store.degraded and spent(server) == 150)
        store.settle(held, tokens=20)
        await until(lambda: spent(server) == 120)


async def test_budgets_outlive_their_gateways(redis_server: RedisServer) -> None:
    """A gateway that starts anew finds what was spent, by itself and by one that was killed."""
    run = Run("ads", 4, for_s=0, pause_s=0, tokens=7, limits={"tokens_per_day": 10**6}, hold_s=0, used=5)
    for _ in range(2):
        async with limit_process(redis_server.settings(), "one") as process:
            await process.play(run)
            await process.kill()
    assert spent(redis_server) == 40
    for _ in range(2):
        async with store_on(redis_server.settings()) as store:
            await spend(store, 5)
    assert spent(redis_server) == 50


async def test_slots_of_a_killed_gateway_come_back(redis_server: RedisServer) -> None:
    """The slots that it held are free once its leases have ended, and not before; its tokens stay charged."""
    run = Run("ads", 5, for_s=0, pause_s=0, tokens=7, limits={"concurrent": 5, "tokens_per_day": 100})
    base = NO_LIMITS._replace(concurrent=5, tokens_per_day=100)
    settings = redis_server.settings()
    async with limit_process(settings, "mortal", lease_s=LEASE_S) as process, AsyncExitStack() as stack:
        made = RedisLimits(
            settings, max_request_s=LEASE_S - LEASE_GRACE_S, clock=time.time, on_degraded=lambda _: None
        )
        store = await stack.enter_async_context(made)
        sight = await process.play(run)
        assert sight.admitted == 5
        await process.kill()
        assert (await refused(store, ask(0, base=base))).limit == "concurrent"
        with redis_server.client() as client:
            seconds, micros = client.time()
        await asyncio.sleep(sight.last_us / 1e6 + LEASE_S - seconds - micros / 1e6)
        for _ in range(5):
            await admitted(store, ask(0, base=base))
        assert (await refused(store, ask(0, base=base))).limit == "concurrent"
        assert (await refused(store, ask(66, tokens_per_day=100))).limit == "budget"


async def test_live_gateways_are_counted_within_ten_seconds(
    start_redis: StartRedis, caplog: pytest.LogCaptureFixture
) -> None:
    """A third process that comes, and is killed, changes the share of the others in time, at real pace."""
    server = start_redis()
    async with store_on(server.settings()) as first, store_on(server.settings()) as second:
        assert second.gateways == 2
        async with limit_process(server.settings(), "third") as third:
            await within_ten_seconds(first, 3)
            await third.kill()
            assert first.gateways == 3
            took_s = await within_ten_seconds(first, 2)
            await until(lambda: second.gateways == 2)
        logger.info("a killed gateway was counted for %.1f s", took_s)
        server.end(SIGKILL)
        for store in (first, second):
            for _ in range(3):
                await admitted(store, ask(requests_per_min=7))
            await refused(store, ask(requests_per_min=7))
            assert store.degraded


async def within_ten_seconds(store: RedisLimits, gateways: int) -> float:
    """Hold that the store counts so many in time; return how long it took."""
    began_s = time.monotonic()
    await until(lambda: store.gateways == gateways)
    return time.monotonic() - began_s
