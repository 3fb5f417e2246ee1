"""Two runs side by side: which figures changed by more than chance explains. Pure, by seed."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cluster.core.effort import EFFORTS, Effort
from loadtest.bench.statistics import percentile
from loadtest.live.records import Record
from loadtest.live.results import Run

_RESAMPLES = 1000
_MOST = 5000
"""Values of one figure that are resampled; of more, a random choice."""

Figure = Callable[[Record], float | None]


@dataclass(frozen=True, slots=True)
class Change:
    """One figure of one effort in two runs."""

    effort: Effort
    name: str
    first: float
    second: float
    low: float
    """Second by first: the bounds of a 95 % interval of the bootstrap."""
    high: float

    @property
    def ratio(self) -> float:
        """Second by first."""
        return self.second / self.first

    def worse(self, tolerance: float) -> bool:
        """Whether the second is worse by more than ``tolerance``, and more than by chance."""
        return self.low > 1.0 and self.ratio > 1.0 + tolerance

    def better(self, tolerance: float) -> bool:
        """Whether it is better by more than ``tolerance``, and more than by chance."""
        return self.high < 1.0 and self.ratio < 1.0 - tolerance


def changes(first: Run, second: Run, *, seed: int = 1) -> list[Change]:
    """Return every figure that both runs have; all are times, so that less is better."""
    found = []
    rng = random.Random(seed)  # noqa: S311 - statistics, not a secret
    for effort in EFFORTS:
        for name, figure, share in _FIGURES:
            ours, theirs = (_values(run, effort, figure) for run in (first, second))
            if ours and theirs and percentile(ours, share) > 0:
                low, high = _interval(ours, theirs, share, rng)
                first_value, second_value = percentile(ours, share), percentile(theirs, share)
                found.append(Change(effort, name, first_value, second_value, low, high))
    return found


def errors(first: Run, second: Run) -> list[Change]:
    """Return how the share of errors changed, by effort; its interval is that of two proportions."""
    found = []
    for effort in EFFORTS:
        counts = [run.by_effort().get(effort) for run in (first, second)]
        ours, theirs = counts
        if ours is None or theirs is None or not ours.count or not theirs.count:
            continue
        # add-two smoothing (Agresti and Caffo): it holds for shares near 0, where load tests live
        shares = [(one.count - one.good + 1) / (one.count + 2) for one in (ours, theirs)]
        variance = sum(p * (1 - p) / (n.count + 2) for p, n in zip(shares, (ours, theirs), strict=True))
        reach = 1.96 * float(variance**0.5)
        low, high = ((shares[1] + sign * reach) / shares[0] for sign in (-1, 1))
        found.append(Change(effort, "errors, smoothed share", shares[0], shares[1], max(low, 0.0), high))
    return found


def differences(first: Run, second: Run) -> list[str]:
    """Return what the two runs do not have in common and should."""
    names = ("plan_sha256", "settings_sha256", "machine", "versions", "target")
    return [
        f"{name}: {first.about.get(name, 'not known')} and {second.about.get(name, 'not known')}"
        for name in names
        if first.about.get(name) != second.about.get(name)
    ]


def _interval(
    ours: list[float], theirs: list[float], share: float, rng: random.Random
) -> tuple[float, float]:
    """Return the 95 % interval of the ratio of a percentile, theirs by ours."""
    ratios = []
    sampled = [sorted(rng.sample(one, _MOST)) if len(one) > _MOST else sorted(one) for one in (ours, theirs)]
    for _ in range(_RESAMPLES):
        base, other = (_resampled(one, share, rng) for one in sampled)
        ratios.append(other / max(base, 1e-9))
    return percentile(ratios, 0.025), percentile(ratios, 0.975)


def _resampled(ordered: Sequence[float], share: float, rng: random.Random) -> float:
    """Return a percentile of one resample, without making it: its rank is a binomial's, near normal."""
    count = len(ordered)
    rank = rng.gauss(share * count, (share * (1 - share) * count) ** 0.5)
    return ordered[min(max(round(rank), 0), count - 1)]


def _values(run: Run, effort: Effort, figure: Figure) -> list[float]:
    chosen = (one for one in run.counted if one.effort == effort and one.outcome != "unfinished")
    return [value for one in chosen if (value := figure(one)) is not None]


def _ttft(one: Record) -> float | None:
    return one.ttft_s


def _e2e(one: Record) -> float | None:
    return one.e2e_s if one.good else None


def _gap(one: Record) -> float | None:
    count = sum(one.gaps.values())
    return one.gap_sum_s / count if count else None


_FIGURES: tuple[tuple[str, Figure, float], ...] = (
    ("time to first token, p50", _ttft, 0.5),
    ("time to first token, p95", _ttft, 0.95),
    ("mean inter-token time, p50", _gap, 0.5),
    ("mean inter-token time, p95", _gap, 0.95),
    ("end to end, p50", _e2e, 0.5),
    ("end to end, p95", _e2e, 0.95),
)
