"""How many requests a pool takes, as one gateway learns it."""

from collections.abc import Iterator

import pytest

from cluster.core.capacity import EQUALISER, START, Capacity
from cluster.core.engine import EngineLoad


def load(running: int, *, waiting: int = 0, slots: int = 8, kv_use: float = 0.1) -> EngineLoad:
    """Return a replica's report."""
    return EngineLoad(running, waiting, kv_use, slots)


def fill(capacity: Capacity, now_s: float) -> int:
    """Send as many requests as may go; return how many went."""
    sent = 0
    while capacity.free(now_s) > 0:
        capacity.enter(now_s)
        sent += 1
        assert sent < 10_000
    return sent


def test_before_any_report_a_modest_number_may_go() -> None:
    """Traffic must flow for anything to be learned, but no more than a small pool bears."""
    assert fill(Capacity(), 0.0) == START


def test_a_pool_that_never_reports_does_not_block_for_ever() -> None:
    """Each second without any report lets a few more in."""
    capacity = Capacity()
    fill(capacity, 0.0)
    assert [fill(capacity, float(second)) for second in range(1, 4)] == [START] * 3


def test_an_idle_hour_is_no_silence() -> None:
    """A rush after it gets the places that there were, and not more for want of reports."""
    capacity = Capacity()
    capacity.report("a", load(0), 0.0)
    assert fill(capacity, 3600.0) <= 10


def test_one_gateway_gets_a_tenth_more_than_the_slots() -> None:
    """The limit is 1.1 times the slots that the replicas report, once it has seen that it is alone."""
    capacity = Capacity()
    for second in range(0, 300):
        for replica in "abcd":
            capacity.report(replica, load(capacity.own // 4), float(second))
        fill(capacity, float(second))
    assert capacity.own == 35


def test_halved_slots_halve_the_limit_with_the_next_reports() -> None:
    """Nothing about capacity is kept but what the replicas said last."""
    capacity = Capacity()
    for replica in "abcd":
        capacity.report(replica, load(0), 0.0)
    before = capacity.limit(0.0)
    for replica in "abcd":
        capacity.report(replica, load(0, slots=4), 1.0)
    assert capacity.limit(1.0) == pytest.approx(before / 2)


def test_a_lost_replica_counts_no_more() -> None:
    """Its slots and its load go at once."""
    capacity = Capacity()
    capacity.report("a", load(8), 0.0)
    capacity.report("b", load(8), 0.0)
    capacity.lost("b")
    assert (capacity.slots, capacity.others) == (8, 8)


def test_a_silent_replica_is_forgotten_while_the_others_go_on() -> None:
    """Eleven seconds on, and many reports of the others, it is gone; and no report of it alone proves it."""
    capacity = Capacity()
    capacity.report("a", load(1), 0.0)
    capacity.report("b", load(1), 0.0)
    capacity.forget(100.0)
    assert capacity.slots == 16
    for tenth in range(110):
        capacity.report("a", load(1), tenth / 10)
    capacity.forget(11.0)
    assert capacity.slots == 8


def test_an_engine_out_of_cache_has_the_slots_that_it_runs() -> None:
    """What waits for KV cache shows that more slots than these cannot be used."""
    capacity = Capacity()
    capacity.report("a", load(5, waiting=3, slots=64, kv_use=0.97), 0.0)
    assert capacity.slots == 5


def test_the_place_of_a_request_that_has_ended_may_be_taken_at_once() -> None:
    """A full pool stays full: one out, one in, without waiting for a report."""
    capacity = Capacity()
    capacity.report("a", load(0), 0.0)
    for tenth in range(1, 20):
        fill(capacity, tenth / 10)
        capacity.report("a", load(capacity.own), tenth / 10)
    full = capacity.own
    capacity.leave()
    assert fill(capacity, 1.901) == 1
    assert capacity.own == full


class _Pool:
    """Replicas of 8 slots, and gateways that send them all they may; reports of each replica every second."""

    def __init__(self, *, replicas: int, gateways: int) -> None:
        self.gateways = [Capacity() for _ in range(gateways)]
        self.jobs: list[list[tuple[float, int]]] = [[] for _ in range(replicas)]
        """By replica: when each request ends, and whose it is."""
        self.slots = 8

    @property
    def inside(self) -> int:
        return sum(len(jobs) for jobs in self.jobs)

    def run(self, *, until_s: float, wanting: range | None = None, seconds: Iterator[float]) -> Iterator[int]:
        """Give the requests inside at every 50 ms; ``seconds`` says how long each request takes."""
        for step in range(int(until_s * 20)):
            now = step / 20
            for jobs in self.jobs:
                for job in [job for job in jobs if job[0] <= now]:
                    jobs.remove(job)
                    self.gateways[job[1]].leave()
            for number in wanting or range(len(self.gateways)):
                self._send(number, now, seconds)
            if step % 4 == 0:
                self._report(step, now)
            yield self.inside

    def _send(self, number: int, now: float, seconds: Iterator[float]) -> None:
        while self.gateways[number].free(now) > 0:
            self.gateways[number].enter(now)
            min(self.jobs, key=len).append((now + next(seconds), number))

    def _report(self, step: int, now: float) -> None:
        for index, jobs in enumerate(self.jobs):
            if step // 4 % 5 == index % 5:
                running = min(len(jobs), self.slots)
                said = load(running, waiting=len(jobs) - running, slots=self.slots)
                for gateway in self.gateways:
                    gateway.report(str(index), said, now)


def _lasting() -> Iterator[float]:
    """Give durations between 2 s and 18 s that look random and are always the same."""
    turn = 0.0
    while True:
        turn = (turn + 0.6180339887) % 1
        yield 2 + 16 * turn


@pytest.mark.parametrize(("gateways", "peak"), [(1, 1.02), (2, 1.1), (4, 1.12), (8, 1.2)])
def test_gateways_without_coordination_oversubscribe_by_a_tenth_at_most(gateways: int, peak: float) -> None:
    """All of them always want more; the pool holds what one alone would give it, and at most a tenth more.

    Many that see the same free place in old reports may all take it: for a moment, and not on the whole.
    """
    pool = _Pool(replicas=8, gateways=gateways)
    inside = list(pool.run(until_s=120, seconds=_lasting()))
    limit = 1.1 * 64
    assert max(inside) <= peak * limit
    assert min(inside[100:]) >= 0.88 * limit
    assert sum(inside[100:]) / len(inside[100:]) <= 1.1 * limit


def test_gateways_come_to_equal_shares() -> None:
    """One that comes late to a full pool gets its half within a minute or two."""
    pool = _Pool(replicas=8, gateways=2)
    durations = _lasting()
    list(pool.run(until_s=30, seconds=durations, wanting=range(1)))
    for jobs in pool.jobs:  # the clock starts again
        jobs[:] = [(ends_s - 30, number) for ends_s, number in jobs]
    for gateway in pool.gateways:
        gateway._heard_s = 0.0
    list(pool.run(until_s=120, seconds=durations))
    shares = [gateway.own for gateway in pool.gateways]
    assert min(shares) >= 0.35 * sum(shares), shares


def test_halved_slots_are_followed_within_ten_seconds() -> None:
    """Running requests stay, but nobody follows them until the pool holds no more than its new limit."""
    pool = _Pool(replicas=8, gateways=2)
    durations = _lasting()
    list(pool.run(until_s=20, seconds=durations))
    pool.slots = 4
    for gateway in pool.gateways:
        gateway._heard_s = 0.0
    for jobs in pool.jobs:
        jobs[:] = [(ends_s - 20, number) for ends_s, number in jobs]
    list(pool.run(until_s=3, seconds=durations))
    assert all(gateway.limit(3.0) <= 1.1 * 1.1 * 32 for gateway in pool.gateways)


def test_a_gateway_that_fell_behind_goes_on_taking_at_once() -> None:
    """What it has now decides who may still take, not what it had half a minute ago: that would swing."""
    capacity = Capacity()
    for _ in range(50):
        capacity.enter(0.0)
    full = EngineLoad(running=100, waiting=0, kv_use=0.1, slots=100)
    for second in range(120):
        capacity.report("r", full, float(second))
    assert capacity.limit(119.0) == pytest.approx(110 * (1 + EQUALISER / 2), rel=0.001)
    for _ in range(40):
        capacity.leave()
    capacity.report("r", full, 119.1)
    assert capacity.limit(119.1) == pytest.approx(110 * (1 + EQUALISER * 0.9), rel=0.001)
