"""Facts about distributions of lengths, some of which were cut."""

import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.core.lengths import BUCKETS, MAX_TOKENS, PERCENTILE, Fit, bucket, fit, prior

counts = st.lists(st.sampled_from([0.0, 0.0, 1.0, 3.0, 250.0]), min_size=BUCKETS, max_size=BUCKETS)
means = st.floats(1, MAX_TOKENS)
NONE = [0.0] * BUCKETS


def counted(lengths: Sequence[int]) -> list[float]:
    """Return how many of the lengths are in each bucket."""
    found = [0.0] * BUCKETS
    for tokens in lengths:
        found[bucket(tokens)] += 1
    return found


def gone_on(lengths: Sequence[int]) -> list[float]:
    """Return how many have passed each bucket, of answers that are longer than that."""
    found = [0.0] * BUCKETS
    for tokens in lengths:
        for index in range(bucket(tokens)):
            found[index] += 1
    return found


def of(ended: Sequence[int], cut: Sequence[int] = (), *, expected: float) -> Fit:
    """Return the fit of answers that ended and of answers that were cut; ``expected`` is the prior's mean."""
    return fit(prior(expected), counted(ended), gone_on([*ended, *cut]), weight=10)


def drawn(mean: float, number: int, *, seed: int = 0, sigma: float = 1.0) -> list[int]:
    """Return log-normal lengths of that mean."""
    rng = random.Random(seed)
    middle = math.log(mean) - sigma**2 / 2
    return [max(1, round(rng.lognormvariate(middle, sigma))) for _ in range(number)]


def longer_than(found: Fit, index: int) -> float:
    """Return the share of the answers beyond a bucket."""
    return sum(found.shares[index + 1 :])


@pytest.mark.parametrize("mean", [16, 400, 1500, 8000])
def test_a_prior_has_the_mean_that_it_was_given(mean: float) -> None:
    """To within what buckets blur, also when it is fitted to nothing; its percentile is the log-normal's."""
    given_back = fit(prior(mean), NONE, NONE, weight=1)
    assert prior(mean).mean == mean
    assert given_back.mean == pytest.approx(mean, rel=0.01)
    assert given_back.p95 == pytest.approx(mean * math.exp(-0.5 + 1.645), rel=0.01)


@given(means, counts, counts)
def test_a_fit_is_a_distribution(mean: float, ended: list[float], passed: list[float]) -> None:
    """No share is negative, they add up to 1, and mean and percentile are possible lengths."""
    found = fit(prior(mean), ended, passed, weight=10)
    assert min(found.shares) >= 0
    assert sum(found.shares) == pytest.approx(1)
    assert 0 < found.mean <= MAX_TOKENS * 1.0001
    assert 0 < found.p95 <= MAX_TOKENS


@given(means, counts, counts, st.integers(0, BUCKETS - 1), st.sampled_from([1.0, 1000.0]))
def test_an_answer_that_went_on_never_lowers_an_expectation(
    mean: float, ended: list[float], passed: list[float], index: int, number: float
) -> None:
    """One more makes no length less likely to be exceeded, so neither the mean nor the percentile falls."""
    before = fit(prior(mean), ended, passed, weight=10)
    passed[index] += number
    after = fit(prior(mean), ended, passed, weight=10)
    assert all(longer_than(after, at) >= longer_than(before, at) - 1e-9 for at in range(BUCKETS))
    assert after.mean >= before.mean * (1 - 1e-9)
    assert after.p95 >= before.p95 * (1 - 1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_whole_answers_are_learned(seed: int) -> None:
    """Mean and percentile are those of the answers."""
    lengths = drawn(1500, 5000, seed=seed)
    found = of(lengths, expected=400)
    assert found.mean == pytest.approx(sum(lengths) / len(lengths), rel=0.02)
    assert sum(tokens <= found.p95 for tokens in lengths) / len(lengths) == pytest.approx(
        PERCENTILE, abs=0.01
    )


@pytest.mark.parametrize("seed", range(5))
def test_answers_of_clients_that_leave_at_any_time_are_learned(seed: int) -> None:
    """Half of them are cut, at random: the mean is found, where taking cut ones for whole loses half."""
    rng = random.Random(seed)
    lengths = drawn(1500, 5000, seed=seed)
    patience = [round(rng.expovariate(1 / 1500)) + 1 for _ in lengths]
    pairs = list(zip(lengths, patience, strict=True))
    ended = [length for length, left in pairs if length <= left]
    cut = [left for length, left in pairs if length > left]
    assert 0.35 < len(cut) / len(lengths) < 0.65
    assert of(ended, cut, expected=500).mean == pytest.approx(1500, rel=0.15)
    assert of(ended + cut, expected=500).mean < 0.6 * 1500
    assert of(ended, expected=500).mean < 0.6 * 1500


@pytest.mark.parametrize("limit", [200, 1000])
def test_beyond_a_limit_the_priors_shape_decides(limit: int) -> None:
    """All that is known of an answer at its limit is that it went on: as the prior does from there."""
    every_one = of([], [limit] * 10_000, expected=400)
    start = bucket(limit)
    assert sum(every_one.shares[:start]) < 0.002
    for index in range(start, BUCKETS):
        assert longer_than(every_one, index) / longer_than(every_one, start) == pytest.approx(
            longer_than(prior(400), index) / longer_than(prior(400), start)
        )


@given(st.integers(1, MAX_TOKENS * 2))
def test_a_bucket_holds_its_lengths(tokens: int) -> None:
    """Buckets follow each other without a gap."""
    index = bucket(tokens)
    assert 0 <= index < BUCKETS
    assert index == BUCKETS - 1 or 2 ** (index / 4) * 0.999 <= tokens <= 2 ** ((index + 1) / 4) * 1.001
