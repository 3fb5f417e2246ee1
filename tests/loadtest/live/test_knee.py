"""The search for the knee, on systems whose knee is known."""

import pytest

from loadtest.live.figures import Figures
from loadtest.live.knee import Level, Search
from loadtest.live.plan import Knee
from loadtest.live.shapes import KneeFinder
from loadtest.verdicts import Verdict
from tests.loadtest.live.made import record


def tried(search: Search, holds: int) -> tuple[list[int], Search]:
    """Search a system that holds up to so many users; return the loads that were tried."""
    loads = []
    while (users := search.next) is not None:
        loads.append(users)
        search = search.plus(Level(users, users <= holds, () if users <= holds else ("slow",), 0.0, 1.0))
        assert len(loads) < 50
    return loads, search


@pytest.mark.parametrize("holds", [1, 3, 4, 7, 37, 100, 499])
def test_the_knee_is_found_to_within_its_share(holds: int) -> None:
    """What is reported held, and is at most a tenth, or one user, below the truth."""
    loads, search = tried(Search(Knee(kind="knee", first=4, within=0.1)), holds)
    assert search.held <= holds
    assert holds - search.held <= max(1, 0.1 * search.held)
    assert len(loads) == len(set(loads))


def test_the_load_grows_by_its_factor_until_it_breaks() -> None:
    """Then the search halves what is between."""
    loads, _ = tried(Search(Knee(kind="knee", first=4, factor=2, within=0.1)), 20)
    assert loads == [4, 8, 16, 32, 24, 20, 22, 21][: len(loads)]
    assert loads[:5] == [4, 8, 16, 32, 24]


def test_a_system_that_never_breaks_is_searched_to_the_most() -> None:
    """No more users than the plan allows."""
    loads, search = tried(Search(Knee(kind="knee", first=4, most=50)), 10**6)
    assert max(loads) == 50
    assert (search.held, search.broke) == (50, None)


def test_a_system_that_never_holds_has_no_knee() -> None:
    """The search goes down to one user before it says so."""
    loads, search = tried(Search(Knee(kind="knee", first=4)), 0)
    assert loads == [4, 2, 1]
    assert search.held == 0


def test_a_load_above_one_that_broke_does_not_count_as_held() -> None:
    """Chance may let a higher level hold: the knee is the load up to which all held."""
    search = Search(Knee(kind="knee"))
    for users, held in ((8, False), (4, True), (16, True)):
        search = search.plus(Level(users, held, (), 0.0, 1.0))
    assert search.held == 4


def finder(least: int = 2) -> KneeFinder:
    """Return a finder that judges by the time to the first token."""

    def judge(found: dict[str, Figures]) -> list[Verdict]:
        spans = found["low"].ttft_s if "low" in found else None
        return [
            Verdict("fast", spans is not None and spans.p95 < 0.5, "" if spans is None else str(spans.p95))
        ]

    knee = Knee(kind="knee", first=4, most=4, settle_s=5, seconds=10, least=least)
    return KneeFinder(knee, ["low"], judge)  # type: ignore[arg-type]


def test_a_level_counts_what_ended_after_it_settled() -> None:
    """A slow answer while users start does not break it."""
    drives = finder()
    assert drives.users(100.0) == 4
    drives.take(record(at_s=101.0, e2e_s=2.0, ttft_s=9.0))
    for _ in range(2):
        drives.take(record(at_s=106.0, e2e_s=2.0))
    assert drives.users(114.0) == 4
    assert drives.users(115.0) is None
    (level,) = drives.search.levels
    assert (level.held, level.first_s, level.last_s) == (True, 105.0, 115.0)


def test_a_level_is_prolonged_for_want_of_requests_but_not_for_ever() -> None:
    """After three times its length it is judged by what there is."""
    drives = finder(least=20)
    assert drives.users(100.0) == 4
    drives.take(record(at_s=106.0, e2e_s=2.0, ttft_s=0.7))
    assert drives.users(130.0) == 4
    assert drives.users(135.0) == 2
    (level,) = drives.search.levels
    assert level.broken == ("fast (0.7)",)
