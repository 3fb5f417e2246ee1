"""Second attempts stay within their budget, and a request that replicas die of gets none."""

import asyncio

import pytest

from cluster.core.engine import EngineLoad
from cluster.gateway.retries import MAX_POISON, MAX_SUSPECTS, REFUSED_S, Poison
from tests.gateway.conftest import SEEING, World, Worlds, chat_body
from tests.gateway.upstream import (
    DONE,
    ROLE,
    Connection,
    Script,
    chunk,
    completion,
    good_stream,
    respond,
    silent,
    stream,
)

DEAD = respond(500, {"error": {"message": "EngineCore encountered an issue.", "code": 500}})
STREAM = chat_body(stream=True)


async def cut_body(connection: Connection) -> None:
    """Begin a whole answer, and be gone."""
    await connection.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{")
    connection.close()


@pytest.fixture
def poison() -> Poison:
    """Return what knows nothing yet."""
    return Poison(b"s" * 64)


def test_one_loss_is_forgiven(poison: Poison) -> None:
    """A lost replica takes every request on it along."""
    assert not poison.lost(b"a", 0)
    assert not poison.refuses(b"a", 0)


def test_two_losses_are_poison_for_a_while(poison: Poison) -> None:
    """The second replica is the last; after the while the request may try again."""
    poison.lost(b"a", 0)
    assert poison.lost(b"a", 1)
    assert poison.refuses(b"a", 1 + REFUSED_S)
    assert not poison.refuses(b"b", 1)
    assert not poison.refuses(b"a", 2 + REFUSED_S)
    assert not poison.lost(b"a", 2 + REFUSED_S)


def test_losses_that_lie_far_apart_do_not_add_up(poison: Poison) -> None:
    """A request that is sent every day meets a lost replica now and then."""
    poison.lost(b"a", 0)
    assert not poison.lost(b"a", 1 + REFUSED_S)


def test_an_answer_clears_a_request(poison: Poison) -> None:
    """What was answered once is no poison."""
    poison.lost(b"a", 0)
    poison.answered(b"a", 1)
    assert not poison.lost(b"a", 2)


def test_many_at_once_are_an_outage(poison: Poison) -> None:
    """When everything dies no single request is to blame, and all may try again."""
    bodies = [b"%d" % number for number in range(MAX_POISON + 1)]
    for body in bodies:
        poison.lost(body, 0)
        poison.lost(body, 1)
    assert not any(poison.refuses(body, 2) for body in bodies)


def test_memory_is_bounded(poison: Poison) -> None:
    """The oldest suspect goes first."""
    for number in range(MAX_SUSPECTS + 1):
        poison.lost(b"%d" % number, 0)
    assert not poison.lost(b"0", 1)
    assert poison.lost(b"%d" % MAX_SUSPECTS, 1)


@pytest.mark.parametrize("script", [
    pytest.param(DEAD, id="the engine says that it died"), pytest.param(cut_body, id="a body cut short"),
])  # fmt: skip
async def test_a_request_costs_two_replicas_at_most(world: World, script: Script) -> None:
    """Its own two attempts are the last; the client is told not to try again, and nobody else suffers."""
    world.upstream.then(script)
    for _ in range(3):
        async with world.post() as response:
            body = await response.json()
        assert (response.status, body["error"]["code"]) == (502, "upstream_failed")
        assert "refused for 10 minutes" in body["error"]["message"]
        assert response.headers["x-should-retry"] == "false"
    assert len(world.upstream.requests) == 2
    assert world.ledger.settled == [0, 0, 0]
    world.upstream.then(respond(200, completion()))
    async with world.post(key=SEEING) as response:
        assert response.status == 200, "another tenant's request is another request"
    async with world.post(chat_body(temperature=0.5)) as response:
        assert response.status == 200, "so is a changed one"
    lines = [await world.usage() for _ in range(5)]
    assert [line["attempts"] for line in lines] == [2, 0, 0, 1, 1]
    assert world.metric('gptoss_attempts_refused_total{reason="poison"}') == 2
    assert world.metric('gptoss_retries_total{reason="reset"}') == 0


async def test_streams_that_broke_after_their_first_word_count_too(world: World) -> None:
    """A stream loses one replica and is not retried; the next of the same body is the last."""
    world.upstream.then(stream(ROLE, chunk({"content": "Hel"}), end=False))
    for _ in range(2):
        async with world.post(STREAM) as response:
            text = await response.text()
        assert DONE.decode() not in text
    assert "refused for 10 minutes" in text
    async with world.post(STREAM) as response:
        assert response.status == 502
    assert len(world.upstream.requests) == 2


async def test_what_costs_no_replica_is_no_poison(world: World) -> None:
    """A full queue, an absent pool and a kept connection that was reset say nothing against the request."""
    busy = respond(503, {"error": {"message": "busy", "code": 503}})
    away = respond(500, "Internal Server Error", content_type="text/plain")
    for script in (busy, away):
        world.upstream.then(script)
        async with world.post() as response:
            assert "x-should-retry" not in response.headers
    assert len(world.upstream.requests) == 4


async def test_a_lost_replica_is_survived(world: World) -> None:
    """A victim's second attempt answers it, and clears it."""
    world.upstream.then(cut_body, respond(200, completion()), DEAD, respond(200, completion()))
    for _ in range(2):
        async with world.post() as response:
            assert response.status == 200
    assert world.metric('gptoss_retries_total{reason="cut"}') == 1
    assert world.metric('gptoss_retries_total{reason="engine_died"}') == 1


async def test_second_attempts_stay_within_the_budget(world: World) -> None:
    """With twelve requests, ten are tried again and two keep their first failure."""
    away = respond(503, "no server", content_type="text/plain")
    world.admission.report("big", "replica-1", EngineLoad(0, 0, 0.0, 1024))  # room for all of them
    world.upstream.then(*[away] * 12, silent)
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(_status(world, number)) for number in range(12)]
        for _ in range(2):
            line = await world.usage()
            assert (line["outcome"], line["status"], line["attempts"]) == ("upstream_failed", 503, 1)
        while len(world.upstream.requests) < 22:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for task in asked:
            task.cancel()
    for _ in range(10):
        assert (await world.usage())["outcome"] == "client_gone_waiting"
    assert len(world.upstream.requests) == 22
    assert world.metric('gptoss_attempts_refused_total{reason="retry_budget"}') == 2


async def _status(world: World, number: int) -> int:
    async with world.post(chat_body(seed=number)) as response:
        return int(response.status)


async def test_a_stream_that_showed_only_comments_is_tried_again(worlds: Worlds) -> None:
    """Comments are nothing of an answer: after them the second attempt is still the client's first word."""
    world = await worlds(gateway={"stream": {"commit_after_s": 0.02, "keepalive_s": 0.02}})
    moment = asyncio.Event()

    async def dies(connection: Connection) -> None:
        await moment.wait()
        await stream(ROLE, b": usage p=10 r=50 a=0\n\n", end=False)(connection)

    world.upstream.then(dies, good_stream())
    async with world.post(STREAM) as response:
        await response.content.readuntil(b"\n\n")
        moment.set()
        text = await response.text()
    assert text.endswith(DONE.decode())
    assert text.count('"role"') == 1
    line = await world.usage()
    assert (line["outcome"], line["attempts"], line["settled"]) == ("completed", 2, 15)
    assert line["tokens"]["wasted"] == 50
