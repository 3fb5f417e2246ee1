"""Engines whose every word is a canary: answers, streams, and all ways to fail."""

import json
from collections.abc import Iterable
from typing import Any

from tests.gateway.canaries import Canaries
from tests.gateway.upstream import (
    DONE,
    ROLE,
    Connection,
    Script,
    chunk,
    completion,
    data,
    failing,
    named,
    respond,
    response,
    response_item,
    usage_chunk,
)


def chat_answer(canary: Canaries) -> dict[str, Any]:
    """Return an engine's answer."""
    return completion(canary("answer"), reasoning=canary("reasoning of an answer"))


def chat_events(canary: Canaries, tool: str) -> list[bytes]:
    """Return an engine's stream: reasoning, words and a call of ``tool``."""
    call = {"index": 0, "id": canary("id of a made call"), "type": "function"}
    made = {"name": tool, "arguments": json.dumps({"a": canary("made argument")})}
    return [
        ROLE,
        chunk({"reasoning": canary("streamed reasoning")}),
        f": {canary('comment')}\n\n".encode(),
        chunk({"content": canary("streamed answer")}),
        chunk({"tool_calls": [{**call, "function": made}]}),
        chunk({}, finish="tool_calls"),
        usage_chunk(),
        DONE,
    ]


def response_answer(canary: Canaries) -> dict[str, Any]:
    """Return an engine's response."""
    thought = {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": canary("reasoning of a response")}],
    }
    return response(thought, response_item("msg_1", canary("text of a response")))


def response_events(canary: Canaries) -> list[bytes]:
    """Return an engine's stream of a response."""
    text = canary("streamed text")
    return [
        named("created", response=response(status="in_progress")),
        named("output_item.added", output_index=0, item=response_item("msg_1", "")),
        named("output_text.delta", output_index=0, item_id="msg_1", content_index=0, delta=text),
        named("output_item.done", output_index=0, item=response_item("msg_1", text)),
        named("completed", response=response(response_item("msg_1", text))),
    ]


def failing_scripts(canary: Canaries) -> Iterable[Script]:
    """Return engines that fail before any word, in their own words."""
    for status, message in (
        (400, "1 validation error: input_value="),
        (400, "unexpected tokens remaining in message header: "),
        (404, "The model does not exist: "),
        (500, "EngineCore encountered an issue: "),
        (503, "queue full: "),
    ):
        error = {"message": message + canary(f"engine's {status}"), "param": canary("param"), "code": status}
        yield respond(status, {"error": error}, headers=f"x-debug: {canary('header of an engine')}\r\n")
    for status in (401, 404, 500, 502):
        yield respond(status, canary(f"text of a {status}"), content_type="text/plain")
    yield respond(200, canary("an answer that is no JSON"))
    yield respond(200, completion(f"<|channel|>analysis<|message|>{canary('leaked channel')}"))
    yield respond(200, completion(None, reasoning=canary("reasoning without an answer")))
    yield failing("reset")
    yield failing("close")
    yield _no_http(canary("no HTTP"))


def _no_http(words: str) -> Script:
    async def script(connection: Connection) -> None:
        await connection.send(words.encode() + b"\r\n\r\n")
        connection.close()

    return script


def broken_streams(canary: Canaries) -> Iterable[list[bytes]]:
    """Return streams that go wrong."""
    yield [ROLE, chunk({"content": canary("word before a cut")})]
    yield [ROLE, chunk({"reasoning": canary("thought before a cut")})]
    yield [f"data: {{{canary('no JSON')}\n\n".encode()]
    yield [data({"error": {"message": canary("error event"), "code": 500}})]
    yield [
        ROLE,
        chunk({"content": "Hel"}),
        data({"error": {"message": canary("late error event"), "code": 400}}),
    ]
    yield [ROLE, chunk({"content": f"<|channel|>analysis {canary('streamed channel')}"})]
    yield chat_events(canary, canary("a tool that was not offered"))
    yield [ROLE, chunk({"content": canary("aborted answer")}), chunk({}, finish="abort"), usage_chunk(), DONE]
    yield [ROLE, chunk({"reasoning": canary("thought alone")}), chunk({}, finish="stop"), usage_chunk(), DONE]
