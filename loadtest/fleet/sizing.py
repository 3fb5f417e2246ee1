"""How many replicas are enough: a site's load, a first guess without simulation, and which size to try next.

Nothing here simulates: `planning` does, and asks this module what to make of it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cluster.core.effort import EFFORTS
from loadtest.fleet.engine import Engine
from loadtest.fleet.measures import Group, Measures
from loadtest.fleet.simulation import Change, Setup
from loadtest.fleet.workload import OUTPUTS, PROMPT_TOKENS, Arrivals, Mix, Stream, Workload

ByEffort = tuple[float, float, float]
"""Low, medium, high."""

ARRIVALS: Arrivals = "bursty"
"""Users come in waves; a Poisson process is calmer than they are."""
COUNTED_REQUESTS, COUNTED_S = 12_000, (600.0, 3000.0)
"""About so many requests count, but never those of less, or of more, than these seconds."""
WARM_S = 600.0
"""Until answers of minutes have filled the fleet."""
GUESSED_USE = 0.85
"""Share of a replica's tokens per second that the first guess takes to be usable."""
GROWTH = 1.25
"""How far the search goes up or down at once while the answer lies on one side only."""
HOPELESS_LOAD = 1.3
"""Load from which on no simulation is needed: the capacity that it refers to is right within 10 %."""
SAMPLE_REQUESTS = 20_000
"""From which the means of a load are taken."""


@dataclass(frozen=True, slots=True)
class Site:
    """What a site knows before it buys."""

    users: int
    requests_per_hour: float
    """Of one user in a usual working hour."""
    peak: float
    """The busiest hour's rate over the usual one's."""
    mix: Mix
    gpu: str
    outputs: ByEffort = OUTPUTS
    """Mean output in tokens, reasoning included."""
    prompt_tokens: tuple[int, int] = PROMPT_TOKENS
    """Shortest and longest prompt, spread evenly over the logarithm."""

    @property
    def rate(self) -> float:
        """Requests per second at the peak."""
        return self.users * self.requests_per_hour * self.peak / 3600

    def workload(self, seed: int, wait_s: ByEffort) -> Workload:
        """Return the busiest hour, or the part of it that is simulated; ``wait_s`` are the deadlines."""
        least_s, most_s = COUNTED_S
        counted_s = min(max(COUNTED_REQUESTS / self.rate, least_s), most_s)
        stream = Stream(self.rate, self.mix, arrivals=ARRIVALS)
        return Workload(
            (stream,), WARM_S + counted_s, seed, wait_s, self.outputs, self.prompt_tokens, warm_s=WARM_S
        )


@dataclass(frozen=True, slots=True)
class Objective:
    """What the fleet has to hold for each effort."""

    wait_s: ByEffort
    """Until the first token, 95th percentile; also the deadline at which the gateway refuses."""
    token_ms: ByEffort
    """Between tokens, 95th percentile over requests."""
    refused: float = 0.01
    """Share of the requests."""


class Demand(NamedTuple):
    """A load as an engine feels it."""

    tokens_per_s: float
    """Output at the peak."""
    prompt: float
    """Mean tokens of a prompt."""
    output: float
    """Mean tokens of an output."""
    context: float
    """Tokens that a running request holds in the cache, the mean over time: long ones run longer."""


@dataclass(frozen=True, slots=True)
class Size:
    """What one number of replicas comes to: of several simulations, the worst figure of each."""

    gpus: int
    load: float
    """Tokens asked for over those that the replicas which stay up can generate."""
    wait_s: ByEffort
    token_ms: ByEffort
    refused: ByEffort
    cut: int = 0
    """Requests that died with a replica."""

    def misses(self, objective: Objective) -> list[str]:
        """Return what it does not hold; a figure that is NaN, as nothing of its effort came, is held."""
        found = []
        for index, effort in enumerate(EFFORTS):
            for name, value, most, unit in (
                ("first token p95", self.wait_s[index], objective.wait_s[index], " s"),
                ("between tokens p95", self.token_ms[index], objective.token_ms[index], " ms"),
                ("refused", self.refused[index] * 100, objective.refused * 100, " %"),
            ):
                if value > most:
                    found.append(f"{effort}: {name} {value:.3g}{unit}, more than {most:.3g}")
        return found


def demand(site: Site) -> Demand:
    """Return what ``site`` asks for, from a sample of its requests: the efforts' limits cut outputs."""
    sample = Stream(1.0, site.mix)
    lengths = Workload((sample,), SAMPLE_REQUESTS, outputs=site.outputs, prompt_tokens=site.prompt_tokens)
    jobs = lengths.jobs()
    tokens = sum(job.output for job in jobs)
    context = sum(job.output * (job.prompt + job.output / 2) for job in jobs) / tokens
    output = tokens / len(jobs)
    return Demand(site.rate * output, sum(job.prompt for job in jobs) / len(jobs), output, context)


def capacity(made: Engine, asked: Demand) -> float:
    """Return the output in tokens per second of a replica whose batch is as full as slots and cache allow."""
    batch = max(1, min(made.slots, int(made.kv_tokens / asked.context)))
    step_ms = made.step_ms[batch] + made.kv_ns * 1e-6 * batch * asked.context
    prefill_ms = batch * asked.prompt / asked.output / made.prefill_tokens_per_ms
    return batch / (step_ms + prefill_ms) * 1e3


def first_guess(asked: Demand, each: float) -> int:
    """Return how many replicas of ``each`` tokens per second may be enough."""
    return max(1, math.ceil(asked.tokens_per_s / (each * GUESSED_USE)))


def unreachable(site: Site, objective: Objective, made: Engine) -> str | None:
    """Return why no number of replicas can hold the objective, if so: an empty one takes its time too."""
    shortest, longest = site.prompt_tokens
    prefill_s = shortest * (longest / shortest) ** 0.95 / made.prefill_tokens_per_ms * 1e-3
    if min(objective.token_ms) < made.step_ms[1]:
        return f"an empty {site.gpu} takes {made.step_ms[1]:.1f} ms between tokens"
    if min(objective.wait_s) < prefill_s:
        return f"an empty {site.gpu} takes {prefill_s:.2f} s to the first token of a long prompt"
    return None


def next_size(held: Mapping[int, bool], guess: int, most: int) -> int | None:
    """Return the size to try next, or None when it is known which is enough, or that none is.

    ``held`` tells of the sizes tried whether they hold the objective. More replicas are taken never to be
    worse, so the answer lies between the largest that fails and the smallest that holds.
    """
    if not held:
        return min(guess, most)
    good = enough(held)
    bad = max(
        (size for size, holds in held.items() if not holds and (good is None or size < good)), default=0
    )
    if good is None:
        return None if bad >= most else min(most, max(bad + 1, int(bad * GROWTH)))
    if good - bad <= 1:
        return None
    return min(good - 1, math.ceil(good / GROWTH)) if bad == 0 else (good + bad) // 2


def enough(held: Mapping[int, bool]) -> int | None:
    """Return the smallest size that holds and above which none was seen to fail; None if there is none."""
    bad = max((size for size, holds in held.items() if not holds), default=0)
    return min((size for size, holds in held.items() if holds and size > bad), default=None)


def setups(
    site: Site, objective: Objective, gpus: int, seeds: Sequence[int], *, failing: bool
) -> list[Setup]:
    """Return one size's simulations; ``failing``: a replica dies a minute after the warm-up, for good."""
    changes = (Change(WARM_S + 60.0, "fail", 0),) if failing else ()
    return [
        Setup(site.workload(seed, objective.wait_s), gpu=site.gpu, slots=None, replicas=gpus, changes=changes)
        for seed in seeds
    ]


def size(gpus: int, load: float, runs: Sequence[Measures]) -> Size:
    """Return what ``runs`` of one size come to."""
    groups = [[run.by_effort[effort] for run in runs] for effort in EFFORTS]
    return Size(
        gpus,
        load,
        _by_effort([[group.first_p95_s for group in same] for same in groups]),
        _by_effort([[group.token_p95_ms for group in same] for same in groups]),
        _by_effort([[group.refused for group in same] for same in groups]),
        max(sum(_cut(run.by_effort[effort]) for effort in EFFORTS) for run in runs),
    )


def _by_effort(values: Sequence[Sequence[float]]) -> ByEffort:
    low, medium, high = (
        max((one for one in each if not math.isnan(one)), default=math.nan) for each in values
    )
    return low, medium, high


def _cut(group: Group) -> int:
    return round(group.lost * group.requests)
