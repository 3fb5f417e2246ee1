"""Four gateway processes, a thousand clients at once, one Redis: not one request more than the limit."""

import asyncio
import json
import logging
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from cluster.core.limits import UNIT
from tests.redis_servers import RedisServer
from tests.stores.limit_crowd import Run, Sight

logger = logging.getLogger(__name__)

pytestmark = pytest.mark.integration

GATEWAYS = 4
CLIENTS = 1000
RUNS = 20
PER_MIN = 900
"""Below the number of clients, so that the first rush leaves nothing of the burst."""
MINUTE_US = 60_000_000
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Crowd:
    """The gateway processes."""

    processes: Sequence[Process]

    async def play(self, tenant: str, limits: dict[str, int], **more: Any) -> list[Sight]:
        """Let all processes ask at once; return what each saw."""
        made = Run(tenant, CLIENTS // GATEWAYS, for_s=0.1, pause_s=0.1, limits=limits, **more)
        return await asyncio.gather(*(self._play(process, made) for process in self.processes))

    async def _play(self, process: Process, run: Run) -> Sight:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(asdict(run)).encode() + b"\n")
        line = await asyncio.wait_for(process.stdout.readline(), 60)
        assert line, "a gateway process has ended"
        return Sight(**json.loads(line))


@pytest.fixture
async def crowd(redis_server: RedisServer) -> AsyncIterator[Crowd]:
    """Start the processes, once for all runs."""
    settings = redis_server.settings(timeout_ms=20_000).model_dump_json()
    command = [sys.executable, "-m", "tests.stores.limit_crowd", settings]
    async with AsyncExitStack() as stack:

        async def start(number: int) -> Process:
            process = await asyncio.create_subprocess_exec(
                *command, str(number), stdin=PIPE, stdout=PIPE, cwd=ROOT, limit=2**24
            )
            stack.push_async_callback(_end, process)
            return process

        yield Crowd([await start(number) for number in range(GATEWAYS)])


async def _end(process: Process) -> None:
    """End its input, and so it; by force where it has failed already."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(10):
            assert await process.wait() == 0
    finally:
        with suppress(ProcessLookupError):
            process.kill()


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
    assert admitted >= PER_MIN


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
