"""A mock engine, cheap enough never to be the bottleneck: ``python -m loadtest.bench.engine PORT``.

It answers ``…/v1/chat/completions`` below any prefix with the answers of `answers`. A stream's length and
pace stand in the prompt (`prompt`), because that is what every contender passes on. All streams of one pace
share one timer that fires every millisecond; within each interval they are spread evenly.
"""

import asyncio
import re
import socket
import sys
import time
from typing import Any, cast

import httptools
import orjson
import uvloop

from loadtest.bench import answers

_PACE = re.compile(r"tokens=(\d+) interval_us=(\d+)")
_SLOT_S = 0.001
_OK = answers.json_response({})
_NOT_FOUND = answers.json_response({"error": {"message": "not here", "code": 404}}, status=b"404 Not Found")


def prompt(tokens: int, interval_s: float) -> str:
    """Return the words that make the engine stream ``tokens`` tokens, one each ``interval_s`` seconds."""
    return f"tokens={tokens} interval_us={round(interval_s * 1e6)}"


class Stream:
    """One streamed answer: the writes still due on a connection."""

    def __init__(self, connection: "Connection", writes: tuple[bytes, ...]) -> None:
        self._connection, self._writes, self._next = connection, writes, 0

    def step(self) -> bool:
        """Write what is due, unless the reader is behind; return whether more follows."""
        if self._connection.closed:
            return False
        if self._connection.full:
            return True
        self._connection.write(self._writes[self._next])
        self._next += 1
        return self._next < len(self._writes)


class Pacer:
    """Steps every stream of one pace once an interval."""

    def __init__(self, interval_s: float) -> None:
        self._slots: list[list[Stream]] = [[] for _ in range(max(round(interval_s / _SLOT_S), 1))]
        self._interval_s, self._loop = interval_s, asyncio.get_running_loop()
        self._running = False
        self.late = 0
        """Ticks that came more than an interval too late: then the engine, or its core, was overloaded."""

    def add(self, stream: Stream) -> None:
        """Begin to step ``stream``, in the emptiest slot."""
        min(self._slots, key=len).append(stream)
        if not self._running:
            self._running, self._start_s, self._tick_no = True, self._loop.time(), 0
            self._tick()

    def _tick(self) -> None:
        slot = self._tick_no % len(self._slots)
        self._slots[slot] = [stream for stream in self._slots[slot] if stream.step()]
        self._tick_no += 1
        if not any(self._slots):
            self._running = False
            return
        due_s = self._start_s + self._tick_no * self._interval_s / len(self._slots)
        self.late += self._loop.time() - due_s > self._interval_s
        self._loop.call_at(due_s, self._tick)


class Engine:
    """What all connections share."""

    def __init__(self) -> None:
        self._pacers: dict[float, Pacer] = {}
        self.requests = 0

    def stream(self, connection: "Connection", body: dict[str, Any], told: str) -> None:
        """Begin a streamed answer to ``body``, whose last message is ``told``."""
        found = _PACE.search(told)
        tokens, interval_s = (int(found[1]), int(found[2]) / 1e6) if found else (answers.ANSWER_TOKENS, 0.005)
        hidden = body.get("include_reasoning") is False
        writes = answers.script(tokens, interval_s, hidden)
        pacer = self._pacers.get(interval_s)
        if pacer is None:
            pacer = self._pacers[interval_s] = Pacer(interval_s)
        pacer.add(Stream(connection, writes))

    def facts(self) -> bytes:
        """Return what ``GET /mock/facts`` tells."""
        late = sum(pacer.late for pacer in self._pacers.values())
        return answers.json_response(
            {"requests": self.requests, "late_ticks": late, "cpu_s": time.process_time()}
        )


class Connection(asyncio.Protocol):
    """One connection of a contender."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._parser = httptools.HttpRequestParser(self)
        self._url, self._parts = b"", list[bytes]()
        self.closed = self.full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)
        self.write = self._transport.write

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Forget the streams."""
        self.closed = True

    def pause_writing(self) -> None:
        """Hold streams back: the reader is behind, and memory is bounded."""
        self.full = True

    def resume_writing(self) -> None:
        """Go on."""
        self.full = False

    def on_url(self, url: bytes) -> None:
        """Begin a request."""
        self._url, self._parts = url, []

    def on_body(self, body: bytes) -> None:
        """Gather the body."""
        self._parts.append(body)

    def on_message_complete(self) -> None:
        """Answer."""
        engine = self._engine
        engine.requests += 1
        if self._url.endswith(b"/chat/completions"):
            self._chat()
        elif self._url.endswith(b"/v1/models"):
            self.write(_MODELS)
        elif self._url == b"/mock/facts":
            self.write(engine.facts())
        elif self._url == b"/health":
            self.write(_OK)
        else:
            self.write(_NOT_FOUND)

    def _chat(self) -> None:
        body = orjson.loads(b"".join(self._parts))
        if not body.get("stream"):
            self.write(answers.WHOLE)
            return
        told = body["messages"][-1]["content"]
        self._engine.stream(self, body, told if isinstance(told, str) else told[-1]["text"])


_MODELS = answers.json_response(
    {
        "object": "list",
        "data": [{"id": answers.MODEL, "object": "model", "owned_by": "vllm", "max_model_len": 131072}],
    }
)


async def serve(port: int) -> None:
    """Serve on loopback until cancelled."""
    engine = Engine()
    listening = socket.create_server(("127.0.0.1", port), backlog=1024)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(engine), sock=listening)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
