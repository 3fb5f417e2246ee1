"""One gateway's store in a process of its own, and the crowd that asks it.

``python -m tests.stores.limit_crowd SETTINGS NAME LEASE_S`` reads runs as JSON lines and tells what it saw of
each, in the server's time or in that of the machine, so that the sights of several processes fit together.
"""

import asyncio
import json
import random
import sys
import time
from dataclasses import asdict, dataclass, field
from itertools import count
from typing import Any

from cluster.core.limits import Ask, Limits, Reservation
from cluster.settings import RedisSettings
from cluster.stores.memory_limits import LEASE_GRACE_S
from cluster.stores.redis_limits import RedisLimits
from cluster.stores.redis_link import Answer


@dataclass(frozen=True)
class Run:
    """What each client of a crowd does."""

    tenant: str
    clients: int
    """Clients of this process, all at once."""
    for_s: float
    """How long each goes on asking: all at once at first, then each after random pauses."""
    pause_s: float
    """Longest pause between two requests of one client."""
    tokens: int
    """Tokens that each request reserves."""
    limits: dict[str, int]
    hold_s: float | None = None
    """Longest time until an admitted request is settled; None: it never is."""
    used: int = 0
    """Tokens that a settled request used."""


@dataclass
class Sight:
    """What a crowd saw."""

    first_us: int = 0
    last_us: int = 0
    """Server's time at the first and last reserve, in microseconds of the epoch."""
    admitted: int = 0
    least_left: int = 0
    """The least units of tokens that an admission left."""
    held: list[tuple[float, float]] = field(default_factory=list)
    """From when to when each admitted request held its slot for certain, in monotonic seconds."""


class WatchedLimits(RedisLimits):
    """The store, with an eye on each answer: the server's time, and what it says is left."""

    sight: Sight

    def _on_decision(self, request_id: str, answer: Answer) -> None:
        taken, now_us, _, tokens_left, *_ = answer
        sight = self.sight
        sight.first_us, sight.last_us = min(sight.first_us or now_us, now_us), max(sight.last_us, now_us)
        if taken:
            sight.least_left = min(sight.least_left, tokens_left)
        super()._on_decision(request_id, answer)


async def play(store: WatchedLimits, run: Run, name: str) -> Sight:
    """Let the crowd loose; return what it saw."""
    sight = store.sight = Sight()
    none = dict.fromkeys(("requests_per_min", "tokens_per_min", "concurrent", "tokens_per_day"))
    limits = (Limits(**{**none, **run.limits}),)
    until_s = time.monotonic() + run.for_s

    async def client(number: int) -> None:
        for turn in count():
            ask = Ask(
                f"{run.tenant}-{name}-{number}-{turn}", run.tenant, "key00001", "low", run.tokens, limits
            )
            decision = await store.reserve(ask)
            if isinstance(decision, Reservation):
                sight.admitted += 1
                if run.hold_s is not None:
                    since_s = time.monotonic()
                    await asyncio.sleep(random.uniform(0, run.hold_s))
                    sight.held.append((since_s, time.monotonic()))
                    store.settle(decision, tokens=run.used)
            await asyncio.sleep(random.uniform(0, run.pause_s))
            if time.monotonic() > until_s:
                return

    async with asyncio.TaskGroup() as crowd:
        for number in range(run.clients):
            crowd.create_task(client(number))
    while store.unsettled:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    assert not store.degraded
    return sight


async def main(settings: dict[str, Any], name: str, lease_s: float) -> None:
    """Play every run that comes in."""
    store = WatchedLimits(
        RedisSettings.model_validate(settings),
        max_request_s=lease_s - LEASE_GRACE_S,
        clock=time.time,
        on_degraded=lambda _: None,
    )
    async with store:
        while line := await asyncio.to_thread(sys.stdin.readline):
            sight = await play(store, Run(**json.loads(line)), name)
            print(json.dumps(asdict(sight)), flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
