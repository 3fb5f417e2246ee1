"""Admission: the gate that closes when the gateway drains, and a waiting room before each pool."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Literal

from cluster.core.admission import Bounds, Refused, Room, Ticket, value_of, yields
from cluster.core.engine import EngineLoad, parse_load
from cluster.core.request import ParsedRequest
from cluster.gateway.exchange import Exchange
from cluster.gateway.http_errors import DeadlineExceeded, Overloaded, RequestFailed, ShutDown
from cluster.gateway.plan import Plan
from cluster.gateway.stream import Owned

BYTES_PER_TOKEN = 16
"""Memory of a parsed request for each token of its prompt, about: text, and the objects around it."""
BYTES_PER_REQUEST = 32 * 1024
"""Memory of a request that waits, whatever its prompt: its connection, buffers and task."""
FRESH_S = 0.01
"""Seconds for which a replica's report is good enough while nobody waits: each answer brings another."""

_WORDS: dict[Literal["overloaded", "deadline"], str] = {
    "overloaded": "The model is overloaded, and your request could not start in time. Please try again.",
    "deadline": "Your request has waited as long as its effort allows. Please try again.",
}


class Gate:
    """Knows the requests inside. One per gateway."""

    def __init__(self) -> None:
        self._inside: set[Owned] = set()
        self._empty = asyncio.Event()
        self.draining = False
        """Whether new requests are refused."""

    def enter(self, owned: Owned) -> None:
        """Let a request inside, until it must `leave`. Raises `Overloaded` while draining."""
        if self.draining:
            raise Overloaded("This server is shutting down. Please try again.", retry_after_s=1)
        self._inside.add(owned)

    def leave(self, owned: Owned) -> None:
        """Take note that a request is no longer inside."""
        self._inside.discard(owned)
        if self.draining and not self._inside:
            self._empty.set()

    def drain(self) -> None:
        """Refuse new requests from now on."""
        self.draining = True
        if not self._inside:
            self._empty.set()

    async def wait_empty(self) -> None:
        """Return when the last request has left; only after `drain`."""
        await self._empty.wait()

    def learn_so_far(self) -> None:
        """Learn from how far the answers inside have come."""
        for owned in self._inside:
            owned.learn_so_far()

    def abort(self) -> None:
        """End every request inside; each tells its client so."""
        for owned in list(self._inside):
            owned.end(ShutDown())


class Place(Ticket):
    """One request's place before a pool: it may have to wait for its ``turn``."""

    __slots__ = ("turn",)
    turn: asyncio.Future[RequestFailed | None] | None
    """Done when the wait is over, with why the request is refused, if it is; None: it went in at once."""


class PoolRoom:
    """The waiting room before one pool, on the event loop. ``now`` is the monotonic clock, in seconds."""

    def __init__(self, bounds: Bounds, now: Callable[[], float]) -> None:
        self.room = Room(bounds)
        self._now = now
        self._timer: asyncio.TimerHandle | None = None

    def slots(self) -> int:
        """Return the slots of the pool's replicas, as last reported."""
        return self.room.capacity.slots

    def waiting(self) -> int:
        """Return how many requests wait."""
        return self.room.waiting

    def ask(self, place: Place) -> None:
        """Give a request its place. Raises `Overloaded`."""
        decision = self.room.offer(place, self._now())
        if decision == "entered":
            place.turn = None
            return
        if isinstance(decision, Refused):
            raise refusal(decision)
        place.turn = asyncio.get_running_loop().create_future()
        self._move()

    def leave(self, place: Place) -> None:
        """Give up a place, inside or waiting; who waits moves up."""
        self.room.leave(place, self._now())
        if self.room.waiting:
            self._move()

    def told(self, replica: str, header: bytes) -> None:
        """Take the load that the head of an answer tells, unless there is a fresh one and nobody waits."""
        fresh = self._now() - self.room.capacity.heard_s(replica) < FRESH_S
        if self.room.waiting or not fresh:
            load = parse_load(header.decode("latin-1"))
            if load is not None:
                self.report(replica, load)

    def report(self, replica: str, load: EngineLoad) -> None:
        """Take a replica's report."""
        self.room.report(replica, load, self._now())
        if self.room.waiting:
            self._move()

    def _move(self) -> None:
        """Let in and refuse as the room decides, and come again when something is due."""
        now_s = self._now()
        entered, refused = self.room.tick(now_s)
        for place in entered:
            _tell(place, None)
        for place, why in refused:
            _tell(place, refusal(why))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_s = self.room.next_event_s(now_s)
        if due_s is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, due_s - now_s), self._due)

    def _due(self) -> None:
        self._timer = None
        self._move()


class Admission:
    """The waiting rooms of a gateway, by pool."""

    def __init__(self, pools: Iterable[str], bounds: Bounds, now: Callable[[], float]) -> None:
        self.rooms = {pool: PoolRoom(bounds, now) for pool in pools}

    def ask(self, exchange: Exchange, request: ParsedRequest, plan: Plan) -> Place:
        """Return a request's place before its first pool. Raises `Overloaded`."""
        started_s = exchange.arrived_s - exchange.arrived_epoch_s
        place = Place(
            tenant=exchange.caller.tenant if exchange.caller else "",
            value=value_of(plan.choice.level, plan.tier),
            deadline_s=plan.deadline_ms / 1000 + started_s,
            due_s=plan.priority_ms / 1000 + started_s,
            tokens=plan.expected_output_tokens * request.choices,
            size_bytes=BYTES_PER_REQUEST + BYTES_PER_TOKEN * request.prompt_tokens,
            yields=yields(plan.choice.level),
        )
        self.rooms[plan.pools[0]].ask(place)
        return place

    def leave(self, plan: Plan, place: Place) -> None:
        """Give up a place: the request has ended."""
        self.rooms[plan.pools[0]].leave(place)

    def told(self, pool: str, replica: str | None, header: bytes | None) -> None:
        """Take what the head of an answer tells of a replica; nothing where it tells nothing."""
        if replica is not None and header is not None:
            self.rooms[pool].told(replica, header)

    def report(self, pool: str, replica: str | None, load: EngineLoad | None) -> None:
        """Take what a replica told of itself; nothing where it told nothing."""
        if replica is not None and load is not None:
            self.rooms[pool].report(replica, load)

    def lost(self, pool: str, replica: str | None) -> None:
        """Take note that a replica has died, or looks like it; its next report corrects that."""
        if replica is not None:
            self.rooms[pool].room.lost(replica)

    def waiting_tokens(self, pool: str) -> int:
        """Return the expected output tokens that wait here for a pool."""
        room = self.rooms[pool].room
        return round(room.waiting_tokens) if room.waiting else 0


def refusal(why: Refused) -> RequestFailed:
    """Return what the client of a refused request is told."""
    kind = Overloaded if why.reason == "overloaded" else DeadlineExceeded
    return kind(_WORDS[why.reason], retry_after_s=why.retry_after_s)


def _tell(place: Ticket, failure: RequestFailed | None) -> None:
    turn = place.turn if isinstance(place, Place) else None
    if turn is not None and not turn.done():  # it is, where the client has just left
        turn.set_result(failure)
