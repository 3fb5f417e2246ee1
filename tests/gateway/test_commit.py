"""A stream's status is held back until something of its answer comes, or ``commit_after_s`` has passed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from cluster.core.request import Endpoint
from tests.gateway.conftest import World, Worlds, chat_body
from tests.gateway.upstream import (
    DONE,
    END,
    ROLE,
    STREAM_HEAD,
    Connection,
    Script,
    data,
    good_stream,
    named,
    respond,
    response,
    response_item,
    stream,
    usage_chunk,
)

BUSY = {"message": "The server is busy", "type": "Service Unavailable", "code": 503}
USAGE = b": usage p=10 r=3 a=0\n\n"
OPENINGS: dict[Endpoint, tuple[bytes, ...]] = {
    "chat": (ROLE, USAGE),
    "responses": (named("created", response=response(status="in_progress")), USAGE),
}
"""What an engine sends before an answer begins."""


def asked(endpoint: Endpoint) -> tuple[str, dict[str, Any]]:
    """Return the path and the body of a streamed request."""
    if endpoint == "chat":
        return "/v1/chat/completions", chat_body(stream=True)
    return "/v1/responses", {"model": "gpt-oss-120b", "input": "Hello", "stream": True}


def good(endpoint: Endpoint) -> Script:
    """Return a script that answers."""
    if endpoint == "chat":
        return good_stream()
    return stream(
        named("created", response=response(status="in_progress")),
        named("output_item.added", output_index=0, item=response_item("m", "")),
        named("output_text.delta", output_index=0, item_id="m", delta="Hello"),
        named("output_item.done", output_index=0, item=response_item("m", "Hello")),
        named("completed", response=response(response_item("m", "Hello"))),
    )


async def opened(connection: Connection, endpoint: Endpoint) -> None:
    """Send the head and what comes before an answer; the first attempt then waits for the test."""
    await connection.send(STREAM_HEAD)
    await connection.event(*OPENINGS[endpoint])
    await when_told(connection)


async def when_told(connection: Connection) -> None:
    """Return at the second attempt, and at the first once the test says so."""
    if connection.seen.headers["x-request-id"].endswith("-1"):
        await connection.seen.go_on.wait()


def error_event(endpoint: Endpoint) -> Script:
    """Return a script whose stream opens and then fails with an error event."""

    async def script(connection: Connection) -> None:
        await opened(connection, endpoint)
        await connection.event(data({"error": BUSY}), DONE)
        await connection.send(END)

    return script


def cut(endpoint: Endpoint) -> Script:
    """Return a script whose stream opens and is then cut."""

    async def script(connection: Connection) -> None:
        await opened(connection, endpoint)
        connection.close()

    return script


def ended(endpoint: Endpoint) -> Script:
    """Return a script whose stream opens and then ends cleanly, without a last event."""

    async def script(connection: Connection) -> None:
        await opened(connection, endpoint)
        await connection.send(END)

    return script


def aborted(endpoint: Endpoint) -> Script:
    """Return a script whose stream opens, and is given up by the engine before it says anything."""
    final = response(status="incomplete") | {"max_output_tokens": 100}
    ends = {"chat": (usage_chunk(answer=0), DONE), "responses": (named("completed", response=final),)}

    async def script(connection: Connection) -> None:
        await opened(connection, endpoint)
        await connection.event(*ends[endpoint])
        await connection.send(END)

    return script


def unavailable(endpoint: Endpoint) -> Script:
    """Return a script that answers 503 at last."""
    del endpoint

    async def script(connection: Connection) -> None:
        await when_told(connection)
        await respond(503, "no server", content_type="text/plain")(connection)

    return script


def reset(endpoint: Endpoint) -> Script:
    """Return a script that loses the connection before any byte."""
    del endpoint

    async def script(connection: Connection) -> None:
        await when_told(connection)
        connection.reset()

    return script


def at_once(script: Script) -> Script:
    """Return ``script`` with nothing to wait for."""

    async def run(connection: Connection) -> None:
        connection.seen.go_on.set()
        await script(connection)

    return run


@dataclass(frozen=True)
class Failure:
    """One way to fail before anything of an answer, and the status that it has before the commit."""

    script: Callable[[Endpoint], Script]
    status: int


FAILURES = {
    "error event": Failure(error_event, 503),
    "cut": Failure(cut, 502),
    "ended": Failure(ended, 502),
    "aborted": Failure(aborted, 502),
    "status": Failure(unavailable, 503),
    "reset": Failure(reset, 502),
}
FAILING = pytest.mark.parametrize("name", FAILURES)
ENDPOINTS = pytest.mark.parametrize("endpoint", ["chat", "responses"])


async def world_with(worlds: Worlds, *, commits: bool) -> World:
    """Return a gateway that commits a silent stream at once, or not while a test runs."""
    timing = {"commit_after_s": 0.02 if commits else 60, "keepalive_s": 0.02}
    made: World = await worlds(gateway={"stream": timing})
    return made


@ENDPOINTS
@FAILING
async def test_before_the_commit_a_failure_has_its_status(
    worlds: Worlds, name: str, endpoint: Endpoint
) -> None:
    """Whatever the engine has sent that is no answer: a real status, and OpenAI's error body."""
    world, failure = await world_with(worlds, commits=False), FAILURES[name]
    world.upstream.then(at_once(failure.script(endpoint)))
    path, body = asked(endpoint)
    async with world.post(body, path=path) as answer:
        assert (answer.status, answer.content_type) == (failure.status, "application/json")
        assert (await answer.json())["error"]["message"]
    line = await world.usage()
    assert (line["status"], line["attempts"], line["settled"]) == (failure.status, 2, 0)
    assert line["outcome"] in ("upstream_failed", "shed")


@ENDPOINTS
@FAILING
async def test_after_the_commit_a_failure_is_an_event(worlds: Worlds, name: str, endpoint: Endpoint) -> None:
    """Comments keep the connection, then comes the error event and the end, and no clean one."""
    world, failure = await world_with(worlds, commits=True), FAILURES[name]
    world.upstream.then(failure.script(endpoint))
    path, body = asked(endpoint)
    async with world.post(body, path=path) as answer:
        assert answer.status == 200
        assert await answer.content.readuntil(b"\n\n") == b": keep-alive\n\n"
        world.upstream.requests[0].go_on.set()
        rest = (await answer.read()).decode()
    events = [event for event in rest.split("\n\n") if event and not event.startswith(":")]
    assert len(events) == 1
    assert ('{"error":{' if endpoint == "chat" else "event: response.failed\n") in events[0]
    line = await world.usage()
    assert (line["status"], line["outcome"]) == (200, "upstream_broken")
    assert (line["attempts"], line["settled"]) == (2, 0)


@ENDPOINTS
@FAILING
@pytest.mark.parametrize("commits", [False, True], ids=["before", "after"])
async def test_a_second_attempt_is_made_before_and_after_the_commit(
    worlds: Worlds, name: str, endpoint: Endpoint, commits: bool
) -> None:
    """Comments are no answer: the client gets the second attempt's, whole, and once."""
    world = await world_with(worlds, commits=commits)
    script = FAILURES[name].script(endpoint)
    world.upstream.then(script if commits else at_once(script), good(endpoint))
    path, body = asked(endpoint)
    async with world.post(body, path=path) as answer:
        assert answer.status == 200
        if commits:
            await answer.content.readuntil(b"\n\n")
            world.upstream.requests[0].go_on.set()
        rest = await answer.read()
    first = b'"role"' if endpoint == "chat" else b"event: response.created\n"
    assert rest.count(first) == 1
    assert (DONE if endpoint == "chat" else b"event: response.completed\n") in rest
    assert b'"error":{' not in rest
    assert (b": keep-alive" in rest) <= commits
    line = await world.usage()
    assert (line["outcome"], line["attempts"], line["settled"]) == ("completed", 2, 15)
