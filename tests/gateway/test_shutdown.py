"""A gateway that is told to end: a process with a hundred streams, and each connection by itself."""

import asyncio
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from starlette.types import Receive, Scope

from cluster.gateway.http_cycle import Cycle
from cluster.gateway.http_protocol import _HEAD, HardenedProtocol
from cluster.gateway.http_server import HttpServer
from cluster.gateway.server import listen
from cluster.settings import HttpSettings
from tests.gateway.conftest import unrefused
from tests.gateway.raw import RawClient, connect
from tests.gateway.test_server import Running, document, gateway, until, write_key
from tests.gateway.test_shared_limits import limits
from tests.gateway.upstream import DONE, END, ROLE, STREAM_HEAD, Connection, Upstream, chunk, usage_chunk
from tests.redis_servers import RedisServer

STREAMS, LUCKY, DRAIN_S = 100, 50, 3.0
"""Streams that run; those that finish while the gateway drains; its time for that."""
TOLD = b": usage p=10 r=7 a=1\n\n"


async def half(connection: Connection) -> None:
    """Stream a first word; finish only when the test says so."""
    await connection.send(STREAM_HEAD)
    await connection.event(ROLE, chunk({"content": "Hel"}), TOLD)
    await connection.seen.go_on.wait()
    await connection.event(chunk({"content": "lo"}), chunk({}, finish="stop"), usage_chunk(), DONE)
    await connection.send(END)


@pytest.fixture
async def running(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[Running]:
    """Return a gateway process that keeps its limits in Redis."""
    upstream = Upstream()
    made = document(tmp_path, await upstream.start(), drain_s=DRAIN_S)
    made["limits"] = limits(redis_server, concurrent=STREAMS + 10)
    upstream.then(half)
    async with gateway(made, tmp_path, upstream, key=write_key(tmp_path / "keys")) as process:
        yield process
    await upstream.stop()


async def begin(running: Running, http: aiohttp.ClientSession, number: int) -> aiohttp.ClientResponse:
    """Start one stream and return once its first word is here."""
    headers = {"authorization": f"Bearer {running.key}"}
    body = {"model": "gpt-oss-120b", "messages": [{"role": "user", "content": str(number)}], "stream": True}
    response = await http.post(f"{running.api}/v1/chat/completions", json=body, headers=headers)
    await response.content.readuntil(b"Hel")
    return response


def listing(running: Running) -> bytes:
    """Return a request for the models, as bytes."""
    return f"GET /v1/models HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {running.key}\r\n\r\n".encode()


async def kept(running: Running) -> RawClient:
    """Return a connection that has served a request and waits for the next."""
    client = await connect(running.api)
    await client.send(listing(running))
    assert "connection" not in (await client.answer()).headers
    return client


@pytest.mark.integration
async def test_a_hundred_streams_end_well_or_are_told(running: Running, redis_server: RedisServer) -> None:
    """Readiness flips at once, nothing new begins; each stream finishes or is told why not, and settled."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        streams = [await begin(running, http, number) for number in range(STREAMS)]
        idle = await kept(running)
        assert leases(redis_server) == STREAMS
        running.process.send_signal(signal.SIGTERM)
        told_s = time.monotonic()
        await until(running.drains)
        assert time.monotonic() - told_s < 1
        await idle.gone()
        await idle.close()
        await refused(running)
        for seen in running.upstream.requests[:LUCKY]:
            seen.go_on.set()
        ends = [await stream.read() for stream in streams]
        took_s = time.monotonic() - told_s
    status, lines = await running.end()
    assert DRAIN_S - 0.5 < took_s < DRAIN_S + 2
    assert [end.endswith(DONE) for end in ends] == [True] * LUCKY + [False] * (STREAMS - LUCKY)
    assert all(b'"code":"server_shutting_down"' in end for end in ends[LUCKY:])
    assert status == 0
    check_settled([line for line in lines if line["log"] == "usage"], redis_server)


async def refused(running: Running) -> None:
    """Check that new work is refused with a time to try again, and that each answer ends its connection."""
    async with running.post() as response:
        assert response.status == 503
        assert (response.headers["connection"], response.headers["retry-after"]) == ("close", "1")
        assert (await response.json())["error"]["code"] == "server_is_overloaded"
    client = await connect(running.api)
    await client.send(listing(running))
    answer = await client.answer()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    await client.gone()
    await client.close()


def check_settled(usage: list[dict[str, Any]], server: RedisServer) -> None:
    """Check the usage lines, and that Redis holds no lease of a request that has ended."""
    ended = Counter((line["outcome"], line["settled"]) for line in usage if line["reserved"] is not None)
    aborted = STREAMS - LUCKY
    assert ended == {("completed", 15): LUCKY, ("aborted_shutdown", 18): aborted, ("shed", 0): 1}
    assert leases(server) == 0


def leases(server: RedisServer) -> int:
    """Return the requests that hold something of the tenant's limits."""
    with server.client() as redis:
        return int(redis.zcard("gptoss:{acme}:leases"))


REQUEST = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


@dataclass
class Slow:
    """An application that answers once it may, and the server that is told to drain."""

    begun: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    may_answer: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, _scope: Scope, _receive: Receive, cycle: Cycle) -> None:
        """Answer."""
        self.begun.release()
        await self.may_answer.wait()
        cycle.respond(200, [], b"ok")


@pytest.fixture
async def slow() -> AsyncIterator[tuple[Slow, HttpServer, RawClient]]:
    """Return such an application, its server, and a connection to it."""
    app, bound = Slow(), listen("127.0.0.1:0", "test")
    server = HttpServer(app, HttpSettings(), unrefused)
    task = asyncio.create_task(server.serve([bound]))
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0)
    client = await connect(f"http://127.0.0.1:{bound.getsockname()[1]}")
    yield app, server, client
    await client.close()
    server.should_exit = True
    await task


@pytest.mark.parametrize("requests", [1, 3])
async def test_what_has_come_is_answered_before_a_connection_ends(
    slow: tuple[Slow, HttpServer, RawClient], requests: int
) -> None:
    """Requests that wait behind one another all have their turn; the last answer says that it is the last."""
    app, server, client = slow
    await client.send(REQUEST * requests)
    await app.begun.acquire()
    server.drain()
    app.may_answer.set()
    answers = [await client.answer() for _ in range(requests)]
    assert [answer.headers.get("connection") for answer in answers] == [None] * (requests - 1) + ["close"]
    await client.gone()


async def test_a_request_that_is_coming_is_answered(slow: tuple[Slow, HttpServer, RawClient]) -> None:
    """Half a head at the time is none the worse for it, and its answer ends the connection."""
    app, server, client = slow
    app.may_answer.set()
    await client.send(REQUEST[:9])
    (connection,) = cast(set[HardenedProtocol], server.server_state.connections)
    while connection._stage != _HEAD:  # noqa: ASYNC110
        await asyncio.sleep(0)
    server.drain()
    await client.send(REQUEST[9:])
    answer = await client.answer()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    await client.gone()
