"""Two runs side by side: what changed is told from chance."""

import random

import pytest

from loadtest.live import compare
from loadtest.live.records import Record
from tests.loadtest.live.made import record, refused, run


def spread(seed: int, times: float = 1.0) -> list[Record]:
    """Return two hundred requests whose first tokens come after about 0.2 s."""
    chance = random.Random(seed)
    return [record(ttft_s=times * chance.lognormvariate(-1.6, 0.4)) for _ in range(200)]


def change(first: list[Record], second: list[Record], name: str) -> compare.Change:
    """Return one figure's change."""
    (found,) = [one for one in compare.changes(run(first), run(second)) if one.name == name]
    return found


def test_the_same_run_twice_has_not_changed() -> None:
    """Every ratio is 1."""
    found = compare.changes(run(spread(1)), run(spread(1)))
    assert {one.ratio for one in found} == {1.0}
    assert not any(one.worse(0.0) or one.better(0.0) for one in found)


@pytest.mark.parametrize("seed", range(2, 12))
def test_chance_is_not_taken_for_a_change(seed: int) -> None:
    """Two runs of one system, ten times; the tolerance is a tenth."""
    found = change(spread(1), spread(seed), "time to first token, p50")
    assert not found.worse(0.1)
    assert not found.better(0.1)


def test_a_real_change_is_told() -> None:
    """Half as slow again; and the other way round it is better."""
    found = change(spread(1), spread(2, 1.5), "time to first token, p95")
    assert found.worse(0.1)
    assert found.low < 1.5 < found.high
    assert change(spread(2, 1.5), spread(1), "time to first token, p95").better(0.1)


def test_a_change_within_the_tolerance_is_none() -> None:
    """Though it is no chance."""
    assert not change(spread(1), spread(1, 1.05), "time to first token, p50").worse(0.1)


def test_more_errors_are_worse() -> None:
    """One more may be chance, twenty more are not."""
    good = [record()] * 200
    few, many = [*good, refused()], [*good, *[refused()] * 20]
    (chance,) = compare.errors(run(good), run(few))
    (found,) = compare.errors(run(good), run(many))
    assert not chance.worse(0.1)
    assert found.worse(0.1)


def test_what_differs_between_the_runs_is_told() -> None:
    """A comparison of two plans is none."""
    facts = {"plan_sha256": "a", "machine": "one", "target": "t", "versions": "v"}
    told = compare.differences(run([], about=facts), run([], about={**facts, "machine": "two"}))
    assert told == ["machine: one and two"]
