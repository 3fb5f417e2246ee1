"""Which replica a request goes to: filter, score in [0, 1], pick, over a snapshot.

Reports come twice a second and choices hundreds of times, so a `Fleet` scores each replica once a report,
again where a request is booked on it, and a choice only looks for the highest sum. Scorers know nothing of
each other; their weights stand outside them, in `Policy`. No clock and no chance in here: the caller passes
the snapshot, the time and, to pick among equals, a number.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from typing import Literal

from cluster.core import lanes
from cluster.core.effort import EFFORTS, Effort
from cluster.core.hint import RouteHint
from cluster.core.lanes import NOTHING, ByEffort

Reason = Literal["scored", "no_hint", "stale", "all_avoided"]

TOKENS_PER_SLOT = 8000
"""Expected tokens left at which a slot counts as spoken for: one high-effort request from start to end."""
ROOM_MARGIN = 0.05
"""Share of the slots from which on a replica counts as filling up: reports are half a second old."""
LANES_FADE = 0.05
"""Share of the fleet's slots below which, the fewer are free, the less lanes count: where all batches are
full none is smaller, and a request waits for whichever slot is free first."""
FRESH_S = 1.0
"""Age in seconds up to which a report is as good as new; they come every 0.4 s."""
PREFIX_TOKENS = 2048
"""Prompt whose cached beginning is worth the whole score; a shorter one saves less prefill."""


@dataclass(frozen=True, slots=True)
class ReplicaView:
    """One replica as the router knows it."""

    replica: str
    stats_at_s: float | None
    """Epoch seconds of its last report; None before the first."""
    running: int = 0
    waiting: int = 0
    slots: int = 1
    kv_use: float = 0.0
    """Share of the KV cache in use, 0 to 1."""
    expected_tokens: int = 0
    """Output tokens that its requests still have to generate, as expected."""
    by_effort: ByEffort = NOTHING
    """Its requests, running and waiting, by effort."""
    demand: ByEffort | None = None
    """Expected tokens of what it was sent of late, by effort (`lanes.Demand`); None where it does not say."""
    picked: float = 0
    """Requests sent to it since the report, those that other routers are taken to have sent included."""
    picked_tokens: float = 0
    """Their expected output tokens."""

    @property
    def fullness(self) -> float:
        """How full it is, requests on their way included: 1 is full, above 1 they wait."""
        return max((self.running + self.waiting + self.picked) / self.slots, self.kv_use)


@dataclass(frozen=True, slots=True)
class Choice:
    """The replica picked and why; ``reason`` other than ``scored`` is a fallback."""

    replica: str
    reason: Reason
    requests: float = 1.0
    """Requests to book for it: this one, and what the router's peers are taken to send there meanwhile."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The weights of the scorers, and what else a site may set.

    Found with a simulation of eight replicas at 0.7 of what they can do, in three mixes of efforts.
    """

    batch: float = 2.0
    room: float = 2.0
    tokens: float = 0.5
    lanes: float = 1.0
    prefix: float = 0.2
    freshness: float = 0.5
    lane_pressure: float = 4.0
    """Demand that a replica of the high lane takes for each unit that one of the low lane takes."""
    lane_fill: float = 0.9
    """Share of the high lane's slots in use from which on it is made larger, whatever the pressure."""
    stale_after_s: float = 5.0
    """Age at which a report says nothing any more: ten missed in a row."""


DEFAULT_POLICY = Policy()


def batch(view: ReplicaView) -> float:
    """Score by the size of the batch that the request joins, which sets the pace of all in it."""
    fullness = view.fullness
    return 1 - fullness / 2 if fullness <= 1 else 0.5 / fullness


def room(view: ReplicaView) -> float:
    """Score 1 while the request would start at once, 0 when it would wait: none waits beside a free slot."""
    return min(1.0, max(0.0, 1 - view.fullness) / ROOM_MARGIN)


def tokens(view: ReplicaView) -> float:
    """Score by the tokens still expected: what tells a batch that lasts from one that is about to end."""
    return 1 - min(1.0, (view.expected_tokens + view.picked_tokens) / (view.slots * TOKENS_PER_SLOT))


def freshness(view: ReplicaView, now_s: float, policy: Policy) -> float:
    """Score by the age of the report: 1 when fresh, 0 when as good as stale or when there is none."""
    if view.stats_at_s is None:
        return 0.0
    spare_s = policy.stale_after_s - max(FRESH_S, now_s - view.stats_at_s)
    return min(1.0, max(0.0, spare_s) / max(policy.stale_after_s - FRESH_S, FRESH_S))


def lane(effort: Effort, membership: float) -> float:
    """Score by how far the replica belongs to the lane of ``effort``: low, or medium and high together."""
    return 1 - membership if effort == "low" else membership


def prefix(prompt_tokens: int, free: float) -> float:
    """Score of the one replica that a prefix prefers, by what its cache saves; ``free`` is its `room`."""
    return free * min(1.0, prompt_tokens / PREFIX_TOKENS)


class Fleet:
    """Replicas as one router knows them from one report to the next.

    `choose` changes nothing: the same fleet gives the same answer until `book` says that a request went.
    """

    def __init__(
        self,
        views: Sequence[ReplicaView],
        *,
        now_s: float,
        policy: Policy = DEFAULT_POLICY,
        peers: int = 1,
    ) -> None:
        """Score ``views``, of which there is at least one, as of ``now_s``.

        Without any fresh report all replicas count, else only those that have one. ``peers`` is the number of
        routers, this one included, that share the traffic and see the same reports.
        """
        fresh = [view for view in views if _is_fresh(view, now_s, policy)]
        self._stale = not fresh
        self._views = sorted(fresh or views, key=lambda view: view.replica)
        self._index = {view.replica: index for index, view in enumerate(self._views)}
        self._policy, self._peers = policy, peers
        self._age = [policy.freshness * freshness(view, now_s, policy) for view in self._views]
        self._draw_lanes()
        size = len(self._views)
        self._room = [0.0] * size
        self._least: list[float] = [0.0] * size
        self._scores: dict[Effort, list[float]] = {effort: [0.0] * size for effort in EFFORTS}
        for index in range(size):
            self._score(index)
        # Routers that see the same best replica all send there: chance picks within what half of them do.
        slots = max(view.slots for view in self._views)
        self._slack = min(policy.batch * (peers - 1) / (4 * slots), policy.lanes / 2)

    @property
    def high_lane(self) -> float:
        """How many replicas the high lane has, shared ones by their part."""
        return sum(self._members)

    def choose(self, hint: RouteHint | None, *, tie: float) -> Choice:
        """Pick a replica for a request; ``tie`` in [0, 1) decides between equals."""
        reason: Reason = "stale" if self._stale else "scored" if hint else "no_hint"
        if hint is None:
            return self._best(self._least, tie, reason)
        scores = (self._least if self._stale else self._scores[hint.effort]).copy()
        if not self._stale:
            self._prefer(hint, scores)
        if hint.avoid in self._index:
            if len(scores) == 1:
                return self._best(scores, tie, "all_avoided")
            scores[self._index[hint.avoid]] = -math.inf
        return self._best(scores, tie, reason)

    def book(self, choice: Choice, expected_tokens: int) -> None:
        """Count a request of ``expected_tokens`` as sent where `choose` said."""
        index = self._index[choice.replica]
        view = self._views[index]
        self._views[index] = replace(
            view,
            picked=view.picked + choice.requests,
            picked_tokens=view.picked_tokens + choice.requests * expected_tokens,
        )
        self._score(index)

    def _draw_lanes(self) -> None:
        views, policy = self._views, self._policy
        size = len(views)
        edge, share = None, lanes.long_share(view.demand or view.by_effort for view in views)
        if share is not None:
            long = sum(view.by_effort.medium + view.by_effort.high for view in views)
            slots = sum(view.slots for view in views) / size
            least = lanes.packed(long, slots, policy.lane_fill)
            edge = max(least, lanes.boundary(share, size, policy.lane_pressure))
        spare = sum(max(0.0, 1 - view.fullness) for view in views) / size
        weight = policy.lanes * min(1.0, spare / LANES_FADE)
        self._members = lanes.memberships(size, edge)
        self._lane = {effort: [weight * lane(effort, part) for part in self._members] for effort in EFFORTS}
        numbers = [_number(view.replica) for view in self._views]
        self._homes: Mapping[Effort, tuple[list[int], list[int]]] = {
            effort: _home([lane(effort, part) for part in self._members], numbers) for effort in EFFORTS
        }

    def _score(self, index: int) -> None:
        view, policy = self._views[index], self._policy
        self._room[index] = room(view)
        least = policy.batch * batch(view) + policy.room * self._room[index] + self._age[index]
        self._least[index] = least
        hinted = least + policy.tokens * tokens(view)
        for effort, scores in self._scores.items():
            scores[index] = hinted + self._lane[effort][index]

    def _prefer(self, hint: RouteHint, scores: list[float]) -> None:
        """Add the score of a prefix to the one replica of the request's lane that it prefers."""
        key = hint.conversation or hint.prefix
        if key:
            indexes, numbers = self._homes[hint.effort]
            index = indexes[_rendezvous(_number(key), numbers)]
            scores[index] += self._policy.prefix * prefix(hint.prompt_tokens, self._room[index])

    def _best(self, scores: Sequence[float], tie: float, reason: Reason) -> Choice:
        floor = max(scores) - self._slack
        equals = [index for index, score in enumerate(scores) if score >= floor]
        # The peers' traffic is as large as this router's, and meets the same equals.
        requests = 1 + (self._peers - 1) / len(equals)
        return Choice(self._views[equals[int(tie * len(equals))]].replica, reason, requests)


def _is_fresh(view: ReplicaView, now_s: float, policy: Policy) -> bool:
    return view.stats_at_s is not None and now_s - view.stats_at_s <= policy.stale_after_s


def _home(affinity: Sequence[float], numbers: Sequence[int]) -> tuple[list[int], list[int]]:
    """Return indexes and numbers of the replicas where an effort is at home, of all where it is nowhere."""
    indexes = [index for index, part in enumerate(affinity) if part >= 0.5] or list(range(len(affinity)))
    return indexes, [numbers[index] for index in indexes]


@lru_cache(maxsize=8192)
def _number(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(errors="replace"), digest_size=8).digest())


def _rendezvous(key: int, numbers: Sequence[int]) -> int:
    """Return which of ``numbers`` the key prefers.

    Rendezvous hashing (Thaler and Ravishankar, 1996): the highest mix of both wins, so that a replica which
    comes or goes moves only its own keys. The mix is Fibonacci hashing (Knuth, 6.4); both are hashes already.
    """
    mixes = [((number ^ key) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF for number in numbers]
    return mixes.index(max(mixes))
