"""How many replicas are enough: the decisions, without simulation but for the capacity they start from."""

import math
from dataclasses import replace

import pytest

from loadtest.fleet import sizing
from loadtest.fleet.engine import GPUS, engine
from loadtest.fleet.lab import saturated, simulate
from loadtest.fleet.simulation import Setup
from loadtest.fleet.sizing import Objective, Site, Size
from loadtest.fleet.workload import Workload

SITE = Site(500, 12, 2, (0.6, 0.3, 0.1), "h100-80gb")
OBJECTIVE = Objective((1, 5, 30), (50, 50, 50))
HOLDS = Size(5, 0.8, (0.9, 4.9, 29), (49, 49, 49), (0.009, 0, 0))


def searched(smallest: int, guess: int, most: int) -> tuple[int | None, list[int]]:
    """Return the answer and the sizes tried where ``smallest`` and all above it hold."""
    held: dict[int, bool] = {}
    while (size := sizing.next_size(held, guess, most)) is not None:
        assert size not in held, "no size is tried twice"
        held[size] = size >= smallest
    return sizing.enough(held), list(held)


@pytest.mark.parametrize("guess", [1, 2, 5, 40, 128])
@pytest.mark.parametrize("smallest", [1, 2, 3, 7, 31, 127, 128])
def test_the_search_finds_the_smallest_size_that_holds(smallest: int, guess: int) -> None:
    """Wherever it starts, in few steps: geometric ones, then halves."""
    answer, tried = searched(smallest, guess, 128)
    assert answer == smallest
    assert len(tried) <= 4 + abs(math.log(smallest / guess, 1.25)) + math.log2(max(smallest, 2))


@pytest.mark.parametrize(("smallest", "guess"), [(5, 4), (5, 5), (5, 6)])
def test_a_good_guess_takes_three_sizes_at_most(smallest: int, guess: int) -> None:
    """The size below the answer is always among them: it is the proof that less does not do."""
    answer, tried = searched(smallest, guess, 128)
    assert answer == smallest
    assert len(tried) <= 3
    assert smallest - 1 in tried


def test_a_search_without_an_answer_ends_at_the_most() -> None:
    """Nothing above ``most`` is tried."""
    answer, tried = searched(99, 6, 20)
    assert answer is None
    assert max(tried) == 20
    assert searched(99, 50, 20) == (None, [20])


def test_a_size_below_one_that_fails_is_not_enough() -> None:
    """Chance may let a small fleet pass where a larger one fails: the answer is above both."""
    assert sizing.enough({4: True, 5: False, 6: True}) == 6
    assert sizing.enough({4: True, 5: False}) is None
    assert sizing.next_size({4: True, 5: False}, 4, 20) == 6


MISSES = [
    pytest.param({"wait_s": (1.1, 0, 0)}, "low: first token p95 1.1 s, more than 1", id="first token"),
    pytest.param({"token_ms": (0, 0, 51)}, "high: between tokens p95 51 ms, more than 50", id="pace"),
    pytest.param({"refused": (0, 0.02, 0)}, "medium: refused 2 %, more than 1", id="refused"),
]


@pytest.mark.parametrize(("change", "said"), MISSES)
def test_a_size_says_what_it_misses(change: dict[str, tuple[float, ...]], said: str) -> None:
    """Each effort has objectives of its own; the last figure that still holds is the objective itself."""
    assert HOLDS.misses(OBJECTIVE) == []
    assert replace(HOLDS, **change).misses(OBJECTIVE) == [said]  # type: ignore[arg-type]


def test_an_effort_that_never_comes_holds() -> None:
    """Its figures are NaN."""
    nothing = (0.1, math.nan, math.nan)
    assert Size(1, 0.5, nothing, nothing, (0, 0, 0)).misses(OBJECTIVE) == []


def test_the_load_is_the_busiest_hour() -> None:
    """Users, their requests and the peak make the rate; lengths make the tokens."""
    assert SITE.rate == pytest.approx(500 * 12 * 2 / 3600)
    asked = sizing.demand(SITE)
    assert asked.output == pytest.approx(1490, rel=0.05)
    assert asked.tokens_per_s == pytest.approx(SITE.rate * asked.output)
    assert asked.context > asked.prompt + asked.output / 2, "long answers run longer"


@pytest.mark.parametrize("gpu", GPUS)
def test_the_guessed_capacity_is_the_simulated_one(gpu: str) -> None:
    """A saturated replica generates what the formula says, within a tenth."""
    fleet = Setup(Workload((), 900, warm_s=400), gpu=gpu, slots=None, replicas=1)
    simulated = simulate(saturated(fleet, SITE.mix)).generated_per_s
    assert sizing.capacity(engine(gpu), sizing.demand(replace(SITE, gpu=gpu))) == pytest.approx(
        simulated, rel=0.1
    )


def test_few_and_many_users_are_simulated_for_as_long_as_it_takes() -> None:
    """About 12,000 requests count, in ten minutes at least and fifty at most."""
    for users, counted_s in ((5, 3000), (500, 3000), (1000, 1800), (50_000, 600)):
        workload = replace(SITE, users=users).workload(1, OBJECTIVE.wait_s)
        assert workload.seconds - workload.warm_s == pytest.approx(counted_s)


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        (Objective((1, 5, 30), (2, 50, 50)), "5.3 ms between tokens"),
        (Objective((0.05, 5, 30), (50, 50, 50)), "0.25 s to the first token"),
    ],
    ids=["pace", "first token"],
)
def test_what_no_number_of_gpus_can_hold_is_told(objective: Objective, said: str) -> None:
    """An empty GPU takes its time too."""
    assert said in (sizing.unreachable(SITE, objective, engine(SITE.gpu)) or "")
    assert sizing.unreachable(SITE, OBJECTIVE, engine(SITE.gpu)) is None
