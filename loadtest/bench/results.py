"""What a run found, as one document: everything that the table, the plot and the bars are made of."""

from collections.abc import Callable
from dataclasses import dataclass, field

from loadtest.bench.measure import Chunks, Requests, Soak
from loadtest.bench.statistics import Spread, spread


@dataclass(frozen=True, slots=True)
class Round:
    """One contender in one round: requests by number of clients, and streams."""

    requests: dict[int, Requests]
    chunks: Chunks | None
    rss_mib: float
    """Resident memory after the load."""


@dataclass(slots=True)
class Result:
    """One contender over all rounds."""

    name: str
    title: str
    rounds: list[Round] = field(default_factory=list)
    failure: str | None = None
    """Why it could not be measured, or not to the end."""

    def over_rounds(self, figure: Callable[[Round], float]) -> Spread | None:
        """Return one figure's median and spread; None when it was not measured."""
        return spread([figure(one) for one in self.rounds]) if self.rounds else None


@dataclass(slots=True)
class Run:
    """A whole run."""

    about: dict[str, str]
    """When, on what machine, with which options."""
    direct: Result
    """The engine alone, without anything before it."""
    results: dict[str, Result]
    soak: Soak | None = None
    soak_failure: str | None = None

    def added_ms(self, name: str, clients: int, figure: Callable[[Requests], float]) -> Spread | None:
        """Return the latency that a contender adds to the engine's own, round by round."""
        pairs = list(zip(self.results[name].rounds, self.direct.rounds, strict=False))
        added = [figure(one.requests[clients]) - figure(base.requests[clients]) for one, base in pairs]
        return spread(added) if added else None

    def ratio(self, name: str, other: str, figure: Callable[[Round], float]) -> Spread | None:
        """Return how many times ``other``'s figure ``name``'s is, round by round: neighbours in time.

        None when either is missing.
        """
        mine, theirs = self.results.get(name), self.results.get(other)
        if mine is None or theirs is None or mine.failure or theirs.failure:
            return None
        pairs = zip(mine.rounds, theirs.rounds, strict=True)
        ratios = [figure(one) / base for one, two in pairs if (base := figure(two))]
        return spread(ratios) if ratios else None


REQUEST_CLIENTS = 32
"""Clients at which the cost of a request is read."""


def request_cpu_us(one: Round) -> float:
    """Return CPU per request, in microseconds."""
    return one.requests[REQUEST_CLIENTS].cpu_us


def chunk_cpu_us(one: Round) -> float:
    """Return CPU per streamed chunk, in microseconds."""
    assert one.chunks is not None
    return one.chunks.cpu_us
