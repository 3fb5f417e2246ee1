"""The table of faults: what it counts, and the bound that few trials allow."""

import json
from pathlib import Path

import pytest

from tests.faults import results
from tests.faults.kinds import KINDS
from tests.faults.trial import Trial


def made(kind: str, *findings: str, **ends: int) -> Trial:
    """Return a trial with these findings and ends."""
    return Trial(
        kind=kind,
        seed=1,
        findings=findings,
        ends={end.replace("_", " ", 1): count for end, count in ends.items()},
        requests=sum(ends.values()),
        lost=ends.get("cut", 0),
        billed_minus_sent=(-3, 4),
        disturbed_s=1.04,
        recovery_s=5.0 + len(findings),
    )


@pytest.mark.parametrize(
    ("failures", "tried", "bound"),
    [(0, 3, 0.6316), (0, 60, 0.0487), (1, 60, 0.0767), (3, 3, 1.0), (2, 20, 0.2826)],
)
def test_the_bound_is_clopper_and_pearsons(failures: int, tried: int, bound: float) -> None:
    """One-sided, 95 %: values as in published tables."""
    assert results.upper_bound(failures, tried) == pytest.approx(bound, abs=2e-4)


def test_a_row_sums_the_trials_of_a_kind() -> None:
    """Survived are those without findings; the rest are sums, medians and extremes."""
    first, second = KINDS[0].name, KINDS[1].name
    trials = [
        made(first, complete=10, told_upstream_broken=2, refused_upstream_failed=1, cut=1),
        made(first, "a word twice", complete=5),
        made(second, complete=3),
    ]
    (row, other) = results.rows(trials)
    assert (row.name, row.tried, row.survived, row.requests) == (first, 2, 1, 19)
    assert (row.told, row.lost, row.billed_minus_sent) == (3, 1, (-3, 4))
    assert (row.recovery_median_s, row.recovery_max_s, row.disturbed_s) == (5.5, 6.0, 1.0)
    assert (other.name, other.tried, other.survived) == (second, 1, 1)


def test_the_table_is_written_twice(tmp_path: Path) -> None:
    """For machines with every finding, for people as one table."""
    trials = [made(KINDS[0].name, "a word twice", complete=5)]
    results.write(tmp_path, {"date": "today"}, trials)
    document = json.loads((tmp_path / "faults.json").read_text())
    assert document["trials"][0]["findings"] == ["a word twice"]
    text = (tmp_path / "faults.md").read_text()
    assert "- date: today" in text
    assert f"| {KINDS[0].name}: {KINDS[0].tells} | 0 / 1 | 100.0 % |" in text
