"""What counts as a wait, and the verdict on a run."""

import pytest

from cluster.core.effort import Effort
from loadtest.effort.results import Fate, Found, Outcome, Run, System, judge
from loadtest.verdicts import last_line


def outcome(waited_s: float, fate: Fate = "served", effort: Effort = "low", reason: str = "") -> Outcome:
    """Return one request."""
    return Outcome(0.0, effort, fate, waited_s, tokens=40 if fate == "served" else 0, reason=reason)


def found(*outcomes: Outcome) -> Found:
    """Return one run of one system."""
    return Found(outcomes, tokens_per_s=1.0, late_ms=1.0)


def run(ours: list[Found], theirs: list[Found]) -> Run:
    """Return a run of both systems."""
    results: dict[System, list[Found]] = {"gateway": ours, "round-robin": theirs}
    return Run({}, results)


GOOD, BASE = found(outcome(1.0)), found(outcome(10.0))


@pytest.mark.parametrize(
    ("fate", "effort", "wait_s"),
    [
        ("served", "low", 0.5),
        ("waiting", "high", 0.5),
        ("refused", "low", 10.0),
        ("left", "medium", 30.0),
        ("failed", "high", 300.0),
    ],
)
def test_who_is_not_served_counts_as_waiting_until_its_deadline(
    fate: Fate, effort: Effort, wait_s: float
) -> None:
    """A quick refusal improves no figure; who still waits at the end has waited so long."""
    assert outcome(0.5, fate, effort).wait_s == wait_s


def test_every_bar_can_hold() -> None:
    """Figures that just reach their bars hold them."""
    assert last_line(judge(run([GOOD] * 3, [BASE] * 3))) == "3 of 3 bars held"


@pytest.mark.parametrize(
    ("ours", "theirs", "bar"),
    [
        (found(outcome(1.01)), found(outcome(10.0, "left"), outcome(11.0)), 0),
        (GOOD, found(outcome(9.9)), 1),
        (GOOD, found(outcome(10.0), outcome(1.0, "failed", "high", "status 500")), 2),
    ],
    ids=["a long wait", "a good baseline", "a failure"],
)
def test_one_bad_run_of_three_breaks_one_bar(ours: Found, theirs: Found, bar: int) -> None:
    """Medians forgive nothing."""
    verdicts = judge(run([GOOD, ours, GOOD], [BASE, theirs, BASE]))
    assert [verdict.held for verdict in verdicts] == [place != bar for place in range(3)]


def test_a_system_that_was_not_measured_holds_nothing() -> None:
    """Nor does one with fewer runs."""
    assert last_line(judge(run([], []))) == "0 of 1 bars held"
    assert last_line(judge(run([GOOD], []))) == "0 of 1 bars held"


def test_waits_are_counted_by_effort_and_fate() -> None:
    """Percentiles are of all that came, served or not."""
    one = found(outcome(0.1), outcome(0.2), outcome(0.3, "refused"), outcome(4.0, "waiting", "high"))
    low = one.by_effort()["low"]
    assert (low.count, low.served, low.refused, low.p50_s, low.p95_s) == (3, 2, 1, 0.2, 10.0)
    assert set(one.by_effort()) == {"low", "high"}
