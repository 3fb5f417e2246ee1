"""The load under which faults happen: workers that ask one question after another, through a balancer."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import aiohttp

from cluster.core.effort import Effort
from cluster.core.request import Endpoint
from tests.faults.client import HUNG_S, Client, Got, Question
from tests.faults.stack import MAX_REQUEST_S, MODEL, Gateway, Stack

WORKERS = 12
THINK_S = 0.3
"""Longest pause of a worker between two questions."""
PROBES = 4
CHECK_S = 0.25
"""How often the balancer looks which gateways are ready."""
_EFFORTS: tuple[Effort, ...] = ("low", "low", "low", "medium", "medium", "high")
_ENDPOINTS: tuple[Endpoint, ...] = ("chat", "chat", "chat", "responses")

Make = Callable[[random.Random, int], Question]


def mixed(rng: random.Random, number: int) -> Question:
    """Return a question of the usual load: mostly streams, mostly chats, mostly low effort."""
    endpoint = rng.choice(_ENDPOINTS)
    return Question(number, MODEL, rng.choice(_EFFORTS), endpoint, stream=rng.random() < 0.75)


@dataclass
class Balancer:
    """Sends to gateways that were ready when last looked at, as a Service of Kubernetes does."""

    gateways: list[Gateway]
    good: list[Gateway] = field(default_factory=list)
    withdrawn: set[str] = field(default_factory=set)
    """Names of gateways that are about to end, and get nothing new."""

    async def look(self) -> None:
        """Look again and again."""
        while True:
            self.good = [gateway for gateway in self.gateways if await gateway.ready()]
            await asyncio.sleep(CHECK_S)

    def pick(self, rng: random.Random) -> Gateway:
        """Return the gateway for the next request."""
        able = [gateway for gateway in self.good if gateway.name not in self.withdrawn]
        return rng.choice(able or self.gateways)


@dataclass
class Load:
    """Questions under way, and what came of those before."""

    stack: Stack
    rng: random.Random
    numbers: Iterator[int]
    gots: list[Got] = field(default_factory=list)
    open: int = 0
    """Questions that have no end yet."""
    stopping: bool = False

    def __post_init__(self) -> None:
        self.balancer = Balancer(self.stack.gateways, list(self.stack.gateways))

    async def start(self, make: Make, workers: int) -> None:
        """Begin to ask; returns once all workers have asked something."""
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        self._http = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None))
        self._client = Client(self._http, self.stack.key, limit_s=MAX_REQUEST_S + HUNG_S)
        self._look = asyncio.create_task(self.balancer.look())
        self._workers = [asyncio.create_task(self._work(make)) for _ in range(workers)]

    async def _work(self, make: Make) -> None:
        while not self.stopping:
            await self.ask(make(self.rng, next(self.numbers)))
            await asyncio.sleep(self.rng.uniform(0, THINK_S))

    async def ask(self, question: Question) -> Got:
        """Ask one question, beside the workers or by one of them."""
        gateway = self.balancer.pick(self.rng)
        self.open += 1
        try:
            got = await self._client.ask(question, gateway.name, gateway.api)
        finally:
            self.open -= 1
        self.gots.append(got)
        if got.end == "unreached":
            await asyncio.sleep(CHECK_S)
        return got

    async def stop(self) -> None:
        """Ask no more, and wait for every answer."""
        self.stopping = True
        await asyncio.gather(*self._workers)
        self._look.cancel()
        with suppress(asyncio.CancelledError):
            await self._look
        await self._http.close()

    async def answers(self, *, limit_s: float) -> None:
        """Return once several questions at once have been answered whole. Raises ``TimeoutError``."""
        deadline_s = time.monotonic() + limit_s
        while True:
            questions = [Question(next(self.numbers), MODEL, "low") for _ in range(PROBES)]
            gots = await asyncio.gather(*(self.ask(question) for question in questions))
            if all(got.end == "complete" for got in gots):
                return
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"after {limit_s:g} s questions still fail: {[got.end for got in gots]}")
