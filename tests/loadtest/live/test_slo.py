"""Objectives and the verdict on them."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from loadtest.live import figures, phases, slo, watch
from loadtest.live.plan import PlanError, Step
from loadtest.live.records import Record
from loadtest.live.slo import Objective, Objectives
from tests.loadtest.live.made import record, refused

FOLDER = Path(__file__).resolve().parents[3] / "loadtest"
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


@pytest.mark.parametrize("path", sorted(FOLDER.glob("slo*.yaml")), ids=lambda path: path.stem)
def test_the_repository_s_objectives_load(path: Path) -> None:
    """Each file as it stands."""
    assert "low" in slo.load(path).efforts


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


def test_an_overload_is_judged_by_goodput_and_by_how_soon_it_refuses() -> None:
    """A deadline's refusals take as long as the deadline; those told at once may not."""
    shape = Step(kind="step", users=1, before_s=10, overload_s=10, after_s=10)
    before = [record(at_s=1000.0 + n, e2e_s=0.5, output_tokens=100) for n in range(10)]
    during = [record(at_s=1010.0 + n, e2e_s=0.5, output_tokens=100) for n in range(9)]
    told = [refused(at_s=1012.0, e2e_s=0.04), refused(at_s=1013.0, e2e_s=9.0, reason="deadline_exceeded")]
    found = phases.phases(shape, [*before, *during, *told], 1000.0)
    assert [round(one.rates.tokens_per_s) for one in found] == [100, 90, 0]
    assert found[1].refusals["deadline_exceeded"].p99 == 9.0
    assert judged({"goodput_kept": 0.9, "refused_within_s": 0.05}, stretches=found) == [True, True]
    assert judged({"goodput_kept": 0.91, "refused_within_s": 0.03}, stretches=found) == [False, False]


def test_a_process_is_judged_by_its_growth() -> None:
    """Memory by slope and share, files by number; the first fifth does not count."""
    sights = [watch.Sight(1000.0 + 60 * n, "a", 100.0 if n > 1 else 50.0, 20.0, 0.0) for n in range(11)]
    (flat,) = watch.trends(sights)
    assert flat.rss_slope_mib_per_min == pytest.approx(0)
    assert flat.rss_growth == 0
    growing = [watch.Sight(1000.0 + 60 * n, "a", 100.0 + n, 20.0 + n, 0.0) for n in range(11)]
    limits = {"rss_mib_per_min": 0.9, "rss_growth": 0.07, "open_files_growth": 7}
    assert judged(limits, trends=[flat]) == [True, True, True]
    assert judged(limits, trends=watch.trends(growing)) == [False, False, False]


def test_a_system_that_was_not_watched_holds_nothing() -> None:
    """Neither memory nor goodput: what could not be measured does not hold."""
    limits = {"rss_mib_per_min": 1, "rss_growth": 1, "open_files_growth": 1, "goodput_kept": 0.1}
    assert judged(limits) == [False] * 4
    assert judged({"refused_within_s": 1}) == [False]


def judged(
    system: dict[str, float],
    *,
    trends: Sequence[watch.Trend] = (),
    stretches: Sequence[phases.Phase] = (),
) -> list[bool]:
    """Return what holds of the system's objectives."""
    objectives = Objectives.model_validate({"efforts": {"low": {}}, "system": system})
    return [one.held for one in slo.judge_target(trends, stretches, objectives)]


def test_metrics_are_read_as_a_gateway_tells_them() -> None:
    """Of all its labels; a page without a process's memory is none."""
    text = (
        "# HELP x y\nprocess_resident_memory_bytes 1.048576e+08\nprocess_open_fds 17.0\n"
        'gptoss_in_flight{effort="low",model="m"} 2.0\ngptoss_in_flight{effort="high",model="m"} 3.0\n'
    )
    assert watch.parse(text, "a", 5.0) == watch.Sight(5.0, "a", 100.0, 17.0, 5.0)
    with pytest.raises(ValueError, match="tells of no process"):
        watch.parse("up 1\n", "a", 5.0)
