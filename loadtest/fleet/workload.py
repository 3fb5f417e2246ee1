"""What arrives: requests by effort and tenant, the same for every policy that is compared.

Outputs are log-normal with the product's priors as means; prompts are spread evenly over the logarithm of
their length. Arrivals are a Poisson process, or a bursty one: a Poisson process whose rate changes between
half and one and a half of the mean, each for about ten seconds (a Markov-modulated Poisson process).
"""

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from cluster.core.effort import EFFORTS, Effort

Arrivals = Literal["poisson", "bursty"]

MEAN_TOKENS: Mapping[Effort, float] = {"low": 400, "medium": 1500, "high": 8000}
"""Mean output by effort, the settings' own priors."""
OUTPUTS = (MEAN_TOKENS["low"], MEAN_TOKENS["medium"], MEAN_TOKENS["high"])
MOST_TOKENS: Mapping[Effort, int] = {"low": 8192, "medium": 16384, "high": 65536}
"""Longest output by effort, the settings' own limits."""
SIGMA = 0.8
"""Spread of the logarithm of outputs: UltraChat at medium effort (median 3,891, 90th percentile 10,800)."""
PROMPT_TOKENS = (200, 8000)
"""Shortest and longest prompt."""
WARM_S = 100.0
"""Seconds at the start that do not count."""
DEADLINES_S = (10.0, 30.0, 300.0)
"""Longest wait for the first token at low, medium and high effort."""
PHASE_S = 10.0
"""Mean length of a phase of a bursty process."""

Mix = tuple[float, float, float]
"""Shares of low, medium and high effort by count."""


@dataclass(slots=True, eq=False)
class Job:
    """One request, and what became of it."""

    number: int
    arrival_s: float
    tenant: str
    effort: Effort
    prompt: int
    output: int
    """Tokens that it will generate, which nobody knows before it ends."""
    deadline_s: float
    expected: int = 0
    """Tokens that its gateway expects."""
    gateway: int = 0
    replica: str = ""
    attempt: int = 1
    generated: float = 0.0
    """Tokens that it had when it was last preempted."""
    start_s: float | None = None
    """When it first left the engine's queue."""
    first_s: float | None = None
    """When its first token came."""
    end_s: float | None = None
    refused_s: float | None = None
    lost: bool = False
    """Its replica died while it was generating."""

    @property
    def wait_s(self) -> float:
        """Seconds until it ran or was refused."""
        left_s = self.refused_s if self.start_s is None else self.start_s
        assert left_s is not None, "the simulation has ended"
        return left_s - self.arrival_s

    @property
    def token_s(self) -> float:
        """Mean seconds between its tokens, preemptions included."""
        assert self.end_s is not None and self.first_s is not None, "it was completed"
        return (self.end_s - self.first_s) / max(self.output - 1, 1)


@dataclass(frozen=True, slots=True)
class Stream:
    """Requests of one tenant."""

    rate: float
    """Requests per second, on average."""
    mix: Mix
    tenant: str = "t"
    arrivals: Arrivals = "poisson"
    from_s: float = 0.0
    until_s: float = math.inf


@dataclass(frozen=True, slots=True)
class Workload:
    """All that arrives."""

    streams: tuple[Stream, ...]
    seconds: float
    seed: int = 0
    deadlines_s: tuple[float, float, float] = DEADLINES_S
    outputs: tuple[float, float, float] = OUTPUTS
    """Mean output by effort, in tokens."""
    prompt_tokens: tuple[int, int] = PROMPT_TOKENS
    """Shortest and longest prompt."""
    warm_s: float = WARM_S
    """Seconds at the start that do not count."""

    def jobs(self) -> list[Job]:
        """Return the requests by arrival: the same ones for the same workload."""
        found = [job for index, stream in enumerate(self.streams) for job in self._of(index, stream)]
        found.sort(key=lambda job: job.arrival_s)
        for number, job in enumerate(found):
            job.number = number
        return found

    def _of(self, index: int, stream: Stream) -> Iterator[Job]:
        rng = random.Random(f"{self.seed}/{index}")  # noqa: S311 - a simulation
        for at_s in _times(stream, min(stream.until_s, self.seconds), rng):
            effort = rng.choices(EFFORTS, weights=stream.mix)[0]
            low, high = self.prompt_tokens
            yield Job(
                number=0,
                arrival_s=at_s,
                tenant=stream.tenant,
                effort=effort,
                prompt=round(low * (high / low) ** rng.random()),
                output=_output(self.outputs[EFFORTS.index(effort)], MOST_TOKENS[effort], rng),
                deadline_s=at_s + self.deadlines_s[EFFORTS.index(effort)],
            )


def mean_tokens(mix: Mix) -> float:
    """Return the mean output of a request of ``mix``."""
    return sum(share * MEAN_TOKENS[effort] for share, effort in zip(mix, EFFORTS, strict=True)) / sum(mix)


def _output(mean: float, most: int, rng: random.Random) -> int:
    middle = math.log(mean) - SIGMA**2 / 2
    return max(1, min(round(rng.lognormvariate(middle, SIGMA)), most))


def _times(stream: Stream, until_s: float, rng: random.Random) -> Iterator[float]:
    now_s, factor, phase_end_s = stream.from_s, 1.0, math.inf
    if stream.arrivals == "bursty":
        factor, phase_end_s = rng.choice((0.5, 1.5)), now_s + rng.expovariate(1 / PHASE_S)
    while True:
        next_s = now_s + rng.expovariate(stream.rate * factor)
        while next_s > phase_end_s:  # the rest of the gap runs at the new rate: the process has no memory
            now_s, factor = phase_end_s, 2.0 - factor
            phase_end_s += rng.expovariate(1 / PHASE_S)
            next_s = now_s + rng.expovariate(stream.rate * factor)
        now_s = next_s
        if now_s >= until_s:
            return
        yield now_s
