"""A stream's way through the gateway: each chunk is looked at and written on in the moment it arrives.

No task wakes for a chunk: the engine's connection calls `Passage.take`, which writes to the client's.
"""

from collections.abc import Callable

from cluster.core.engine import EngineLoad
from cluster.gateway.exchange import Exchange
from cluster.gateway.http_errors import RequestFailed
from cluster.gateway.reply import Reply
from cluster.gateway.sse import EventSplitter
from cluster.gateway.stream_filter import StreamFilter


class Passage:
    """Takes an engine's chunks and writes what a client may see.

    ``now`` is the monotonic clock; ``report`` takes what the replica tells of its load meanwhile.
    """

    def __init__(
        self,
        exchange: Exchange,
        reply: Reply,
        seen: StreamFilter,
        now: Callable[[], float],
        report: Callable[[EngineLoad], None],
    ) -> None:
        self._exchange, self._reply, self._seen, self._now = exchange, reply, seen, now
        self._report = report
        self._events = EventSplitter()

    def take(self, chunk: bytes) -> bool:
        """Pass on a chunk; return whether the client can take more at once.

        Raises `RequestFailed` when the engine failed or what it says must not pass.
        """
        if not self._events.held and (known := self._seen.known(chunk)):
            return not self._reply.write(known)
        try:
            for event in self._events.feed(chunk):
                self._seen.feed(event)
        except RequestFailed:
            self._exchange.usage = self._seen.usage
            if self._exchange.shown:
                self._pass_on()
            raise
        return self._pass_on()

    def _pass_on(self) -> bool:
        exchange, seen = self._exchange, self._seen
        exchange.usage = seen.usage
        if seen.load is not None:
            self._report(seen.load)
            seen.load = None
        if exchange.first_event_s is None and seen.started:
            exchange.first_event_s = self._now()
        if exchange.first_answer_s is None and seen.answered:
            exchange.first_answer_s = self._now()
        data = seen.take()
        return not (data and self._reply.write(data))
