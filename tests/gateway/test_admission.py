"""Waiting before a pool: over real sockets, in front of simulated engines whose slots are few."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest

from cluster.core.admission import DEFAULT_BOUNDS
from cluster.gateway.admission import FRESH_S, PoolRoom
from cluster.serving.sim.app import SimulatedApp, create_app
from cluster.settings import SimulatedEngine
from tests.gateway.conftest import (
    KEY,
    SEEING,
    World,
    Worlds,
    behind_prefix,
    chat_body,
    serving,
    settings_document,
)

SLOTS = 4
LIMIT = 4
"""What a gateway that is alone lets in: 1.1 times the slots."""
PATIENT = {"low": 30, "medium": 30, "high": 30}
Start = Callable[..., Any]


def engine(**changes: Any) -> SimulatedApp:
    """Return a replica of few slots, whose answers take 0.2 s."""
    pace: dict[str, Any] = {
        "slots": SLOTS,
        "ttft_ms": 0,
        "inter_token_ms": 5,
        "inter_token_per_request_ms": 0,
        "reasoning_tokens": {"low": 16, "medium": 16, "high": 16},
    }
    own = SimulatedEngine(**{**pace, **changes})
    return create_app(own, model="gpt-oss-120b", replica="sim-1", engine_key="engine-key", faults=True)


def document(url: str, wait_s: Mapping[str, float]) -> dict[str, Any]:
    """Return the sections of the settings that the tests change."""
    changed = settings_document(url)
    for effort, limits in changed["models"]["gpt-oss-120b"]["efforts"].items():
        limits["deadline_s"] = wait_s[effort]
    changed["models"]["gpt-oss-120b"]["pools"] = ["big"]
    del changed["serving"]["pools"]["big-b"]
    return {"serving": changed["serving"], "models": changed["models"]}


@pytest.fixture
async def start(worlds: Worlds) -> AsyncIterator[Start]:
    """Return a function that starts a gateway before a simulated replica."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(app: SimulatedApp, wait_s: Mapping[str, float] | None = None) -> World:
            url = await stack.enter_async_context(serving(behind_prefix(app)))
            made: World = await worlds(**document(url, wait_s or PATIENT))
            return made

        yield make


async def ask(world: World, effort: str = "low", *, key: str = KEY, stream: bool = True) -> tuple[int, str]:
    """Return status and text of one answer."""
    body = chat_body(reasoning_effort=effort, stream=stream)
    async with world.post(body, key=key) as response:
        return response.status, await response.text()


async def until(fact: Callable[[], bool]) -> None:
    """Return once ``fact`` holds."""
    async with asyncio.timeout(10):
        while not fact():  # noqa: ASYNC110 - what is looked at has no event
            await asyncio.sleep(0.002)


def waiting(world: World) -> int:
    """Return how many requests wait in the gateway."""
    return world.admission.rooms["big"].waiting()


async def peak(app: SimulatedApp, done: asyncio.Future[Any]) -> int:
    """Return the most requests that the engine had at once, until ``done``."""
    most = 0
    while not done.done():
        most = max(most, app.load.running + app.load.waiting)
        await asyncio.sleep(0.002)
    return most


@pytest.mark.parametrize("stream", [True, False])
async def test_what_is_too_much_waits_in_the_gateway_and_is_served(start: Start, stream: bool) -> None:
    """Forty at once for four slots: five at most are at the engine, the rest wait, and none fails."""
    app = engine()
    world = await start(app)
    asked = asyncio.gather(*(ask(world, stream=stream) for _ in range(40)))
    assert await peak(app, asked) <= LIMIT + 1
    assert {status for status, _ in await asked} == {200}
    waits = [(await world.usage())["queue_ms"] for _ in range(40)]
    assert sum(wait > 0 for wait in waits) >= 30
    assert max(waits) > 1000
    assert world.metric('gptoss_pool_slots{pool="big"}') == SLOTS
    assert world.metric('gptoss_waiting{pool="big"}') == 0
    where = 'effort="low",model="gpt-oss-120b",where="gateway"'
    assert world.metric(f"gptoss_queue_wait_seconds_count{{{where}}}") == 40


async def test_a_request_that_cannot_be_in_time_is_told_when_to_come_again(start: Start) -> None:
    """It waits until a fifth of its time is left, and then is a 503 with a wait in whole seconds."""
    world = await start(engine(inter_token_ms=500), PATIENT | {"low": 0.3})
    running = [asyncio.ensure_future(ask(world, "high")) for _ in range(LIMIT)]
    await until(lambda: world.admission.rooms["big"].room.inside == LIMIT)
    began = time.monotonic()
    async with world.post(chat_body(reasoning_effort="low")) as response:
        assert response.status == 503
        assert 1 <= int(response.headers["retry-after"]) <= 120
        assert (await response.json())["error"]["code"] == "deadline_exceeded"
    assert 0.2 <= time.monotonic() - began <= 1.5
    line = await world.usage()
    assert (line["outcome"], line["attempts"], line["settled"]) == ("deadline", 0, 0)
    assert line["queue_ms"] >= 200
    for task in running:
        task.cancel()


async def test_a_client_that_leaves_while_it_waits_leaves_the_room(start: Start) -> None:
    """At once, without having cost anything, and without a place at the engine."""
    world = await start(engine(inter_token_ms=500))
    running = [asyncio.ensure_future(ask(world, "high")) for _ in range(LIMIT)]
    await until(lambda: world.admission.rooms["big"].room.inside == LIMIT)
    gone = asyncio.ensure_future(ask(world))
    await until(lambda: waiting(world) == 1)
    gone.cancel()
    line = await world.usage()
    assert (line["outcome"], line["attempts"], line["settled"]) == ("client_gone_waiting", 0, 0)
    assert waiting(world) == 0
    for task in running:
        task.cancel()


async def test_low_effort_passes_a_queue_of_high_effort(start: Start) -> None:
    """Its deadline is earlier, so that it waits for one place and not for all the others."""
    world = await start(engine(), {"low": 5, "medium": 10, "high": 30})
    running = asyncio.gather(*(ask(world, "high") for _ in range(40)))
    await until(lambda: waiting(world) > 20)
    await ask(world, "low")
    assert waiting(world) > 10
    await running


async def test_a_tenant_that_floods_does_not_delay_another(start: Start) -> None:
    """Of two requests of the same effort the one goes first whose tenant got less."""
    world = await start(engine())
    flood = asyncio.gather(*(ask(world) for _ in range(40)))
    await until(lambda: waiting(world) > 30)
    await ask(world, key=SEEING)
    assert waiting(world) > 20
    await flood


async def test_the_limit_follows_the_slots(start: Start) -> None:
    """Halved while streams run, in the engine's own reports; the gateway knows within seconds."""
    app = engine(inter_token_ms=40)
    world = await start(app)
    asked = asyncio.gather(*(ask(world) for _ in range(14)))
    await until(lambda: app.load.running == SLOTS)
    app._engine._scheduler.slots = SLOTS // 2
    began = time.monotonic()
    await until(lambda: world.metric('gptoss_pool_slots{pool="big"}') == SLOTS // 2)
    assert time.monotonic() - began < 10
    await asyncio.sleep(2)  # those inside end
    assert app.load.running + app.load.waiting <= 3
    assert {status for status, _ in await asked} == {200}


async def test_two_gateways_share_a_pool(worlds: Worlds) -> None:
    """Without knowing of each other they stay far below what both together would let in, which is 35.

    That it is a tenth too much at most, with reports that are old, is tested without sockets.
    """
    lengths = {"low": 10, "medium": 30, "high": 60}
    app = engine(slots=16, inter_token_ms=20, reasoning_tokens=lengths)
    most: list[int] = []
    async with serving(behind_prefix(app)) as url:
        pair: list[World] = [await worlds(**document(url, PATIENT)) for _ in range(2)]
        efforts = ("low", "medium", "high")
        asked = asyncio.gather(*(ask(pair[number % 2], efforts[number % 3]) for number in range(100)))
        while not asked.done():
            most.append(app.load.running + app.load.waiting)
            await asyncio.sleep(0.005)
        assert {status for status, _ in await asked} == {200}
    assert 16 <= max(most) <= 1.5 * 20  # a busy machine delays reports by much of what an answer takes
    assert sum(most) / len(most) <= 1.1 * 20


async def test_who_waits_when_the_gateway_drains_is_served(start: Start) -> None:
    """It was let in before; those that come after are refused at once."""
    world = await start(engine())
    asked = asyncio.gather(*(ask(world) for _ in range(20)))
    await until(lambda: waiting(world) > 10)
    world.gate.drain()
    async with world.post(chat_body()) as response:
        assert (response.status, response.headers["retry-after"]) == (503, "1")
    assert {status for status, _ in await asked} == {200}
    await asyncio.wait_for(world.gate.wait_empty(), 5)


async def test_who_waits_when_the_gateway_ends_is_told_so(start: Start) -> None:
    """Every one gets a 503, those whose streams had begun an event, and the room is empty."""
    world = await start(engine(inter_token_ms=500))
    asked = [asyncio.ensure_future(ask(world)) for _ in range(12)]
    await until(lambda: waiting(world) == 12 - LIMIT)
    world.gate.drain()
    world.gate.abort()
    statuses = [status for status, _ in await asyncio.gather(*asked)]
    assert statuses.count(503) >= 12 - LIMIT
    assert {(await world.usage())["outcome"] for _ in range(12)} == {"aborted_shutdown"}
    assert (waiting(world), world.admission.rooms["big"].room.inside) == (0, 0)


async def test_a_stream_that_waits_is_kept_alive(worlds: Worlds) -> None:
    """Comments flow while it waits, and a refusal after them is an event."""
    app = engine(inter_token_ms=500)
    async with serving(behind_prefix(app)) as url:
        stream = {"commit_after_s": 0.1, "keepalive_s": 0.1}
        changed = document(url, PATIENT | {"low": 0.5})
        world: World = await worlds(**changed, gateway={"stream": stream})
        running = [asyncio.ensure_future(ask(world, "high")) for _ in range(LIMIT)]
        await until(lambda: world.admission.rooms["big"].room.inside == LIMIT)
        status, text = await ask(world)
        assert status == 200
        assert text.startswith(":")
        assert "deadline_exceeded" in text
        assert (await world.usage())["outcome"] == "deadline"
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def test_the_hint_tells_what_waits(worlds: Worlds) -> None:
    """The routers, and through them autoscaling, see the tokens that queue at the gateway."""
    hints: list[int] = []
    app = engine()
    inner = behind_prefix(app)

    async def listening(scope: Any, receive: Any, send: Any) -> None:
        told = dict(scope.get("headers", ())).get(b"x-route-hint", b"").decode()
        fields = dict(part.partition("=")[::2] for part in told.split(";"))
        hints.append(int(fields.get("q", "0")))
        await inner(scope, receive, send)

    async with serving(listening) as url:
        world: World = await worlds(**document(url, PATIENT))
        await asyncio.gather(*(ask(world) for _ in range(20)))
    assert hints[-1] == 0
    assert max(hints) >= 400


def test_a_fresh_report_is_not_read_again_while_nobody_waits() -> None:
    """Of answers that come at once, one tells the load; after ten milliseconds another does."""
    now = [100.0]
    room = PoolRoom(DEFAULT_BOUNDS, lambda: now[0])
    room.told("one", b"r=1;w=0;k=0.1;s=8")
    room.told("one", b"r=2;w=0;k=0.1;s=16")
    assert room.slots() == 8
    room.told("two", b"r=1;w=0;k=0.1;s=4")  # another replica's is news
    assert room.slots() == 12
    now[0] += FRESH_S
    room.told("one", b"r=2;w=0;k=0.1;s=16")
    assert room.slots() == 20
    room.told("one", b"nonsense")
    assert room.slots() == 20
