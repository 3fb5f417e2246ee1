"""The edge of a replica: who gets in, what is added, and when usage is reported."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from cluster.core import hint
from cluster.core.engine import EngineLoad, StreamUsage, parse_load, parse_usage
from cluster.serving.meter import UNHINTED_TOKENS, Ledger, current
from cluster.serving.middleware import ROUTES, EngineEdge, Message, Receive, Scope, Send

KEY = "engine-key"
CHAT = "/v1/chat/completions"
SSE = [(b"content-type", b"text/event-stream; charset=utf-8")]
Handler = Callable[[Scope, Receive, Send], Awaitable[None]]


class Clock:
    """Stands in for ``asyncio.sleep``: each sleep lasts until `tick`."""

    def __init__(self) -> None:
        self._sleepers: list[asyncio.Future[None]] = []

    async def sleep(self, seconds: float) -> None:
        """Wait for the next tick."""
        del seconds
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append(sleeper)
        await sleeper

    async def tick(self) -> None:
        """End the sleeps and let the sleepers act."""
        for _ in range(3):
            await asyncio.sleep(0)
        sleepers, self._sleepers = self._sleepers, []
        for sleeper in sleepers:
            if not sleeper.done():
                sleeper.set_result(None)
        for _ in range(3):
            await asyncio.sleep(0)


class Replica:
    """An edge around ``handler``, and what it has sent."""

    def __init__(self, handler: Handler) -> None:
        self.clock = Clock()
        self.ledger = Ledger(slots=8)
        self.sent: list[Message] = []
        self.edge = EngineEdge(handler, key=KEY, replica="r1", ledger=self.ledger, sleep=self.clock.sleep)

    async def call(self, path: str, *, method: str = "POST", **headers: str) -> int:
        """Call and return the status."""
        given = {"authorization": f"Bearer {KEY}", **headers}
        pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()]
        scope = {"type": "http", "path": path, "root_path": "", "method": method, "headers": pairs}
        await self.edge(scope, self._receive, self._send)
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        """Headers of the answer."""
        return dict(self.sent[0]["headers"])

    @property
    def comments(self) -> list[StreamUsage]:
        """Usage comments so far."""
        parsed = (parse_usage(message.get("body", b"")) for message in self.sent)
        return [usage for usage in parsed if usage is not None]

    async def _receive(self) -> Message:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def _send(self, message: Message) -> None:
        self.sent.append(message)


async def ok(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 200 to anything."""
    del scope, receive
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1")]})
    await send({"type": "http.response.body", "body": b"{}"})


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "Bearer engine-ke", "Bearer engine-keyy", "bearer engine-key", "engine-key"],
)
@pytest.mark.parametrize("path", [*ROUTES, "/invocations", "/metrics"])
async def test_every_route_demands_the_key(path: str, authorization: str) -> None:
    """Also those that vLLM itself leaves open; nothing reaches the engine."""

    async def never(*_: Any) -> None:
        raise AssertionError("the engine was reached")

    replica = Replica(never)
    method = ROUTES.get(path, "POST")
    assert await replica.call(path, method=method, authorization=authorization) == 401


@pytest.mark.parametrize(("path", "method"), ROUTES.items())
async def test_listed_routes_pass(path: str, method: str) -> None:
    """Each with its one method."""
    assert await Replica(ok).call(path, method=method) == 200


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/invocations", "POST"),
        ("/tokenize", "POST"),
        ("/v1/completions", "POST"),
        ("/v1/chat/completions/render", "POST"),
        ("/v1/responses/resp_1", "GET"),
        ("/v1/chat/completions/", "POST"),
        ("/v1//chat/completions", "POST"),
        ("/metrics", "GET"),
        ("/docs", "GET"),
    ],
)
async def test_anything_else_is_404(path: str, method: str) -> None:
    """VLLM's other routes, other spellings and other methods do not exist."""
    assert await Replica(ok).call(path, method=method) == 404


async def test_the_prefix_of_the_application_does_not_count() -> None:
    """Serve passes the whole path with its root path."""
    replica = Replica(ok)
    headers = [(b"authorization", f"Bearer {KEY}".encode())]
    scope = {
        "type": "http",
        "root_path": "/pool",
        "path": "/pool/v1/models",
        "method": "GET",
        "headers": headers,
    }
    await replica.edge(scope, replica._receive, replica._send)
    assert replica.sent[0]["status"] == 200


async def test_a_websocket_is_refused() -> None:
    """VLLM has realtime routes; ours has none."""
    replica = Replica(ok)
    with pytest.raises(ValueError, match="HTTP only"):
        await replica.edge({"type": "websocket"}, replica._receive, replica._send)


async def test_every_answer_names_the_replica_and_its_load() -> None:
    """Refusals too; the engine's own headers stay, and the request itself counts as waiting."""
    replica = Replica(ok)
    await replica.call(CHAT)
    assert replica.headers[b"x-engine-replica"] == b"r1"
    assert replica.headers[b"x-own"] == b"1"
    assert parse_load(replica.headers[b"x-engine-load"].decode()) == EngineLoad(0, 1, 0.0, 8)
    refused = Replica(ok)
    await refused.call(CHAT, authorization="")
    assert refused.headers[b"x-engine-replica"] == b"r1"


async def test_expected_tokens_come_from_the_hint() -> None:
    """While the request runs it counts with the hint's effort and tokens, and not at all afterwards."""
    seen: list[tuple[str, int]] = []

    async def look(scope: Scope, receive: Receive, send: Send) -> None:
        stats = replica.ledger.routing_stats()
        (effort,) = (effort for effort, count in stats["by_effort"].items() if count)
        seen.append((effort, stats["expected_tokens"]))
        await ok(scope, receive, send)

    replica = Replica(look)
    told = hint.render(hint.RouteHint(effort="high", expected_output_tokens=7777, prompt_tokens=1))
    await replica.call(CHAT, x_route_hint=told)
    await replica.call(CHAT, x_route_hint="v=9;nonsense")
    await replica.call(CHAT)
    assert seen == [("high", 7777), ("medium", UNHINTED_TOKENS), ("medium", UNHINTED_TOKENS)]
    assert replica.ledger.expected_tokens == 0


async def test_the_gateways_queue_comes_from_the_hint() -> None:
    """It is known for some seconds, though the request that told of it has ended."""
    replica = Replica(ok)
    told = hint.RouteHint("low", expected_output_tokens=1, prompt_tokens=1, queued_tokens=5000)
    await replica.call(CHAT, x_route_hint=hint.render(told))
    assert replica.ledger.scaling_stats()["queued_tokens"] == 5000


async def test_a_failing_engine_closes_the_meter() -> None:
    """Load must not grow with errors."""

    async def fail(*_: Any) -> None:
        raise RuntimeError("engine")

    replica = Replica(fail)
    with pytest.raises(RuntimeError):
        await replica.call(CHAT)
    assert replica.ledger.load == EngineLoad(0, 0, 0.0, 8)


def streaming(steps: Callable[[Send, "Replica"], Awaitable[None]]) -> Replica:
    """Return a replica whose engine opens an event stream and then does ``steps``."""

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        await send({"type": "http.response.start", "status": 200, "headers": SSE})
        await steps(send, replica)

    replica = Replica(stream)
    return replica


def generate(count: int) -> None:
    """Have the engine of the request at hand generate ``count`` tokens of reasoning."""
    meter = current.get()
    assert meter is not None
    header = [] if meter.usage.prompt else [200005, 35644, 200008]
    meter.add(10, 0, [*header, *[1] * count])


async def test_hidden_reasoning_is_reported_while_it_runs() -> None:
    """A stream that is silent because its reasoning is hidden still says how far it is."""

    async def think(send: Send, replica: Replica) -> None:
        generate(5)
        await replica.clock.tick()
        generate(7)
        await replica.clock.tick()
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    replica = streaming(think)
    await replica.call(CHAT)
    assert replica.comments == [StreamUsage(10, 5, 3), StreamUsage(10, 12, 3)]


async def test_nothing_is_reported_before_the_first_token() -> None:
    """A queued request has no usage, and a comment would commit the gateway to an answer."""

    async def queue(send: Send, replica: Replica) -> None:
        await replica.clock.tick()
        await send({"type": "http.response.body", "body": b""})

    replica = streaming(queue)
    await replica.call(CHAT)
    assert replica.comments == []


async def test_the_same_usage_is_not_repeated() -> None:
    """A stalled engine gives no comment: only generation keeps the connection alive."""

    async def stall(send: Send, replica: Replica) -> None:
        generate(5)
        await replica.clock.tick()
        await replica.clock.tick()
        await send({"type": "http.response.body", "body": b""})

    replica = streaming(stall)
    await replica.call(CHAT)
    assert len(replica.comments) == 1


async def test_no_comment_follows_the_end() -> None:
    """The last event is the last thing sent."""

    async def finish(send: Send, replica: Replica) -> None:
        generate(5)
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
        await replica.clock.tick()

    replica = streaming(finish)
    await replica.call(CHAT)
    assert replica.sent[-1]["body"] == b"data: [DONE]\n\n"


async def test_plain_answers_carry_no_comment() -> None:
    """A comment inside JSON would break it."""

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", b"application/json")],
            }
        )
        generate(5)
        await replica.clock.tick()
        await send({"type": "http.response.body", "body": b"{}"})

    replica = Replica(slow)
    await replica.call(CHAT)
    assert replica.comments == []
