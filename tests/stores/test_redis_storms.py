"""Hundreds of requests, cancelled at any moment, over a Redis that is well, slow, cut off or frozen."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import pytest

from cluster.core.limits import Limits, Reservation
from cluster.stores.redis_limits import RedisLimits
from tests.redis_servers import RedisServer
from tests.stores.limit_store_suite import ask
from tests.stores.test_redis_outages import Open, Proxy, open_store, until  # noqa: F401  a fixture

pytestmark = pytest.mark.integration

REQUESTS = 600
RESERVED = 50
LIMITS = Limits(requests_per_min=10**6, tokens_per_min=10**7, concurrent=10**4, tokens_per_day=10**9)


@dataclass
class Storm:
    """Requests that run, and are cancelled."""

    stores: list[RedisLimits]
    rng: random.Random
    used: int = 0
    """Tokens that were used, as the requests' owners know it."""
    cancelled_asking: int = 0

    async def request(self) -> None:
        """Reserve, run, and settle however it ends, as the gateway's flow does."""
        store, tokens = self.rng.choice(self.stores), self.rng.randint(0, 2 * RESERVED)
        try:
            held = await store.reserve(ask(RESERVED, base=LIMITS))
        except asyncio.CancelledError:
            self.cancelled_asking += 1
            raise
        assert isinstance(held, Reservation)
        try:
            await asyncio.sleep(self.rng.uniform(0, 0.02))
        finally:
            self.used += tokens
            store.settle(held, tokens=tokens)
            store.settle(held, tokens=0)

    async def client(self) -> None:
        """Ask after a while, and perhaps leave after another."""
        await asyncio.sleep(self.rng.uniform(0, 0.3))
        running = asyncio.create_task(self.request())
        for _ in range(self.rng.randint(0, 3)):
            await asyncio.sleep(0)  # the first turns of the event loop are those of the reserve
        await asyncio.sleep(self.rng.choice([0, 0, self.rng.uniform(0, 0.03), 0.5]))
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    async def rage(self) -> None:
        """Let all clients come and go."""
        async with asyncio.TaskGroup() as clients:
            for _ in range(REQUESTS):
                clients.create_task(self.client())


Weather = Callable[[RedisServer, Proxy], Awaitable[None]]


async def well(_server: RedisServer, _proxy: Proxy) -> None:
    """Leave Redis alone."""


async def slow(_server: RedisServer, proxy: Proxy) -> None:
    """Let answers take longer and longer, up to more than is waited for."""
    for delay_s in (0.01, 0.03, 0.1, 0.0):
        proxy.delay_s = delay_s
        await asyncio.sleep(0.08)


async def cut(server: RedisServer, _proxy: Proxy) -> None:
    """Cut all connections, again and again."""
    with server.client() as client:
        for _ in range(6):
            await asyncio.sleep(0.05)
            client.execute_command("CLIENT", "KILL", "TYPE", "normal")


async def frozen(server: RedisServer, _proxy: Proxy) -> None:
    """Stop Redis for less, and then for more, than a connection is waited for."""
    for length_s in (0.1, 0.5):
        await asyncio.sleep(0.05)
        server.freeze()
        await asyncio.sleep(length_s)
        server.thaw()


@pytest.mark.parametrize("weather", [well, slow, cut, frozen], ids=lambda weather: weather.__name__)
@pytest.mark.parametrize("seed", range(2))
async def test_a_storm_leaves_nothing_behind(
    open_store: Open,  # noqa: F811
    redis_server: RedisServer,
    weather: Weather,
    seed: int,
) -> None:
    """Afterwards no slot is held, and spent is what was used: no token is lost, and none is counted twice."""
    proxy = Proxy(redis_server.port)
    async with proxy.listening() as settings:
        storm = Storm([await open_store(settings) for _ in range(2)], random.Random(seed))
        await asyncio.gather(storm.rage(), weather(redis_server, proxy))
        await until(lambda: not any(each.degraded or each.unsettled for each in storm.stores))
        assert storm.cancelled_asking > REQUESTS / 20
        with redis_server.client() as client:
            assert client.zcard("gptoss:{ads}:leases") == 0
            assert int(client.hget("gptoss:{ads}", "low")) == storm.used
        assert not any(each._held or each._asking or each._unknown for each in storm.stores)


async def test_what_reached_a_frozen_redis_comes_too_late(
    open_store: Open,  # noqa: F811
    redis_server: RedisServer,
) -> None:
    """What a frozen Redis finds in its buffers when it goes on, after its requests ended, changes nothing."""
    store, crowd = await open_store(redis_server.settings()), 1600
    redis_server.freeze()
    made = await asyncio.gather(*(store.reserve(ask(RESERVED, base=LIMITS)) for _ in range(crowd)))
    for held in made:
        assert isinstance(held, Reservation)
        store.settle(held, tokens=3)
    await asyncio.sleep(1)
    redis_server.thaw()
    await until(lambda: not store.degraded and not store.unsettled)
    await asyncio.sleep(0.3)  # a wrong one would still come
    with redis_server.client() as client:
        assert client.zcard("gptoss:{ads}:leases") == 0
        assert int(client.hget("gptoss:{ads}", "low")) == 3 * crowd
