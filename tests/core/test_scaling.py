"""How many replicas a pool wants."""

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from cluster.core.scaling import QUEUED_S, Decision, Memory, Policy, Queued, ReplicaLoad, decide

SLOTS = 8
POLICY = Policy(slot_tokens=2000, slot_use=0.8, low_wait_s=1.0, down_after_s=300)
LONG_AGO = Memory(whole_since_s=-1000.0)
"""All replicas have run for long; nothing else is known of the past."""

loads = st.builds(
    ReplicaLoad,
    slots=st.just(SLOTS),
    running=st.integers(0, SLOTS),
    running_tokens=st.integers(0, 100_000),
    waiting=st.integers(0, 50),
    waiting_tokens=st.integers(0, 400_000),
    queued_tokens=st.integers(0, 1_000_000),
    low_wait_s=st.floats(0, 5),
)


def once(
    *reports: ReplicaLoad, replicas: int | None = None, least: int = 1, most: int = 100, now_s: float = 0.0
) -> Decision:
    """Decide on ``reports`` alone, as of a pool that has long been as it is."""
    return decide(
        reports,
        replicas=len(reports) if replicas is None else replicas,
        least=least,
        most=most,
        now_s=now_s,
        memory=LONG_AGO,
        policy=POLICY,
    )


def over_time(
    reports: Iterable[ReplicaLoad], *, replicas: int, most: int = 100, every_s: float = 1.0
) -> list[int]:
    """Return the replicas after each of the pool's reports, each standing for what all of it says."""
    memory, counts = Memory(), []
    for index, report in enumerate(reports):
        # The whole pool's load, spread over the replicas that there are.
        per = report._replace(
            running=report.running / replicas,
            running_tokens=report.running_tokens / replicas,
            waiting=report.waiting / replicas,
            waiting_tokens=report.waiting_tokens / replicas,
        )
        decision = decide(
            [per] * replicas,
            replicas=replicas,
            least=1,
            most=most,
            now_s=index * every_s,
            memory=memory,
            policy=POLICY,
        )
        replicas, memory = decision.replicas, decision.memory
        counts.append(replicas)
    return counts


def busy(slots: float) -> ReplicaLoad:
    """Return a pool's load that is worth ``slots``, long requests that all run."""
    return ReplicaLoad(SLOTS, running=slots, running_tokens=slots * 8000)


def test_the_same_number_of_requests_wants_replicas_by_its_effort() -> None:
    """24 requests at one replica: high effort needs three more, low effort is over before they could help."""
    low = ReplicaLoad(SLOTS, running=8, running_tokens=8 * 200, waiting=16, waiting_tokens=16 * 400)
    high = ReplicaLoad(SLOTS, running=8, running_tokens=8 * 7900, waiting=16, waiting_tokens=16 * 8000)
    assert (once(low).replicas, once(low).reason) == (1, "steady")
    assert (once(high).replicas, once(high).reason) == (4, "tokens")


def test_what_waits_in_gateways_counts() -> None:
    """32,000 tokens are the work of 16 slots for as long as a replica takes to start."""
    quiet, told = ReplicaLoad(SLOTS), ReplicaLoad(SLOTS, queued_tokens=32_000)
    assert once(quiet).replicas == 1
    assert once(told).replicas == 3  # 16 slots, of which 0.8 are to be used


def test_a_gateways_queue_that_two_replicas_have_heard_of_counts_once() -> None:
    """Both were told of the same one."""
    told = ReplicaLoad(SLOTS, queued_tokens=32_000)
    assert once(told, told).replicas == 3


def test_low_effort_that_waits_adds_a_quarter_of_the_replicas() -> None:
    """Whatever the tokens say; one replica at least."""
    waits = ReplicaLoad(SLOTS, waiting=1, waiting_tokens=400, low_wait_s=1.1)
    for before, after in ((1, 2), (4, 5), (12, 15)):
        decision = once(*[waits] * before)
        assert (decision.replicas, decision.reason) == (after, "low_wait")
    assert once(waits._replace(low_wait_s=1.0)).reason == "steady"


def test_a_wait_adds_no_more_until_the_last_ones_have_helped() -> None:
    """While replicas start, and for 10 s after that, the wait says nothing new."""
    waits = ReplicaLoad(SLOTS, waiting=1, waiting_tokens=400, low_wait_s=9.0)
    memory, replicas, seen = LONG_AGO, 2, []
    for second in range(60):
        running = 2 if second < 30 else 3  # the third one takes 30 s to start
        decision = decide(
            [waits] * running,
            replicas=replicas,
            least=1,
            most=10,
            now_s=second,
            memory=memory,
            policy=POLICY,
        )
        replicas, memory = decision.replicas, decision.memory
        seen.append(replicas)
    assert seen[:40] == [3] * 40
    assert seen[40:] == [4] * 20


def test_up_is_at_once_and_down_after_the_whole_window() -> None:
    """One report of a burst is enough to start replicas; none stops before fewer have long been enough."""
    burst = over_time([busy(16)] * 5 + [busy(1)] * 400, replicas=1)
    assert burst[:5] == [3] * 5
    assert burst[5 : 5 + 299] == [3] * 299  # 300 s from the burst's last report
    assert burst[5 + 299] == 1


def test_down_is_to_the_most_that_was_wanted() -> None:
    """A burst inside the window keeps what it needed."""
    counts = over_time([busy(30)] + [busy(1)] * 200 + [busy(9)] + [busy(1)] * 350, replicas=1)
    assert counts[200] == 5
    assert counts[300] == 2  # what nine slots need
    assert counts[-1] == 1


def test_running_requests_keep_their_replicas() -> None:
    """Low-effort work that fills the slots is no reason for more, and none for fewer."""
    flow = ReplicaLoad(SLOTS, running=16, running_tokens=16 * 200)
    assert over_time([flow] * 900, replicas=4) == [4] * 900


def test_the_present_counts_as_wanted_at_first() -> None:
    """A controller that has just started must not stop what an earlier one had started for a reason."""
    assert over_time([busy(1)] * 300, replicas=5) == [5] * 300
    assert over_time([busy(1)] * 301, replicas=5)[-1] == 1


def test_fewer_that_are_enough_but_not_yet_for_long() -> None:
    """It is told apart from a load that needs them all."""
    memory = Memory(wanted=((0.0, 3),), whole_since_s=0.0)
    decision = decide([ReplicaLoad(SLOTS)] * 3, replicas=3, least=1, most=5, now_s=9.0, memory=memory)
    assert (decision.replicas, decision.reason) == (3, "settling")
    assert once(busy(5), busy(5)).reason == "steady"


def test_without_reports_nothing_changes() -> None:
    """Replicas that start, or a controller that does, say nothing yet."""
    decision = once(replicas=4)
    assert (decision.replicas, decision.reason) == (4, "blind")


def test_a_low_effort_wait_stops_nothing() -> None:
    """Even where the tokens have long fitted on fewer."""
    waits = ReplicaLoad(SLOTS, waiting=1, waiting_tokens=400, low_wait_s=2.0)
    assert min(over_time([waits] * 900, replicas=4, most=4)) == 4


def test_the_longest_queue_told_of_late_counts() -> None:
    """For three to six seconds: gateways with and without a queue tell in turn."""
    told = Queued().plus(9000, 100.0).plus(0, 100.5).plus(400, 101.0)
    assert [told.at(100.0 + age) for age in (1, 2.9, 3, 5.9)] == [9000] * 4
    assert told.at(100.0 + 2 * QUEUED_S) == 0
    later = told.plus(400, 100.0 + QUEUED_S)
    assert [later.at(100.0 + age) for age in (3, 5.9, 6, 8.9, 9)] == [9000, 9000, 400, 400, 0]


def test_a_queue_is_forgotten_though_the_clock_goes_back() -> None:
    """Machines correct their clocks."""
    assert Queued().plus(9000, 1000.0).at(500.0) == 0


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 9000)), min_size=1))
def test_no_queue_is_missed(hints: list[tuple[float, int]]) -> None:
    """Whatever was told in the last three seconds counts, and nothing from before the last six."""
    told, now_s, past = Queued(), 1000.0, []
    for gap_s, tokens in hints:
        now_s += gap_s
        told = told.plus(tokens, now_s)
        past.append((now_s, tokens))
    known = told.at(now_s)
    assert known >= max(tokens for at_s, tokens in past if now_s - at_s < QUEUED_S - 1e-6)
    assert known in {tokens for at_s, tokens in past if now_s - at_s < 2 * QUEUED_S + 1e-6}


@given(st.lists(loads, max_size=20), st.integers(1, 50), st.integers(1, 20), st.integers(0, 20))
def test_bounds_hold(reports: list[ReplicaLoad], replicas: int, least: int, more: int) -> None:
    """Whatever is reported, and whatever there was before."""
    decision = once(*reports, replicas=replicas, least=least, most=least + more)
    assert least <= decision.replicas <= least + more


@given(
    st.lists(loads, min_size=1, max_size=8),
    st.integers(0, 7),
    st.integers(0, 8),
    st.sampled_from(ReplicaLoad._fields[1:]),
    st.floats(0, 50_000),
)
def test_more_load_never_wants_fewer(
    reports: list[ReplicaLoad], index: int, replicas: int, field: str, more: float
) -> None:
    """In any of what is reported, at any number of replicas."""
    changed = list(reports)
    changed[index % len(reports)] = changed[index % len(reports)]._replace(
        **{field: getattr(changed[index % len(reports)], field) + more}
    )
    assert once(*reports, replicas=replicas).replicas <= once(*changed, replicas=replicas).replicas


@given(st.lists(st.floats(1, 4 / 3), min_size=1, max_size=60), st.floats(1, 200), st.integers(1, 40))
def test_noise_of_a_third_never_turns_back(noise: list[float], level: float, replicas: int) -> None:
    """Replicas that were added stay, and those that were stopped are not missed, however long it lasts."""
    counts = over_time((busy(level * part) for part in noise), replicas=replicas, every_s=100)
    moves = [after - before for before, after in zip([replicas, *counts], counts, strict=False)]
    assert not (max(moves) > 0 and min(moves) < 0)


@given(st.lists(st.floats(0, 500), min_size=2, max_size=100))
def test_any_load_stops_replicas_at_most_once_a_window(levels: list[float]) -> None:
    """After an addition the whole window must pass: a load that swings costs replicas, not restarts."""
    counts = over_time((busy(level) for level in levels), replicas=1, every_s=30)
    last_up = 0
    for index in range(1, len(counts)):
        if counts[index] > counts[index - 1]:
            last_up = index
        if counts[index] < counts[index - 1] and last_up:
            assert (index - last_up) * 30 >= POLICY.down_after_s


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=200))
def test_memory_is_bounded(levels: list[float]) -> None:
    """By the number of replicas, not by the time that it covers."""
    memory = Memory()
    for second, level in enumerate(levels):
        decision = decide(
            [busy(level)], replicas=1, least=1, most=10, now_s=second, memory=memory, policy=POLICY
        )
        memory = decision.memory
        numbers = [number for _, number in memory.wanted]
        assert numbers == sorted(set(numbers), reverse=True)
        assert max(numbers) <= 10
