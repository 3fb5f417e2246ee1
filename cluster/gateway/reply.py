"""The response to one client: the only place that writes to it."""

from collections.abc import Callable, Iterable

from cluster.gateway.exchange import Exchange
from cluster.gateway.headers import response_headers
from cluster.gateway.http_cycle import Cycle
from cluster.gateway.http_errors import Header, RequestFailed
from cluster.gateway.sse import KEEP_ALIVE

_JSON: Header = (b"content-type", b"application/json")
_EVENT_STREAM: list[Header] = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # or nginx holds events back
]


class Reply:
    """Writes the response of ``exchange``; ``now`` is the monotonic clock, in seconds."""

    def __init__(self, exchange: Exchange, cycle: Cycle, now: Callable[[], float]) -> None:
        self._exchange, self._cycle, self._now = exchange, cycle, now
        self.failure_event: Callable[[RequestFailed], bytes] | None = None
        """How a stream that has begun tells its client of a failure."""

    def whole(self, status: int, body: bytes, *, headers: Iterable[Header] = ()) -> None:
        """Send a JSON body and be done."""
        exchange = self._exchange
        exchange.status = status
        exchange.shown = exchange.finished = True
        known = response_headers(exchange, now_s=self._now())
        self._cycle.respond(status, [_JSON, *known, *headers], body)

    def write(self, events: bytes) -> bool:
        """Send whole events, and the head before the first; return whether the client has fallen behind."""
        self._exchange.shown = True
        self._write(events)
        return self._cycle.behind

    async def caught_up(self) -> None:
        """Return once the client has read enough."""
        await self._cycle.caught_up()

    def beat(self) -> None:
        """Send a comment, and the head before it; nothing while the client has yet to take what is due."""
        if not self._cycle.behind and not self._exchange.finished:
            self._write(KEEP_ALIVE)

    def end(self, events: bytes = b"") -> None:
        """Send the last events of a stream, and its end."""
        if events:
            self.write(events)
        self._exchange.finished = True
        self._cycle.end()

    def fail(self, failure: RequestFailed) -> None:
        """Tell the client: with a status of its own, or with an event once a stream has begun."""
        if self._exchange.finished:
            return
        if not self._exchange.committed:
            self.whole(failure.status, failure.body, headers=[*failure.retry_headers, *failure.headers])
        elif self.failure_event is not None:
            self.end(self.failure_event(failure))

    def _write(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange.status is None:
            exchange.status = 200
            self._cycle.begin(200, _EVENT_STREAM + response_headers(exchange, now_s=self._now()))
        self._cycle.write(data)
        exchange.last_write_s = self._now()
