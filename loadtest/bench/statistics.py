"""The few statistics that the benchmark needs. Pure."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure over all repeats."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Return the median of ``values`` and how far they reach. Raises `ValueError` for none."""
    if not values:
        raise ValueError("no values")
    return Spread(statistics.median(values), min(values), max(values))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least ``share`` (0 to 1) of ``values`` do not exceed.

    The nearest-rank definition: always one of the values. Raises `ValueError` for none.
    """
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[max(math.ceil(share * len(ordered)), 1) - 1]


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the least-squares line through ``(x, y)`` points, in y per x.

    Raises `ValueError` where fewer than two different x are given.
    """
    if len({x for x, _ in points}) < 2:
        raise ValueError("a slope needs two different x")
    return statistics.linear_regression([x for x, _ in points], [y for _, y in points]).slope
