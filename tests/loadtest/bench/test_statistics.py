"""The statistics of a benchmark."""

import pytest

from loadtest.bench.statistics import Spread, percentile, slope, spread


def test_a_spread_is_the_median_and_both_ends() -> None:
    """One outlier moves an end, never the median."""
    assert spread([3.0, 100.0, 1.0]) == Spread(3.0, 1.0, 100.0)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100), (0.0, 1)], ids=str
)
def test_a_percentile_is_one_of_the_values(share: float, expected: int) -> None:
    """The nearest rank: the smallest value that so many values do not exceed."""
    assert percentile(list(range(100, 0, -1)), share) == expected


def test_a_slope_is_that_of_the_line() -> None:
    """Points on a line give its slope, whatever their order."""
    assert slope([(2, 5), (0, 1), (1, 3)]) == pytest.approx(2)


@pytest.mark.parametrize("call", [lambda: spread([]), lambda: percentile([], 0.5), lambda: slope([(1, 1)])])
def test_too_few_values_are_refused(call: object) -> None:
    """Nothing measured is an error, not a zero."""
    with pytest.raises(ValueError, match=r"no values|two different"):
        call()  # type: ignore[operator]
