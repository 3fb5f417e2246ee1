"""Effort lanes: how the demand draws the boundary."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.effort import EFFORTS, Effort
from cluster.core.lanes import WINDOW_S, ByEffort, Demand, boundary, long_share, memberships, packed

shares = st.floats(0, 1)
pressures = st.floats(1, 10)
sizes = st.integers(1, 200)


def test_demand_fades_with_time() -> None:
    """After one window a request counts 1/e; one that comes counts in full."""
    demand = Demand().plus("high", 8000, 1000.0).plus("low", 400, 1000.0 + WINDOW_S)
    assert demand.at(1000.0 + WINDOW_S) == pytest.approx((400, 0, 8000 / 2.718281828))


def test_a_clock_that_goes_back_loses_nothing() -> None:
    """Machines correct their clocks; a negative age would make old demand grow."""
    assert Demand().plus("low", 400, 1000.0).at(900.0).low == 400


def test_shares_do_not_depend_on_when_they_are_read() -> None:
    """All efforts fade alike, so the boundary rests while nothing comes."""
    demand = Demand().plus("high", 800, 0.0).plus("medium", 600, 3.0).plus("low", 200, 5.0)
    assert long_share([demand.at(5.0)]) == pytest.approx(long_share([demand.at(300.0)]))


def test_without_demand_there_is_no_share() -> None:
    """Nothing is known of a fleet that has just started, or of none."""
    assert long_share([]) is None
    assert long_share([ByEffort()]) is None


@pytest.mark.parametrize(
    ("share", "lane"),
    [(1250 / 1490, 4.5), (625 / 945, 2.6), (2850 / 3010, 6.5)],
    ids=["60/30/10", "80/15/5", "40/30/30"],
)
def test_the_boundary_goes_by_what_is_not_low_effort(share: float, lane: float) -> None:
    """Of eight replicas, in the three mixes of efforts that were simulated."""
    assert boundary(share, 8, 4.0) == pytest.approx(lane, abs=0.1)


def test_a_lane_has_room_for_what_is_there() -> None:
    """Of 64 slots 0.9 are 57.6, so that many requests take one replica."""
    assert packed(57.6, 64, 0.9) == pytest.approx(1)
    assert packed(0, 64, 0.9) == 0


@given(st.tuples(shares, shares), sizes, pressures)
def test_more_demand_never_shrinks_its_lane(pair: tuple[float, float], size: int, pressure: float) -> None:
    """Nor does any single replica leave it."""
    less, more = sorted(pair)
    edges = boundary(less, size, pressure), boundary(more, size, pressure)
    assert edges[0] <= edges[1] + 1e-9
    before, after = (memberships(size, edge) for edge in edges)
    assert all(one <= other + 1e-9 for one, other in zip(before, after, strict=True))


@given(shares, sizes, pressures)
def test_lanes_are_the_whole_fleet(share: float, size: int, pressure: float) -> None:
    """Each rank belongs to the lanes by parts that lie in [0, 1], the first ranks most to the high one."""
    edge = boundary(share, size, pressure)
    parts = memberships(size, edge)
    assert 0 <= edge <= size + 1e-9
    assert len(parts) == size
    assert all(0 <= part <= 1 for part in parts)
    assert parts == sorted(parts, reverse=True)
    assert sum(0 < part < 1 for part in parts) <= 1


@given(shares, sizes)
def test_a_little_more_demand_moves_the_boundary_a_little(share: float, size: int) -> None:
    """It is continuous, so that noise in the demand cannot make a replica flap from side to side."""
    moved = boundary(min(1.0, share + 0.001), size, 2.0) - boundary(share, size, 2.0)
    assert moved <= 0.002 * size + 1e-9


@given(st.lists(st.tuples(st.sampled_from(EFFORTS), st.integers(1, 9000), st.integers(0, 3)), max_size=30))
def test_what_replicas_count_apart_is_what_one_would_count(
    requests: list[tuple[Effort, int, int]],
) -> None:
    """The fleet's demand is the sum of the reports, wherever the requests went."""
    one, four = Demand(), [Demand()] * 4
    for second, (effort, tokens, place) in enumerate(requests):
        one = one.plus(effort, tokens, float(second))
        four[place] = four[place].plus(effort, tokens, float(second))
    share = long_share([part.at(99.0) for part in four])
    assert share == pytest.approx(long_share([one.at(99.0)]))
