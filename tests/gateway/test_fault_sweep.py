"""Every fault at every place of an answer: settled once, by its outcome, for what the engine had told.

What an engine told is counted at its own side, from the bytes it wrote; what was shown, at the client's.
"""

import asyncio
import json
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from cluster.core.engine import parse_usage
from cluster.core.hint import HEADER, RouteHint, parse
from cluster.core.request import Endpoint
from cluster.serving.sim import create_app
from cluster.serving.sim import engine as sim_engine
from cluster.serving.sim.faults import GARBAGE_EVENT, LEAK
from cluster.settings import SimulatedEngine
from tests.gateway.conftest import World, Worlds, behind_prefix, chat_body, serving
from tests.gateway.test_disconnects import behind

PACE = SimulatedEngine(
    ttft_ms=5,
    inter_token_ms=10,
    inter_token_per_request_ms=0,
    slots=64,
    reasoning_tokens={"low": 3, "medium": 3, "high": 3},
    answer_tokens=4,
)
PLACES = ("start", "reasoning", "answer", "end")
ENDPOINTS: tuple[Endpoint, ...] = ("chat", "responses")
PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses"}

FAILED, BROKEN, FAULT = "upstream_failed", "upstream_broken", "harmony_fault"
LEFT = "client_gone_waiting"
OUTCOMES = {
    "cut": (FAILED, BROKEN),
    "finish": (FAILED, BROKEN),
    "abort": (FAILED, BROKEN),
    "garbage": (FAILED, BROKEN),
    "control": (FAULT, FAULT),
    "harmony": (FAULT, FAULT),
    "stall": (LEFT, "client_gone_streaming"),
}
"""What a fault that strikes always leads to: while nothing of the answer has been shown, and after that."""


def tried_again(fault: str, *, streamed: bool) -> bool:
    """Whether a fault is worth a second attempt: a body that is no JSON would come again."""
    return fault not in ("garbage", "stall") and (streamed or fault != "finish")


@dataclass
class Attempt:
    """One attempt as the engine saw it."""

    request_id: str
    hint: RouteHint
    """What the gateway expects of it."""
    wrote: bytes = b""


@dataclass
class Witness:
    """A simulated engine, and its attempts by the number in their prompt."""

    app: Any
    attempts: dict[int, list[Attempt]] = field(default_factory=lambda: defaultdict(list))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve, and listen."""
        headers = dict(scope["headers"])
        hint = parse(headers[HEADER.encode()].decode())
        assert hint is not None
        attempt = Attempt(headers[b"x-request-id"].decode().rpartition("-")[0], hint)

        async def overheard() -> Message:
            message = await receive()
            if found := re.search(rb"Number (\d+)", message.get("body", b"")):
                self.attempts[int(found[1])].append(attempt)
            return message

        async def written(message: Message) -> None:
            attempt.wrote += message.get("body", b"")
            await send(message)

        await self.app(scope, overheard, written)

    async def until_silent(self, requests: int) -> None:
        """Wait until that many requests have come and nothing is written any more."""
        before = -1
        while len(self.attempts) < requests or before != self._size():
            before = self._size()
            await asyncio.sleep(0.3)

    def _size(self) -> int:
        return sum(len(attempt.wrote) for attempts in self.attempts.values() for attempt in attempts)


def last_told(body: bytes) -> tuple[int, int] | None:
    """Return the last usage in an answer, whole or streamed: all tokens, and those generated.

    What an engine writes after it has left the format counts no more.
    """
    told, parts = None, body.split(b"\n\n")
    for part in parts:
        if len(parts) > 1 and (LEAK.encode() in part or part + b"\n\n" == GARBAGE_EVENT):
            break
        if usage := parse_usage(part):
            told = (usage.prompt + usage.reasoning + usage.answer, usage.reasoning + usage.answer)
        with suppress(ValueError):
            value = json.loads(b"{" + part.partition(b"{")[2])
            final = value.get("usage") or (value.get("response") or {}).get("usage")
            if final:
                told = (final["total_tokens"], final.get("completion_tokens", final.get("output_tokens")))
    return told


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the engine tell its tokens every few milliseconds, so that a place in an answer has its count."""
    monkeypatch.setattr(sim_engine, "USAGE_COMMENT_EVERY_S", 0.004)
    yield


@pytest.fixture
async def witness() -> Witness:
    """Return the engine."""
    app = create_app(PACE, model="gpt-oss-120b", replica="sim-1", engine_key="engine-key", faults=True)
    return Witness(app)


@pytest.fixture
async def world(worlds: Worlds, witness: Witness, often: None) -> AsyncIterator[World]:
    """Return a gateway in front of it."""
    async with serving(behind_prefix(witness)) as url:
        made: World = await worlds(**behind(url))
        yield made


@dataclass
class Got:
    """What one client got."""

    endpoint: Endpoint
    place: str
    status: int = 0
    body: bytes = b""

    @property
    def shown(self) -> bool:
        """Whether a word of a streamed answer came."""
        said = b'"delta":{"content":"' if self.endpoint == "chat" else b"event: response.output_text.delta\n"
        return said in self.body

    @property
    def clean(self) -> bool:
        """Whether it looks like a complete answer."""
        if b"data: " not in self.body:
            return self.status == 200
        end = b"data: [DONE]\n\n" if self.endpoint == "chat" else b"event: response.completed\n"
        return end in self.body


async def ask(world: World, got: Got, words: str, *, streamed: bool) -> None:
    """Send one request, and note what comes."""
    body: dict[str, Any] = {"stream": streamed}
    if got.endpoint == "chat":
        body |= chat_body(messages=[{"role": "user", "content": words}], reasoning_effort="low")
    else:
        body |= {"model": "gpt-oss-120b", "input": words, "reasoning": {"effort": "low"}}
    async with world.post(body, path=PATHS[got.endpoint]) as response:
        got.status = response.status
        async for part in response.content.iter_any():
            got.body += part


async def sweep(
    world: World, witness: Witness, fault: str, *, streamed: bool, once: bool = False
) -> list[tuple[Got, dict[str, Any], list[Attempt]]]:
    """Let ``fault`` strike both endpoints at every place; return all that is known of each request."""
    gots = [Got(endpoint, place) for endpoint in ENDPOINTS for place in PLACES]
    word = "fault-{}-at-{}-once" if once else "fault-{}-at-{}"
    asks = [
        asyncio.create_task(
            ask(world, got, f"Number {number}: {word.format(fault, got.place)}", streamed=streamed)
        )
        for number, got in enumerate(gots)
    ]
    if fault == "stall":
        await witness.until_silent(len(gots))
        for task in asks:
            task.cancel()
    await asyncio.gather(*asks, return_exceptions=fault == "stall")
    lines = {line["request_id"]: line for line in [await world.usage() for _ in gots]}
    seen = [witness.attempts[number] for number in range(len(gots))]
    return [(got, lines[tries[0].request_id], tries) for got, tries in zip(gots, seen, strict=True)]


def due(got: Got, line: dict[str, Any], last: Attempt) -> int:
    """Return the tokens that a request owes, by what its last attempt told."""
    told = last_told(last.wrote)
    if line["outcome"] == LEFT and not line["stream"]:
        return last.hint.prompt_tokens + last.hint.expected_output_tokens
    if told is not None and (line["outcome"] in ("completed", LEFT) or got.shown):
        return told[0]
    begun = line["outcome"] == LEFT and got.endpoint == "chat"  # of which the role told
    return last.hint.prompt_tokens if begun else 0


def check_tokens(world: World, known: list[tuple[Got, dict[str, Any], list[Attempt]]]) -> None:
    """Assert that each request is settled once for what is due, and that all else generated is wasted."""
    assert len(world.ledger.reserved) == len(world.ledger.settled) == len(known)
    assert sorted(world.ledger.settled) == sorted(line["settled"] for _, line, _ in known)
    for got, line, attempts in known:
        told = [last_told(attempt.wrote) for attempt in attempts]
        generated = [tokens[1] if tokens else 0 for tokens in told]
        kept = generated.pop() if line["outcome"] == "completed" else 0
        assert (line["settled"], line["tokens"]["wasted"]) == (
            due(got, line, attempts[-1]),
            sum(generated),
        ), got
        assert line["tokens"]["reasoning"] + line["tokens"]["answer"] == kept, got


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("fault", OUTCOMES)
async def test_a_fault_that_strikes_always(
    world: World, witness: Witness, fault: str, streamed: bool
) -> None:
    """The outcome follows from what was shown; never does the answer end cleanly, nor is it tried thrice."""
    known = await sweep(world, witness, fault, streamed=streamed)
    check_tokens(world, known)
    for got, line, attempts in known:
        cut = streamed and got.endpoint == "responses" and fault == "harmony"
        assert line["outcome"] == OUTCOMES["cut" if cut else fault][got.shown], got
        assert not got.clean, got
        assert got.status == (0 if fault == "stall" else line["status"]) or got.shown, got
        assert line["attempts"] == len(attempts) <= 2, got
        assert got.shown or (len(attempts) == 2) == tried_again(fault, streamed=streamed), got
    told = {got.place for got, _, _ in known if got.shown}
    assert told <= {"answer", "end"}
    assert not streamed or "end" in told, "words came long before it"


@pytest.mark.parametrize(
    ("fault", "streamed"),
    [(fault, way) for fault in OUTCOMES for way in (True, False) if tried_again(fault, streamed=way)],
)
async def test_a_fault_that_strikes_once(world: World, witness: Witness, fault: str, streamed: bool) -> None:
    """Where nothing had been shown the client gets a whole answer, and pays for that one alone."""
    known = await sweep(world, witness, fault, streamed=streamed, once=True)
    check_tokens(world, known)
    for got, line, _ in known:
        assert got.clean == (line["outcome"] == "completed"), got
        assert (line["attempts"] == 2) == got.clean, got
        assert got.clean or got.place in ("answer", "end"), got
    assert all(got.clean for got, _, _ in known) == (not streamed)
