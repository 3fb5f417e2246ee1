"""One connection to Redis: commands of one turn of the event loop go in one write, answers come in order.

A plain protocol around hiredis' parser, because each request of the gateway waits for one answer: redis-py's
pipelines cost two to three times the CPU (docs/decisions/0007-limits-in-redis.md). Nobody awaits a command
that others depend on: an answer goes to a callback, so that cancelling whoever wanted it leaves the
connection in order.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import hiredis

SECOND_LOOK_S = 0.002
"""An answer that seems late may be in the socket already while this process was busy: look again first."""

Answer = Any
"""What hiredis makes of an answer, bytes, int, list or None; an exception for an error or a lost link."""
OnAnswer = Callable[[Any, Answer], None]


class RedisAway(Exception):  # noqa: N818  what it is, whoever's fault
    """Redis cannot be reached or does not answer as it should, for now."""


class ErrorReply(Exception):  # noqa: N818  Redis' own word
    """An error that Redis answered, without the arguments that some repeat: a password may be among them."""

    def __init__(self, text: str) -> None:
        super().__init__(text.partition(", with args beginning with")[0])


class Link(asyncio.Protocol):
    """Sends commands, and hands each answer to whom it is for.

    ``on_late`` is called while the oldest command has waited for longer than ``timeout_s``, and ``on_lost``
    once, with the reason, when the connection ends.
    """

    def __init__(
        self, *, timeout_s: float, on_late: Callable[[], None], on_lost: Callable[[str], None]
    ) -> None:
        self._timeout_s, self._on_late, self._on_lost = timeout_s, on_late, on_lost
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(replyError=ErrorReply)
        self._transport: asyncio.Transport | None = None
        self._unsent: list[bytes] = []
        self._waiting: deque[tuple[OnAnswer, Any, float]] = deque()
        self._answered = 0
        self._suspect = -1
        self._timer: asyncio.TimerHandle | None = None
        self._trouble: str | None = None

    @property
    def lost(self) -> bool:
        """Whether the connection has ended."""
        return self._trouble is not None

    def send(self, command: bytes, on_answer: OnAnswer, context: Any) -> None:
        """Send ``command``; ``on_answer`` gets ``context`` and the answer, exactly once."""
        if self._trouble is not None:
            self._loop.call_soon(on_answer, context, RedisAway(self._trouble))
            return
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(command)
        self._waiting.append((on_answer, context, self._loop.time()))
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout_s, self._check)

    async def ask(self, *commands: bytes) -> list[Answer]:
        """Send commands and return their answers. Raises `RedisAway` for an error among them."""
        futures = [self._loop.create_future() for _ in commands]
        for command, future in zip(commands, futures, strict=True):
            self.send(command, _resolve, future)
        answers = [await future for future in futures]
        for answer in answers:
            if isinstance(answer, Exception):
                raise RedisAway(str(answer)) from answer
        return answers

    def close(self, reason: str = "closed") -> None:
        """End the connection now; what waits for an answer gets `RedisAway`."""
        self._end(reason)
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by name

    def data_received(self, data: bytes) -> None:
        """Hand out the answers that are complete."""
        reader, waiting = self._reader, self._waiting
        try:
            reader.feed(data)
            while (answer := reader.gets()) is not False:
                on_answer, context, _ = waiting.popleft()
                self._answered += 1
                on_answer(context, answer)
        except (hiredis.ProtocolError, IndexError):
            self.close("it does not speak Redis' protocol")

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._end(f"the connection was lost: {exc}" if exc else "it closed the connection")

    def _flush(self) -> None:
        if self._transport is not None and self._unsent:
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def _check(self) -> None:
        """Look whether the oldest command waits for too long; runs while any waits."""
        self._timer = None
        if not self._waiting:
            return
        left_s = self._waiting[0][2] + self._timeout_s - self._loop.time()
        if left_s <= 0:
            seen_twice = self._suspect == self._answered
            self._suspect, left_s = self._answered, self._timeout_s if seen_twice else SECOND_LOOK_S
            if seen_twice:
                self._on_late()
        self._timer = self._loop.call_later(left_s, self._check)

    def _end(self, reason: str) -> None:
        if self._trouble is not None:
            return
        self._trouble = reason
        if self._timer is not None:
            self._timer.cancel()
        self._on_lost(reason)
        waiting, self._waiting = self._waiting, deque()
        for on_answer, context, _ in waiting:
            on_answer(context, RedisAway(reason))


def _resolve(future: "asyncio.Future[Answer]", answer: Answer) -> None:
    if not future.done():
        future.set_result(answer)
