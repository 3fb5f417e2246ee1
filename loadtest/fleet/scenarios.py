"""Named studies: which fleets, loads and policies are simulated beside each other."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from loadtest.fleet.lab import Lab
from loadtest.fleet.routers import OURS, SIMPLE, splits
from loadtest.fleet.simulation import Change, Setup
from loadtest.fleet.workload import WARM_S, Arrivals, Mix, Stream, Workload, mean_tokens

USUAL: Mix = (0.6, 0.3, 0.1)
MIXES: dict[str, Mix] = {"60/30/10": USUAL, "80/15/5": (0.8, 0.15, 0.05), "40/30/30": (0.4, 0.3, 0.3)}
SECONDS = 600.0
FLEET = Setup(Workload((), SECONDS))
"""Eight B200 of 64 slots, two routers, two gateways."""
LARGE = Setup(Workload((), WARM_S + 120), replicas=128)
OVERLOAD, BUSY = 1.4, 0.7
"""Loads, in the capacity of the fleet."""
ARRIVALS: tuple[Arrivals, ...] = ("poisson", "bursty")


class Case(NamedTuple):
    """One row: a setup, once for each seed."""

    title: str
    """What it is part of."""
    setups: Sequence[Setup]

    @property
    def policy(self) -> str:
        """Who routes and admits."""
        return self.setups[0].policy


@dataclass(frozen=True, slots=True)
class Scenario:
    """A study."""

    about: str
    cases: Callable[[Lab, int], list[Case]]
    """Returns the rows, given the number of seeds."""


def loaded(
    fleet: Setup, rate: float, mix: Mix, *, arrivals: Arrivals = "poisson", seeds: int = 1
) -> list[Setup]:
    """Return ``fleet`` under ``rate`` tokens per second of ``mix``, once for each seed."""
    stream = Stream(rate / mean_tokens(mix), mix, arrivals=arrivals)
    return [
        replace(fleet, workload=replace(fleet.workload, streams=(stream,), seed=seed))
        for seed in range(1, seeds + 1)
    ]


def under(policy: str, setups: Iterable[Setup]) -> list[Setup]:
    """Return ``setups`` with another policy."""
    return [replace(setup, policy=policy) for setup in setups]


def policies(replicas: int) -> tuple[str, ...]:
    """Return all that are compared."""
    return (OURS, *SIMPLE, *splits(replicas))


def shifting(fleet: Setup, before: Stream, after: Stream, seeds: int) -> list[Setup]:
    """Return ``fleet`` with one mix up to half time, and another one from then on."""
    half_s = fleet.workload.seconds / 2
    streams = (replace(before, until_s=half_s), replace(after, from_s=half_s))
    return [
        replace(fleet, workload=replace(fleet.workload, streams=streams, seed=seed))
        for seed in range(1, seeds + 1)
    ]


def _compare(title: str, setups: Sequence[Setup], names: Iterable[str]) -> list[Case]:
    return [Case(title, under(name, setups)) for name in names]


def _at_load(load: float) -> Callable[[Lab, int], list[Case]]:
    def cases(lab: Lab, seeds: int) -> list[Case]:
        [capacity] = lab.capacities([(FLEET, USUAL)])
        return [
            case
            for arrivals in ARRIVALS
            for case in _compare(
                f"{arrivals}, load {load:g}",
                loaded(FLEET, load * capacity, USUAL, arrivals=arrivals, seeds=seeds),
                policies(FLEET.replicas),
            )
        ]

    return cases


def _mixes(lab: Lab, seeds: int) -> list[Case]:
    capacities = lab.capacities([(FLEET, mix) for mix in MIXES.values()])
    return [
        case
        for (title, mix), capacity in zip(MIXES.items(), capacities, strict=True)
        for case in _compare(
            f"{title} %, load {BUSY}",
            loaded(FLEET, BUSY * capacity, mix, seeds=seeds),
            policies(FLEET.replicas),
        )
    ]


def shift_setups(lab: Lab, seeds: int) -> list[Setup]:
    """Return the fleet whose mix turns from little high-effort work to much at half time, at one load."""
    mixes = MIXES["80/15/5"], MIXES["40/30/30"]
    capacities = lab.capacities([(FLEET, mix) for mix in mixes])
    before, after = (
        Stream(BUSY * capacity / mean_tokens(mix), mix)
        for mix, capacity in zip(mixes, capacities, strict=True)
    )
    return shifting(FLEET, before, after, seeds)


def _shift(lab: Lab, seeds: int) -> list[Case]:
    return _compare("80/15/5 %, then 40/30/30 %", shift_setups(lab, seeds), policies(FLEET.replicas))


def small_setups(lab: Lab, seeds: int) -> dict[int, list[Setup]]:
    """Return fleets of two to four replicas at `BUSY`."""
    fleets = {size: replace(FLEET, replicas=size) for size in (2, 3, 4)}
    capacities = lab.capacities([(fleet, USUAL) for fleet in fleets.values()])
    return {
        size: loaded(fleet, BUSY * capacity, USUAL, seeds=seeds)
        for (size, fleet), capacity in zip(fleets.items(), capacities, strict=True)
    }


def _small(lab: Lab, seeds: int) -> list[Case]:
    return [
        case
        for size, setups in small_setups(lab, seeds).items()
        for case in _compare(f"{size} replicas, load {BUSY}", setups, (OURS, "least-requests", *splits(size)))
    ]


LOW_ONLY: Mix = (1, 0, 0)
HIGH_ONLY: Mix = (0, 0, 1)
ALONE, FLOOD, FAIR = 0.3, 1.1, 0.8
"""Load of tenant A alone, of both when B floods, and of both when B takes half of the fleet and no more."""


def tenants(lab: Lab, load: float, seeds: int) -> list[Setup]:
    """Return the fleet with tenant A at low effort and, for the rest of ``load``, tenant B at high effort."""
    low, high = lab.capacities([(FLEET, LOW_ONLY), (FLEET, HIGH_ONLY)])
    streams = [Stream(ALONE * low / mean_tokens(LOW_ONLY), LOW_ONLY, tenant="A")]
    if load > ALONE:
        streams.append(Stream((load - ALONE) * high / mean_tokens(HIGH_ONLY), HIGH_ONLY, tenant="B"))
    return [
        replace(FLEET, workload=replace(FLEET.workload, streams=tuple(streams), seed=seed))
        for seed in range(1, seeds + 1)
    ]


def _isolation(lab: Lab, seeds: int) -> list[Case]:
    return [
        case
        for title, load in (("A alone", ALONE), ("B within its share", FAIR), ("B floods", FLOOD))
        for case in _compare(title, tenants(lab, load, seeds), (OURS, *SIMPLE))
    ]


TROUBLES: dict[str, dict[str, object]] = {
    "none": {},
    "costs wrong by 3": {"prior_factors": (3, 1, 1 / 3)},
    "reports 2 s stale": {"report_s": 2.0, "lag_s": 1.0},
    "4 routers": {"routers": 4},
    "one at half speed": {"slow": ((3, 2.0),)},
}
"""What a fleet may suffer: changes of the setup."""


def troubled(setups: Iterable[Setup], trouble: str) -> list[Setup]:
    """Return ``setups`` under one of `TROUBLES`."""
    return [replace(setup, **TROUBLES[trouble]) for setup in setups]  # type: ignore[arg-type]


def _sensitivity(lab: Lab, seeds: int) -> list[Case]:
    [capacity] = lab.capacities([(FLEET, USUAL)])
    return [
        case
        for load in (BUSY, OVERLOAD)
        for trouble in TROUBLES
        for case in _compare(
            f"load {load:g}, trouble: {trouble}",
            troubled(loaded(FLEET, load * capacity, USUAL, seeds=seeds), trouble),
            (OURS, "least-requests"),
        )
    ]


def _large(lab: Lab, seeds: int) -> list[Case]:
    [small] = lab.capacities([(FLEET, USUAL)])
    capacity = small * LARGE.replicas / FLEET.replicas
    return [
        case
        for load in (BUSY, OVERLOAD)
        for case in _compare(
            f"128 replicas, load {load:g}",
            loaded(LARGE, load * capacity, USUAL, seeds=seeds),
            (OURS, "least-requests", "two-choices"),
        )
    ]


START_S = 120.0
"""Seconds that a replica takes to load the weights and be ready."""


def _failures(lab: Lab, seeds: int) -> list[Case]:
    [capacity] = lab.capacities([(FLEET, USUAL)])
    changes = tuple(
        change
        for index in (0, 5)
        for change in (Change(200.0, "fail", index), Change(200.0 + START_S, "start", index))
    )
    setups = [replace(setup, changes=changes) for setup in loaded(FLEET, BUSY * capacity, USUAL, seeds=seeds)]
    return _compare(f"two of eight die, load {BUSY}", setups, (OURS, *SIMPLE))


def _growth(lab: Lab, seeds: int) -> list[Case]:
    [capacity] = lab.capacities([(FLEET, USUAL)])
    changes = tuple(Change(SECONDS / 2 + START_S, "start", index) for index in (5, 6, 7))
    fleet = replace(FLEET, absent=3, changes=changes)
    before, after = (Stream(load * capacity / mean_tokens(USUAL), USUAL) for load in (0.4, 0.8))
    return _compare(
        "5 replicas, twice the load at half time, 8 after two minutes",
        shifting(fleet, before, after, seeds),
        (OURS, *SIMPLE),
    )


SCENARIOS: dict[str, Scenario] = {
    "overload": Scenario("1.4 of what the fleet can do: who waits, and who is refused", _at_load(OVERLOAD)),
    "lanes": Scenario(
        "0.7 of what it can do: the pace of low effort against the end of high effort", _at_load(BUSY)
    ),
    "mixes": Scenario("one setting in three mixes of efforts, against every static split", _mixes),
    "shift": Scenario("the mix changes at half time", _shift),
    "small": Scenario("two to four replicas", _small),
    "isolation": Scenario(
        "a tenant of low effort beside one that floods the fleet with high effort", _isolation
    ),
    "sensitivity": Scenario("wrong costs, stale reports, more routers, a slow replica", _sensitivity),
    "large": Scenario("128 replicas", _large),
    "failures": Scenario("two replicas die and come back two minutes later", _failures),
    "growth": Scenario("the load doubles, and more replicas take two minutes to come", _growth),
}
