"""What answers cost is learned while they run, and outlives a restart."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from cluster.core.cost import CostModel
from cluster.core.lengths import bucket
from cluster.gateway import cost_keeper
from cluster.gateway.admission import Gate
from cluster.gateway.cost_keeper import CostKeeper
from tests.gateway.conftest import World, chat_body
from tests.gateway.test_settlement import Lengths, taught
from tests.gateway.upstream import DONE, END, ROLE, STREAM_HEAD, Connection, chunk, usage_chunk


def model() -> CostModel:
    """Return a cost model that has learned nothing."""
    return CostModel({("gpt-oss-120b", "low"): 400})


def learned() -> CostModel:
    """Return one that has learned."""
    costs = model()
    for _ in range(50):
        costs.observe("gpt-oss-120b", "low", "acme", reasoning=10, answer=30, cut=False)
    return costs


async def slowly(connection: Connection) -> None:
    """Stream a word of an answer that has taken 70 tokens so far; then end it, once the test says so."""
    await connection.send(STREAM_HEAD)
    await connection.event(ROLE, b": usage p=10 r=60 a=10\n\n", chunk({"content": "Hel"}))
    await connection.seen.go_on.wait()
    end = usage_chunk(reasoning=60, answer=90)
    await connection.event(chunk({"content": "lo"}), chunk({}, finish="stop"), end, DONE)
    await connection.send(END)


async def test_running_answers_are_learned_from_and_counted_once(world: World) -> None:
    """They have passed the lengths below theirs; in the end each length was passed once."""
    world.upstream.then(slowly)
    async with world.post(chat_body(stream=True)) as response:
        async for line in response.content:
            if b"Hel" in line:
                break
        for _ in range(2):
            world.gate.learn_so_far()
        ended: Lengths = ([], [bucket(70)])
        assert taught(world) == ended
        world.upstream.requests[0].go_on.set()
        await response.read()
    await world.usage()
    assert taught(world) == ([bucket(150)], [])
    [own] = [entry for entry in world.costs.snapshot()["learned"] if entry["tenant"]]
    assert [index for index, _ in own["passed"]] == list(range(bucket(150)))
    assert {round(weight, 2) for _, weight in own["passed"]} == {1.0}


def test_what_was_learned_outlives_a_restart(tmp_path: Path) -> None:
    """The file holds all of it, and only its owner may read it."""
    path, costs = tmp_path / "costs.json", learned()
    CostKeeper(costs, Gate(), path).save()
    assert CostKeeper(model(), Gate(), path).model.snapshot() == costs.snapshot()
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b'{"version": 2, "lear', id="cut"),
        pytest.param(b'{"keys": []}', id="another's"),
        pytest.param(b'{"version": 1, "learned": []}', id="of another version"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b"\xff\xfe", id="no text"),
    ],
)
def test_a_bad_file_is_named_and_ignored(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """In one line; the gateway starts anew, and replaces the file."""
    path = tmp_path / "costs.json"
    path.write_bytes(content)
    keeper = CostKeeper(model(), Gate(), path)
    assert keeper.model.snapshot() == model().snapshot()
    [line] = caplog.messages
    assert str(path) in line
    assert "starting anew" in line
    keeper.save()
    assert CostKeeper(model(), Gate(), path).model.snapshot() == model().snapshot()


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It stops nothing: what is lost is a good start."""
    CostKeeper(learned(), Gate(), tmp_path / "nowhere" / "costs.json").save()
    [line] = caplog.messages
    assert "nowhere" in line


def test_without_a_file_nothing_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And nothing is said."""
    with caplog.at_level(logging.DEBUG):
        CostKeeper(learned(), Gate(), None).save()
    assert (caplog.messages, list(tmp_path.iterdir())) == ([], [])


async def test_it_is_kept_while_the_gateway_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps follow each other, and each so many are followed by a file."""
    swept, kept, path = 0, asyncio.Event(), tmp_path / "costs.json"

    class Swept(Gate):
        def learn_so_far(self) -> None:
            nonlocal swept
            swept += 1

    def saved(self: Any, data: bytes) -> None:
        path.write_bytes(data)
        loop.call_soon_threadsafe(kept.set)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(cost_keeper, "SWEEP_S", 0)
    monkeypatch.setattr("cluster.stores.snapshot.Snapshot.save", saved)
    following = asyncio.create_task(CostKeeper(learned(), Swept(), path).follow())
    await asyncio.wait_for(kept.wait(), 10)
    following.cancel()
    assert swept >= cost_keeper.SWEEPS_A_SAVE
    monkeypatch.undo()
    assert CostKeeper(model(), Gate(), path).model.snapshot() == learned().snapshot()
