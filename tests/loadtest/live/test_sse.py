"""Streams as a client reads them: the simulated engine's own, and the shapes of failure."""

import asyncio
import json
from typing import Any

import pytest

from cluster.serving.sim import create_app
from cluster.serving.sim.clock import Clock
from cluster.settings import SimulatedEngine
from loadtest.live.sse import Answer, ChatReader, Reader, ResponsesReader, Seen, payload, refusal

MESSAGES = [{"role": "user", "content": "Why is the sea salty?"}]
TOOL = {"name": "lookup", "parameters": {"type": "object", "properties": {"number": {"type": "string"}}}}


class Instant(Clock):
    """A clock by which nothing takes time."""

    def monotonic(self) -> float:
        """Return no time."""
        return 0.0

    def epoch(self) -> float:
        """Return no time."""
        return 0.0

    async def sleep(self, seconds: float) -> None:
        """Let others run."""
        await asyncio.sleep(0)


async def stream(path: str, body: dict[str, Any]) -> list[bytes]:
    """Return the events of the simulated engine's answer."""
    app = create_app(SimulatedEngine(), model="gpt-oss-120b", replica="r", engine_key=None, clock=Instant())
    sent, asked = [], asyncio.Event()

    async def receive() -> dict[str, Any]:
        if asked.is_set():
            await asyncio.Event().wait()
        asked.set()
        return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "headers": [(b"content-type", b"application/json")],
    }
    await app(scope, receive, send)
    return [event + b"\n\n" for event in b"".join(sent).split(b"\n\n") if event]


def read(reader: Reader, events: list[bytes]) -> tuple[list[Seen], Answer]:
    """Return what each event showed, and the answer."""
    return [reader.event(event) for event in events], reader.answer


async def test_a_chat_stream() -> None:
    """It begins, thinks, answers and ends; text and usage are those of the stream."""
    body = {"model": "gpt-oss-120b", "messages": MESSAGES, "stream": True, "reasoning_effort": "low"}
    events = await stream("/v1/chat/completions", {**body, "stream_options": {"include_usage": True}})
    seen, answer = read(ChatReader(), events)
    assert seen[0] == "begun"
    assert seen[-1] == "end"
    assert set(seen[1:-1]) == {"reasoning", "answer", ""}
    assert answer.complete
    assert "simulated gpt-oss-120b" in "".join(answer.text)
    assert answer.reasoning_tokens == seen.count("reasoning")
    assert answer.output_tokens > seen.count("reasoning") + seen.count("answer")
    assert answer.fingerprint == "vllm-0.29.0-simulated"


async def test_a_call() -> None:
    """Its parts become one call."""
    body = {"model": "gpt-oss-120b", "messages": MESSAGES, "stream": True, "reasoning_effort": "low"}
    tools = [{"type": "function", "function": TOOL}]
    seen, answer = read(ChatReader(), await stream("/v1/chat/completions", {**body, "tools": tools}))
    assert "call" in seen
    assert answer.complete
    assert answer.call is not None
    assert answer.call.name == "lookup"
    assert "number" in json.loads(answer.call.arguments)
    assert answer.call.id.startswith("chatcmpl-tool-")


async def test_a_responses_stream() -> None:
    """What says only that it is accepted shows nothing; then it begins, thinks, answers and ends."""
    body = {
        "model": "gpt-oss-120b",
        "input": "Why is the sea salty?",
        "stream": True,
        "reasoning": {"effort": "low"},
    }
    events = await stream("/v1/responses", body)
    seen, answer = read(ResponsesReader(), events)
    assert seen[:3] == ["", "", "begun"]
    assert seen[-1] == "end"
    assert {"reasoning", "answer"} < set(seen)
    assert answer.complete
    assert answer.output_tokens > answer.reasoning_tokens > 0


@pytest.mark.parametrize(
    ("events", "complete", "error"),
    [
        ([b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'], False, ""),
        ([b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n', b"data: [DONE]\n\n"], False, ""),
        (
            [
                b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n',
                b'data: {"error":{"code":"upstream_broken"}}\n\n',
                b"data: [DONE]\n\n",
            ],
            False,
            "upstream_broken",
        ),
        ([b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n', b"data: [DONE]\n\n"], True, ""),
    ],
    ids=["cut", "no finish", "error", "whole"],
)
def test_only_a_whole_chat_stream_is_complete(events: list[bytes], complete: bool, error: str) -> None:
    """A clean end is none without a finish, nor after an error."""
    _, answer = read(ChatReader(), events)
    assert (answer.complete, answer.error) == (complete, error)


@pytest.mark.parametrize(
    "event",
    [
        b'event: error\ndata: {"type":"error","code":"upstream_broken"}\n\n',
        b'data: {"type":"response.failed","response":{"error":{"code":"upstream_broken"}}}\n\n',
        b'data: {"error":{"code":"upstream_broken"}}\n\n',
    ],
)
def test_a_failed_response_tells_its_code(event: bytes) -> None:
    """Each of the forms in which one may fail."""
    seen, answer = read(ResponsesReader(), [event])
    assert (seen, answer.error, answer.complete) == (["error"], "upstream_broken", False)


def test_comments_show_nothing() -> None:
    """A keep-alive is no sign of an answer."""
    assert payload(b": wait\n\n") == b""
    assert ChatReader().event(b": wait\n\n") == ""


def test_what_is_no_json_is_an_error() -> None:
    """It is a ``ValueError``, which a user counts as a failure."""
    with pytest.raises(ValueError, match="unexpected character"):
        ChatReader().event(b"data: {not json\n\n")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b'{"error":{"code":"rate_limit_exceeded","message":"secret"}}', "rate_limit_exceeded"),
        (b'{"error":{"code":null,"type":"server_error"}}', "server_error"),
        (b"<html>", "status 503"),
        (b"[]", "status 503"),
    ],
)
def test_a_refusal_tells_its_code_only(body: bytes, told: str) -> None:
    """The words of an error stay out of the results."""
    assert refusal(body, 503) == told
