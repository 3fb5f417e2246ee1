"""The waiting room before one pool: who goes in, who waits, and who is refused.

One room per pool and gateway. `Capacity` says how many may be inside, `FairQueue` who goes next, and the room
refuses what cannot be served in time: at once where the queue ahead is known to take longer than the request
can wait, at its deadline otherwise, and the least valuable where the room is full. It has no clock: whoever
runs it, a gateway or a simulation, passes the time, and calls `tick` after whatever may have made room and
when `next_event_s` says so.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, NamedTuple

from cluster.core.capacity import Capacity
from cluster.core.effort import EFFORTS, Effort
from cluster.core.engine import EngineLoad
from cluster.core.fair_queue import FairQueue, Ticket, TicketHeap
from cluster.core.tier import TIERS, Tier

__all__ = [
    "DEFAULT_BOUNDS",
    "MAX_RETRY_AFTER_S",
    "Bounds",
    "Moves",
    "Refused",
    "Room",
    "Ticket",
    "value_of",
    "yields",
]

MAX_RETRY_AFTER_S = 120
"""Longest wait that is told: OpenAI's clients do not retry at all when told to wait longer."""
UNKNOWN_RETRY_AFTER_S = 10
"""Wait that is told while nothing is known of how fast the room empties."""
FAIR_WINDOW_S = 1.0
"""Seconds of the pool's work that a tenant may be ahead of another before deadlines count no more for it."""
RATE_MEMORY_S = 20.0
"""Seconds of queueing after which what was seen of the rate counts for a third."""
ENGINE_PART = 0.2
"""Share of the time until its deadline that a request keeps for the queue of an engine."""
YIELDING_OVERCOMMIT = 0.97
"""Requests inside over the slots from which on one that yields waits. A slot that high effort has is gone for
a minute and a half, so three of a hundred are left free for the next short ones."""
BURST_OVERCOMMIT, BURST_PART = 0.6, 1 / 8
"""The same for one that has waited for less than this part of what it can wait, 30 s of 300: most bursts
are over by then, and until then medium effort needs the lane that both share."""
YIELD_S = 30.0
"""Seconds without any request that does not yield after which nothing is left free for them."""
LEAST_ENTRIES = 8
"""Entries from the queue, old ones faded, below which no rate is known."""
LEAST_LEFT = 1 / 4
"""Share of the rate that is taken to be left for what can wait long: its deadline comes near in the end."""
TICK_S = 1.0
"""Seconds between two looks at the queue though nothing has happened."""
HOUSEKEEPING_S = 1.0
"""Seconds between two sweeps of what is forgotten."""


def value_of(effort: Effort, tier: Tier = "default") -> int:
    """Return what a request is worth where some must be refused.

    Flex goes before default before priority; of one tier, high effort before medium before low: one high
    answer makes room for twenty low ones, and whoever can wait longest loses least by asking again.
    """
    return _VALUES[effort, tier]


_VALUES: dict[tuple[Effort, Tier], int] = {
    (effort, tier): len(EFFORTS) * TIERS.index(tier) + len(EFFORTS) - 1 - EFFORTS.index(effort)
    for effort in EFFORTS
    for tier in TIERS
}


def yields(effort: Effort) -> bool:
    """Tell whether ``effort`` leaves the last free slots to others: high effort, which can wait longest."""
    return effort == "high"


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may wait, and for how long."""

    max_waiting: int = 2000
    """Requests."""
    max_bytes: int = 256 * 1024 * 1024
    """Bytes that they hold."""
    max_wait_s: float = 300.0
    """Seconds for one request, whatever its deadline."""


DEFAULT_BOUNDS = Bounds()


class Refused(NamedTuple):
    """A request does not go in."""

    reason: Literal["overloaded", "deadline"]
    """``overloaded``: on arrival, or to make room for another; ``deadline``: it waited all it could."""
    retry_after_s: int
    """Whole seconds, 1 to `MAX_RETRY_AFTER_S`, after which another try may succeed."""


class Moves(NamedTuple):
    """What has become of requests that waited."""

    entered: list[Ticket]
    refused: list[tuple[Ticket, Refused]]


class Room:
    """One waiting room. Each call is O(log n) for each request moved; times are seconds of one clock."""

    def __init__(self, bounds: Bounds = DEFAULT_BOUNDS) -> None:
        self.capacity = Capacity()
        self._bounds = bounds
        self._queue = FairQueue()
        self._expiries = TicketHeap()
        self._rate = _Rate()
        self._patience_s: dict[int, float] = {}
        """By value, in how many seconds the last one that came was due."""
        self._evicted: list[tuple[Ticket, Refused]] = []
        self._swept_s = self._hurried_s = -math.inf
        """When it was swept last, and when the last one came that does not yield."""

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return self._queue.count

    @property
    def waiting_tokens(self) -> float:
        """Expected output tokens of the requests that wait."""
        return sum(self._queue.tokens.values())

    @property
    def inside(self) -> int:
        """Requests of this gateway that are inside."""
        return self.capacity.own

    def offer(self, ticket: Ticket, now_s: float) -> Literal["entered", "waits"] | Refused:
        """Ask to go in. A ticket that waits comes out of `tick`, or goes with `leave`."""
        if not ticket.yields:
            self._hurried_s = now_s
        if not self._queue.count and self._free(now_s, ticket) > 0:
            ticket.state = "inside"
            self.capacity.enter(now_s)
            return "entered"
        return self._queue_up(ticket, now_s)

    def leave(self, ticket: Ticket, now_s: float) -> None:
        """Take note that a request has ended, inside or waiting; a second time does nothing."""
        if ticket.state == "inside":
            ticket.state = "gone"
            self.capacity.leave()
        elif ticket.state == "waiting":
            self._drop(ticket, now_s)

    def report(self, replica: str, load: EngineLoad, now_s: float) -> None:
        """Take a replica's report, which every answer carries."""
        self.capacity.report(replica, load, now_s)
        if now_s - self._swept_s >= HOUSEKEEPING_S:
            self._swept_s = now_s
            self.capacity.forget(now_s)
            self._queue.prune()

    def lost(self, replica: str) -> None:
        """Take note that a replica has died."""
        self.capacity.lost(replica)

    def tick(self, now_s: float) -> Moves:
        """Let in whoever may go in now, and refuse whoever can wait no longer."""
        refused, self._evicted = self._evicted, []
        while (late := self._expiries.first()) is not None and late.expires_s <= now_s:
            refused.append((late, Refused("deadline", self._retry_after_s(late))))
            self._drop(late, now_s)
        entered: list[Ticket] = []
        if self._queue.count:
            entered = self._let_in(now_s)
        return Moves(entered, refused)

    def next_event_s(self, now_s: float) -> float | None:
        """Return when `tick` is due at the latest though nothing has happened; None while nobody waits."""
        if self._evicted:
            return now_s
        late = self._expiries.first()
        return None if late is None else min(late.expires_s, now_s + TICK_S)

    def _queue_up(self, ticket: Ticket, now_s: float) -> Literal["entered", "waits"] | Refused:
        patience_s = min((1 - ENGINE_PART) * (ticket.deadline_s - now_s), self._bounds.max_wait_s)
        self._patience_s[ticket.value] = ticket.due_s - now_s
        wait_s = self._wait_s(ticket)
        if patience_s <= 0 or (wait_s is not None and wait_s > patience_s):
            return Refused("overloaded", _told((wait_s or 0.0) - patience_s))
        if ticket.size_bytes > self._bounds.max_bytes or not self._make_place(ticket, now_s):
            return Refused("overloaded", self._retry_after_s(ticket))
        if not self._queue.count:
            self._rate.resume(now_s)
        ticket.offered_s, ticket.expires_s = now_s, now_s + patience_s
        self._queue.push(ticket)
        self._expiries.push(ticket.expires_s, ticket)
        return "waits"

    def _make_place(self, ticket: Ticket, now_s: float) -> bool:
        queue, bounds = self._queue, self._bounds
        while queue.count >= bounds.max_waiting or queue.size_bytes + ticket.size_bytes > bounds.max_bytes:
            victim = queue.victim(ticket)
            if victim is ticket:
                return False
            self._evicted.append((victim, Refused("overloaded", self._retry_after_s(victim))))
            self._drop(victim, now_s)
        return True

    def _let_in(self, now_s: float) -> list[Ticket]:
        entered: list[Ticket] = []
        window = FAIR_WINDOW_S * (self._rate.tokens_per_s or 0.0)
        while self.capacity.free(now_s) > 0:
            ticket = self._queue.next(window)
            if ticket is not None and self._free(now_s, ticket) <= 0:
                ticket = self._queue.next(window, last_slots=True)
            if ticket is None:
                break
            self._queue.serve(ticket)
            self._expiries.note_gone()
            self.capacity.enter(now_s)
            self._rate.add(ticket, now_s)
            entered.append(ticket)
        if not self._queue.count:
            self._rate.pause(now_s)
        return entered

    def _free(self, now_s: float, ticket: Ticket) -> int:
        """Return how many requests such as ``ticket`` may go in."""
        if not ticket.yields or now_s - self._hurried_s > YIELD_S:
            return self.capacity.free(now_s)
        early = not ticket.waits or (
            now_s - ticket.offered_s < BURST_PART * (ticket.expires_s - ticket.offered_s)
        )
        return self.capacity.free(now_s, BURST_OVERCOMMIT if early else YIELDING_OVERCOMMIT)

    def _drop(self, ticket: Ticket, now_s: float) -> None:
        self._queue.drop(ticket)
        self._expiries.note_gone()
        if not self._queue.count:
            self._rate.pause(now_s)

    def _wait_s(self, ticket: Ticket) -> float | None:
        """Return how long ``ticket`` would wait at least, behind what goes before it; None: nobody knows.

        What must go in sooner goes before it, also what is yet to come; and at most what its own tenant has
        waiting, once for each tenant.
        """
        queue, rate = self._queue, self._rate.tokens_per_s
        if not rate:
            return None
        mine_s = self._patience_s.get(ticket.value, math.inf)
        sooner = {value for value, patience_s in self._patience_s.items() if patience_s < mine_s}
        ahead = sum(queue.tokens.get(value, 0.0) for value in (ticket.value, *sooner))
        fair = queue.tokens_of(ticket.tenant) * max(1, queue.tenants)
        left = max(rate - self._rate.of(sooner), LEAST_LEFT * rate)
        return min(ahead, fair) / left

    def _retry_after_s(self, ticket: Ticket) -> int:
        wait_s = self._wait_s(ticket)
        return UNKNOWN_RETRY_AFTER_S if wait_s is None else _told(wait_s)


class _Rate:
    """Expected tokens that go in per second while requests wait: how fast the pool works, by value."""

    def __init__(self) -> None:
        self._tokens: dict[int, float] = {}
        """Faded sums, as of ``_at_s``."""
        self._entries = self._seconds = 0.0
        self._at_s: float | None = None
        """Up to when time has been counted; None while nobody waits."""

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens a second of all values; None while too little was seen."""
        if self._entries < LEAST_ENTRIES or self._seconds <= 0:
            return None
        return sum(self._tokens.values()) / self._seconds

    def of(self, values: Collection[int]) -> float:
        """Return the tokens a second of these values; only where any rate is known."""
        return sum(self._tokens.get(value, 0.0) for value in values) / self._seconds

    def resume(self, now_s: float) -> None:
        """Count time from now on: somebody waits."""
        self._at_s = now_s

    def pause(self, now_s: float) -> None:
        """Count no time any more: nobody waits."""
        self._pass(now_s)
        self._at_s = None

    def add(self, ticket: Ticket, now_s: float) -> None:
        """Count one that has waited and goes in."""
        self._pass(now_s)
        self._tokens[ticket.value] = self._tokens.get(ticket.value, 0.0) + ticket.tokens
        self._entries += 1

    def _pass(self, now_s: float) -> None:
        if self._at_s is None or now_s <= self._at_s:
            return
        passed_s = now_s - self._at_s
        left = math.exp(-passed_s / RATE_MEMORY_S)
        self._tokens = {value: tokens * left for value, tokens in self._tokens.items()}
        self._entries *= left
        self._seconds = self._seconds * left + (1 - left) * RATE_MEMORY_S
        self._at_s = now_s


def _told(wait_s: float) -> int:
    return max(1, min(MAX_RETRY_AFTER_S, math.ceil(wait_s)))
