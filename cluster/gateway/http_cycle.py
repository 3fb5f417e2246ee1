"""One request and its response on a connection: ASGI's ``receive`` and ``send``, and a shorter way.

A `Cycle` is the ``send`` of its request. The gateway's own application knows that it is more, and writes its
responses by plain calls: a message that is awaited costs a multiple of them, on every chunk. The headers are
all ours, so one count of line breaks over a head does for a check of each.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from itertools import chain
from typing import TYPE_CHECKING, Any

from starlette.types import Message, Receive, Scope
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT, FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from cluster.gateway.outbox import Outbox

if TYPE_CHECKING:
    from cluster.gateway.http_errors import RequestFailed

logger = logging.getLogger(__name__)

App = Callable[[Scope, Receive, "Cycle"], Awaitable[None]]
"""An application that takes the cycle for what it is; every ASGI application is one too."""

_CLOSE = (b"connection", b"close")
_CHUNKED = (b"transfer-encoding", b"chunked")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_LAST_CHUNK = b"0\r\n\r\n"
Headers = Iterable[tuple[bytes, bytes]]


class Cycle:
    """One request and its response. ``on_response`` is called once the response is complete.

    It never closes the connection at the end of a response: `HardenedProtocol.on_response_complete` does.
    """

    def __init__(
        self,
        scope: Scope,
        transport: asyncio.Transport,
        flow: FlowControl,
        loop: asyncio.AbstractEventLoop,
        outbox: Outbox,
        *,
        default_headers: list[tuple[bytes, bytes]],
        expect_100_continue: bool,
        keep_alive: bool,
        on_response: Callable[[], None],
    ) -> None:
        self.scope, self.transport, self._flow, self._loop = scope, transport, flow, loop
        self._outbox = outbox
        self._default_headers, self._on_response = default_headers, on_response
        self._expected = expect_100_continue
        self.keep_alive = keep_alive
        """Whether the connection may serve again after this response."""
        self.on_leave: Callable[[], None] | None = None
        """Called when the client is gone before its response is complete."""
        self.disconnected = False
        """Whether the client is gone; what is written to it is dropped."""
        self.response_started = self.response_complete = False
        self._failure: RequestFailed | None = None
        self._parts: list[bytes] = []
        self._held_bytes = 0
        self._whole = self._news = False
        self._waiter: asyncio.Future[None] | None = None
        self._head = b""
        """Of a response that has begun, until its first part is written."""
        self._chunked, self._left = False, 0

    async def run(self, app: App) -> None:
        """Let ``app`` answer."""
        try:
            await app(self.scope, self.receive, self)
        except Exception:
            logger.exception("the application failed")
            if not self.response_started:
                self.respond(500, [_CLOSE], b"")
        finally:
            if not self.response_complete and not self.disconnected:
                self.transport.close()

    # what the protocol calls

    def feed(self, data: bytes) -> None:
        """Take a part of the request's body."""
        self._parts.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > HIGH_WATER_LIMIT:
            self._flow.pause_reading()
        self._tell()

    def feed_eof(self) -> None:
        """Take the end of the request's body."""
        self._whole = True
        self._tell()

    def fail(self, failure: "RequestFailed") -> None:
        """Let who reads the rest of the body get ``failure`` in its place, and close after the answer."""
        self._failure, self.keep_alive = failure, False
        self._tell()

    def leave(self) -> None:
        """Tell the application that the client is gone."""
        if self.response_complete:
            return
        self.disconnected = True
        self._tell()
        if self.on_leave is not None:
            self.on_leave()

    # the request

    async def part(self) -> tuple[bytes, bool]:
        """Return the next part of the body and whether more follows; empty when the client is gone.

        Raises the body's failure.
        """
        if self._expected and not self.transport.is_closing():
            self.transport.write(_CONTINUE)
            self._expected = False
        if not self._news and not self.disconnected and not self.response_complete:
            self._flow.resume_reading()
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._news = False
        if self._failure is not None and not self.disconnected:
            raise self._failure
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts.clear()
        self._held_bytes = 0
        self._flow.resume_reading()
        return body, not self._whole

    async def receive(self) -> Message:
        """Return ASGI's message of the next part of the body, or of the client's leaving."""
        if not self.disconnected and not self.response_complete:
            body, more = await self.part()
            if not self.disconnected and not self.response_complete:
                return {"type": "http.request", "body": body, "more_body": more}
        return {"type": "http.disconnect"}

    # the response

    @property
    def behind(self) -> bool:
        """Whether the client has not read enough of what was written: wait until it has `caught_up`."""
        return self._flow.write_paused

    async def caught_up(self) -> None:
        """Return once the client has read enough, or is gone."""
        if self._flow.write_paused and not self.disconnected:
            await self._flow.drain()

    def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Write a whole response, with others of this turn of the loop; ``headers`` need no length."""
        self.begin(status, [*headers, (b"content-length", b"%d" % len(body))])
        if self.disconnected:
            return
        data = self._head if self.scope["method"] == "HEAD" else self._head + body
        if self.keep_alive:
            self._outbox.write(self.transport, data)
        else:  # the connection is closed at once
            self.transport.write(data)
        self._complete()

    def begin(self, status: int, headers: Headers) -> None:
        """Begin a response; its head goes out with its first part."""
        if self.response_started:
            raise RuntimeError("a response has begun already")
        self.response_started, self._expected = True, False
        headers = [*self._default_headers, *headers]
        given = dict(headers)
        self._left = int(given.get(b"content-length", -1))
        if given.get(b"connection") == b"close":
            self.keep_alive = False
        if self.scope["method"] == "HEAD":
            self._left = 0
        elif self._left < 0 and self.scope["http_version"] != "1.0":
            self._chunked = True
            headers.append(_CHUNKED)
        if not self.keep_alive and _CLOSE not in headers:
            headers.append(_CLOSE)
        lines = len(headers)
        head = (b"%b" + b"%b: %b\r\n" * lines + b"\r\n") % (
            STATUS_LINE[status],
            *chain.from_iterable(headers),
        )
        if not head.count(b"\n") == head.count(b"\r") == lines + 2:
            raise RuntimeError("a response header holds a line break")
        self._head = head

    def write(self, data: bytes) -> None:
        """Write a part of the response; nothing once the client is gone."""
        if self.disconnected or not data or self.scope["method"] == "HEAD":
            return
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        elif self._left >= 0:
            self._left -= len(data)
            if self._left < 0:
                raise RuntimeError("the response is longer than its content-length")
        if self._head:
            data, self._head = self._head + data, b""
        self.transport.write(data)

    def end(self) -> None:
        """End the response."""
        if self.disconnected:
            return
        if self.response_complete or not self.response_started:
            raise RuntimeError("no response is under way")
        if self._left > 0:
            raise RuntimeError("the response is shorter than its content-length")
        rest = self._head + _LAST_CHUNK if self._chunked else self._head
        if rest:
            self.transport.write(rest)
        self._complete()

    async def __call__(self, message: Any) -> None:
        """Take an ASGI message, once the client has read enough of what went before."""
        await self.caught_up()
        if self.disconnected:
            return
        if message["type"] == "http.response.start":
            self.begin(message["status"], message.get("headers", ()))
            return
        self.write(message.get("body", b""))
        if not message.get("more_body", False):
            self.end()

    def _complete(self) -> None:
        self._head, self.response_complete = b"", True
        self._tell()
        self._on_response()

    def _tell(self) -> None:
        self._news = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
