"""The edge of a replica around vLLM's own app: who may call what, and what the gateway is told besides.

Pure ASGI. vLLM's ``api_key`` guards some routes only, and replicas answer on ports of their own, too.
"""

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from cluster.core import hint
from cluster.core.engine import (
    LOAD_HEADER,
    REPLICA_HEADER,
    USAGE_COMMENT_EVERY_S,
    StreamUsage,
    render_load,
    render_usage,
)
from cluster.serving.meter import UNHINTED_TOKENS, Ledger, Meter, current

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Sleep = Callable[[float], Awaitable[None]]

ROUTES = {
    "/v1/chat/completions": "POST",
    "/v1/responses": "POST",
    "/v1/models": "GET",
    "/health": "GET",
}
"""All that the gateway may ask; vLLM has thirty more. Serve answers its own health checks before this app."""
COMMENT_INTERVAL_S = USAGE_COMMENT_EVERY_S / 2
"""Twice as often as promised, so that a late timer keeps the promise."""


class EngineEdge:
    """Checks key and path, marks answers with the replica and its load, reports usage in streams."""

    def __init__(
        self, app: App, *, key: str, replica: str, ledger: Ledger, sleep: Sleep = asyncio.sleep
    ) -> None:
        """Guard ``app`` with ``key``; ``replica`` is the value of ``x-engine-replica``."""
        self._app = app
        self._authorization = f"Bearer {key}".encode()
        self._replica = replica.encode()
        self._ledger = ledger
        self._sleep = sleep

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"the replica serves HTTP only, not {scope['type']!r}")
        headers = dict(scope["headers"])
        path = scope["path"].removeprefix(scope.get("root_path", "").rstrip("/"))
        if not hmac.compare_digest(headers.get(b"authorization", b""), self._authorization):
            await self._refuse(send, 401, {"error": "Unauthorized"})
        elif path not in ROUTES:
            await self._refuse(send, 404, {"detail": "Not Found"})
        elif scope["method"] != ROUTES[path]:
            await self._refuse(send, 405, {"detail": "Method Not Allowed"})
        elif scope["method"] == "GET":
            await self._app(scope, receive, self._marking(send))
        else:
            await self._generate(scope, receive, send, headers)

    async def _generate(
        self, scope: Scope, receive: Receive, send: Send, headers: dict[bytes, bytes]
    ) -> None:
        told = hint.parse(headers.get(hint.HEADER.encode(), b"").decode("latin-1"))
        meter = (
            self._ledger.open(told.expected_output_tokens, told.effort, queued_tokens=told.queued_tokens)
            if told
            else self._ledger.open(UNHINTED_TOKENS)
        )
        token = current.set(meter)
        stream = _Reporting(self._marking(send), meter, self._ledger, self._sleep)
        try:
            await self._app(scope, receive, stream.send)
        finally:
            stream.stop()
            current.reset(token)
            self._ledger.close(meter)

    def _marking(self, send: Send) -> Send:
        async def mark(message: Message) -> None:
            if message["type"] == "http.response.start":
                load = render_load(self._ledger.load).encode()
                own = [(REPLICA_HEADER.encode(), self._replica), (LOAD_HEADER.encode(), load)]
                message = {**message, "headers": [*message.get("headers", ()), *own]}
            await send(message)

        return mark

    async def _refuse(self, send: Send, status: int, error: dict[str, str]) -> None:
        """Answer in vLLM's own words, which the gateway translates like all that replicas say."""
        body = json.dumps(error).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await self._marking(send)({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class _Reporting:
    """Writes usage comments between a stream's events, from its first token to its last."""

    def __init__(self, send: Send, meter: Meter, ledger: Ledger, sleep: Sleep) -> None:
        self._send = send
        self._meter, self._ledger = meter, ledger
        self._sleep = sleep
        self._task: asyncio.Task[None] | None = None

    async def send(self, message: Message) -> None:
        """Pass a message on; vLLM writes whole events, so a comment may stand between any two."""
        if message["type"] == "http.response.start" and _is_event_stream(message):
            self._task = asyncio.create_task(self._report())
        elif not message.get("more_body", False):
            self.stop()
        await self._send(message)

    def stop(self) -> None:
        """Write no more comments."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _report(self) -> None:
        said: StreamUsage | None = None
        while True:
            await self._sleep(COMMENT_INTERVAL_S)
            usage = self._meter.usage
            if usage.prompt and usage != said:
                said = usage
                comment = render_usage(usage, self._ledger.load)
                await self._send({"type": "http.response.body", "body": comment, "more_body": True})


def _is_event_stream(message: Message) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(b"text/event-stream")
        for name, value in message.get("headers", ())
    )
