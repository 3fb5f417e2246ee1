"""How many replicas a pool wants: decided from expected tokens and the low-effort wait, not from requests.

A high-effort request holds its slot for minutes, a low-effort one ends before a new replica could help: so a
request counts by its expected tokens, against what a slot generates while a replica starts, and never as more
than the one slot that it can use. Low-effort requests that wait all the same are a signal of their own.

Up at once, on what is there now. Down slowly: to no less than the most that was wanted in a while, and only
where those that stay then have room. No clock in here: the caller passes the time, and keeps the `Memory`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

Reason = Literal["tokens", "low_wait", "idle", "settling", "steady", "blind"]

ROOM_AFTER = 0.75
"""Share of ``slot_use`` that replicas may reach when others are stopped: a third more does not undo it."""
WAIT_STEP = 0.25
"""Share of the replicas, one at least, that is added because low-effort requests wait."""
WAIT_PAUSE_S = 10.0
"""Seconds for which all replicas must have run before a wait adds more: the last ones need time to help."""

QUEUED_S = 3.0
"""Seconds for which what a gateway told of its queue counts at least; one that has none soon tells so."""


class ReplicaLoad(NamedTuple):
    """What one replica reports."""

    slots: float
    """Requests that it runs at once."""
    running: float = 0
    """Requests there that have their first token."""
    running_tokens: float = 0
    """Output tokens still expected of them."""
    waiting: float = 0
    """Requests there that have not."""
    waiting_tokens: float = 0
    """Output tokens expected of them."""
    queued_tokens: float = 0
    """Expected tokens that wait in a gateway: the most that any told this replica of late."""
    low_wait_s: float = 0
    """Seconds for which the oldest low-effort request without its first token has waited there."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What a site may set."""

    slot_tokens: float = 2000.0
    """Tokens that a slot generates while a replica starts: a minute's worth at 30 ms each."""
    slot_use: float = 0.8
    """Share of the slots that may be taken before replicas are added."""
    low_wait_s: float = 1.0
    """Seconds that a low-effort request may wait for its first token before replicas are added."""
    down_after_s: float = 300.0
    """Seconds for which fewer replicas must have been enough before any is stopped."""


DEFAULT_POLICY = Policy()


class Queued(NamedTuple):
    """What gateways tell of their queues: the most of the last `QUEUED_S` to twice as many seconds.

    Nothing says which gateway told what, so it is the longest single queue, not all of them together: too
    little where there are several gateways, and then replicas are added in more steps.
    """

    newer: float = 0
    """The most tokens told since ``since_s``."""
    older: float = 0
    """The most tokens told in the time before."""
    since_s: float = 0

    def plus(self, tokens: float, now_s: float) -> "Queued":
        """Return it with what one more request told."""
        newer, older, since_s = self._turned(now_s)
        return Queued(max(newer, tokens), older, since_s)

    def at(self, now_s: float) -> float:
        """Return the tokens as of ``now_s``."""
        newer, older, _ = self._turned(now_s)
        return max(newer, older)

    def _turned(self, now_s: float) -> "Queued":
        age_s = now_s - self.since_s
        if 0 <= age_s < QUEUED_S:
            return self
        return Queued(0, self.newer if 0 <= age_s < 2 * QUEUED_S else 0, now_s)


class Memory(NamedTuple):
    """What a decision must know of earlier ones: a few numbers, however long a pool runs."""

    wanted: tuple[tuple[float, int], ...] = ()
    """Times and replicas wanted of late; each number is less than the one before it."""
    whole_since_s: float | None = None
    """Since when all replicas have run; None while some start."""


@dataclass(frozen=True, slots=True)
class Decision:
    """How many replicas there should be, and why.

    ``tokens`` and ``low_wait`` add some, ``idle`` stops some. ``settling``: fewer would do, but not for long
    enough yet. ``blind``: nobody has reported.
    """

    replicas: int
    reason: Reason
    memory: Memory
    """For the next decision."""


def decide(
    loads: Sequence[ReplicaLoad],
    *,
    replicas: int,
    least: int,
    most: int,
    now_s: float,
    memory: Memory,
    policy: Policy = DEFAULT_POLICY,
) -> Decision:
    """Return how many replicas a pool should have, from ``least`` to ``most``.

    ``loads`` are the reports of those that run, ``replicas`` is how many were last decided on, and ``now_s``
    is the time in seconds.
    """
    replicas = min(max(replicas, least), most)
    whole_since_s = _whole_since(len(loads) >= replicas, now_s, memory)
    if not loads:
        return Decision(replicas, "blind", Memory(memory.wanted, whole_since_s))
    waits = max(load.low_wait_s for load in loads) > policy.low_wait_s
    by_tokens = _enough(_needed(loads, policy), loads, policy.slot_use)
    by_wait = replicas + max(1, int(replicas * WAIT_STEP)) if waits and _settled(whole_since_s, now_s) else 0
    raised = min(max(by_tokens, by_wait), most)
    keep = replicas if waits else _enough(_taken(loads, policy), loads, policy.slot_use * ROOM_AFTER)
    wanted = _remembered(memory, max(min(keep, most), raised), replicas, now_s, policy)
    lowered, memory = max(wanted[0][1], least), Memory(wanted, whole_since_s)
    if raised > replicas:
        return Decision(raised, "tokens" if by_tokens >= by_wait else "low_wait", memory)
    if lowered < replicas:
        return Decision(lowered, "idle", memory)
    return Decision(replicas, "settling" if max(keep, least) < replicas else "steady", memory)


def _needed(loads: Sequence[ReplicaLoad], policy: Policy) -> float:
    """Return the slots that the work is worth which is there now."""
    here = sum(
        min(load.running, load.running_tokens / policy.slot_tokens)
        + min(load.waiting, load.waiting_tokens / policy.slot_tokens)
        for load in loads
    )
    # Gateways tell no number of requests, and every replica may have heard of the same queue.
    return here + max(load.queued_tokens for load in loads) / policy.slot_tokens


def _taken(loads: Sequence[ReplicaLoad], policy: Policy) -> float:
    """Return the slots that must stay: those that are taken too, as others come when these requests end."""
    return max(_needed(loads, policy), math.fsum(load.running for load in loads))


def _enough(slots: float, loads: Sequence[ReplicaLoad], use: float) -> int:
    """Return how many replicas have ``slots`` when this share of theirs is in ``use``."""
    each = sum(load.slots for load in loads) / len(loads)
    return math.ceil(slots / (each * use) - 1e-9)


def _whole_since(whole: bool, now_s: float, memory: Memory) -> float | None:
    if not whole:
        return None
    return now_s if memory.whole_since_s is None else memory.whole_since_s


def _settled(whole_since_s: float | None, now_s: float) -> bool:
    return whole_since_s is not None and now_s - whole_since_s >= WAIT_PAUSE_S


def _remembered(
    memory: Memory, wanted: int, replicas: int, now_s: float, policy: Policy
) -> tuple[tuple[float, int], ...]:
    """Return what was wanted of late, the most of it first; with no past, all that there is was wanted."""
    kept = [
        entry
        for entry in memory.wanted or ((now_s, replicas),)
        if entry[1] > wanted and now_s - entry[0] < policy.down_after_s
    ]
    return (*kept, (now_s, wanted))
