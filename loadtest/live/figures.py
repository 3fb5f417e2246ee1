"""Figures of many requests, by effort. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cluster.core.effort import EFFORTS, Effort
from loadtest.bench.statistics import percentile
from loadtest.live.records import Record, all_gaps, gap_percentile

SHARES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True, slots=True)
class Spans:
    """One kind of time, or speed, over many requests."""

    count: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float

    def at(self, name: str) -> float:
        """Return the mean or a percentile by its name."""
        return float(getattr(self, name))


@dataclass(frozen=True, slots=True)
class Figures:
    """What came of the requests of one effort; requests that the load test itself cut off do not count."""

    count: int
    good: int
    errors: dict[str, int]
    """By outcome and reason."""
    error_share: float
    """Refusals are errors too: their user got no answer."""
    ttft_s: Spans | None
    """None here and below: there was nothing to measure."""
    answer_s: Spans | None
    inter_token_s: Spans | None
    e2e_s: Spans | None
    """Of whole answers."""
    tokens_per_s: Spans | None
    """Output speed of each stream."""
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Rates:
    """Throughput of a stretch of time."""

    seconds: float
    requests_per_s: float
    """Whole answers."""
    tokens_per_s: float
    """Output of whole answers."""


def of(records: Iterable[Record]) -> Figures:
    """Return the figures of some requests."""
    counted = [one for one in records if one.outcome != "unfinished"]
    good = [one for one in counted if one.good]
    errors = Counter(f"{one.outcome}: {one.reason}" for one in counted if not one.good)
    return Figures(
        count=len(counted),
        good=len(good),
        errors=dict(errors.most_common()),
        error_share=errors.total() / len(counted) if counted else 0.0,
        ttft_s=spans([one.ttft_s for one in counted if one.ttft_s is not None]),
        answer_s=spans([one.answer_s for one in counted if one.answer_s is not None]),
        inter_token_s=_inter_token(counted),
        e2e_s=spans([one.e2e_s for one in good]),
        tokens_per_s=spans([speed for one in good if (speed := one.tokens_per_s) is not None]),
        output_tokens=sum(one.output_tokens for one in good),
    )


def by_effort(records: Sequence[Record]) -> dict[Effort, Figures]:
    """Return the figures of every effort that was asked for."""
    asked = {one.effort for one in records}
    return {
        effort: of(one for one in records if one.effort == effort) for effort in EFFORTS if effort in asked
    }


def rates(records: Iterable[Record], first_s: float, last_s: float) -> Rates:
    """Return the throughput between two times; an answer counts where it ended."""
    seconds = max(last_s - first_s, 1e-9)
    ended = [one for one in records if one.good and first_s <= one.ended_s < last_s]
    return Rates(seconds, len(ended) / seconds, sum(one.output_tokens for one in ended) / seconds)


def spans(values: Sequence[float]) -> Spans | None:
    """Return a figure's mean and percentiles; None for no values."""
    if not values:
        return None
    ordered = sorted(values)
    found = {name: percentile(ordered, share) for name, share in SHARES.items()}
    return Spans(len(values), sum(values) / len(values), **found)


def _inter_token(records: Sequence[Record]) -> Spans | None:
    """Return the times between tokens: the mean is exact, the percentiles are those of a histogram."""
    gaps = all_gaps(records)
    count = gaps.total()
    if not count:
        return None
    found = {name: gap_percentile(gaps, share) or 0.0 for name, share in SHARES.items()}
    return Spans(count, sum(one.gap_sum_s for one in records) / count, **found)
