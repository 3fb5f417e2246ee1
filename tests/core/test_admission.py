"""The waiting room: who goes in, who waits, who is refused, and when."""

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.core.admission import DEFAULT_BOUNDS, YIELD_S, Bounds, Refused, Room, Ticket, value_of, yields
from cluster.core.effort import EFFORTS, Effort
from cluster.core.engine import EngineLoad
from cluster.core.fair_queue import FairQueue
from cluster.core.tier import TIERS

PATIENCE_S: dict[Effort, float] = {"low": 10.0, "medium": 30.0, "high": 300.0}
TOKENS: dict[Effort, int] = {"low": 400, "medium": 1500, "high": 8000}


def ticket(effort: Effort = "low", *, tenant: str = "a", now_s: float = 0.0, **changes: Any) -> Ticket:
    """Return a usual request of ``effort`` that arrives at ``now_s``."""
    usual: dict[str, Any] = {
        "value": value_of(effort),
        "deadline_s": now_s + PATIENCE_S[effort],
        "tokens": TOKENS[effort],
        "size_bytes": 1000,
        "yields": yields(effort),
    }
    return Ticket(tenant=tenant, **(usual | changes))


def full_room(bounds: Bounds = DEFAULT_BOUNDS, *, slots: int = 20) -> tuple[Room, list[Ticket]]:
    """Return a room whose pool of one replica takes no more, and what is inside."""
    room = Room(bounds)
    inside: list[Ticket] = []
    room.report("r", EngineLoad(0, 0, 0.0, slots), 0.0)
    while True:
        new = ticket(tenant="first")
        if room.offer(new, 0.0) != "entered":
            room.leave(new, 0.0)
            return room, inside
        inside.append(new)
        report(room, 0.0, slots=slots)


def report(room: Room, now_s: float, *, slots: int = 20) -> None:
    """Tell the room of its one replica, which has what the room has inside."""
    running = min(slots, room.inside)
    room.report("r", EngineLoad(running, room.inside - running, 0.0, slots), now_s)


def test_a_tenth_more_than_the_slots_goes_in() -> None:
    """Twenty-two requests for twenty slots, and the next one waits."""
    room, inside = full_room()
    assert (room.inside, len(inside), room.waiting) == (22, 22, 0)


def entering(room: Room, effort: Effort, *, now_s: float) -> int:
    """Return how many requests of ``effort`` go in until one has to wait, which leaves again."""
    for count in range(1000):
        new = ticket(effort, tenant=f"{effort} {count}", now_s=now_s)
        if room.offer(new, now_s) != "entered":
            room.leave(new, now_s)
            return count
        report(room, now_s, slots=100)
    raise AssertionError("there is no limit")


def test_high_effort_leaves_slots_to_what_is_short() -> None:
    """Of a hundred forty, in the first seconds, then three; others wait in the engine for a moment, too."""
    room = Room()
    report(room, 0.0, slots=100)
    assert room.offer(ticket("low"), 0.0) == "entered"
    report(room, 0.0, slots=100)
    assert entering(room, "high", now_s=0.0) == 59
    waiting = [ticket("high", tenant="last") for _ in range(50)]
    assert {room.offer(each, 0.0) for each in waiting} == {"waits"}
    low = ticket("low", now_s=29.0)
    room.offer(low, 29.0)
    report(room, 29.0, slots=100)
    assert room.tick(29.0).entered == [low]
    report(room, 30.5, slots=100)
    assert 33 <= len(room.tick(30.5).entered) <= 37
    report(room, 30.5, slots=100)
    for each in waiting:
        if each.waits:
            room.leave(each, 30.5)
    assert 13 <= entering(room, "medium", now_s=30.5) <= 16


def test_a_short_deadline_shortens_the_wait_for_a_burst_to_end() -> None:
    """Nobody is refused for slots that stay free."""
    room = Room()
    report(room, 0.0, slots=100)
    room.offer(ticket("low"), 0.0)
    report(room, 0.0, slots=100)
    entering(room, "high", now_s=0.0)
    hurried = ticket("high", deadline_s=15.0)
    assert room.offer(hurried, 0.0) == "waits"
    assert room.tick(1.6).entered == [hurried]


def test_nothing_is_left_free_where_all_is_high_effort() -> None:
    """Slots that nobody will use would be tokens lost."""
    room = Room()
    report(room, 0.0, slots=100)
    room.offer(ticket("low"), 0.0)
    report(room, 0.0, slots=100)
    assert entering(room, "high", now_s=YIELD_S) == 59
    assert entering(room, "high", now_s=YIELD_S + 1.0) == 50


@pytest.mark.parametrize("ahead", ["nobody", "a tenant that has had its share"])
def test_waiting_high_effort_does_not_keep_others_from_the_last_slots(ahead: str) -> None:
    """Also not of a tenant that got more: what is kept free is for whoever can use it."""
    room = Room()
    report(room, 0.0, slots=100)
    room.offer(ticket("low"), 0.0)
    report(room, 0.0, slots=100)
    entering(room, "high", now_s=0.0)
    high = ticket("high", tenant="first")
    assert room.offer(high, 0.0) == "waits"
    for _ in range(10 if ahead != "nobody" else 1):
        low = ticket("low", tenant="second", tokens=100_000)
        assert room.offer(low, 0.0) == "waits"
        assert room.tick(0.0).entered == [low]
        report(room, 0.0, slots=100)
    assert high.waits


def test_the_place_of_one_that_ends_goes_to_the_earliest_deadline() -> None:
    """A high-effort request came first, and a low-effort one goes first."""
    room, inside = full_room()
    high, low = ticket("high"), ticket("low", now_s=1.0)
    assert [room.offer(high, 0.0), room.offer(low, 1.0)] == ["waits", "waits"]
    room.leave(inside[0], 2.0)
    assert room.tick(2.0).entered == [low]
    for one in inside[1:5]:
        room.leave(one, 30.5)
    report(room, 30.5)
    assert room.tick(30.5).entered == [high]


def test_what_has_waited_long_does_not_delay_what_has_just_come() -> None:
    """Or all would be late in an overload; high effort goes in once no low effort waits, or is refused."""
    room, inside = full_room()
    high, later, low = ticket("high"), ticket("high", now_s=0.5), ticket("low", now_s=238.0)
    room.offer(high, 0.0)
    room.offer(later, 0.5)
    room.offer(low, 238.0)
    report(room, 238.5)
    for second, places, expected in ((239.0, 1, low), (239.5, 4, high)):
        for _ in range(places):
            room.leave(inside.pop(), second)
        report(room, second)
        assert room.tick(second).entered == [expected]
    assert [gone for gone, _ in room.tick(240.5).refused] == [later]


def test_of_equal_requests_the_tenant_that_got_less_goes_first() -> None:
    """One that floods waits behind its own requests alone."""
    room, inside = full_room()
    flood = [ticket(tenant="flood", now_s=0.0) for _ in range(50)]
    assert {room.offer(each, 0.0) for each in flood} == {"waits"}
    for end in inside[:2]:
        room.leave(end, 1.0)
    room.tick(1.0)
    quiet = ticket(tenant="quiet", now_s=1.0)
    room.offer(quiet, 1.0)
    room.leave(inside[2], 1.5)
    assert room.tick(1.5).entered == [quiet]


def test_a_tier_may_go_before_its_deadline_tells() -> None:
    """What is due sooner goes first, and its deadline still says how long it may wait."""
    queue = FairQueue()
    usual, urgent = ticket(tenant="a"), ticket(tenant="a", value=value_of("low", "priority"), due_s=5.0)
    queue.push(usual)
    queue.push(urgent)
    assert queue.next(0.0) is urgent


def test_a_flood_of_early_deadlines_does_not_starve_another_tenants_long_answers() -> None:
    """Once the flood is ahead by a window of tokens, deadlines count no more for it."""
    queue = FairQueue()
    queue.push(high := ticket("high", tenant="quiet"))
    low = [ticket("low", tenant="flood") for _ in range(200)]
    for each in low:
        queue.push(each)
    served = 0
    while (first := queue.next(0.0)) is not high:
        assert first is not None
        queue.serve(first)
        served += 1
    assert 16_000 <= served * 400 <= 16_800


def test_nobody_waits_until_no_engine_could_be_in_time() -> None:
    """It is refused when a fifth of its time is left, and told when to come again."""
    room, _ = full_room()
    room.offer(late := ticket("low"), 0.0)
    assert room.next_event_s(7.5) == 8.0
    assert room.tick(7.99).refused == []
    assert room.tick(8.0).refused == [(late, Refused("deadline", 10))]
    assert (room.waiting, room.next_event_s(8.0)) == (0, None)


def test_a_request_whose_deadline_has_passed_is_refused_at_once() -> None:
    """Unless it may go straight in."""
    room, _ = full_room()
    assert room.offer(ticket(deadline_s=4.0), 5.0) == Refused("overloaded", 1)


def drained(room: Room, inside: list[Ticket], *, seconds: int, tenant: str = "a") -> None:
    """Let one low-effort request wait and go in each half second."""
    for half in range(2 * seconds):
        now = half / 2
        report(room, now)
        room.offer(new := ticket(tenant=tenant, now_s=now), now)
        room.leave(inside.pop(0), now)
        inside += room.tick(now).entered
        assert new.state == "inside"


def test_what_cannot_be_in_time_is_refused_at_once_with_a_true_wait() -> None:
    """Two a second go in, so that of 40 that come together more than half cannot be in within 8 s."""
    room, inside = full_room()
    room.offer(held := ticket("high", tenant="a"), 0.0)  # somebody always waits
    drained(room, inside, seconds=60)
    decisions = [room.offer(ticket(now_s=60.0), 60.0) for _ in range(40)]
    waiting = decisions.count("waits")
    assert 14 <= waiting <= 19
    refusals = [decision for decision in decisions if isinstance(decision, Refused)]
    assert {(refusal.reason, refusal.retry_after_s) for refusal in refusals} == {("overloaded", 1)}
    assert room.offer(ticket(now_s=60.0, tenant="quiet"), 60.0) == "waits"
    assert held.waits


def test_in_a_full_room_the_least_valuable_gives_its_place() -> None:
    """High effort before medium before low, and the latest of those; flex before all of them."""
    room, _ = full_room(Bounds(max_waiting=3))
    first, second, flex = ticket("high"), ticket("high"), ticket("low", value=value_of("low", "flex"))
    for each in (first, second, flex):
        assert room.offer(each, 0.0) == "waits"
    for expected in (flex, second, first):
        assert room.offer(ticket("low"), 0.0) == "waits"
        assert room.next_event_s(0.0) == 0.0
        assert [gone for gone, _ in room.tick(0.0).refused] == [expected]
    assert isinstance(room.offer(ticket("low"), 0.0), Refused)
    assert room.waiting == 3


def test_in_a_full_room_the_tenant_with_the_most_waiting_gives_first() -> None:
    """A flood of what is worth most does not take the place of another's only request."""
    room, _ = full_room(Bounds(max_waiting=30))
    room.offer(quiet := ticket("high", tenant="quiet"), 0.0)
    decisions = [room.offer(ticket("low", tenant="flood"), 0.0) for _ in range(60)]
    assert decisions.count("waits") == 29
    assert quiet.waits


def test_the_order_of_values() -> None:
    """Flex before default before priority; of one tier high effort before medium before low."""
    values = [value_of(effort, tier) for tier in TIERS for effort in reversed(EFFORTS)]
    assert values == sorted(set(values))


def test_bytes_are_bounded() -> None:
    """What alone is too large for the room is refused, and pushes nobody out."""
    room, _ = full_room(Bounds(max_bytes=5000))
    assert [room.offer(ticket(), 0.0) for _ in range(4)] == ["waits"] * 4
    assert isinstance(room.offer(ticket(tenant="b", size_bytes=5001), 0.0), Refused)
    assert room.waiting == 4


def test_one_that_leaves_while_it_waits_is_gone_at_once() -> None:
    """Its place goes to the next, and leaving twice does no harm."""
    room, inside = full_room()
    gone, stays = ticket(), ticket()
    for each in (gone, stays):
        room.offer(each, 0.0)
    room.leave(gone, 1.0)
    room.leave(gone, 1.0)
    assert room.waiting == 1
    room.leave(inside[0], 2.0)
    assert room.tick(2.0).entered == [stays]


def test_those_that_come_and_leave_take_no_memory() -> None:
    """Twenty thousand clients that give up while nothing moves leave next to nothing behind."""
    room, _ = full_room()
    room.offer(ticket("high", tenant="stays"), 0.0)
    for number in range(20_000):
        new = ticket(tenant=f"t{number % 50}", now_s=1.0)
        room.offer(new, 1.0)
        room.leave(new, 1.0)
    room.tick(2.0)
    assert len(room._expiries) <= 4
    assert room._queue.entries <= 110


class _World:
    """One gateway's room before replicas that report every second; checks what must always hold."""

    def __init__(self, seed: int, *, slots: int, replicas: int, tenants: int) -> None:
        self.chance, self.room = random.Random(seed), Room(Bounds(max_waiting=60))
        self.slots, self.replicas, self.tenants = slots, replicas, tenants
        self.now = 0.0
        self.inside: list[tuple[float, Ticket]] = []
        self.ended: Counter[str] = Counter()

    def step(self, *, arrivals: int) -> None:
        self.now += 0.1
        over = [entry for entry in self.inside if entry[0] <= self.now]
        self.inside = [entry for entry in self.inside if entry[0] > self.now]
        for _, old in over:
            self.room.leave(old, self.now)
        self.report()
        self.move()
        for _ in range(arrivals):
            self.arrive()
        self.check()

    def report(self) -> None:
        each, more = divmod(len(self.inside), self.replicas)
        for index in range(self.replicas):
            here = each + (index < more)
            running = min(here, self.slots)
            self.room.report(str(index), EngineLoad(running, here - running, 0.5, self.slots), self.now)

    def arrive(self) -> None:
        effort = self.chance.choices(EFFORTS, (60, 30, 10))[0]
        new = ticket(effort, tenant=f"t{self.chance.randrange(self.tenants)}", now_s=self.now)
        decision = self.room.offer(new, self.now)
        if decision == "entered":
            self.enter(new)
        elif isinstance(decision, Refused):
            assert 1 <= decision.retry_after_s <= 120
            self.ended["refused"] += 1
        elif self.chance.random() < 0.05:
            self.room.leave(new, self.now)
            self.ended["left"] += 1
        self.move()

    def move(self) -> None:
        moves = self.room.tick(self.now)
        for each in moves.entered:
            assert each.offered_s <= self.now < each.expires_s
            self.enter(each)
        for each, refusal in moves.refused:
            assert each.state == "gone"
            assert refusal.reason == "overloaded" or self.now >= each.expires_s > self.now - 0.2
            self.ended["refused"] += 1

    def enter(self, new: Ticket) -> None:
        self.inside.append((self.now + new.tokens / 400 * self.chance.uniform(0.5, 1.5), new))

    def check(self) -> None:
        limit = max(self.room.capacity.limit(self.now), 1)
        assert self.room.inside == len(self.inside)
        assert self.room.inside <= max(limit, 4) + 0.5
        assert self.room.waiting <= 60
        if self.room.waiting:
            first = self.room._queue.next(0.0, last_slots=True) or self.room._queue.next(0.0)
            assert first is not None
            assert self.room._free(self.now, first) <= 0
            assert self.room.next_event_s(self.now) is not None


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    slots=st.integers(1, 8),
    replicas=st.integers(1, 4),
    tenants=st.integers(1, 5),
    pace=st.lists(st.integers(0, 6), min_size=50, max_size=150),
)
def test_whatever_comes_the_room_keeps_its_promises(
    seed: int, slots: int, replicas: int, tenants: int, pace: list[int]
) -> None:
    """Never too many inside, nobody past the deadline, none waits beside a free place, all bounded."""
    world = _World(seed, slots=slots, replicas=replicas, tenants=tenants)
    for arrivals in pace:
        world.step(arrivals=arrivals)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    shares=st.lists(st.tuples(st.integers(1, 10), st.sampled_from(EFFORTS)), min_size=2, max_size=6),
)
def test_tenants_that_always_wait_get_equal_tokens(seed: int, shares: list[tuple[int, Effort]]) -> None:
    """However much each asks for, at whatever effort, none is ahead by more than window and request."""
    chance, queue, served = random.Random(seed), FairQueue(), Counter[str]()
    for number, (count, effort) in enumerate(shares):
        for _ in range(count * 5 + 100):
            tokens = TOKENS[effort] * chance.uniform(0.5, 1.5)
            queue.push(ticket(effort, tenant=f"t{number}", tokens=tokens, now_s=chance.uniform(0, 100)))
    largest = 1.5 * max(TOKENS[effort] for _, effort in shares)
    for _ in range(60):
        first = queue.next(0.0)
        assert first is not None
        queue.serve(first)
        served[first.tenant] += round(first.tokens)
        got = [served[f"t{number}"] for number in range(len(shares))]
        assert max(got) - min(got) <= 3 * largest + len(got)


@pytest.mark.parametrize("effort", EFFORTS)
def test_an_idle_room_costs_next_to_nothing(effort: Effort) -> None:
    """In and out again where nobody waits, without a memory of who it was."""
    room = Room()
    room.report("r", EngineLoad(0, 0, 0.0, 8), 0.0)
    for _ in range(100):
        new = ticket(effort)
        assert room.offer(new, 0.0) == "entered"
        room.leave(new, 0.0)
    assert (room._queue.tenants, room.inside) == (0, 0)
