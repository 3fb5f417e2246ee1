"""HTTP/1.1 as the gateway accepts it: what the parser lets through and a server must not.

A client that is too slow, too large, ambiguous or asks for another protocol is refused here, before ASGI. A
refusal is a request like any other: it is queued behind the answers that are due, answered in OpenAI's error
body, counted and logged by the same code. After it nothing more is read and the connection ends.

No target is ever decoded or normalised: routes are matched as the bytes that the client sent.

Times are kept as one deadline per connection, which `HttpServer` compares with its clock now and then; a
request that arrives whole costs no timer.
"""

import asyncio
import math
import re
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import httptools
from starlette.types import Scope
from uvicorn._types import ASGIVersions
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from cluster.gateway.http_cycle import App, Cycle
from cluster.gateway.http_errors import BadRequest, RequestFailed
from cluster.gateway.outbox import Outbox
from cluster.settings import HttpSettings

MAX_HEAD_BYTES = 16 * 1024
"""Largest head of a request: its first line and its headers, and as much of a chunked body's framing."""
MAX_HEADERS = 100
"""Most headers of a request."""
MAX_TARGET_BYTES = 2048
"""Longest path and query: the longest path of ours takes less than 200."""
MAX_PIPELINED = 8
"""Requests that may wait behind the one being answered; later ones are not read, and the connection ends."""
WRITE_BUFFER_BYTES = 64 * 1024
"""Bytes written that the client has not taken, beyond which ``send`` waits."""
LINGER_S = 2.0
"""Seconds for which what still arrives is thrown away after a last answer. Closing at once would reset the
connection of a client that is still sending, and lose it the answer."""

Refusing = Callable[[RequestFailed], App]
"""Makes the application that answers, counts and logs one refused request."""

_IDLE, _HEAD, _BODY = range(3)
"""What arrives next: a new request, the rest of a head, the rest of a body."""

_ASGI: ASGIVersions = {"version": "3.0", "spec_version": "2.3"}
_HOST = re.compile(rb"(?:[A-Za-z0-9._~-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?[ \t]*")
_WATCHED = frozenset((b"host", b"transfer-encoding", b"expect"))


class _Stop(Exception):  # noqa: N818  no error: it ends the parsing
    """Read no further; ``failure`` is the client's answer, None where one is under way."""

    def __init__(self, failure: RequestFailed | None = None) -> None:
        super().__init__()
        self.failure = failure


class HardenedProtocol(HttpToolsProtocol):
    """One connection of a client.

    ``refusing`` makes the answer to a request that is refused here; ``last_call`` tells whether a request
    that comes now is the connection's last.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        http: HttpSettings,
        outbox: Outbox,
        refusing: Refusing,
        last_call: Callable[[], bool],
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=False)
        self._http, self._outbox, self._refusing, self._last_call = http, outbox, refusing, last_call
        self._stage = _IDLE
        self._room = MAX_HEAD_BYTES
        """Bytes that the head may still have, or the framing of a body before its next byte."""
        self._begun = 0
        """Requests that the last piece of data has begun."""
        self._body_bytes = 0
        """Bytes of a body that the last data had."""
        self._hosts = 0
        self._chunked = False
        self._deaf = False
        """Whether all that arrives is thrown away."""
        self._latest: Cycle | None = None
        self._running: Cycle | None = None
        self._queue: deque[tuple[Cycle, App]] = deque()
        """Requests behind the one being answered."""
        self.deadline_s = math.inf
        """Loop time at which patience with the client ends."""

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin; a client that says nothing is left after the time for a head."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self.deadline_s = self.loop.time() + self._http.header_timeout_s

    def connection_lost(self, exc: Exception | None) -> None:
        """End; what runs learns of it, and what waits never begins."""
        self._queue.clear()
        self.connections.discard(self)
        self.flow.resume_writing()
        if self._running is not None:
            self._running.leave()
        if exc is None:
            self.transport.close()
        self.parser = None  # type: ignore[assignment]  # it refers back to this

    def shutdown(self) -> None:
        """Close once the answer that is due is out."""
        if self._latest is None or self._latest.response_complete:
            self._close()
        else:
            self._latest.keep_alive = False

    def eof_received(self) -> None:
        """Take the end of the client's data for its leaving, as HTTP cannot tell the two apart."""
        self._outbox.flush()  # the event loop closes next
        if self._running is not None and not self._running.response_complete:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Parse what arrived."""
        if self._deaf:
            return
        try:
            self._parse(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._stop(error)
            return
        if self._stage == _BODY:
            self._progress(len(data))

    def retire(self) -> None:
        """Serve nothing beyond what has come: close now, or after the last answer that is due."""
        if not self._finished() and self._latest is not None:
            self._latest.keep_alive = False
        elif self._stage == _IDLE:
            self._close()

    def expire(self, now_s: float) -> None:
        """Act on a deadline that has passed."""
        if self._deaf or self.transport.is_closing():
            self.transport.abort()
        elif self.flow.read_paused:  # the client waits for us
            self.deadline_s = now_s + self._http.body_timeout_s
        elif self._stage == _IDLE:
            self._close()
            self.deadline_s = now_s + LINGER_S  # for answers that it has not read
        elif self._stage == _BODY and self._finished():
            self.transport.abort()
        else:
            part = "head" if self._stage == _HEAD else "body"
            self._refuse(_invalid(f"The {part} of the request took too long.", "request_timeout", 408))

    # The parser's callbacks

    def on_message_begin(self) -> None:
        """Begin a request."""
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self._stage, self._room = _HEAD, MAX_HEAD_BYTES
        self._begun += 1
        self._hosts, self._chunked = 0, False
        self.deadline_s = self.loop.time() + self._http.header_timeout_s

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        self.url += url
        if len(self.url) > MAX_TARGET_BYTES:
            raise _Stop(_invalid(f"The URL is longer than {MAX_TARGET_BYTES} bytes.", "url_too_long", 414))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers, which come after the head, are dropped."""
        if self._stage == _BODY:
            return
        name = name.lower()
        if name in _WATCHED:
            self._watch(name, value)
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Judge the head, and start the application or queue the request."""
        if len(self._queue) == MAX_PIPELINED:
            self._queue[0][0].keep_alive = False
            raise _Stop
        version = self.parser.get_http_version()
        path, _, query = self.url.partition(b"?")
        self._judge(version, path)
        self._describe(version, self.parser.get_method().decode("ascii"), path, query)
        self._stage = _BODY
        self.deadline_s = self.loop.time() + self._http.body_timeout_s
        self._begin(cast(App, self.app), keep_alive=version != "1.0" and self.parser.should_keep_alive())

    def on_body(self, body: bytes) -> None:
        """Take a part of a body."""
        self._body_bytes += len(body)
        cycle = self._latest
        assert cycle is not None
        if not cycle.response_complete:
            cycle.feed(body)

    def on_message_complete(self) -> None:
        """End a request: the next may take its time."""
        cycle = self._latest
        assert cycle is not None
        self._stage, self.deadline_s = _IDLE, math.inf
        if cycle.response_complete:
            self.deadline_s = self.loop.time() + self._http.idle_timeout_s
            return
        cycle.feed_eof()

    # Responses

    def on_response_complete(self) -> None:
        """Go on after a response: with the next in line, with waiting, or with leaving."""
        self.server_state.total_requests += 1
        assert self._running is not None
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if not self._running.keep_alive:
            self._leave()
        elif self._queue:
            self._start(*self._queue.pop())
        elif self._stage == _IDLE:
            self.deadline_s = self.loop.time() + self._http.idle_timeout_s
        elif self._stage == _BODY:  # nobody reads the rest of this body
            self.deadline_s = self.loop.time() + LINGER_S

    # Beneath

    def _start(self, cycle: Cycle, app: App) -> None:
        self._running = cycle
        task = self.loop.create_task(cycle.run(app))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _describe(self, version: str, method: str, path: bytes, query: bytes) -> None:
        self.scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": method,
            "scheme": "http",
            "path": path.decode("ascii"),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": self.headers,
            "client": self.client,
            "server": self.server,
        }

    def _begin(self, app: App, *, keep_alive: bool) -> None:
        before = self._latest
        waits = before is not None and not before.response_complete
        cycle = self._latest = Cycle(
            cast(Scope, self.scope),
            self.transport,
            self.flow,
            self.loop,
            self._outbox,
            default_headers=self.server_state.default_headers,
            expect_100_continue=self.expect_100_continue,
            keep_alive=keep_alive and not self._last_call(),
            on_response=self.on_response_complete,
        )
        if waits:
            self.flow.pause_reading()
            self._queue.appendleft((cycle, app))
        else:
            self._start(cycle, app)

    def _parse(self, data: bytes) -> None:
        while data and self._stage != _BODY:
            expected, self._begun = 0, 0
            if self._stage == _IDLE:
                expected, self._room = 1, MAX_HEAD_BYTES
            piece, data = data[: self._room], data[self._room :]
            self.parser.feed_data(piece)
            if self._stage != _HEAD:
                continue
            if self._begun <= expected:  # else the head is only a part of the piece
                self._room -= len(piece)
            if data and not self._room:
                self._refuse(_head_too_large())
                return
        if data:
            self.parser.feed_data(data)

    def _progress(self, data_bytes: int) -> None:
        """Give a body more time for what has arrived of it, and none for framing without an end."""
        if self._body_bytes:
            if not self._finished():
                http, now_s = self._http, self.loop.time()
                earned_s = self.deadline_s + self._body_bytes / http.min_body_bytes_per_s
                self.deadline_s = min(earned_s, now_s + http.body_timeout_s)
            self._body_bytes, self._room = 0, MAX_HEAD_BYTES
            return
        self._room -= data_bytes
        if self._room < 0:
            self._refuse(_malformed("too much stands between the chunks of the body"))

    def _watch(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            self._hosts += 1
            if _HOST.fullmatch(value) is None:
                raise _Stop(_bad_host())
        elif name == b"transfer-encoding":
            self._chunked = True
            if value.strip().lower() != b"chunked":
                raise _Stop(_malformed("the only transfer encoding known is 'chunked'"))
        elif value.strip().lower() == b"100-continue":
            self.expect_100_continue = True

    def _judge(self, version: str, path: bytes) -> None:
        if version not in ("1.1", "1.0"):
            raise _Stop(_malformed("this server speaks HTTP/1.1"))
        if len(self.headers) > MAX_HEADERS:
            raise _Stop(_head_too_large())
        if self._hosts != 1:
            raise _Stop(_bad_host())
        if version == "1.0":
            self.expect_100_continue = False
            if self._chunked:
                raise _Stop(_malformed("HTTP/1.0 has no transfer encodings"))
        if self.parser.should_upgrade():
            raise _Stop(_invalid("This server does not change the protocol.", "upgrade_not_supported", 400))
        if not path.startswith(b"/"):
            raise _Stop(_malformed("the target must be a path"))

    def _finished(self) -> bool:
        """Whether the answer to the latest request is out."""
        return self._latest is not None and self._latest.response_complete

    def _stop(self, error: Exception) -> None:
        """Read no further after the parser has stopped."""
        if isinstance(error.__context__, _Stop):
            failure = error.__context__.failure
        elif self._stage == _IDLE and self._latest is not None and not self._latest.keep_alive:
            failure = None  # whatever follows a last request
        else:
            failure = _malformed()
        if failure is None:
            self._deaf, self.deadline_s = True, math.inf
        else:
            self._refuse(failure)

    def _refuse(self, failure: RequestFailed) -> None:
        """Answer ``failure`` when it is its turn, and then leave."""
        self._deaf, self.deadline_s = True, math.inf
        if self._stage != _BODY:
            self._describe("1.1", "GET", self.url, b"")
            self._begin(self._refusing(failure), keep_alive=False)
        elif self._latest is not None and not self._finished():
            self._latest.fail(failure)
        else:
            self._leave()

    def _leave(self) -> None:
        """Close, or first let a client that may still be sending read the answer."""
        self._queue.clear()
        if self._stage == _IDLE and not self._deaf:
            self._close()
            self.deadline_s = self.loop.time() + LINGER_S
            return
        self._deaf = True
        self._outbox.flush()
        self.transport.write_eof()
        self.deadline_s = self.loop.time() + LINGER_S

    def _close(self) -> None:
        """Close, once the answer of this turn of the loop is out."""
        self._outbox.flush()
        self.transport.close()


def _invalid(message: str, code: str, status: int) -> BadRequest:
    return BadRequest(message, code=code, status=status)


def _malformed(reason: str = "it is ambiguous or breaks the protocol's grammar") -> BadRequest:
    return _invalid(f"This is not a valid HTTP request: {reason}.", "malformed_http", 400)


def _bad_host() -> BadRequest:
    return _invalid("A request must have one 'Host' header that names a host.", "invalid_host", 400)


def _head_too_large() -> BadRequest:
    return _invalid(
        f"The request's head is larger than {MAX_HEAD_BYTES} bytes or has more than {MAX_HEADERS} headers.",
        "headers_too_large",
        431,
    )
