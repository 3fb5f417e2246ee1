"""The Serve router: what it reads from Ray, and how it counts its own picks."""

import time
import warnings
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.core import hint
from cluster.core.effort import EFFORTS, Effort
from cluster.serving.picks import MOST_PICKS, Picks
from cluster.settings import RoutingSettings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray's own, at import
    from cluster.serving.router import EffortRouter

LOW = hint.render(hint.RouteHint(effort="low", expected_output_tokens=400, prompt_tokens=20))


def replica(name: str, node: str = "n1", **stats: Any) -> Any:
    """Return a running replica as Ray shows it, with fresh statistics but for ``stats``."""
    idle = {"t": time.time(), "running": 0, "waiting": 0, "slots": 8, "kv_use": 0.0, "expected_tokens": 0}
    return SimpleNamespace(
        replica_id=SimpleNamespace(unique_id=name), node_id=node, routing_stats={**idle, **stats}
    )


def request(session_id: str = LOW) -> Any:
    """Return a request as Ray shows it: the hint's header is its session id, empty when absent."""
    return SimpleNamespace(metadata=SimpleNamespace(session_id=session_id))


@pytest.fixture
def router() -> EffortRouter:
    """Return a router as Serve makes it, without the rest of Serve."""
    made = EffortRouter.__new__(EffortRouter)
    made.initialize_state()
    return made


async def pick(router: EffortRouter, replicas: list[Any], asked: Any) -> str:
    """Return the name of the one replica chosen."""
    ranks = await router.choose_replicas(replicas, asked)
    assert [len(rank) for rank in ranks] == [1]
    return str(ranks[0][0].replica_id.unique_id)


async def test_picks_since_the_statistics_spread_a_burst(router: EffortRouter) -> None:
    """Ten requests in one interval of silence go half and half, though the statistics never change."""
    before = time.time() - 0.5
    replicas = [replica("a", t=before), replica("b", t=before)]
    names = [await pick(router, replicas, request()) for _ in range(10)]
    assert names.count("a") == names.count("b") == 5


async def test_new_statistics_replace_own_picks(router: EffortRouter) -> None:
    """What a replica reports includes what was sent before, so it is not counted twice."""
    before = time.time() - 0.5
    first = [replica("a", t=before), replica("b", t=before, running=2)]
    assert await pick(router, first, request()) == "a"
    later = time.time() + 0.001
    second = [replica("a", t=later, running=1), replica("b", t=later, running=2)]
    assert await pick(router, second, request()) == "a"


async def test_the_replica_to_avoid_comes_from_the_hint(router: EffortRouter) -> None:
    """The header names it as ``x-engine-replica`` did."""
    told = hint.render(
        hint.RouteHint(effort="low", expected_output_tokens=1, prompt_tokens=1, attempt=2, avoid="a")
    )
    assert await pick(router, [replica("a"), replica("b", running=8)], request(told)) == "b"


@pytest.mark.parametrize(
    "session_id", ["", "v=9;e=low", "x" * 300], ids=["none", "unknown version", "too long"]
)
async def test_a_bad_hint_means_least_load(router: EffortRouter, session_id: str) -> None:
    """Nothing that a header holds can stop the routing."""
    assert await pick(router, [replica("a", running=2), replica("b")], request(session_id)) == "b"


async def test_a_replica_that_never_reported_can_be_picked(router: EffortRouter) -> None:
    """The first request after a start comes before the first statistics."""
    silent = replica("a")
    silent.routing_stats = {}
    assert await pick(router, [silent], request()) == "a"
    silent.routing_stats = None
    assert await pick(router, [silent], request()) == "a"


def demanding(name: str, **stats: Any) -> Any:
    """Return a replica that was sent a third of each effort."""
    return replica(name, demand={"low": 400, "medium": 400, "high": 400}, **stats)


@pytest.mark.parametrize(("effort", "name"), [("low", "c"), ("high", "a")])
async def test_reports_draw_the_lanes(router: EffortRouter, effort: Effort, name: str) -> None:
    """Two thirds for low effort and a third for high, though the lane's replica is the fuller one."""
    replicas = [demanding("a", running=2), demanding("b", running=7), demanding("c", running=2)]
    told = hint.render(hint.RouteHint(effort, expected_output_tokens=400, prompt_tokens=20))
    assert await pick(router, replicas, request(told)) == name


async def test_the_pools_settings_are_the_policy() -> None:
    """Without a weight for lanes, low and high effort go to the same replica."""
    router = EffortRouter.__new__(EffortRouter)
    router.initialize_state(policy=RoutingSettings(lanes=0, tokens=0).model_dump())
    for effort in EFFORTS:
        told = hint.render(hint.RouteHint(effort, expected_output_tokens=400, prompt_tokens=20))
        assert await pick(router, [demanding("a", running=6), demanding("b")], request(told)) == "b"


async def test_each_node_has_routers_that_send_as_much(router: EffortRouter) -> None:
    """A pick counts once for every router of the cluster: here for two on each of three nodes."""
    before = time.time() - 0.5
    replicas = [
        replica(f"r{running}", node=f"n{running}", t=before, slots=64, running=running)
        for running in (0, 3, 12)
    ]
    assert [await pick(router, replicas, request()) for _ in range(2)] == ["r0", "r3"]


async def test_a_replica_that_died_is_left_at_once(router: EffortRouter) -> None:
    """Serve then offers another list, with no word from any replica."""
    replicas = [replica("a"), replica("b", running=5)]
    assert await pick(router, replicas, request()) == "a"
    assert await pick(router, replicas[1:], request()) == "b"


async def test_silence_shows_without_another_report(
    router: EffortRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a replica stops reporting, its last report grows old in the router, too."""
    replicas = [replica("a"), replica("b", t=time.time() + 4, running=7)]
    assert await pick(router, replicas, request()) == "a"
    later = time.time() + 6
    monkeypatch.setattr(time, "time", lambda: later)
    assert await pick(router, replicas, request()) == "b"


async def test_without_replicas_the_answer_is_empty(router: EffortRouter) -> None:
    """Serve then waits and asks again."""
    assert await router.choose_replicas([], request()) == [[]]


async def test_replicas_that_are_gone_are_forgotten(router: EffortRouter) -> None:
    """A router outlives thousands of replicas."""
    for number in range(50):
        await pick(router, [replica(f"r{number}")], request())
    assert len(router._picks) == 1


def test_picks_of_a_silent_replica_are_bounded() -> None:
    """Requests and tokens stay consistent when the oldest are dropped."""
    picks = Picks()
    for number in range(MOST_PICKS + 10):
        picks.add(float(number), 1.1, 3.3)
    assert (picks.requests, picks.tokens) == pytest.approx((1.1 * MOST_PICKS, 3.3 * MOST_PICKS))
    picks.drop_until(float(MOST_PICKS + 8))
    assert (picks.requests, picks.tokens) == pytest.approx((1.1, 3.3))
    picks.drop_until(float(MOST_PICKS + 9))
    assert (picks.requests, picks.tokens) == (0, 0)
