"""One fleet under one workload and one policy, event by event: arrivals, endings, reports, failures."""

import heapq
import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from cluster.core.cost import CostModel
from cluster.core.effort import EFFORTS
from cluster.core.engine import USAGE_COMMENT_EVERY_S
from cluster.core.routing import DEFAULT_POLICY, Policy
from cluster.serving import report
from cluster.serving.deploy import ROUTERS_PER_NODE
from loadtest.fleet import routers
from loadtest.fleet.engine import MODEL, engine
from loadtest.fleet.replica import Replica
from loadtest.fleet.rooms import AdmissionRoom, FifoRoom, Room
from loadtest.fleet.routers import Report
from loadtest.fleet.workload import MEAN_TOKENS, MOST_TOKENS, Job, Workload

GPUS_PER_NODE = 8


class Change(NamedTuple):
    """Something that happens to a replica."""

    at_s: float
    what: Literal["fail", "start"]
    replica: int


@dataclass(frozen=True, slots=True)
class Setup:
    """What is simulated. The same setup gives the same outcome."""

    workload: Workload
    policy: str = routers.OURS
    """`routers.OURS` or a baseline."""
    gpu: str = "b200"
    slots: int | None = 64
    """Slots of each replica; None: the profile's."""
    replicas: int = 8
    routers: int | None = None
    """Request routers; None: those of one node for each eight replicas."""
    gateways: int = 2
    report_s: float = 0.4
    """Seconds between reports of a replica."""
    lag_s: float = 0.1
    """Seconds until the routers have a report."""
    slow: tuple[tuple[int, float], ...] = ()
    """Replicas that take so many times as long for everything."""
    changes: tuple[Change, ...] = ()
    absent: int = 0
    """Last replicas, of all, that are not up before a `Change` starts them."""
    prior_factors: tuple[float, float, float] = (1, 1, 1)
    """How wrong the gateways' first expectations are, by effort."""
    weights: Policy = DEFAULT_POLICY

    @property
    def all_routers(self) -> int:
        """Number of request routers."""
        return self.routers or ROUTERS_PER_NODE * math.ceil(self.replicas / GPUS_PER_NODE)


class Gateway:
    """One gateway: what it has learned of answers' lengths, and its waiting room."""

    def __init__(self, room: Room, factors: tuple[float, float, float]) -> None:
        self.room = room
        self.due_s = math.inf
        """When the room is due to be looked at."""
        self._costs = CostModel(
            {
                (MODEL, effort): MEAN_TOKENS[effort] * factor
                for effort, factor in zip(EFFORTS, factors, strict=True)
            }
        )

    def plan(self, job: Job) -> None:
        """Expect an output for ``job``, as `cluster.gateway.plan` does."""
        expected = self._costs.estimate(MODEL, job.effort, job.tenant).output
        job.expected = min(MOST_TOKENS[job.effort], round(expected))

    def learn(self, job: Job) -> None:
        """Learn from an answer that has ended."""
        half = job.output // 2
        self._costs.observe(
            MODEL, job.effort, job.tenant, reasoning=half, answer=job.output - half, cut=False
        )


@dataclass(slots=True)
class Outcome:
    """What became of every request, and the fleet's totals."""

    jobs: list[Job]
    generated: list[tuple[float, float]] = field(default_factory=list)
    """(second, tokens that the fleet has generated up to then), at every report."""


_Event = tuple[float, int, Callable[..., None], tuple[object, ...]]


class Simulation:
    """Runs a `Setup` to the end: until every request that came has been served, refused or lost."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._events: list[_Event] = []
        self._count = 0
        ours = setup.policy == routers.OURS
        self._report_of = _report_of if ours else _plain_report_of
        made, slow = engine(setup.gpu, setup.slots), dict(setup.slow)
        self._replicas = {
            f"r{index:03}": Replica(
                f"r{index:03}", made, key=_deadline if ours else _arrival, slow=slow.get(index, 1.0)
            )
            for index in range(setup.replicas)
        }
        for replica in list(self._replicas.values())[setup.replicas - setup.absent :]:
            replica.up = False
        self._due = dict.fromkeys(self._replicas, math.inf)
        self._routers = [
            routers.make(
                setup.policy,
                f"{setup.workload.seed}/router/{index}",
                peers=setup.all_routers,
                policy=setup.weights,
            )
            for index in range(setup.all_routers)
        ]
        self._gateways = [Gateway(self._room(), setup.prior_factors) for _ in range(setup.gateways)]
        self._rng = random.Random(f"{setup.workload.seed}/paths")  # noqa: S311 - a simulation
        self._reports = {name: Report({}, 0.0) for name, replica in self._replicas.items() if replica.up}
        self._tell()
        self._open = 0
        self._now_s = 0.0
        self._generated: list[tuple[float, float]] = []

    def _room(self) -> Room:
        if self._setup.policy == routers.OURS:
            return AdmissionRoom()
        return FifoRoom(self._slots(), self._setup.gateways)

    def _slots(self) -> int:
        return sum(replica.engine.slots for replica in self._replicas.values() if replica.up)

    def run(self) -> Outcome:
        """Simulate."""
        jobs = self._setup.workload.jobs()
        self._open = len(jobs)
        self._arrivals = iter(jobs)
        self._next_arrival()
        self._report(0.0)
        for change in self._setup.changes:
            self._at(change.at_s, self._change, change)
        events = self._events
        while self._open:
            self._now_s, _, act, values = heapq.heappop(events)
            act(self._now_s, *values)
        return Outcome(jobs, self._generated)

    def _at(self, at_s: float, act: Callable[..., None], *values: object) -> None:
        self._count += 1
        heapq.heappush(self._events, (at_s, self._count, act, values))

    def _next_arrival(self) -> None:
        job = next(self._arrivals, None)
        if job is not None:
            self._at(job.arrival_s, self._arrive, job)

    def _arrive(self, now_s: float, job: Job) -> None:
        self._next_arrival()
        job.gateway = self._rng.randrange(len(self._gateways))
        gateway = self._gateways[job.gateway]
        gateway.plan(job)
        gateway.room.arrive(job, now_s)
        self._release(now_s, gateway)

    def _wake(self, now_s: float, gateway: Gateway) -> None:
        if gateway.due_s <= now_s:
            gateway.due_s = math.inf
            self._release(now_s, gateway)

    def _release(self, now_s: float, gateway: Gateway) -> None:
        go, refused = gateway.room.release(now_s)
        for job in refused:
            job.refused_s = now_s
        self._open -= len(refused)
        for job in go:
            self._send(now_s, job)
        wake_s = gateway.room.wake_s(now_s)
        if wake_s < gateway.due_s:
            gateway.due_s = wake_s
            self._at(wake_s, self._wake, gateway)

    def _send(self, now_s: float, job: Job) -> None:
        router = self._routers[self._rng.randrange(len(self._routers))]
        job.replica = router.pick(job, now_s)
        replica = self._replicas[job.replica]
        ended = replica.put(job, now_s)
        self._ended(now_s, ended)
        self._watch(replica)

    def _watch(self, replica: Replica) -> None:
        """Come again when something happens to ``replica``; what was planned before is void."""
        for job in replica.take_started():
            assert job.first_s is not None, "it has started"
            self._at(max(job.first_s, self._now_s), self._answer, job)
        due_s = replica.next_event_s()
        self._due[replica.name] = due_s
        if due_s < math.inf:
            self._at(due_s, self._step, replica)

    def _answer(self, now_s: float, job: Job) -> None:
        """Let the gateway see the head of an answer, which carries the load of the replica."""
        replica = self._replicas[job.replica]
        if replica.up:
            gateway = self._gateways[job.gateway]
            gateway.room.report(replica.name, replica.load, now_s)
            self._release(now_s, gateway)

    def _step(self, now_s: float, replica: Replica) -> None:
        if self._due[replica.name] == now_s:
            ended = replica.advance(now_s)
            self._watch(replica)
            self._ended(now_s, ended)

    def _ended(self, now_s: float, jobs: list[Job]) -> None:
        self._open -= len(jobs)
        for job in jobs:
            gateway = self._gateways[job.gateway]
            gateway.learn(job)
            gateway.room.left(job, now_s)
            self._release(now_s, gateway)

    def _report(self, now_s: float) -> None:
        """Let all replicas report; the routers know it a little later."""
        reports = {}
        for name, replica in self._replicas.items():
            if replica.up:
                self._ended(now_s, replica.advance(now_s))
                reports[name] = self._report_of(replica, now_s)
                self._comment(now_s, replica)
        self._generated.append((now_s, sum(replica.generated for replica in self._replicas.values())))
        self._at(now_s + self._setup.lag_s, self._learn, reports)
        self._at(now_s + self._setup.report_s, self._report)

    def _comment(self, now_s: float, replica: Replica) -> None:
        """Let the gateways see the load in usage comments, of which each running stream has one in 2 s."""
        streams = Counter(job.gateway for job in replica.running())
        round_ = round(now_s / self._setup.report_s)
        for index, count in streams.items():
            if round_ % math.ceil(USAGE_COMMENT_EVERY_S / self._setup.report_s / count) == 0:
                self._gateways[index].room.report(replica.name, replica.load, now_s)

    def _learn(self, now_s: float, reports: dict[str, Report]) -> None:
        del now_s
        self._reports = {name: told for name, told in reports.items() if self._replicas[name].up}
        self._tell()

    def _tell(self) -> None:
        for router in self._routers:
            router.learn(self._reports)

    def _change(self, now_s: float, change: Change) -> None:
        replica = list(self._replicas.values())[change.replica]
        if change.what == "start":
            replica.up = True
            self._reports = {**self._reports, replica.name: Report({}, 0.0)}
        else:
            self._lose(now_s, replica)
        self._tell()
        for gateway in self._gateways:
            gateway.room.resize(self._slots())
            self._release(now_s, gateway)

    def _lose(self, now_s: float, replica: Replica) -> None:
        """Take a replica away: what has no token yet is sent again once, the rest is lost."""
        self._ended(now_s, replica.advance(now_s))
        lost = replica.fail()
        self._due[replica.name] = math.inf
        self._reports = {name: told for name, told in self._reports.items() if name != replica.name}
        self._tell()
        for gateway in {self._gateways[job.gateway] for job in lost}:
            gateway.room.lost(replica.name)
        for job in lost:
            if job.attempt == 1 and (job.first_s is None or job.first_s > now_s):
                job.attempt, job.first_s = 2, None
                self._send(now_s, job)
            else:
                job.lost = True
                self._open -= 1
                self._gateways[job.gateway].room.left(job, now_s)


def _report_of(replica: Replica, now_s: float) -> Report:
    jobs = replica.jobs()
    stats = report.write(
        now_s, replica.load, replica.expected_tokens(), [job.effort for job in jobs], replica.demand
    )
    return Report(stats, 0.0)


def _plain_report_of(replica: Replica, now_s: float) -> Report:
    """Return what the baselines read, which is less: it is most of what a report costs."""
    load = replica.load
    stats = {"t": now_s, "running": load.running, "waiting": load.waiting}
    return Report(stats, routers.OUTPUT_RATIO * sum(job.prompt for job in replica.jobs()))


def _deadline(job: Job) -> float:
    return job.deadline_s


def _arrival(job: Job) -> float:
    return job.arrival_s


def run(setup: Setup) -> Outcome:
    """Simulate ``setup``."""
    return Simulation(setup).run()
