"""Objectives and the verdict on them."""

from pathlib import Path

import pytest

from loadtest.live import figures, slo
from loadtest.live.plan import PlanError
from loadtest.live.records import Record
from loadtest.live.slo import Objective, Objectives
from tests.loadtest.live.made import record, refused

STRICT = Objectives(
    efforts={
        "low": Objective(
            ttft_s={"p95": 0.1},
            answer_s={"p50": 0.2},
            inter_token_s={"mean": 0.0101, "p99": 0.0102},
            e2e_s={"p90": 1.0},
            error_share=0.05,
        )
    }
)


def held(records: list[Record], objectives: Objectives = STRICT) -> dict[str, bool]:
    """Return which objectives hold."""
    return {one.bar: one.held for one in slo.judge(figures.by_effort(records), objectives)}


def test_figures_that_just_reach_their_limits_hold() -> None:
    """A limit is the largest value that is allowed."""
    found = held([record()] * 38 + [refused()] * 2)
    assert len(found) == 6
    assert all(found.values()), found


@pytest.mark.parametrize(
    ("records", "broken"),
    [
        ([record(ttft_s=0.11)] * 20, "low: time to first token p95 at most 100 ms"),
        ([record(answer_s=0.21)] * 20, "low: time to first answer p50 at most 200 ms"),
        ([record(gap_sum_s=0.1)] * 20, "low: inter-token time mean at most 10.1 ms"),
        ([record(gaps={470: 9})] * 20, "low: inter-token time p99 at most 10.2 ms"),
        ([record(e2e_s=1.1)] * 20, "low: end to end p90 at most 1 s"),
        ([record()] * 37 + [refused()] * 3, "low: errors at most 5.00%"),
    ],
    ids=["ttft", "answer", "mean gap", "p99 gap", "e2e", "errors"],
)
def test_each_objective_breaks_alone(records: list[Record], broken: str) -> None:
    """One figure beyond its limit breaks one bar."""
    assert [bar for bar, kept in held(records).items() if not kept] == [broken]


def test_too_few_requests_hold_nothing() -> None:
    """A bar that could not be measured does not hold."""
    assert held([record()] * 19) == {"low: at least 20 requests": False}
    assert held([]) == {"low: at least 20 requests": False}


def test_a_time_that_nothing_reached_does_not_hold() -> None:
    """Refusing everything improves no figure."""
    found = held([refused()] * 20)
    assert len(found) == 6
    assert not any(found.values())


def test_the_repository_s_objectives_load() -> None:
    """They name every effort."""
    assert set(slo.load(slo.DEFAULT).efforts) == {"low", "medium", "high"}


def test_an_unknown_point_is_a_mistake(tmp_path: Path) -> None:
    """It is named by its place."""
    path = tmp_path / "slo.yaml"
    path.write_text("efforts: {low: {ttft_s: {p42: 1}}}")
    with pytest.raises(PlanError, match=r"efforts.low.ttft_s"):
        slo.load(path)


def test_objectives_on_no_effort_of_the_plan_are_a_mistake() -> None:
    """They would judge nothing."""
    with pytest.raises(PlanError, match="no objective"):
        STRICT.only(["high"])
