"""How many failures an address may have."""

from cluster.core.guessing import BURST, EVERY_S, count_failure


def failures(moments_s: list[float]) -> list[bool]:
    """Return for each failure, by its time, whether it is answered as such."""
    full_at_s, told = 0.0, []
    for now_s in moments_s:
        later_s = count_failure(full_at_s, now_s)
        told.append(later_s is not None)
        full_at_s = full_at_s if later_s is None else later_s
    return told


def test_a_burst_and_then_one_now_and_then() -> None:
    """Twenty failures at once, then one every six seconds, however many there are between."""
    at_once = failures([100.0] * 1000)
    assert at_once == [True] * BURST + [False] * (1000 - BURST)
    guessing = failures([100 + number / 10 for number in range(36_000)])
    assert sum(guessing) == BURST + 3600 / EVERY_S - 1


def test_rest_gives_the_whole_burst_back() -> None:
    """After two minutes an address is as good as new; and no rest gives more than that."""
    rested = failures([100.0] * (BURST + 1) + [100.0 + BURST * EVERY_S] * (BURST + 1))
    assert rested == ([True] * BURST + [False]) * 2
    assert sum(failures([1e9] * 100)) == BURST


def test_slow_failures_are_never_refused() -> None:
    """One client that tries an old key every ten seconds gets its answer each time."""
    assert all(failures([10.0 * number for number in range(1000)]))
