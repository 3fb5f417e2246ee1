"""Server-sent events as bytes: cut a stream into whole events, whatever its chunks, and make events."""

from collections.abc import Iterator
from typing import Any

import orjson

from cluster.gateway.http_errors import EngineFailed

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""Largest event believed: a Responses stream repeats the whole answer in its last one."""
END = b"\n\n"
DONE = b"data: [DONE]\n\n"
KEEP_ALIVE = b": keep-alive\n\n"


class EventSplitter:
    """Cuts chunks of a stream into whole events, each with the blank line that ends it."""

    def __init__(self) -> None:
        self._rest = b""

    @property
    def held(self) -> bool:
        """Whether the start of an event is held."""
        return bool(self._rest)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the events that ``chunk`` completes. Raises `EngineFailed` when one is too long."""
        seen = max(len(self._rest) - 1, 0)
        data = self._rest + chunk if self._rest else chunk
        start = 0
        while (end := data.find(END, max(start, seen))) >= 0:
            event, start = data[start : end + 2], end + 2
            yield event
        self._rest = data[start:]
        if len(self._rest) > MAX_EVENT_BYTES:
            raise EngineFailed("The engine's answer was malformed. Please try again.")


def parse_data(event: bytes) -> dict[str, Any]:
    """Return the JSON object in an event's ``data:`` line. Raises `EngineFailed` when there is none."""
    start = event.find(b"data: ")
    try:
        value = orjson.loads(event[start + 6 :]) if start >= 0 else None
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise EngineFailed("The engine's answer was malformed. Please try again.")
    return value


def data_event(value: Any) -> bytes:
    """Return an event with ``value`` as JSON."""
    return b"data: " + orjson.dumps(value) + END


def named_event(value: dict[str, Any]) -> bytes:
    """Return a Responses event: named by its ``type``."""
    return b"event: " + str(value["type"]).encode() + b"\ndata: " + orjson.dumps(value) + END
