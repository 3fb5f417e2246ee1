"""Where requests wait before a replica: the gateway's admission, and a bounded queue for the baselines."""

import heapq
import math
from typing import NamedTuple, Protocol

from cluster.core import admission
from cluster.core.engine import EngineLoad
from loadtest.fleet.workload import Job


class Released(NamedTuple):
    """Requests that leave a room."""

    go: list[Job]
    refused: list[Job]


class Room(Protocol):
    """Holds the requests of one gateway until there is room for them behind it."""

    def arrive(self, job: Job, now_s: float) -> None:
        """Take a request."""

    def left(self, job: Job, now_s: float) -> None:
        """Note that a request which went has ended."""

    def release(self, now_s: float) -> Released:
        """Let requests go as far as there is room; call it after every change and at `wake_s`."""

    def wake_s(self, now_s: float) -> float:
        """Return when `release` has something to do if nothing else happens; infinity when never."""

    def report(self, replica: str, load: EngineLoad, now_s: float) -> None:
        """Take the load that a replica's answer carries."""

    def lost(self, replica: str) -> None:
        """Take note that a replica has died."""

    def resize(self, slots: int) -> None:
        """Take the slots of all replicas that are up, which the product has to find out by itself."""


class AdmissionRoom:
    """The product's: `cluster.core.admission`."""

    def __init__(self) -> None:
        self._room = admission.Room()
        self._tickets: dict[int, admission.Ticket] = {}
        self._jobs: dict[admission.Ticket, Job] = {}
        self._now = Released([], [])
        """Requests that need not wait for the next release."""

    def arrive(self, job: Job, now_s: float) -> None:
        """Offer the request."""
        ticket = admission.Ticket(
            tenant=job.tenant,
            value=admission.value_of(job.effort),
            deadline_s=job.deadline_s,
            tokens=job.expected,
            yields=admission.yields(job.effort),
        )
        said = self._room.offer(ticket, now_s)
        if isinstance(said, admission.Refused):
            self._now.refused.append(job)
            return
        self._tickets[job.number] = ticket
        if said == "entered":
            self._now.go.append(job)
        else:
            self._jobs[ticket] = job

    def left(self, job: Job, now_s: float) -> None:
        """Give its place back."""
        self._room.leave(self._tickets.pop(job.number), now_s)

    def release(self, now_s: float) -> Released:
        """Do what the room says."""
        moves = self._room.tick(now_s)
        refused = [self._jobs.pop(ticket) for ticket, _ in moves.refused]
        for job in refused:
            del self._tickets[job.number]
        go = [self._jobs.pop(ticket) for ticket in moves.entered]
        found, self._now = self._now, Released([], [])
        return Released(found.go + go, found.refused + refused)

    def wake_s(self, now_s: float) -> float:
        """Return when the room wants to be asked again."""
        next_s = self._room.next_event_s(now_s)
        return math.inf if next_s is None else next_s

    def report(self, replica: str, load: EngineLoad, now_s: float) -> None:
        """Pass it on."""
        self._room.report(replica, load, now_s)

    def lost(self, replica: str) -> None:
        """Pass it on."""
        self._room.lost(replica)

    def resize(self, slots: int) -> None:
        """Ignore it: nobody tells the product."""


IN_FLIGHT = 1.25
"""Requests behind the gateways for each slot: some wait in the engines, so that no slot is ever free."""


class FifoRoom:
    """First come, first served, and refused at its deadline: the same bounded wait for every baseline."""

    def __init__(self, slots: int, gateways: int) -> None:
        """Serve as one of ``gateways`` before replicas with so many ``slots`` in all."""
        self._gateways = gateways
        self._inside = 0
        self._waiting: dict[int, Job] = {}
        self._deadlines: list[tuple[float, int]] = []
        self.resize(slots)

    def arrive(self, job: Job, now_s: float) -> None:
        """Put a request at the end."""
        del now_s
        self._waiting[job.number] = job
        heapq.heappush(self._deadlines, (job.deadline_s, job.number))

    def left(self, job: Job, now_s: float) -> None:
        """Free its place."""
        del job, now_s
        self._inside -= 1

    def release(self, now_s: float) -> Released:
        """Refuse what is too late, then fill the places."""
        refused = []
        while self._deadlines and self._deadlines[0][0] <= now_s:
            late = self._waiting.pop(heapq.heappop(self._deadlines)[1], None)
            if late is not None:
                refused.append(late)
        go = []
        while self._waiting and self._inside < self._limit:
            self._inside += 1
            go.append(self._waiting.pop(next(iter(self._waiting))))
        return Released(go, refused)

    def report(self, replica: str, load: EngineLoad, now_s: float) -> None:
        """Ignore it: it is told the slots."""

    def lost(self, replica: str) -> None:
        """Ignore it: it is told the slots."""

    def wake_s(self, now_s: float) -> float:
        """Return the next deadline."""
        del now_s
        while self._deadlines and self._deadlines[0][1] not in self._waiting:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else math.inf

    def resize(self, slots: int) -> None:
        """Let 1.25 times the slots in, divided by the gateways."""
        self._limit = math.ceil(IN_FLIGHT * slots / self._gateways)
