"""The requests that a run sends."""

import itertools
from collections import Counter

import pytest

from loadtest.effort.arrivals import MEAN_TOKENS, MIX, arrivals, mean_tokens, rate


def test_a_seed_decides_everything() -> None:
    """Two systems get the same requests; another seed brings others."""
    one = arrivals(per_s=4, seconds=120, seed=1)
    assert one == arrivals(per_s=4, seconds=120, seed=1)
    assert one != arrivals(per_s=4, seconds=120, seed=2)


def test_a_long_run_is_a_poisson_process_of_the_mix() -> None:
    """Rate, mix and the spread of the gaps are as asked; times rise and end with the run."""
    found = arrivals(per_s=4, seconds=5000, seed=3)
    times = [one.at_s for one in found]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    mean = sum(gaps) / len(gaps)
    assert times == sorted(times)
    assert times[-1] < 5000
    assert len(found) / 5000 == pytest.approx(4, rel=0.03)
    assert sum((gap - mean) ** 2 for gap in gaps) / len(gaps) == pytest.approx(mean**2, rel=0.08)
    counts = Counter(one.effort for one in found)
    assert {effort: counts[effort] / len(found) for effort in MIX} == pytest.approx(MIX, rel=0.06)


def test_the_rate_makes_the_load() -> None:
    """Requests per second times their mean output is the load's share of the capacity."""
    assert MEAN_TOKENS == {"low": 16, "medium": 60, "high": 320}
    assert rate(1.4, 400) * mean_tokens() == pytest.approx(560)
