"""Calls of tools that the request does not offer, over both endpoints, streamed and whole."""

from typing import Any

import pytest

from cluster.core.request import Endpoint
from tests.gateway.conftest import World, chat_body
from tests.gateway.upstream import (
    DONE,
    ROLE,
    STREAM_HEAD,
    Connection,
    Script,
    chunk,
    completion,
    named,
    respond,
    response,
    stream,
    usage_chunk,
)

Answers = dict[tuple[Endpoint, bool], Script]
CHOICES = ["auto", "required", "none", None]
"""Values of ``tool_choice``; None: the request offers no tools."""


def answers(name: str) -> Answers:
    """Return the scripts of a call of ``name``, by endpoint and whether it is streamed."""
    function = {"name": name, "arguments": "{}"}
    call = {"index": 0, "id": "c", "type": "function", "function": function}
    item = {"type": "function_call", "id": "i", "call_id": "c", **function}
    added = named("output_item.added", output_index=0, item={**item, "arguments": ""})
    ended = named("completed", response=response(item))
    return {
        ("chat", True): stream(
            ROLE, chunk({"tool_calls": [call]}), chunk({}, finish="tool_calls"), usage_chunk(), DONE
        ),
        ("chat", False): respond(200, completion(None, finish="tool_calls", tool_calls=[call])),
        ("responses", True): stream(named("created", response=response()), added, ended),
        ("responses", False): respond(200, response(item)),
    }


def body(endpoint: Endpoint, choice: str | None, *, streamed: bool) -> dict[str, Any]:
    """Return a request that offers the tool ``f``."""
    function = {"name": "f"} if endpoint == "responses" else {"function": {"name": "f"}}
    offered = {"tools": [{"type": "function", **function}], "tool_choice": choice} if choice else {}
    if endpoint == "chat":
        return chat_body(stream=streamed, **offered)
    return {"model": "gpt-oss-120b", "input": "x", "stream": streamed, **offered}


PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses"}
WAYS = pytest.mark.parametrize("way", answers("f"), ids=lambda way: f"{way[0]}-{way[1]}")


@WAYS
@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("called", ["f", "g"])
async def test_only_offered_tools_are_called(
    world: World, way: tuple[Endpoint, bool], choice: str | None, called: str
) -> None:
    """A call of what was not offered, or while calls are forbidden, is a fault of the model."""
    endpoint, streamed = way
    good = called == "f" and choice in ("auto", "required")
    world.upstream.then(answers(called)[way])
    async with world.post(body(endpoint, choice, streamed=streamed), path=PATHS[endpoint]) as answer:
        text = await answer.text()
    line = await world.usage()
    assert (answer.status, line["outcome"], line["attempts"]) == (
        (200, "completed", 1) if good else (502, "harmony_fault", 2)
    )
    assert ('"name":"' in text) == good
    assert world.metric('gptoss_harmony_faults_total{kind="unknown_tool"}') == (0 if good else 2)


@WAYS
async def test_a_call_of_no_tool_is_tried_again(world: World, way: tuple[Endpoint, bool]) -> None:
    """The client gets the second attempt's call, and pays for that one only."""
    endpoint, streamed = way
    world.upstream.then(answers("g")[way], answers("f")[way])
    async with world.post(body(endpoint, "auto", streamed=streamed), path=PATHS[endpoint]) as answer:
        text = await answer.text()
    assert (answer.status, '"name":"f"' in text, '"name":"g"' in text) == (200, True, False)
    line = await world.usage()
    assert (line["outcome"], line["attempts"], line["settled"]) == ("completed", 2, 15)


async def test_a_call_of_no_tool_after_text_ends_the_stream(world: World) -> None:
    """What was shown stays; the call does not pass, and an error event ends the stream."""
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "g", "arguments": ""}}

    async def script(connection: Connection) -> None:
        await connection.send(STREAM_HEAD)
        await connection.event(ROLE, chunk({"content": "Hel"}))
        await connection.seen.go_on.wait()
        await connection.event(chunk({"tool_calls": [call]}))
        await connection.until_gone()

    world.upstream.then(script)
    async with world.post(body("chat", "auto", streamed=True)) as answer:
        await answer.content.readuntil(b"Hel")
        world.upstream.requests[0].go_on.set()
        rest = await answer.read()
    assert b'"code":"harmony_fault"' in rest
    assert b"tool_calls" not in rest
    assert DONE not in rest
