"""Clients that leave at any moment, in any way: the engine is free within a second, and all is settled."""

import asyncio
import json
import random
import re
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.serving.sim import SimulatedApp, create_app
from cluster.settings import SimulatedEngine
from tests.gateway.conftest import KEY, World, Worlds, behind_prefix, chat_body, serving, settings_document

MODEL = "gpt-oss-120b"
Leaving = Literal["close", "reset", "half_close"]
LEAVES: tuple[Leaving, ...] = ("close", "reset", "half_close")
ROUNDS, AT_ONCE = 6, 40
ENGINE = SimulatedEngine(
    ttft_ms=50, inter_token_ms=4, inter_token_per_request_ms=0, slots=16, answer_tokens=60
)


@dataclass
class Watched:
    """A simulated engine, and when it was done with each request, by the request's number in its prompt."""

    app: SimulatedApp
    done_s: dict[int, float] = field(default_factory=dict)
    running: int = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, and note the end."""
        number: list[int] = []

        async def overheard() -> Message:
            message = await receive()
            if found := re.search(rb"request (\d+)", message.get("body", b"")):
                number.append(int(found[1]))
            return message

        self.running += 1
        try:
            await self.app(scope, overheard, send)
        finally:
            self.running -= 1
            if number:  # else the client left before its request was here
                self.done_s[number[0]] = asyncio.get_running_loop().time()

    async def idle(self) -> None:
        """Wait until nothing runs here."""
        async with asyncio.timeout(10):
            while self.running:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


@pytest.fixture
async def engine() -> Watched:
    """Return a simulated engine that runs 16 requests and queues the others."""
    return Watched(create_app(ENGINE, model=MODEL, replica="sim-1", engine_key="engine-key"))


@pytest.fixture
async def world(worlds: Worlds, engine: Watched) -> AsyncIterator[World]:
    """Return a gateway in front of it."""
    app: ASGIApp = engine
    async with serving(behind_prefix(app)) as url:
        made: World = await worlds(**behind(url))
        yield made


def behind(url: str) -> dict[str, Any]:
    """Return the settings of a gateway in front of ``url``."""
    pools = {name: {"model": MODEL, "profile": "x"} for name in ("big", "big-b")}
    pools["small"] = {"model": "gpt-oss-20b", "profile": "x"}
    return {"serving": {"url": url, "engine_key_file": "/k", "pools": pools}}


def request(number: int, *, chat: bool, stream: bool) -> bytes:
    """Return a request as bytes."""
    words = f"request {number}"
    body: dict[str, Any] = {"model": MODEL, "stream": stream}
    body |= {"messages": [{"role": "user", "content": words}]} if chat else {"input": words}
    payload, path = json.dumps(body).encode(), "chat/completions" if chat else "responses"
    return (
        f"POST /v1/{path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(payload)}\r\n\r\n"
    ).encode() + payload


async def visit(world: World, number: int, rng: random.Random) -> float:
    """Ask, stay for a random while, leave; return when."""
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(world.url).port)
    writer.write(request(number, chat=rng.random() < 0.5, stream=rng.random() < 0.7))
    if rng.random() < 0.5:
        await reader.read(1)  # until it streams, or has been answered
    reading = asyncio.create_task(reader.read(-1))
    await asyncio.sleep(rng.uniform(0, 0.2))
    left_s = asyncio.get_running_loop().time()
    leave(writer, rng.choice(LEAVES))
    await asyncio.gather(reading, return_exceptions=True)
    writer.transport.abort()
    return left_s


def leave(writer: asyncio.StreamWriter, how: Leaving) -> None:
    """Close the connection, reset it, or say no more and listen on."""
    if how == "half_close":
        writer.write_eof()
        return
    if how == "reset":
        held = writer.get_extra_info("socket")
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Stalls:
    """The longest time for which this machine let nothing run."""

    def __init__(self) -> None:
        self.longest_s = 0.0

    async def watch(self) -> None:
        """Sleep, and see how late it is."""
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + 0.01
            await asyncio.sleep(0.01)
            self.longest_s = max(self.longest_s, loop.time() - due_s)


async def test_the_engine_is_free_within_a_second_of_any_client_leaving(
    world: World, engine: Watched
) -> None:
    """Waiting or streaming, streamed or whole, closed, reset or half closed: cancelled, and settled once."""
    rng, stalls = random.Random(7), Stalls()
    still_s, lines = list[float](), list[dict[str, Any]]()
    watching = asyncio.create_task(stalls.watch())
    for batch in range(ROUNDS):
        async with asyncio.TaskGroup() as tasks:
            numbers = range(batch * AT_ONCE, (batch + 1) * AT_ONCE)
            visits = {number: tasks.create_task(visit(world, number, rng)) for number in numbers}
        lines += [await world.usage() for _ in numbers]
        await engine.idle()
        left_s = {number: task.result() for number, task in visits.items()}
        still_s += [max(engine.done_s.get(number, 0) - left_s[number], 0) for number in numbers]
    watching.cancel()
    load = engine.app.load
    assert max(still_s) < 0.2 + 2 * stalls.longest_s, (
        "well below a second, as a whole request takes half of one"
    )
    assert (load.running, load.waiting) == (0, 0)
    assert len(world.ledger.reserved) == len(world.ledger.settled) == len(still_s)
    outcomes = Counter(line["outcome"] for line in lines)
    assert set(outcomes) == {"completed", "client_gone_waiting", "client_gone_streaming"}


async def test_an_aborted_chain_of_thought_is_billed_to_within_two_seconds(worlds: Worlds) -> None:
    """A client that leaves while the model reasons in hiding pays for what was generated up to 2 s before."""
    pace = SimulatedEngine(ttft_ms=1, inter_token_ms=5, reasoning_tokens={"low": 5000})
    app = create_app(pace, model=MODEL, replica="sim-1", engine_key="engine-key")
    async with serving(behind_prefix(app)) as url:
        models = settings_document()["models"]
        models[MODEL]["efforts"]["low"]["max_output_tokens"] = 5000
        world: World = await worlds(models=models, **behind(url))
        asked = asyncio.create_task(_forever(world, chat_body(reasoning_effort="low", stream=True)))
        await asyncio.sleep(2.6)
        (run,) = app._engine._open
        prompt, generated = run.tally.prompt, run.tally.total
        asked.cancel()
        line = await world.usage()
    assert line["outcome"] == "client_gone_waiting", "it has seen nothing at all"
    assert world.ledger.settled == [line["settled"]]
    assert prompt + generated - 2 / 0.005 - 20 < line["settled"] <= prompt + generated
    assert line["settled"] > prompt + 100


async def _forever(world: World, body: dict[str, Any]) -> None:
    async with world.post(body) as response:
        await response.read()
