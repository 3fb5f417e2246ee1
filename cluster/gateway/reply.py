"""The response to one client: the only place that writes to it."""

import asyncio
from collections.abc import Callable

from starlette.types import Message, Send

from cluster.gateway.exchange import Exchange
from cluster.gateway.headers import response_headers
from cluster.gateway.http_errors import ClientGone, Header, RequestFailed
from cluster.gateway.sse import KEEP_ALIVE

_EVENT_STREAM: list[Header] = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # or nginx holds events back
]


class Reply:
    """Writes the response of ``exchange``; ``now`` is the monotonic clock, in seconds."""

    def __init__(self, exchange: Exchange, send: Send, now: Callable[[], float]) -> None:
        self._exchange, self._asgi_send, self._now = exchange, send, now
        self._lock = asyncio.Lock()
        self.failure_event: Callable[[RequestFailed], bytes] | None = None
        """How a stream that has begun tells its client of a failure."""

    async def whole(
        self, status: int, body: bytes, *, headers: tuple[Header, ...] | list[Header] = ()
    ) -> None:
        """Send a JSON body and be done."""
        exchange = self._exchange
        exchange.status = status
        exchange.shown = exchange.finished = True
        common = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        known = response_headers(exchange, now_s=self._now())
        await self._send(
            {"type": "http.response.start", "status": status, "headers": common + known + [*headers]}
        )
        await self._send({"type": "http.response.body", "body": body})

    async def write(self, events: bytes) -> None:
        """Send whole events, and the head before the first."""
        self._exchange.shown = True
        await self._write(events)

    async def beat(self) -> None:
        """Send a comment, and the head before it; nothing while the client has yet to take what is due."""
        if not self._lock.locked():
            await self._write(KEEP_ALIVE)

    async def end(self, events: bytes = b"") -> None:
        """Send the last events of a stream, and its end."""
        if events:
            await self.write(events)
        self._exchange.finished = True
        await self._send({"type": "http.response.body", "body": b""})

    async def fail(self, failure: RequestFailed) -> None:
        """Tell the client: with a status of its own, or with an event once a stream has begun."""
        if self._exchange.finished:
            return
        if not self._exchange.committed:
            await self.whole(failure.status, failure.body, headers=[*failure.retry_headers, *failure.headers])
        elif self.failure_event is not None:
            await self.end(self.failure_event(failure))

    async def _write(self, data: bytes) -> None:
        exchange = self._exchange
        async with self._lock:  # a keep-alive must not overtake the head
            if exchange.finished:
                return
            if exchange.status is None:
                exchange.status = 200
                headers = _EVENT_STREAM + response_headers(exchange, now_s=self._now())
                await self._send({"type": "http.response.start", "status": 200, "headers": headers})
            await self._send({"type": "http.response.body", "body": data, "more_body": True})
            exchange.last_write_s = self._now()

    async def _send(self, message: Message) -> None:
        try:
            await self._asgi_send(message)
        except OSError as error:
            raise ClientGone from error
