"""What the product's policy has to come to, and whether it does: each figure with its spread over the seeds.

A bar is a list of checks; a check compares the median of a figure over the seeds with a limit that is never
tuned. Ratios are taken within a seed, where every policy meets the same requests.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from cluster.core.effort import EFFORTS, Effort
from loadtest.bench.statistics import Spread, spread
from loadtest.fleet import scenarios
from loadtest.fleet.lab import Lab, Rehearsal
from loadtest.fleet.measures import Group, Measures
from loadtest.fleet.routers import OURS, SIMPLE, splits
from loadtest.fleet.scenarios import ALONE, ARRIVALS, BUSY, FAIR, FLEET, FLOOD, LARGE, MIXES, OVERLOAD, USUAL
from loadtest.fleet.simulation import Setup
from loadtest.fleet.workload import Arrivals

PLAIN = "least-requests"
"""The baseline that ratios refer to."""
HIGH_WEIGHT = 0.3
"""What high effort's end counts for beside low effort's pace, in `_score`."""


@dataclass(frozen=True, slots=True)
class Check:
    """One figure, and what it is held to."""

    bar: int
    name: str
    over: Spread
    sense: Literal["at most", "at least"]
    limit: float
    beside: str = ""
    """What the figure is compared with, for the reader."""

    @property
    def held(self) -> bool:
        """Whether the median is within the limit."""
        median = self.over.median
        return median <= self.limit if self.sense == "at most" else median >= self.limit


_ANY = Group(1, 0.0, 0.0, 0, 1.0, 1.0, 1.0, 1.0, 1.0)
_MADE_UP = Measures(dict.fromkeys(EFFORTS, _ANY), dict.fromkeys("AB", _ANY), 1.0)
"""What a rehearsal has for a measure; nothing is ever judged by it."""

Runs = Sequence[Measures]
"""One policy's, by seed."""


class _Compared(NamedTuple):
    """The product and some baselines under the same setups."""

    ours: Runs
    others: Mapping[str, Runs]


def check_all(lab: Lab, seeds: int) -> Iterator[Check]:
    """Simulate all that the bars ask for, then judge bar after bar."""
    rehearsal = Rehearsal(lab, _MADE_UP)
    for _ in _bars(rehearsal, seeds):
        pass
    lab.measure(rehearsal.asked)
    yield from _bars(lab, seeds)


def _bars(lab: Lab, seeds: int) -> Iterator[Check]:
    yield from overload(lab, seeds)
    yield from lanes(lab, seeds)
    yield from isolation(lab, seeds)
    yield from sensitivity(lab, seeds)
    yield from large(lab)


def overload(lab: Lab, seeds: int) -> Iterator[Check]:
    """Bar 1: at 1.4 of what the fleet can do, short work does not wait and no token is wasted."""
    [capacity] = lab.capacities([(FLEET, USUAL)])
    for arrivals in ARRIVALS:
        setups = scenarios.loaded(FLEET, OVERLOAD * capacity, USUAL, arrivals=arrivals, seeds=seeds)
        names = (*SIMPLE, *(name for name in splits(FLEET.replicas) if name.startswith("split")))
        yield from _overloaded(1, arrivals, _compare(lab, setups, names))


def lanes(lab: Lab, seeds: int) -> Iterator[Check]:
    """Bar 2: at 0.7, low effort runs faster, and one setting is as good as the best split of each mix."""
    capacities = lab.capacities([(FLEET, mix) for mix in MIXES.values()])
    for arrivals in ARRIVALS:
        setups = scenarios.loaded(FLEET, BUSY * capacities[0], USUAL, arrivals=arrivals, seeds=seeds)
        yield from _paced(2, arrivals, _compare(lab, setups, (PLAIN,)))
    for (title, mix), capacity in zip(MIXES.items(), capacities, strict=True):
        setups = scenarios.loaded(FLEET, BUSY * capacity, mix, seeds=seeds)
        yield _against_splits(f"{title} %", _compare(lab, setups, (PLAIN, *splits(FLEET.replicas))), 1.03)
    setups = scenarios.shift_setups(lab, seeds)
    yield _against_splits("mix changes", _compare(lab, setups, (PLAIN, *splits(FLEET.replicas))), 1.0)
    for size, setups in scenarios.small_setups(lab, seeds).items():
        yield _against_splits(f"{size} replicas", _compare(lab, setups, (PLAIN, *splits(size))), 1.0)


def isolation(lab: Lab, seeds: int) -> Iterator[Check]:
    """Bar 3: what a tenant of low effort sees of one that floods the fleet with high effort."""
    alone, fair, flood = (scenarios.tenants(lab, load, seeds) for load in (ALONE, FAIR, FLOOD))
    plain = [_end_of_a(run) for run in lab.measure(scenarios.under(PLAIN, alone))]
    for title, setups, limit in (("B floods", flood, 1.30), ("B within its share", fair, 1.10)):
        ours, others = _compare(lab, setups, (PLAIN,))
        ends = _ratios([_end_of_a(run) for run in ours], plain)
        beside = _ratios([_end_of_a(run) for run in others[PLAIN]], plain)
        yield Check(
            3,
            f"{title}: A's p95 end, to alone",
            spread(ends),
            "at most",
            limit,
            _beside(PLAIN, beside, ".2f"),
        )


def sensitivity(lab: Lab, seeds: int) -> Iterator[Check]:
    """Bar 4: what is left of the gains of bars 1 and 2 when something is wrong."""
    [capacity] = lab.capacities([(FLEET, USUAL)])
    for load, gain, what in (
        (OVERLOAD, _refusal_gain, "bar 1, low refused"),
        (OVERLOAD, _wait_gain, "bar 1, low wait p95"),
        (BUSY, _pace_gain, "bar 2, low pace"),
    ):
        setups = scenarios.loaded(FLEET, load * capacity, USUAL, seeds=seeds)
        right = _gains(lab, setups, gain)
        for trouble in list(scenarios.TROUBLES)[1:]:
            wrong = _gains(lab, scenarios.troubled(setups, trouble), gain)
            kept = [part / whole if whole > 0 else 0.0 for part, whole in zip(wrong, right, strict=True)]
            yield Check(4, f"{what}, {trouble}: gain kept", spread(kept), "at least", 0.7)


def large(lab: Lab) -> Iterator[Check]:
    """Bar 5: bars 1 and 2 with 128 replicas."""
    [small] = lab.capacities([(FLEET, USUAL)])
    capacity = small * LARGE.replicas / FLEET.replicas
    setups = scenarios.loaded(LARGE, OVERLOAD * capacity, USUAL)
    yield from _overloaded(5, "poisson", _compare(lab, setups, (PLAIN, "two-choices", "round-robin")))
    setups = scenarios.loaded(LARGE, BUSY * capacity, USUAL)
    yield from _paced(5, "poisson", _compare(lab, setups, (PLAIN,)))


def _compare(lab: Lab, setups: Sequence[Setup], names: Sequence[str]) -> _Compared:
    found = iter(lab.measure(s for name in (OURS, *names) for s in scenarios.under(name, setups)))
    runs = {name: [next(found) for _ in setups] for name in (OURS, *names)}
    return _Compared(runs.pop(OURS), runs)


def _overloaded(bar: int, arrivals: Arrivals, compared: _Compared) -> Iterator[Check]:
    ours, others = compared
    fifo = others[PLAIN]
    limits: tuple[tuple[Effort, float, float], ...] = (("low", 1.0, 0.005), ("medium", 5.0, 0.02))
    for effort, wait_s, share in limits:
        for name, figure, limit, form in (
            ("wait p95, s", _wait(effort), wait_s, ".2f"),
            ("refused", _refused(effort), share, ".1%"),
        ):
            beside = _beside("FIFO", [figure(run) for run in fifo], form)
            over = spread([figure(run) for run in ours])
            yield Check(bar, f"{arrivals}: {effort} {name}", over, "at most", limit, beside)
    best_name, best = max(others.items(), key=lambda item: _median(run.tokens_per_s for run in item[1]))
    ratios = _ratios([run.tokens_per_s for run in ours], [run.tokens_per_s for run in best])
    yield Check(bar, f"{arrivals}: tokens, to the best baseline", spread(ratios), "at least", 0.98, best_name)
    left = [_high_of_what_is_left(run, whole.tokens_per_s) for run, whole in zip(ours, best, strict=True)]
    yield Check(bar, f"{arrivals}: high's share of what is left", spread(left), "at least", 0.95)
    late = [float(sum(group.late for group in run.by_effort.values())) for run in ours]
    yield Check(bar, f"{arrivals}: served or refused after the deadline", spread(late), "at most", 0.0)


def _paced(bar: int, arrivals: Arrivals, compared: _Compared) -> Iterator[Check]:
    ours, plain = compared.ours, compared.others[PLAIN]
    pace = _ratios([_pace(run) for run in ours], [_pace(run) for run in plain])
    yield Check(bar, f"{arrivals}: low between tokens p95, to {PLAIN}", spread(pace), "at most", 0.85)
    end = _ratios([_end(run) for run in ours], [_end(run) for run in plain])
    yield Check(bar, f"{arrivals}: high end p95, to {PLAIN}", spread(end), "at most", 1.40)


def _against_splits(title: str, compared: _Compared, limit: float) -> Check:
    plain = compared.others[PLAIN]
    scores = {
        name: _score(runs, plain) for name, runs in compared.others.items() if name != PLAIN and _serves(runs)
    }
    best_name, best = min(scores.items(), key=lambda item: _median(item[1]))
    ours = _score(compared.ours, plain)
    return Check(
        2, f"{title}: score, to the best split", spread(_ratios(ours, best)), "at most", limit,
        f"{_median(ours):.3f} to {_median(best):.3f} of {best_name}",
    )  # fmt: skip


def _serves(runs: Runs) -> bool:
    """Tell whether a policy served some of each effort, so that it has a score."""
    return all(_pace(run) > 0 and _end(run) > 0 for run in runs)


def _score(runs: Runs, plain: Runs) -> list[float]:
    return [
        _pace(run) / _pace(reference) + HIGH_WEIGHT * _end(run) / _end(reference)
        for run, reference in zip(runs, plain, strict=True)
    ]


def _gains(lab: Lab, setups: Sequence[Setup], gain: Callable[[Measures, Measures], float]) -> list[float]:
    ours, others = _compare(lab, setups, (PLAIN,))
    return [gain(run, plain) for run, plain in zip(ours, others[PLAIN], strict=True)]


def _refusal_gain(run: Measures, plain: Measures) -> float:
    return plain.by_effort["low"].refused - run.by_effort["low"].refused


def _wait_gain(run: Measures, plain: Measures) -> float:
    return plain.by_effort["low"].wait_p95_s - run.by_effort["low"].wait_p95_s


def _pace_gain(run: Measures, plain: Measures) -> float:
    return 1 - _pace(run) / _pace(plain)


def _wait(effort: Effort) -> Callable[[Measures], float]:
    return lambda run: run.by_effort[effort].wait_p95_s


def _refused(effort: Effort) -> Callable[[Measures], float]:
    return lambda run: run.by_effort[effort].refused


def _pace(run: Measures) -> float:
    return run.by_effort["low"].token_p95_ms


def _end(run: Measures) -> float:
    return run.by_effort["high"].end_p95_s


def _end_of_a(run: Measures) -> float:
    return run.by_tenant["A"].end_p95_s


def _high_of_what_is_left(run: Measures, whole: float) -> float:
    low, medium, high = (run.by_effort[effort].tokens_per_s for effort in EFFORTS)
    return high / (whole - low - medium)


def _ratios(values: Sequence[float], references: Sequence[float]) -> list[float]:
    return [value / reference for value, reference in zip(values, references, strict=True)]


def _median(values: Sequence[float] | Iterator[float]) -> float:
    return spread(list(values)).median


def _beside(name: str, values: Sequence[float], form: str) -> str:
    return f"{name}: {_median(values):{form}}"


def last_line(checks: Sequence[Check]) -> str:
    """Return how many checks held, of how many."""
    held = sum(check.held for check in checks)
    return f"{held} of {len(checks)} held"
