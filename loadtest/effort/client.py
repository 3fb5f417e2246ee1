"""The clients: requests sent at their times whatever becomes of the others, each until its deadline."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp

from loadtest.effort.arrivals import DEADLINES_S, Arrival
from loadtest.effort.results import Fate, Found, Outcome

MODEL = "gpt-oss-20b"
_REFUSALS = {"server_is_overloaded", "deadline_exceeded"}
_TAIL_BYTES = 4096
"""The end of a stream, which holds the usage."""


class RefusedError(Exception):
    """The system refuses the request."""


class FailedError(Exception):
    """The request ends in another way than it should."""


@dataclass(frozen=True, slots=True)
class Target:
    """Who is asked."""

    base_url: str
    """Up to and with ``/v1``."""
    key: str


@dataclass(frozen=True, slots=True)
class Clock:
    """When the load begins, and when the last clients leave, in seconds of the monotonic clock."""

    start_s: float
    end_s: float


async def load(
    target: Target, planned: Sequence[Arrival], *, seconds: float, grace_s: float, ttft_s: float
) -> Found:
    """Send ``planned`` in ``seconds``, wait ``grace_s`` for what has come late, and leave the rest.

    ``ttft_s`` is the engine's own time to the first token, which is no wait.
    """
    begun = time.monotonic() + 0.1
    clock = Clock(begun, begun + seconds + grace_s)
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        clients = [_Client(session, target, arrival, clock, ttft_s) for arrival in planned]
        outcomes = await asyncio.gather(*(client.run() for client in clients))
    tokens = sum(outcome.tokens for outcome in outcomes)
    late_ms = max((client.late_s for client in clients), default=0.0) * 1000
    return Found(tuple(outcomes), tokens / seconds, late_ms)


class _Client:
    """One request."""

    def __init__(
        self, session: aiohttp.ClientSession, target: Target, arrival: Arrival, clock: Clock, ttft_s: float
    ) -> None:
        self._session, self._target, self._arrival = session, target, arrival
        self._ttft_s, self._end_s = ttft_s, clock.end_s
        self._due_s = clock.start_s + arrival.at_s
        self._first_s: float | None = None
        self._tokens = 0
        self.late_s = 0.0
        """Seconds that it was sent too late."""

    async def run(self) -> Outcome:
        await asyncio.sleep(self._due_s - time.monotonic())
        self.late_s = time.monotonic() - self._due_s
        give_up_s = min(self._due_s + DEADLINES_S[self._arrival.effort] + self._ttft_s, self._end_s)
        try:
            async with asyncio.timeout_at(give_up_s) as patience:
                await self._ask(patience)
        except RefusedError:
            return self._outcome("refused")
        except TimeoutError:
            if self._first_s is None:
                return self._outcome("waiting" if give_up_s == self._end_s else "left")
        except (FailedError, aiohttp.ClientError) as error:
            return self._outcome("failed", str(error) or type(error).__name__)
        return self._outcome("served")

    async def _ask(self, patience: asyncio.Timeout) -> None:
        url = f"{self._target.base_url}/chat/completions"
        headers = {"authorization": f"Bearer {self._target.key}"}
        async with self._session.post(url, json=self._body(), headers=headers) as answer:
            if answer.status == 503:
                raise RefusedError
            if answer.status != 200:
                raise FailedError(f"status {answer.status}")
            await self._until_first(answer.content)
            patience.reschedule(self._end_s)
            await self._rest(answer.content)

    async def _until_first(self, content: aiohttp.StreamReader) -> None:
        """Read up to the first token that shows; before it come the role, and comments while nothing does."""
        async for line in content:
            if line.startswith(b'data: {"error"'):
                raise _error(line)
            if line.startswith(b"data:") and b'"role"' not in line:
                self._first_s = time.monotonic()
                return
        raise FailedError("an empty stream")

    async def _rest(self, content: aiohttp.StreamReader) -> None:
        tail = b""
        async for piece in content.iter_any():
            tail = (tail + piece)[-_TAIL_BYTES:]
        events = [line[6:] for line in tail.splitlines() if line.startswith(b"data: ")]
        if len(events) < 2 or events[-1] != b"[DONE]":
            raise FailedError("a stream without its end")
        self._tokens = int(json.loads(events[-2])["usage"]["completion_tokens"])

    def _body(self) -> dict[str, object]:
        return {
            "model": MODEL,
            "messages": [{"role": "user", "content": "Why is the sea salty?"}],
            "reasoning_effort": self._arrival.effort,
            "seed": self._arrival.seed,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    def _outcome(self, fate: Fate, reason: str = "") -> Outcome:
        until_s = time.monotonic() if self._first_s is None else self._first_s - self._ttft_s
        waited_s = max(0.0, until_s - self._due_s)
        return Outcome(self._arrival.at_s, self._arrival.effort, fate, waited_s, self._tokens, reason)


def _error(event: bytes) -> Exception:
    """Return what an error in a stream means, which is all that can be said once its headers are sent."""
    code = str(json.loads(event[6:])["error"].get("code"))
    return RefusedError() if code in _REFUSALS else FailedError(code)
