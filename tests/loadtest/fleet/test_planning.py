"""The search over fleets, on measures that are made up, and its picture."""

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.core.effort import EFFORTS
from loadtest.fleet import plan_report
from loadtest.fleet.measures import Group, Measures
from loadtest.fleet.planning import Measure, Plan, plan
from loadtest.fleet.simulation import Setup
from loadtest.fleet.sizing import Objective, Site

SITE = Site(500, 12, 2, (0.6, 0.3, 0.1), "h100-80gb")
OBJECTIVE = Objective((1, 5, 30), (50, 50, 50))


def measuring(
    smallest: int, *, unlucky: int = 0, unlucky_seed: int = 0, short_with_a_death: int = 0
) -> Measure:
    """Return measures in which ``smallest`` replicas hold, that many more while one of them dies."""

    def measure(setups: Iterable[Setup]) -> list[Measures]:
        return [one(setup) for setup in setups]

    def one(setup: Setup) -> Measures:
        needs = smallest + (1 + short_with_a_death if setup.changes else 0)
        held = setup.replicas >= needs and setup.replicas != unlucky and setup.workload.seed != unlucky_seed
        wait_s = 0.5 if held else 40.0
        group = Group(1000, 0.0, 0.01 if setup.changes else 0.0, 0, 0, wait_s, 20.0, 1, 100.0)
        return Measures(dict.fromkeys(EFFORTS, group), {}, 300.0)

    return measure


def planned(measure: Measure, most: int = 20) -> Plan:
    """Return the plan of the usual site."""
    return plan(SITE, OBJECTIVE, measure, most=most)


def test_a_plan_tells_one_to_spare_apart() -> None:
    """The answer, the size below it that fails, two above it, and the fleet that loses a replica."""
    found = planned(measuring(6))
    assert (found.enough, found.spare and found.spare.gpus) == (6, 7)
    assert [size.gpus for size in found.sizes] == [5, 6, 7, 8]
    assert plan_report.answer(found) == "6 h100-80gb GPUs, 7 with one to spare."
    assert found.spare is not None
    assert found.spare.cut == 30
    assert found.spare.load == pytest.approx(found.sizes[1].load), "as many replicas are left"


def test_a_spare_that_is_not_enough_gets_another() -> None:
    """The fleet with a dying replica is judged by itself."""
    found = planned(measuring(6, short_with_a_death=1))
    assert (found.enough, found.spare and found.spare.gpus) == (6, 8)


def test_without_room_for_a_spare_the_plan_says_so() -> None:
    """As many GPUs as may be had are the answer, but none of them may fail."""
    found = planned(measuring(6), most=6)
    assert (found.enough, found.spare) == (6, None)
    assert "none to spare within --max-gpus" in plan_report.answer(found)


@pytest.mark.parametrize(("unlucky", "answer"), [(7, 8), (8, 9)])
def test_a_size_that_passed_by_chance_is_not_the_answer(unlucky: int, answer: int) -> None:
    """Where one of the two sizes above it fails, the search goes on above that one."""
    assert planned(measuring(6, unlucky=unlucky)).enough == answer


def test_the_worst_of_the_repeats_counts() -> None:
    """A size that holds with one seed and not with the other does not hold."""
    assert planned(measuring(2, unlucky_seed=2)).enough is None


def test_no_answer_tells_what_the_largest_fleet_misses() -> None:
    """So that the reader knows which objective to give up, or that more GPUs are needed."""
    found = planned(measuring(99))
    assert found.enough is None
    assert found.why_none == "with 20, low: first token p95 40 s, more than 1"


def test_a_hopeless_load_is_not_simulated() -> None:
    """A fleet that its tokens overfill by far needs no proof."""
    found = plan(replace(SITE, users=100_000), OBJECTIVE, measuring(1), most=20)
    assert found.enough is None
    assert found.sizes == ()


def test_each_size_is_told_as_it_is_known() -> None:
    """A line says what a size misses first, or that it holds."""
    lines: list[str] = []
    plan(SITE, OBJECTIVE, measuring(6), most=20, told=lines.append)
    assert "5 GPUs: low: first token p95 40 s, more than 1" in lines
    assert "6 GPUs: holds" in lines
    assert lines[-1] == "7 GPUs, one of which dies: holds"


@pytest.mark.parametrize("value", [1.0, math.nan], ids=["three efforts", "none came"])
def test_the_picture_is_a_png(value: float, tmp_path: Path) -> None:
    """Also where an effort never came."""
    found = planned(measuring(6))
    sizes = tuple(replace(size, wait_s=(1.0, 1.0, value)) for size in found.sizes)
    path = tmp_path / "plan.png"
    plan_report.save_plot(replace(found, sizes=sizes), path)
    assert path.read_bytes().startswith(b"\x89PNG")
