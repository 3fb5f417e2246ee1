"""Clients that leave at any moment while limits are in Redis, also while Redis is being asked."""

import asyncio
import random
from typing import Any

import pytest

from cluster.settings import RateLimits
from tests.gateway.conftest import KEY, World, caller
from tests.gateway.test_disconnects import Watched, engine, visit, world  # noqa: F401  fixtures
from tests.redis_servers import RedisServer
from tests.stores.test_redis_outages import Proxy, store_on, until

pytestmark = pytest.mark.integration

ROUNDS, AT_ONCE = 3, 80
ROOMY = RateLimits(
    requests_per_min=10**6,
    tokens_per_min=10**7,
    concurrent=10**4,
    tokens_per_day={"low": 10**9, "medium": 10**9, "high": 10**9},
)


async def test_a_storm_of_disconnects_leaves_nothing_in_redis(
    world: World,  # noqa: F811
    engine: Watched,  # noqa: F811
    redis_server: RedisServer,
) -> None:
    """Whenever its client left, a request holds no slot afterwards, and the budget is what was settled."""
    rng, proxy, lines = random.Random(5), Proxy(redis_server.port), list[dict[str, Any]]()
    world.keys.callers[KEY] = caller(limits=(ROOMY,))
    proxy.delay_s = 0.05  # many leave meanwhile
    async with proxy.listening() as settings:
        store = store_on(settings.model_copy(update={"timeout_ms": 5000}))
        world.ledger.store = store
        async with store:
            for batch in range(ROUNDS):
                async with asyncio.TaskGroup() as visits:
                    for number in range(batch * AT_ONCE, (batch + 1) * AT_ONCE):
                        visits.create_task(visit(world, number, rng))
                lines += [await world.usage() for _ in range(AT_ONCE)]
            await engine.idle()
            await until(lambda: not store.unsettled)
            assert not store.degraded
    with redis_server.client() as client:
        assert client.zcard("gptoss:{acme}:leases") == 0
        assert int(client.hget("gptoss:{acme}", "medium")) == sum(world.ledger.settled)
    assert sum(line["settled"] or 0 for line in lines) == sum(world.ledger.settled)
    assert len(world.ledger.reserved) == len(world.ledger.settled) == len(lines)
    early = [line for line in lines if line["outcome"] == "client_gone_waiting" and not line["attempts"]]
    assert early, "none left while Redis was asked"
