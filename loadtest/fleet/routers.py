"""The request routers that are compared: the product's, and what other systems do.

All see the same reports, as old as they come, and add what they sent since then.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from cluster.core import routing
from cluster.core.hint import RouteHint
from cluster.serving import report
from cluster.serving.picks import Picks
from loadtest.fleet.workload import Job

RESCORE_S = 1.0
"""Age of the product's scores at which they are made anew, as in `cluster.serving.router`."""
OUTPUT_RATIO = 1.5
"""Output that llm-d's request scheduler expects for each token of a prompt (its ``outputRatio``)."""


class Report(NamedTuple):
    """What a replica told."""

    stats: Mapping[str, Any]
    """In the product's own form (`cluster.serving.report`)."""
    estimate: float
    """Tokens of its requests as llm-d estimates them."""


class Router(Protocol):
    """Picks a replica for each request."""

    def learn(self, reports: Mapping[str, Report]) -> None:
        """Take the newest report of each replica that is up."""

    def pick(self, job: Job, now_s: float) -> str:
        """Return the name of the replica for ``job``, which will be sent there."""


class EffortRouter:
    """The product's: `cluster.core.routing`, adapted as `cluster.serving.router` adapts it to Ray Serve."""

    def __init__(self, rng: random.Random, *, peers: int, policy: routing.Policy) -> None:
        """``peers`` is the number of routers, this one included."""
        self._rng, self._peers, self._policy = rng, peers, policy
        self._picks: dict[str, Picks] = {}
        self._reports: Mapping[str, Report] = {}
        self._fleet: routing.Fleet | None = None
        self._scored_at_s = 0.0

    def learn(self, reports: Mapping[str, Report]) -> None:
        """Take reports; they are scored when the next request comes."""
        self._reports, self._fleet = reports, None
        self._picks = {name: self._picks.get(name) or Picks() for name in reports}

    def pick(self, job: Job, now_s: float) -> str:
        """Choose as the product does."""
        if self._fleet is None or now_s - self._scored_at_s > RESCORE_S:
            self._fleet, self._scored_at_s = self._score(now_s), now_s
        hint = RouteHint(job.effort, job.expected, job.prompt, attempt=job.attempt)
        choice = self._fleet.choose(hint, tie=self._rng.random())
        self._fleet.book(choice, job.expected)
        self._picks[choice.replica].add(now_s, choice.requests, choice.requests * job.expected)
        return choice.replica

    def _score(self, now_s: float) -> routing.Fleet:
        views = []
        for name, told in self._reports.items():
            picks = self._picks[name]
            picks.drop_until(told.stats.get("t", 0.0))
            views.append(
                report.read(name, told.stats, picked=picks.requests, picked_tokens=picks.tokens),
            )
        return routing.Fleet(views, now_s=now_s, policy=self._policy, peers=self._peers)


Among = Callable[["Baseline", Job, Sequence[str]], Sequence[str]]
"""Which replicas a baseline compares for a request."""
Load = Callable[["Baseline", str], float]
"""What it compares; the least one gets the request."""


class Baseline:
    """Compares some replicas by one figure; chance decides between equals."""

    def __init__(self, rng: random.Random, *, among: Among, load: Load) -> None:
        self.rng = rng
        self.turn = rng.randrange(1 << 16)
        self._among, self._load = among, load
        self._names: Sequence[str] = ()
        self._picks: dict[str, Picks] = {}
        self._reports: Mapping[str, Report] = {}

    def learn(self, reports: Mapping[str, Report]) -> None:
        """Take reports."""
        self._reports, self._names = reports, sorted(reports)
        self._picks = {name: self._picks.get(name) or Picks() for name in reports}
        for name, told in reports.items():
            self._picks[name].drop_until(told.stats.get("t", 0.0))

    def pick(self, job: Job, now_s: float) -> str:
        """Pick the least loaded of those compared."""
        self.turn += 1
        names = self._among(self, job, self._names)
        loads = [self._load(self, name) for name in names]
        least = min(loads)
        name = self.rng.choice([name for name, load in zip(names, loads, strict=True) if load == least])
        self._picks[name].add(now_s, 1, OUTPUT_RATIO * job.prompt)
        return name

    def requests(self, name: str) -> float:
        """Return the requests on a replica, those sent since its report included."""
        stats = self._reports[name].stats
        return float(stats.get("running", 0) + stats.get("waiting", 0) + self._picks[name].requests)

    def estimate(self, name: str) -> float:
        """Return the tokens on a replica as llm-d estimates them."""
        return self._reports[name].estimate + self._picks[name].tokens


def _all(router: Baseline, job: Job, names: Sequence[str]) -> Sequence[str]:
    del router, job
    return names


def _next(router: Baseline, job: Job, names: Sequence[str]) -> Sequence[str]:
    del job
    return (names[router.turn % len(names)],)


def _one(router: Baseline, job: Job, names: Sequence[str]) -> Sequence[str]:
    del job
    return (router.rng.choice(names),)


def _two(router: Baseline, job: Job, names: Sequence[str]) -> Sequence[str]:
    del job
    return router.rng.sample(names, min(2, len(names)))


def _split(high: int) -> Among:
    """Keep ``high`` replicas for high effort, and high effort on them."""

    def among(router: Baseline, job: Job, names: Sequence[str]) -> Sequence[str]:
        del router
        edge = max(1, min(high, len(names) - 1))
        return names[:edge] if job.effort == "high" else names[edge:]

    return among


def _floating(high: int) -> Among:
    """Do the same, and let medium effort go anywhere."""
    split = _split(high)

    def among(router: Baseline, job: Job, names: Sequence[str]) -> Sequence[str]:
        return names if job.effort == "medium" else split(router, job, names)

    return among


OURS = "effort"
"""The product's policy."""

_BASELINES: dict[str, tuple[Among, Load]] = {
    "round-robin": (_next, Baseline.requests),
    "random": (_one, Baseline.requests),
    "two-choices": (_two, Baseline.requests),
    "least-requests": (_all, Baseline.requests),
    "llm-d": (_all, Baseline.estimate),
}
SIMPLE = tuple(_BASELINES)
"""Baselines that know no effort."""


def splits(replicas: int) -> tuple[str, ...]:
    """Return all static splits: so many replicas for high effort, without and with medium effort there."""
    return tuple(f"{kind}-{high}" for kind in ("split", "floating") for high in range(1, replicas))


def make(name: str, seed: str, *, peers: int, policy: routing.Policy) -> Router:
    """Return a router by its policy's name. Raises `KeyError` for an unknown one."""
    rng = random.Random(seed)  # noqa: S311 - a simulation
    if name == OURS:
        return EffortRouter(rng, peers=peers, policy=policy)
    kind, _, high = name.rpartition("-")
    if kind in {"split", "floating"}:
        return Baseline(
            rng, among=(_split if kind == "split" else _floating)(int(high)), load=Baseline.requests
        )
    among, load = _BASELINES[name]
    return Baseline(rng, among=among, load=load)
