"""What an ending tells the client and the meters, beside the settlement itself (`test_settlement`)."""

import asyncio

import pytest
from aiohttp import ClientResponse, ClientTimeout
from uvicorn.protocols.http.flow_control import FlowControl

from cluster.core.accounting import Usage
from cluster.core.cost import CostModel
from cluster.core.limits import Ask, Limits, Reservation
from cluster.gateway.exchange import Exchange
from cluster.gateway.http_cycle import Cycle
from cluster.gateway.http_errors import ClientGone
from cluster.gateway.outbox import Outbox
from cluster.gateway.stream import Owned
from tests.gateway.conftest import Ledger, World, Worlds, chat_body
from tests.gateway.upstream import (
    ROLE,
    STREAM_HEAD,
    Connection,
    chunk,
    failing,
    respond,
    silent,
    stream,
)

STREAM = chat_body(stream=True)
COSTS = CostModel({})


async def half(connection: Connection) -> None:
    """Stream a first word, report tokens, then say nothing more."""
    await connection.send(STREAM_HEAD)
    await connection.event(ROLE, chunk({"content": "Hel"}), b": usage p=10 r=7 a=1\n\n")
    await connection.until_gone()


async def first_word(response: ClientResponse) -> None:
    """Read until the answer's first word has come."""
    async for line in response.content:
        if b'"content":"Hel"' in line:
            return


async def test_a_failure_after_the_first_byte_is_an_event(world: World) -> None:
    """An engine that breaks off mid-answer gives an error event, `upstream_broken`, and the tokens so far."""
    world.upstream.then(stream(ROLE, chunk({"content": "Hel"}), b": usage p=10 r=7 a=1\n\n", end=False))
    async with world.post(STREAM) as response:
        text = (await response.read()).decode()
    assert text.endswith("}}\n\n")
    assert '{"error":{' in text.rsplit("data: ", 1)[1]
    assert "[DONE]" not in text
    line = await world.usage()
    assert (line["outcome"], line["status"], world.ledger.settled) == ("upstream_broken", 200, [18])
    assert line["tokens"]["wasted"] == 8


async def test_a_request_that_a_shutdown_cuts(world: World) -> None:
    """A stream that a shutdown cuts ends with an error event, never cleanly."""
    world.upstream.then(half)
    async with world.post(STREAM) as response:
        await first_word(response)
        world.gate.drain()
        world.gate.abort()
        rest = (await response.read()).decode()
    assert '"code":"server_shutting_down"' in rest
    line = await world.usage()
    assert (line["outcome"], world.ledger.settled) == ("aborted_shutdown", [18])


async def test_a_request_that_takes_too_long(worlds: Worlds) -> None:
    """The longest request's time ends a silent one with 503 `deadline_exceeded`."""
    world = await worlds(limits={"max_request_s": 0.1})
    world.upstream.then(silent)
    async with world.post(STREAM) as response:
        assert response.status == 503
        assert (await response.json())["error"]["code"] == "deadline_exceeded"
    assert (await world.usage())["outcome"] == "deadline"
    assert world.ledger.settled == [0]


async def test_a_refusal_by_the_engine_costs_nothing(world: World) -> None:
    """A 400 of the engine's is the client's error and is not charged."""
    world.upstream.then(respond(400, {"error": {"message": "no", "code": 400}}))
    async with world.post() as response:
        assert response.status == 400
    assert (await world.usage())["outcome"] == "invalid"
    assert world.ledger.settled == [0]


async def test_connections_that_break_twice(world: World) -> None:
    """Two connections lost before any byte are `upstream_failed`, settled once."""
    world.upstream.then(failing("reset"))
    async with world.post() as response:
        assert response.status == 502
    line = await world.usage()
    assert (line["outcome"], line["attempts"], world.ledger.settled) == ("upstream_failed", 2, [0])


def _exchange() -> Exchange:
    return Exchange(
        {},
        "id",
        None,
        arrived_s=0,
        arrived_epoch_s=0,
        usage=Usage(prompt=4, answer=2),
        status=200,
        shown=True,
    )


def _reservation() -> Reservation:
    ask = Ask("id", "acme", "key00001", "low", 10, (Limits(None, None, None, None),))
    return Reservation(ask, None, None)


def _cycle() -> Cycle:
    """Return a request whose client has sent all and stays."""
    transport = asyncio.Transport()
    scope = {"type": "http", "http_version": "1.1", "method": "POST"}
    return Cycle(
        scope,
        transport,
        FlowControl(transport),
        asyncio.get_running_loop(),
        Outbox(),
        default_headers=[],
        expect_100_continue=False,
        keep_alive=True,
        on_response=lambda: None,
    )


async def test_a_killed_task_still_settles() -> None:
    """A task that the server cancels from outside settles before it ends."""
    ledger, begun = Ledger(), asyncio.Event()

    async def work(_owned: Owned) -> None:
        begun.set()
        await asyncio.Event().wait()

    owned = Owned(_exchange(), _reservation(), ledger, COSTS, max_request_s=60)
    task = asyncio.create_task(owned.run(work, _cycle()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ledger.settled == [6]


@pytest.mark.parametrize("when", ["before", "during"])
async def test_a_client_that_leaves_ends_the_work(when: str) -> None:
    """Work ends when its client leaves, and does not begin when the client has left before."""
    ledger, cycle, begun = Ledger(), _cycle(), False

    async def work(_owned: Owned) -> None:
        nonlocal begun
        begun = True
        cycle.leave()
        await asyncio.Event().wait()

    if when == "before":
        cycle.leave()
    with pytest.raises(ClientGone):
        await Owned(_exchange(), _reservation(), ledger, COSTS, max_request_s=60).run(work, cycle)
    assert begun == (when == "during")
    assert ledger.settled == [6]


async def test_a_fault_of_ours_settles_too() -> None:
    """An exception that nobody foresaw leaves `run` as it is, after the settlement."""
    ledger = Ledger()

    async def work(_owned: Owned) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await Owned(_exchange(), _reservation(), ledger, COSTS, max_request_s=60).run(work, _cycle())
    assert ledger.settled == [6]


def _patience(seconds: float) -> ClientTimeout:
    return ClientTimeout(total=seconds)
