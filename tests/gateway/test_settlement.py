"""The ways a request that holds a reservation can end: each settles it exactly once.

Every row runs on both endpoints, streamed and whole, against a scripted engine and over real connections.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import ClientResponse

from cluster.core.lengths import bucket
from cluster.core.request import Endpoint
from tests.gateway.conftest import World, Worlds, chat_body
from tests.gateway.upstream import (
    DONE,
    END,
    HEAD,
    ROLE,
    STREAM_HEAD,
    Connection,
    Script,
    chunk,
    completion,
    named,
    respond,
    response,
    response_item,
    silent,
    stream,
    usage_chunk,
)

EXPECTED = "what such answers are expected to take"
NOT_EXPECTED = 200 - 80
"""Output tokens that are reserved beyond those expected: the limit less the prior."""
TOLD = b": usage p=10 r=7 a=1\n\n"
"""What the engine has told when a stream is cut: 18 tokens."""

BEGUN: dict[Endpoint, tuple[bytes, ...]] = {
    "chat": (ROLE, chunk({"content": "Hel"}), TOLD),
    "responses": (
        named("created", response=response(status="in_progress")),
        named("output_item.added", output_index=0, item=response_item("msg_1", "")),
        named("output_text.delta", output_index=0, item_id="msg_1", content_index=0, delta="Hel"),
        TOLD,
    ),
}
ENDED: dict[Endpoint, tuple[bytes, ...]] = {
    "chat": (chunk({}, finish="stop"), usage_chunk(), DONE),
    "responses": (
        named("output_item.done", output_index=0, item=response_item("msg_1", "Hel")),
        named("completed", response=response(response_item("msg_2", "Hel"))),
    ),
}
WHOLE = {"chat": completion(), "responses": response(response_item("msg_1", "Hello"))}
PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses"}


def begun(endpoint: Endpoint, streamed: bool) -> Script:
    """Return a script that begins an answer and then says nothing more."""

    async def script(connection: Connection) -> None:
        if streamed:
            await connection.send(STREAM_HEAD)
            await connection.event(*BEGUN[endpoint])
        else:
            await connection.send(HEAD % (200, b"OK", b"application/json") + b"content-length: 999\r\n\r\n{")
        await connection.until_gone()

    return script


def broken(endpoint: Endpoint, streamed: bool) -> Script:
    """Return a script that begins an answer and then cuts the connection."""

    async def script(connection: Connection) -> None:
        if streamed:
            await stream(*BEGUN[endpoint], end=False)(connection)
        else:
            await connection.send(HEAD % (200, b"OK", b"application/json") + b"content-length: 999\r\n\r\n{")
            connection.close()

    return script


ABORTED: dict[Endpoint, tuple[bytes, ...]] = {
    "chat": (chunk({}, finish="abort"), usage_chunk(), DONE),
    "responses": (named("completed", response=response(response_item("m", "Hel"), status="cancelled")),),
}
GIVEN_UP = {
    "chat": completion("Hel", finish="abort"),
    "responses": response(response_item("msg_1", "Hel"), status="cancelled"),
}


def aborted(endpoint: Endpoint, streamed: bool) -> Script:
    """Return a script that begins an answer and then gives it up, as an engine does that shuts down."""
    if not streamed:
        return respond(200, GIVEN_UP[endpoint])

    async def script(connection: Connection) -> None:
        await connection.send(STREAM_HEAD)
        await connection.event(*BEGUN[endpoint])
        await connection.seen.go_on.wait()
        await connection.event(*ABORTED[endpoint])
        await connection.send(END)

    return script


def good(endpoint: Endpoint, streamed: bool) -> Script:
    """Return a script that answers."""
    return stream(*BEGUN[endpoint], *ENDED[endpoint]) if streamed else respond(200, WHOLE[endpoint])


def failing(_endpoint: Endpoint, _streamed: bool) -> Script:
    """Return a script that fails before any byte."""
    return respond(503, "no server", content_type="text/plain")


def waiting(_endpoint: Endpoint, _streamed: bool) -> Script:
    """Return a script that says nothing at all."""
    return silent


@dataclass
class Case:
    """One request of a row, under way; ``body`` is what its client has been sent, read to the end or not."""

    world: World
    streamed: bool
    response: asyncio.Task[bytes]
    began: asyncio.Event

    async def until_begun(self) -> None:
        """Wait until the first word is here; of a whole answer, until the engine has begun to send it."""
        if self.streamed:
            await asyncio.wait_for(self.began.wait(), 10)
        else:
            await self.until_asked()
            await asyncio.sleep(0.05)

    async def until_asked(self) -> None:
        """Wait until the engine has the request."""
        async with asyncio.timeout(10):
            while not self.world.upstream.requests:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def leave(self) -> None:
        """Close the client's connection."""
        self.response.cancel()
        with suppress(asyncio.CancelledError):
            await self.response


async def read(case: Case) -> None:
    """Read to the end."""
    await case.response


async def leave_waiting(case: Case) -> None:
    """Leave before anything has come."""
    await case.until_asked()
    await case.leave()


async def leave_begun(case: Case) -> None:
    """Leave in the middle."""
    await case.until_begun()
    await case.leave()


async def read_on(case: Case) -> None:
    """Let the engine go on once the answer has begun, and read to the end."""
    if case.streamed:
        await case.until_begun()
        case.world.upstream.requests[0].go_on.set()
    await case.response


async def shut_down(case: Case) -> None:
    """Let the gateway shut down in the middle."""
    await case.until_begun()
    case.world.gate.drain()
    case.world.gate.abort()
    await case.response


@dataclass(frozen=True)
class Row:
    """One way to end: what the engine does, what happens, and the outcome and tokens settled."""

    script: Callable[[Endpoint, bool], Script]
    act: Callable[[Case], Awaitable[None]]
    streamed: tuple[str, int | str]
    whole: tuple[str, int | str]
    limits: dict[str, Any] | None = None


ROWS = {
    "completed": Row(good, read, ("completed", 15), ("completed", 15)),
    "client gone waiting": Row(
        waiting, leave_waiting, ("client_gone_waiting", 0), ("client_gone_waiting", EXPECTED)
    ),
    "client gone streaming": Row(
        begun, leave_begun, ("client_gone_streaming", 18), ("client_gone_waiting", EXPECTED)
    ),
    "failed before the first byte": Row(failing, read, ("upstream_failed", 0), ("upstream_failed", 0)),
    "broken after it": Row(broken, read, ("upstream_broken", 18), ("upstream_failed", 0)),
    "aborted by the engine": Row(aborted, read_on, ("upstream_broken", 15), ("upstream_failed", 0)),
    "deadline": Row(begun, read, ("deadline", 18), ("deadline", EXPECTED), {"max_request_s": 0.4}),
    "shutdown": Row(begun, shut_down, ("aborted_shutdown", 18), ("aborted_shutdown", 0)),
}

Lengths = tuple[list[int], list[int]]
"""Lengths, in buckets, of answers that ended and of answers that were cut."""
NOTHING: Lengths = ([], [])
WHOLE_5: Lengths = ([bucket(5)], [])
CUT_5: Lengths = ([], [bucket(5)])
CUT_8: Lengths = ([], [bucket(8)])
TAUGHT = {
    "completed": (WHOLE_5, WHOLE_5),
    "client gone waiting": (NOTHING, NOTHING),
    "client gone streaming": (CUT_8, NOTHING),
    "failed before the first byte": (NOTHING, NOTHING),
    "broken after it": (CUT_8, NOTHING),
    "aborted by the engine": (CUT_5, CUT_5),
    "deadline": (CUT_8, NOTHING),
    "shutdown": (CUT_8, NOTHING),
}
"""What each ending teaches, streamed and whole: an answer of which the engine told nothing, nothing."""


def taught(world: World) -> Lengths:
    """Return what the tenant's answers at medium effort have taught about their length."""
    for entry in world.costs.snapshot()["learned"]:
        if (entry["effort"], entry["tenant"]) == ("medium", "acme"):
            ended, reached = [index for index, _ in entry["ended"]], len(entry["passed"])
            return ended, [] if reached in ended else [reached]
    return NOTHING


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("endpoint", ["chat", "responses"])
@pytest.mark.parametrize("name", ROWS)
async def test_every_ending_settles_once(
    worlds: Worlds, name: str, endpoint: Endpoint, streamed: bool
) -> None:
    """One reservation, one settlement, with the row's outcome and tokens; the engine is free again.

    What the answer took is learned, or, of one that anything cut, that it would have taken more.
    """
    row = ROWS[name]
    world = await worlds(**({"limits": row.limits} if row.limits else {}))
    world.upstream.then(row.script(endpoint, streamed))
    case = begin(world, endpoint, streamed)
    await row.act(case)
    line = await world.usage()
    outcome, tokens = row.streamed if streamed else row.whole
    (asked,) = world.ledger.reserved
    expected = asked.tokens - NOT_EXPECTED if tokens == EXPECTED else tokens
    assert (line["outcome"], line["settled"], world.ledger.settled) == (outcome, expected, [expected])
    assert (line["reserved"], line["stream"]) == (asked.tokens, streamed)
    assert taught(world) == TAUGHT[name][0 if streamed else 1]
    assert case.response.cancelled() or clean(case.response.result(), endpoint, streamed) == (
        outcome == "completed"
    )
    for request in world.upstream.requests:
        if outcome != "completed" and row.script not in (failing, aborted):
            await asyncio.wait_for(request.gone.wait(), 1)


def begin(world: World, endpoint: Endpoint, streamed: bool) -> Case:
    """Send the request, and read its answer in a task."""
    began = asyncio.Event()
    body = chat_body() if endpoint == "chat" else {"model": "gpt-oss-120b", "input": "Say hello"}

    async def ask() -> bytes:
        async with world.post({**body, "stream": streamed}, path=PATHS[endpoint]) as response:
            return await _all_of(response, began)

    return Case(world, streamed, asyncio.create_task(ask()), began)


async def _all_of(response: ClientResponse, began: asyncio.Event) -> bytes:
    got = b""
    async for part in response.content.iter_any():
        got += part
        if b"Hel" in got:
            began.set()
    return got


def clean(body: bytes, endpoint: Endpoint, streamed: bool) -> bool:
    """Whether a client takes ``body`` for a complete answer."""
    if not streamed:
        return b'"error":{' not in body
    return body.endswith(DONE) if endpoint == "chat" else b"event: response.completed\n" in body
