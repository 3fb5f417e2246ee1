"""Four gateway processes, a thousand clients at once, one Redis: not one request more than the limit."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from cluster.core.limits import UNIT
from tests.redis_servers import RedisServer
from tests.stores.limit_crowd import Run, Sight
from tests.stores.limit_process import LimitProcess, limit_process

logger = logging.getLogger(__name__)

pytestmark = pytest.mark.integration

GATEWAYS = 4
CLIENTS = 1000
RUNS = 20
PER_MIN = 900
"""Below the number of clients, so that the first rush leaves nothing of the burst."""
MINUTE_US = 60_000_000


@dataclass
class Crowd:
    """The gateway processes."""

    processes: Sequence[LimitProcess]

    async def play(self, tenant: str, limits: dict[str, int], **more: Any) -> list[Sight]:
        """Let all processes ask at once; return what each saw."""
        run = Run(tenant, CLIENTS // GATEWAYS, for_s=0.1, pause_s=0.1, limits=limits, **more)
        return await asyncio.gather(*(process.play(run) for process in self.processes))


@pytest.fixture
async def crowd(redis_server: RedisServer) -> AsyncIterator[Crowd]:
    """Start the processes, once for all runs."""
    settings = redis_server.settings(timeout_ms=20_000)
    async with AsyncExitStack() as stack:
        made = [limit_process(settings, str(number)) for number in range(GATEWAYS)]
        yield Crowd([await stack.enter_async_context(each) for each in made])


@pytest.mark.parametrize("name", ["requests", "tokens"])
async def test_what_is_admitted_is_exact(crowd: Crowd, redis_server: RedisServer, name: str) -> None:
    """Admitted are the burst and what refilled until the last request, rounded down; what is left is exact.

    The time is Redis' own, at the first and the last reserve.
    """
    size = 7 if name == "tokens" else 1
    limit, beyond = PER_MIN * size, []
    for run in range(RUNS):
        sights = await crowd.play(f"run-{run}", {f"{name}_per_min": limit}, tokens=7)
        first_us, last_us = min(each.first_us for each in sights), max(each.last_us for each in sights)
        admitted = sum(each.admitted for each in sights)
        beyond.append(admitted - PER_MIN * (MINUTE_US + last_us - first_us) // MINUTE_US)
        assert units_left(redis_server, f"run-{run}", name, limit, first_us) == -admitted * size * UNIT
        assert min(each.least_left for each in sights) >= 0
    logger.info("admitted beyond burst and refill: %s", beyond)
    assert set(beyond) <= {-1, 0}, beyond


@pytest.mark.parametrize("used", [3, 20])
async def test_debt_comes_from_settling_alone(crowd: Crowd, redis_server: RedisServer, used: int) -> None:
    """No reserve takes a token that is not there, and each settle gives back, or owes, exactly the rest."""
    limit = PER_MIN * 7
    sights = await crowd.play("ads", {"tokens_per_min": limit}, tokens=7, hold_s=0.05, used=used)
    left = units_left(redis_server, "ads", "tokens", limit, min(each.first_us for each in sights))
    admitted = sum(each.admitted for each in sights)
    assert left == -admitted * used * UNIT
    assert min(each.least_left for each in sights) >= 0
    assert used < 7 or left < -limit * UNIT


def units_left(server: RedisServer, tenant: str, name: str, limit: int, first_us: int) -> int:
    """Return the units in a bucket, less its burst and what refilled since its first reserve."""
    with server.client() as client:
        units, at_us = map(int, client.hmget(f"gptoss:{{{tenant}}}", name, "at"))
    return units - limit * (UNIT + at_us - first_us)


async def test_no_more_are_in_flight_than_may_be(crowd: Crowd) -> None:
    """Never do more requests hold a slot at once than the limit says, and at some moment that many do."""
    limit, most = 50, []
    for run in range(RUNS):
        sights = await crowd.play(f"run-{run}", {"concurrent": limit}, tokens=0, hold_s=0.05)
        most.append(_most_at_once([held for each in sights for held in each.held]))
    logger.info("most in flight at once, of %d: %s", limit, most)
    assert max(most) <= limit
    assert min(most) > limit - 5, most


def _most_at_once(held: Sequence[tuple[float, float]]) -> int:
    """Return the largest number of intervals that overlap at one moment."""
    changes = sorted([(end, -1) for _, end in held] + [(begin, 1) for begin, _ in held])
    most = now = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most
