"""Filter, score, pick: what decides where a request goes."""

import dataclasses

import pytest

from cluster.core.hint import RouteHint
from cluster.core.routing import (
    Choice,
    Policy,
    ReplicaView,
    choose,
    expected_load,
    free_cache,
    free_slots,
)

NOW = 1000.0
HINT = RouteHint(effort="medium", expected_output_tokens=1500, prompt_tokens=100)


def view(name: str, **changes: float | None) -> ReplicaView:
    """Return a fresh, idle replica of 8 slots, but for ``changes``."""
    idle = ReplicaView(replica=name, stats_at_s=NOW - 0.3, slots=8)
    return dataclasses.replace(idle, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("replicas", "hint", "expected"),
    [
        pytest.param(
            [view("a", expected_tokens=9000, running=2), view("b", expected_tokens=800, running=2)],
            HINT,
            Choice("b", "scored"),
            id="fewer tokens to come beats as many requests",
        ),
        pytest.param(
            [view("a", expected_tokens=8000, running=1), view("b", expected_tokens=7000, running=8)],
            HINT,
            Choice("a", "scored"),
            id="a free slot beats slightly fewer tokens",
        ),
        pytest.param(
            [view("a", kv_use=0.98), view("b", kv_use=0.10)],
            HINT,
            Choice("b", "scored"),
            id="free cache decides between equals",
        ),
        pytest.param(
            [view("a", picked=3, picked_tokens=4500), view("b")],
            HINT,
            Choice("b", "scored"),
            id="own picks count before the replica reports them",
        ),
        pytest.param(
            [view("a"), view("b", running=8, waiting=20, expected_tokens=90_000)],
            HINT._replace(avoid="a"),
            Choice("b", "scored"),
            id="the replica that lost an attempt is avoided, however busy the other",
        ),
        pytest.param(
            [view("a")],
            HINT._replace(avoid="a"),
            Choice("a", "all_avoided"),
            id="with no other replica the avoided one serves",
        ),
        pytest.param(
            [view("a", running=3), view("b", running=1, expected_tokens=50_000)],
            None,
            Choice("b", "no_hint"),
            id="without a hint the fewest requests win",
        ),
        pytest.param(
            [view("a", running=4), view("b", running=5, slots=32)],
            None,
            Choice("b", "no_hint"),
            id="fewest by share of slots",
        ),
        pytest.param(
            [view("a", stats_at_s=NOW - 60), view("b", running=8, waiting=9)],
            HINT,
            Choice("b", "scored"),
            id="a silent replica gets nothing while another speaks",
        ),
        pytest.param(
            [view("a", stats_at_s=NOW - 60, running=2), view("b", stats_at_s=None)],
            HINT,
            Choice("b", "stale"),
            id="when all are silent the least load known wins",
        ),
    ],
)
def test_choice(replicas: list[ReplicaView], hint: RouteHint | None, expected: Choice) -> None:
    """Each row is one rule."""
    assert choose(replicas, hint, now_s=NOW, tie=0.0) == expected


@pytest.mark.parametrize(("tie", "name"), [(0.0, "a"), (0.34, "b"), (0.99, "c")])
def test_equals_share_evenly(tie: float, name: str) -> None:
    """The tie number selects among the best, so that equal replicas do not all wait for the first."""
    assert choose([view("a"), view("b"), view("c")], HINT, now_s=NOW, tie=tie).replica == name


def test_weights_stand_outside_the_scorers() -> None:
    """With another policy the same snapshot gives another choice."""
    replicas = [view("a", expected_tokens=9000), view("b", kv_use=0.9)]
    tokens_only, cache_only = Policy(weights={expected_load: 1.0}), Policy(weights={free_cache: 1.0})
    assert choose(replicas, HINT, now_s=NOW, tie=0.0, policy=tokens_only).replica == "b"
    assert choose(replicas, HINT, now_s=NOW, tie=0.0, policy=cache_only).replica == "a"


@pytest.mark.parametrize("scorer", [expected_load, free_slots, free_cache])
def test_scores_stay_between_0_and_1(scorer: object) -> None:
    """Even beyond full: an overloaded replica, a cache counted above its size, nothing at all."""
    replicas = [view("a", running=8, waiting=99, kv_use=1.2, expected_tokens=10**9), view("b")]
    assert callable(scorer)
    assert all(0 <= score <= 1 for score in scorer(replicas, HINT))
