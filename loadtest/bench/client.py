"""Clients that cost little: one connection each, one request at a time, on asyncio protocols.

A client sends its next request as soon as the last answer has ended (a closed loop), until it is told to
stop.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import httptools
import orjson

from loadtest.bench.engine import prompt

_TOKEN = re.compile(rb'"content": ?" ?(\d+)"')
_DONE = b"data: [DONE]"
_RECONNECT_S = 0.05


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send a chat request, and as whom."""

    port: int
    key: str
    model: str

    def whole(self) -> "Ask":
        """Return a request for a whole answer."""
        return Ask(self._request("Say the numbers.", stream=False), tokens=0)

    def stream(self, tokens: int, interval_s: float) -> "Ask":
        """Return a request for a stream of ``tokens`` tokens, one each ``interval_s`` seconds."""
        return Ask(self._request(prompt(tokens, interval_s), stream=True), tokens=tokens)

    def _request(self, told: str, *, stream: bool) -> bytes:
        body = orjson.dumps(
            {
                "model": self.model,
                "messages": [
                    {"role": "system", "content": _SYSTEM},
                    {"role": "user", "content": told},
                ],
                "stream": stream,
                "max_completion_tokens": 8192,
                "reasoning_effort": "low",
            }
        )
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\n"
            f"host: 127.0.0.1:{self.port}\r\nauthorization: Bearer {self.key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


@dataclass(frozen=True, slots=True)
class Ask:
    """One HTTP request, as its bytes."""

    data: bytes
    tokens: int
    """Tokens that the stream must have; 0: a whole answer is asked for."""


_SYSTEM = (
    "You are the assistant of an engineering department. Answer in the language of the question, say what "
    "you do not know, and keep to the house style: short sentences, no flattery, units with every number. "
) * 3
"""About 100 tokens: prompts of a company's own tools always carry such a text."""


@dataclass(slots=True)
class Tally:
    """What all clients of one load have seen since the last `reset`."""

    answers: int = 0
    """Whole answers, or streams that ended as they should."""
    latencies_s: list[float] = field(default_factory=list)
    """From a request's first byte sent to its answer's last byte."""
    tokens: int = 0
    writes: int = 0
    """HTTP chunks that carried them."""
    failures: Counter[str] = field(default_factory=Counter)
    """What went wrong, and how often; never reset."""

    def reset(self) -> None:
        """Begin to count anew."""
        self.answers = self.tokens = self.writes = 0
        self.latencies_s.clear()


class Client(asyncio.Protocol):
    """One client: it asks, checks the answer to its end, and asks again, until it is stopped."""

    def __init__(self, tally: Tally, next_ask: Callable[[], Ask | None]) -> None:
        self._tally, self._next_ask = tally, next_ask
        self._transport: asyncio.Transport | None = None
        self._ask: Ask | None = None
        self._rest, self._expected, self._done = b"", 0, False
        self.answers = 0
        """Good answers so far, never reset."""
        self.ended = asyncio.Event()
        """Set when the connection is closed for good."""

    async def connect(self, port: int) -> None:
        """Open the connection and begin. Raises ``OSError``."""
        self._port = port
        await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", port)

    def stop(self) -> None:
        """Close the connection, whatever is under way."""
        self._next_ask, self._ask = _nothing, None
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request of this connection."""
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail("the answer is no HTTP")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Connect again, unless the client has stopped."""
        self._transport = None
        if self._ask is not None:
            self._tally.failures["connection lost"] += 1
        if self._next_ask is _nothing:
            self.ended.set()
        else:
            self._reconnecting = asyncio.ensure_future(self._reconnect())

    def on_chunk_header(self) -> None:
        """Count a write of the contender."""
        self._tally.writes += 1

    def on_body(self, body: bytes) -> None:
        """Check the sequence numbers of the whole events so far."""
        if self._ask is None or not self._ask.tokens:
            return
        data = self._rest + body if self._rest else body
        end = data.rfind(b"\n\n") + 2
        if end < 2:
            self._rest = data
            return
        self._rest = data[end:]
        for found in _TOKEN.finditer(data, 0, end):
            number = int(found[1])
            if number != self._expected:
                self._tally.failures["token lost, doubled or out of order"] += 1
            self._expected = number + 1
            self._tally.tokens += 1
        self._done = self._done or _DONE in data

    def on_message_complete(self) -> None:
        """Note the answer, and ask again."""
        parser, ask = self._parser, self._ask
        if ask is None:
            return
        status = parser.get_status_code()
        if status != 200:
            self._fail(f"status {status}")
        elif ask.tokens and not (self._done and self._expected == ask.tokens):
            self._fail("a stream ended early")
        else:
            self._tally.answers += 1
            self.answers += 1
            self._tally.latencies_s.append(time.perf_counter() - self._sent_s)
            self._ask = None
            if parser.should_keep_alive():
                self._send()
            else:
                self._close()

    def _send(self) -> None:
        ask = self._next_ask()
        if ask is None:
            self.stop()
            return
        assert self._transport is not None
        self._parser = httptools.HttpResponseParser(self)
        self._rest, self._expected, self._done = b"", 0, False
        self._ask, self._sent_s = ask, time.perf_counter()
        self._transport.write(ask.data)

    def _fail(self, what: str) -> None:
        """Count a failure and go on with a fresh connection."""
        self._tally.failures[what] += 1
        self._ask = None
        self._close()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    async def _reconnect(self) -> None:
        await asyncio.sleep(_RECONNECT_S)
        if self._next_ask is _nothing:
            self.ended.set()
            return
        try:
            await self.connect(self._port)
        except OSError:
            self._tally.failures["cannot connect"] += 1
            self._reconnecting = asyncio.ensure_future(self._reconnect())


def _nothing() -> None:
    """Ask nothing more."""
