"""Filter, score, pick: what decides where a request goes."""

import dataclasses
import gc
import random
import statistics
import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core import routing
from cluster.core.effort import EFFORTS, Effort
from cluster.core.hint import RouteHint
from cluster.core.lanes import ByEffort
from cluster.core.routing import DEFAULT_POLICY, Choice, Fleet, Policy, ReplicaView

NOW = 1000.0
HINT = RouteHint(effort="medium", expected_output_tokens=1500, prompt_tokens=100)
TOKENS = {"low": 400, "medium": 1500, "high": 8000}


def view(name: str, **changes: Any) -> ReplicaView:
    """Return a fresh, idle replica of 8 slots, but for ``changes``."""
    return dataclasses.replace(ReplicaView(replica=name, stats_at_s=NOW - 0.3, slots=8), **changes)


def hinted(effort: Effort, **changes: Any) -> RouteHint:
    """Return the hint of a usual request of ``effort``."""
    return RouteHint(effort, TOKENS[effort], 1000)._replace(**changes)


def choose(replicas: list[ReplicaView], hint: RouteHint | None, tie: float = 0.0) -> Choice:
    """Return the choice of a router without peers."""
    return Fleet(replicas, now_s=NOW).choose(hint, tie=tie)


def mixed(count: int, **changes: Any) -> list[ReplicaView]:
    """Return idle replicas with 64 slots; of eight, what they were sent makes five the high lane."""
    demand = ByEffort(low=2400, medium=6000, high=10_000)
    return [view(f"r{number:04}", slots=64, demand=demand, **changes) for number in range(count)]


def send(fleet: Fleet, requests: int, rng: random.Random, mix: tuple[int, ...] = (60, 30, 10)) -> Any:
    """Route and book requests; return how many of each effort went to each replica."""
    sent: dict[Effort, Counter[str]] = {effort: Counter() for effort in EFFORTS}
    for effort in rng.choices(EFFORTS, mix, k=requests):
        choice = fleet.choose(hinted(effort), tie=rng.random())
        fleet.book(choice, TOKENS[effort])
        sent[effort][choice.replica] += 1
    return sent


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
            [view("a", expected_tokens=8000, running=7), view("b", expected_tokens=0, running=8)],
            HINT,
            Choice("a", "scored"),
            id="a free slot beats fewer tokens",
        ),
        pytest.param(
            [view("a", running=1, kv_use=0.98), view("b", running=6, kv_use=0.70)],
            HINT,
            Choice("b", "scored"),
            id="a replica without cache left is full, whatever its slots",
        ),
        pytest.param(
            [view("a", picked=3, picked_tokens=4500), view("b")],
            HINT,
            Choice("b", "scored"),
            id="own picks count before the replica reports them",
        ),
        pytest.param(
            [view("a", stats_at_s=NOW - 4), view("b", stats_at_s=NOW - 0.9)],
            HINT,
            Choice("b", "scored"),
            id="an old report counts less",
        ),
        pytest.param(
            [view("a", stats_at_s=NOW - 0.9), view("b", stats_at_s=NOW - 0.1, running=1)],
            HINT,
            Choice("a", "scored"),
            id="reports of under a second are equally good",
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
            [view("a", running=8, waiting=40), view("b", running=8, waiting=30)],
            HINT,
            Choice("b", "scored"),
            id="among full replicas the shorter queue wins",
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
        pytest.param(
            [view("a", stats_at_s=None), view("b", stats_at_s=None, picked=3)],
            HINT._replace(avoid="a"),
            Choice("b", "stale"),
            id="nor is the avoided one taken then",
        ),
    ],
)
def test_choice(replicas: list[ReplicaView], hint: RouteHint | None, expected: Choice) -> None:
    """Each row is one rule."""
    assert choose(replicas, hint) == expected


@pytest.mark.parametrize(("tie", "name"), [(0.0, "a"), (0.34, "b"), (0.99, "c")])
def test_equals_share_evenly(tie: float, name: str) -> None:
    """The tie number selects among the best, so that equal replicas do not all wait for the first."""
    assert choose([view("a"), view("b"), view("c")], HINT, tie).replica == name


def test_weights_stand_outside_the_scorers() -> None:
    """With another policy the same snapshot gives another choice."""
    replicas = [view("a", expected_tokens=9000, running=1), view("b", running=3)]
    few_requests, few_tokens = Policy(tokens=0), Policy(batch=0, tokens=1)
    assert Fleet(replicas, now_s=NOW, policy=few_requests).choose(HINT, tie=0).replica == "a"
    assert Fleet(replicas, now_s=NOW, policy=few_tokens).choose(HINT, tie=0).replica == "b"


def test_efforts_keep_to_their_lanes() -> None:
    """High and medium effort take the first replicas, low effort the last."""
    sent = send(Fleet(mixed(8), now_s=NOW), 200, random.Random(1))
    assert set(sent["high"]) == set(sent["medium"]) == {f"r{number:04}" for number in range(5)}
    assert set(sent["low"]) == {f"r{number:04}" for number in range(5, 8)}


def test_inside_a_lane_work_is_balanced() -> None:
    """Filling one replica after another would undo what lanes gain."""
    fleet = Fleet(mixed(8), now_s=NOW)
    sent = send(fleet, 300, random.Random(2))
    load = sent["low"] + sent["medium"] + sent["high"]
    for ranks in range(5), range(5, 8):
        lane = [load[f"r{number:04}"] for number in ranks]
        assert max(lane) - min(lane) <= 3


def test_a_full_lane_spills_over() -> None:
    """A lane is a preference: none waits while the other lane has more free slots than a report may miss."""
    for effort in EFFORTS:
        sent = send(Fleet(mixed(8), now_s=NOW), 8 * 64, random.Random(3), tuple(e == effort for e in EFFORTS))
        assert min(sum(sent.values(), Counter()).values()) >= 64 * (1 - routing.ROOM_MARGIN)


def test_lanes_follow_the_demand() -> None:
    """With low-effort demand alone all replicas are the low lane, without any the high one."""
    lanes = [
        Fleet([view(name, demand=demand) for name in "abcd"], now_s=NOW).high_lane
        for demand in (ByEffort(low=1), ByEffort(1, 1, 1), ByEffort(1, 1, 9), ByEffort(high=1))
    ]
    assert lanes == sorted(lanes)
    assert (lanes[0], lanes[-1]) == (0, 4)


def test_the_high_lane_is_large_enough_for_what_it_holds() -> None:
    """Little demand came of late, but what runs takes three of four replicas: fewer would spill over."""
    demand = ByEffort(low=9, high=1)
    views = [view(name, demand=demand, by_effort=ByEffort(medium=3, high=2), running=5) for name in "abcd"]
    assert Fleet(views, now_s=NOW).high_lane == pytest.approx(2 + 2 * (20 / 7.2 - 2) - 1)
    fuller = Fleet(views, now_s=NOW, policy=Policy(lane_fill=0.5))
    assert fuller.high_lane == 4


def test_lanes_count_less_the_fewer_slots_are_free() -> None:
    """In an overload all batches are full, and a shorter queue in the other lane is the better place."""

    def low_goes_to(running: int) -> str:
        high = view("a", slots=64, running=running, demand=ByEffort(low=1, high=4))
        low = view("b", slots=64, running=running, waiting=3, demand=ByEffort(low=1, high=4))
        return Fleet([high, low], now_s=NOW).choose(hinted("low"), tie=0.0).replica

    assert low_goes_to(40) == "b"
    assert low_goes_to(64) == "a"


def test_running_efforts_stand_in_for_demand_that_is_not_reported() -> None:
    """An engine that counts no demand has lanes, too; with neither all replicas are equal."""
    told = Fleet([view(name, by_effort=ByEffort(high=2, low=1)) for name in "abcdef"], now_s=NOW)
    assert told.high_lane == 2
    assert Fleet([view(name) for name in "abcd"], now_s=NOW).high_lane == 2
    assert choose([view("a", running=1), view("b")], hinted("high")).replica == "b"


def test_routers_that_see_the_same_draw_the_same_lanes() -> None:
    """In whatever order Serve lists the replicas, and whatever each router has booked."""
    replicas = mixed(8)
    one = Fleet(replicas, now_s=NOW, peers=2)
    send(one, 30, random.Random(4))
    other = Fleet(replicas[::-1], now_s=NOW, peers=2)
    for effort in EFFORTS:
        home = {Fleet(mixed(8), now_s=NOW).choose(hinted(effort), tie=tie / 9).replica for tie in range(9)}
        assert other.choose(hinted(effort), tie=0.5).replica in home
    assert one.high_lane == other.high_lane


def test_a_new_replica_moves_the_lanes_by_one_rank() -> None:
    """Scaling must not scatter the lanes: requests that run stay where they are."""
    before = Fleet(mixed(8), now_s=NOW)
    after = Fleet([*mixed(8), view("r0000a", slots=64, demand=ByEffort())], now_s=NOW)
    assert before.high_lane <= after.high_lane <= before.high_lane + 1


def test_a_prefix_prefers_one_replica() -> None:
    """The same one for the same key, in the request's lane; different keys spread over the lane."""
    fleet = Fleet(mixed(8), now_s=NOW)
    preferred = [
        {
            fleet.choose(hinted("low", prefix=f"{key:016x}", prompt_tokens=4000), tie=t / 7).replica
            for t in range(7)
        }
        for key in range(200)
    ]
    assert all(len(names) == 1 for names in preferred)
    counts = Counter(name for (name,) in preferred)
    assert set(counts) == {f"r{number:04}" for number in range(5, 8)}
    assert min(counts.values()) >= 20


def test_a_conversation_is_preferred_to_a_prefix() -> None:
    """It shares more of the prompt."""
    fleet = Fleet(mixed(8), now_s=NOW)
    both = hinted("low", prefix="1" * 16, conversation="2" * 16, prompt_tokens=4000)
    one = hinted("low", prefix="2" * 16, prompt_tokens=4000)
    assert fleet.choose(both, tie=0.9) == fleet.choose(one, tie=0.9)


def test_a_loaded_replica_loses_its_prefixes() -> None:
    """To prefill again is cheaper than to crowd one replica."""
    fleet = Fleet(mixed(8), now_s=NOW)
    hint = hinted("medium", prefix="ab" * 8, prompt_tokens=4000)
    sent: Counter[str] = Counter()
    for _ in range(100):
        choice = fleet.choose(hint, tie=0.5)
        fleet.book(choice, 1500)
        sent[choice.replica] += 1
    (_, most), (_, second) = sent.most_common(2)
    assert 10 <= most - second <= 16


def test_a_short_prompt_has_little_to_prefer() -> None:
    """Its prefill costs nearly nothing: one request more on the replica outweighs it."""
    hint = hinted("medium", prefix="ab" * 8, prompt_tokens=50)
    fleet = Fleet(mixed(8), now_s=NOW)
    first = fleet.choose(hint, tie=0.0)
    fleet.book(first, 1500)
    assert fleet.choose(hint, tie=0.0).replica != first.replica


def test_a_replica_that_goes_moves_only_its_own_prefixes() -> None:
    """Rendezvous hashing: the others keep their warm caches."""
    replicas = [view(f"r{number}", slots=64) for number in range(8)]
    hints = [hinted("medium", prefix=f"{key:016x}", prompt_tokens=4000) for key in range(100)]
    whole, fewer = Fleet(replicas, now_s=NOW), Fleet(replicas[1:], now_s=NOW)
    moved = [hint for hint in hints if whole.choose(hint, tie=0) != fewer.choose(hint, tie=0)]
    assert {whole.choose(hint, tie=0).replica for hint in moved} == {"r0"}


def test_peers_are_counted_as_sending_as_much() -> None:
    """Four routers that share the traffic and never hear of each other keep the fleet balanced."""
    rng = random.Random(5)
    routers = [Fleet(mixed(8), now_s=NOW, peers=4) for _ in range(4)]
    total: Counter[str] = Counter()
    for fleet in routers:
        for counts in send(fleet, 40, rng).values():
            total += counts
    high, low = ([total[f"r{number:04}"] for number in ranks] for ranks in (range(5), range(5, 8)))
    assert max(low) - min(low) <= 12
    assert max(high) - min(high) <= 12


@pytest.mark.parametrize(("equals", "requests"), [(1, 9), (2, 5), (8, 2)])
def test_a_pick_counts_with_what_the_peers_send_there(equals: int, requests: float) -> None:
    """As much traffic as this router's meets each of them, and the same equals."""
    fleet = Fleet([*mixed(equals), view("z", running=8)], now_s=NOW, peers=9)
    assert fleet.choose(None, tie=0.0).requests == requests


def test_many_peers_do_not_herd() -> None:
    """Thirty-two routers with one request each do not all take the same replica."""
    rng = random.Random(6)
    names = Counter(
        Fleet(mixed(64), now_s=NOW, peers=32).choose(hinted("low"), tie=rng.random()).replica
        for _ in range(32)
    )
    assert max(names.values()) <= 8


reported = st.builds(
    ReplicaView,
    replica=st.text(max_size=5),
    stats_at_s=st.none() | st.floats(NOW - 20, NOW + 1),
    running=st.integers(0, 300),
    waiting=st.integers(0, 300),
    slots=st.integers(1, 256),
    kv_use=st.floats(0, 1.1),
    expected_tokens=st.integers(0, 10**7),
    by_effort=st.builds(ByEffort, *[st.integers(0, 300)] * 3),
    demand=st.none() | st.builds(ByEffort, *[st.floats(0, 1e9)] * 3),
    picked=st.integers(0, 5000),
    picked_tokens=st.integers(0, 10**7),
)
fleets = st.lists(reported, min_size=1, max_size=12, unique_by=lambda view: view.replica)
ties = st.floats(0, 1, exclude_max=True)
keys = st.text(max_size=16)
hints = st.none() | st.builds(
    RouteHint,
    st.sampled_from(EFFORTS),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    prefix=keys,
    conversation=keys,
)


def is_stale(one: ReplicaView) -> bool:
    """Return whether the report of a replica is too old, or missing."""
    return one.stats_at_s is None or NOW - one.stats_at_s > DEFAULT_POLICY.stale_after_s


@given(fleets, hints, ties, st.integers(0, 11), st.integers(1, 256))
def test_a_filtered_replica_is_never_chosen(
    views: list[ReplicaView], hint: RouteHint | None, tie: float, which: int, peers: int
) -> None:
    """Nor one that is avoided or silent, while there is another, whatever the peers and the scores."""
    hint = hint and hint._replace(avoid=views[which % len(views)].replica)
    choice = Fleet(views, now_s=NOW, peers=peers).choose(hint, tie=tie)
    usable = {one.replica for one in views if not is_stale(one)} or {one.replica for one in views}
    assert choice.replica in usable
    if hint and len(usable) > 1:
        assert choice.replica != hint.avoid
    elif hint and usable == {hint.avoid}:
        assert choice.reason == "all_avoided"


@given(fleets, hints, ties, st.randoms(use_true_random=False))
def test_the_same_snapshot_gives_the_same_answer(
    views: list[ReplicaView], hint: RouteHint | None, tie: float, shuffle: random.Random
) -> None:
    """However often it is asked, and in whatever order the replicas are listed."""
    fleet = Fleet(views, now_s=NOW)
    first = fleet.choose(hint, tie=tie)
    assert fleet.choose(hint, tie=tie) == first
    assert Fleet(shuffle.sample(views, len(views)), now_s=NOW).choose(hint, tie=tie) == first


@given(fleets, hints, ties, st.integers(1, 64))
def test_booking_is_as_if_the_picks_had_been_in_the_snapshot(
    views: list[ReplicaView], hint: RouteHint | None, tie: float, peers: int
) -> None:
    """What a fleet keeps up to date is what it would be when made anew."""
    fleet = Fleet(views, now_s=NOW, peers=peers)
    choice = fleet.choose(hint, tie=tie)
    fleet.book(choice, 700)
    more = choice.requests
    booked = [
        dataclasses.replace(one, picked=one.picked + more, picked_tokens=one.picked_tokens + more * 700)
        if one.replica == choice.replica
        else one
        for one in views
    ]
    assert fleet.choose(hint, tie=tie) == Fleet(booked, now_s=NOW, peers=peers).choose(hint, tie=tie)


@given(reported, st.floats(0, 1), st.sampled_from(EFFORTS), st.integers(0, 10**6))
def test_scores_stay_between_0_and_1(
    one: ReplicaView, membership: float, effort: Effort, prompt_tokens: int
) -> None:
    """Even beyond full: an overloaded replica, a cache counted above its size, a clock that is ahead."""
    scores = [
        routing.batch(one),
        routing.room(one),
        routing.tokens(one),
        routing.freshness(one, NOW, DEFAULT_POLICY),
        routing.lane(effort, membership),
        routing.prefix(prompt_tokens, routing.room(one)),
    ]
    assert all(0 <= score <= 1 for score in scores)


@given(reported, hints, ties)
def test_one_replica_serves_all(one: ReplicaView, hint: RouteHint | None, tie: float) -> None:
    """Lanes, staleness and load change nothing where there is no choice."""
    assert choose([one], hint, tie).replica == one.replica


@pytest.mark.parametrize(("replicas", "most_us"), [(64, 100), (1000, 2000)])
def test_a_choice_is_quick(replicas: int, most_us: int) -> None:
    """At the 99th percentile, booking included; the bound here is five times that for shared machines.

    The best of some passes counts, as what else runs on the machine only adds.
    """
    rng = random.Random(7)
    fleet = Fleet(mixed(replicas, running=20, expected_tokens=40_000), now_s=NOW, peers=2)
    asked = [
        hinted(effort, prefix=f"{rng.getrandbits(64):016x}", avoid="r0001")
        for effort in rng.choices(EFFORTS, (60, 30, 10), k=1000)
    ]

    def p99_us() -> float:
        took_us = []
        gc.disable()
        try:
            for hint in asked:
                started = time.perf_counter()
                fleet.book(fleet.choose(hint, tie=rng.random()), hint.expected_output_tokens)
                took_us.append((time.perf_counter() - started) * 1e6)
        finally:
            gc.enable()
        return statistics.quantiles(took_us, n=100)[98]

    assert any(p99_us() < 5 * most_us for _ in range(5))
