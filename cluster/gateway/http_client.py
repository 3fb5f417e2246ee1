"""A lean HTTP/1.1 client for the hot path: POST to one origin over kept connections, answers in raw pieces.

It knows what engines send and no more: no redirects, cookies, compression or proxies. aiohttp's client does
the same for several times the CPU (docs/decisions/0008).
"""

import asyncio
import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, cast
from urllib.parse import urlsplit

import httptools

from cluster.gateway.outbox import Outbox

CONNECT_TIMEOUT_S = 5.0
"""Whoever accepts no connection for so long, on the same network, is gone."""
KEEPALIVE_S = 4.0
"""Seconds an idle connection is kept: less than uvicorn's 5, so that the engine seldom closes one first."""
HIGH_WATER_BYTES = 256 * 1024
"""Answer bytes held for a slow reader before the socket is no longer read."""
_INFORMATIONAL, _SWITCHING = range(100, 200), 101


Sink = Callable[[bytes], bool]
"""Takes a piece of a body; returns whether it wants more."""


class Unreachable(Exception):  # noqa: N818  what the peer is
    """No connection could be made."""


class ConnectionBroken(Exception):  # noqa: N818  what happened
    """The connection ended before the answer did, or what came is not HTTP."""


class _Parser(Protocol):
    """httptools' response parser, which has no types."""

    def feed_data(self, data: bytes) -> None: ...
    def get_status_code(self) -> int: ...
    def should_keep_alive(self) -> bool: ...


class Connection(asyncio.Protocol):
    """One connection and the answer on it; ``release`` takes it back once it is whole."""

    def __init__(self, release: "Callable[[Connection], None]", outbox: Outbox) -> None:
        self._release, self._outbox = release, outbox
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._waiter: asyncio.Future[None] | None = None
        self._parts: list[bytes] = []
        self._held_bytes = 0
        self._paused = self._headed = self._framed = self._whole = self._reusable = False
        self._sink: Sink | None = None
        self._sink_error: Exception | None = None
        self._between_chunks = False
        self._parser: _Parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        """Of the answer, names in lower case."""
        self._idle_since_s = 0.0
        self.open = False
        """Whether a request can be sent on it."""

    @property
    def fresh(self) -> bool:
        """Whether it is open and was given back so lately that the peer still keeps it."""
        return self.open and self._loop.time() - self._idle_since_s < KEEPALIVE_S

    # what the relay calls

    async def request(self, head: bytes, body: bytes) -> None:
        """Send a request and wait for the head of its answer. Raises `ConnectionBroken`."""
        self.headers = {}
        self._headed = self._framed = self._whole = self._reusable = self._between_chunks = False
        self._outbox.write(self._transport, head + body)
        while not self._headed:
            await self._wait()

    async def piece(self) -> bytes:
        """Return what has come of the body, empty at its end. Raises `ConnectionBroken`."""
        while not self._parts:
            if self._whole:
                return b""
            await self._wait()
        return self._take()

    async def pour(self, sink: Sink) -> bool:
        """Give ``sink`` what comes of the body as it comes, until it wants no more or the body ends.

        Returns whether the body has ended. Raises `ConnectionBroken`, and what ``sink`` raises.
        """
        self._sink, self._sink_error = sink, None
        try:
            if self._parts:
                self._pour(self._take())
            while self._sink is not None and not self._whole:
                await self._wait()
        finally:
            self._sink = None
        if self._sink_error is not None:
            raise self._sink_error
        return self._whole and not self._parts

    def leave(self) -> None:
        """Be done with the answer: keep the connection if it can serve again, else cut it."""
        if self.open and self._whole and self._reusable and not self._parts:
            self._idle_since_s = self._loop.time()
            self._release(self)
        else:
            self.cut()

    def cut(self) -> None:
        """Close at once; the peer sees that nobody reads any more."""
        self.open = False
        self._transport.abort()

    # what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start."""
        self._transport, self.open = cast(asyncio.Transport, transport), True  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        """Parse, unless it is one chunk and all of it, as engines write each event of a stream."""
        if self._between_chunks and self._sink is not None and (body := _one_chunk(data)):
            self._pour(body)
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.cut()
        if self._sink is not None:
            if self._parts:
                self._pour(self._take())
        elif self._held_bytes > HIGH_WATER_BYTES and not self._paused and self.open:
            self._paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """End; a body without a length ends here as it should."""
        self.open = False
        if self._headed and not self._framed and exc is None:
            self._whole = True
        self._wake()

    # what the parser calls

    def on_message_begin(self) -> None:
        """Refuse an answer that nobody asked for."""
        if self._whole:
            raise ConnectionBroken

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header of the answer."""
        self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """Note the head, unless another follows."""
        status = self._parser.get_status_code()
        if status in _INFORMATIONAL and status != _SWITCHING:
            self.headers.clear()
            return
        self.status, self._headed = status, True
        self._between_chunks = b"transfer-encoding" in self.headers
        self._framed = self._between_chunks or b"content-length" in self.headers

    def on_chunk_header(self) -> None:
        """Begin a chunk."""
        self._between_chunks = False

    def on_chunk_complete(self) -> None:
        """End a chunk."""
        self._between_chunks = not self._whole

    def on_body(self, data: bytes) -> None:
        """Hold a part of the body."""
        self._parts.append(data)
        self._held_bytes += len(data)

    def on_message_complete(self) -> None:
        """Note the end of the answer."""
        if self._headed:
            self._whole, self._reusable = True, self._parser.should_keep_alive()

    def _take(self) -> bytes:
        parts = self._parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._held_bytes = 0
        if self._paused:
            self._paused = False
            self._transport.resume_reading()
        return data

    def _pour(self, data: bytes) -> None:
        assert self._sink is not None
        try:
            if self._sink(data):
                return
        except Exception as error:
            self._sink_error = error
        self._sink = None
        self._wake()

    async def _wait(self) -> None:
        if not self.open:
            raise ConnectionBroken
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Exchange:
    """One request and its answer; leave the context early to cancel the request at the peer."""

    def __init__(self, client: "Client", head: bytes, body: bytes) -> None:
        self._client, self._head, self._body = client, head, body
        self._connection: Connection

    async def __aenter__(self) -> Connection:
        """Send. Raises `Unreachable` and `ConnectionBroken`."""
        self._connection = connection = self._client.kept() or await self._client.connect()
        try:
            await connection.request(self._head, self._body)
        except BaseException:
            connection.cut()
            raise
        return connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Keep or cut the connection."""
        self._connection.leave()


class Client:
    """Connections to one origin (``http[s]://host[:port]``), made when needed and kept for a while."""

    def __init__(self, origin: str) -> None:
        parts = urlsplit(origin)
        secure = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port or (443 if secure else 80)
        self._tls = ssl.create_default_context() if secure else None
        self._idle: list[Connection] = []
        self._outbox = Outbox()
        self.authority = parts.netloc
        """Value of the ``host`` header."""

    def post(self, head: bytes, body: bytes) -> Exchange:
        """Return the exchange for a request; ``head`` is everything up to the length of the body."""
        return Exchange(self, b"%bcontent-length: %d\r\n\r\n" % (head, len(body)), body)

    def kept(self) -> Connection | None:
        """Return the open connection that was used last, if it is fresh."""
        while self._idle:
            connection = self._idle.pop()
            if connection.fresh:
                return connection
            connection.cut()
        return None

    async def connect(self) -> Connection:
        """Return a new connection. Raises `Unreachable`."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, made = await loop.create_connection(
                    lambda: Connection(self._idle.append, self._outbox), self._host, self._port, ssl=self._tls
                )
        except (OSError, TimeoutError) as error:
            raise Unreachable(f"{self.authority}: {error}") from error
        return made

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().cut()


def _one_chunk(data: bytes) -> bytes:
    """Return the body of ``data`` that is one chunk of a body and all of it; empty for anything else."""
    line = data.find(b"\r\n", 0, 12)
    size = data[:line]
    if line > 0 and size.isalnum() and data.endswith(b"\r\n"):
        try:
            if int(size, 16) == len(data) - line - 4:
                return data[line + 2 : -2]
        except ValueError:
            pass  # the parser says what is wrong with it
    return b""
