"""How many more requests one gateway may send to a pool, learned from what the pool's replicas report.

A pool is to hold about `OVERCOMMIT` times its slots. A gateway knows its own requests, and of the other
gateways' only what the reports leave when its own are taken off. Of the room that the reports show it takes
a share that goes by its share of the load, so that gateways which see the same room do not all take it. What
it has sent since counts against that, so that it does not take it twice; and when one of its own ends,
another may follow. No clock and no capacity in here: the caller passes the time.
"""

import math

from cluster.core.engine import EngineLoad

OVERCOMMIT = 1.1
"""Requests inside a pool over its slots: what waits in an engine starts in the moment a slot is free, and
waits for a slot of that engine alone. With 1.25 medium effort waited two to four times as long, simulated."""
EQUALISER = 0.04
"""Overcommitment of a gateway that has none of the pool, over one that has all: the smaller share goes on
taking where the larger one stops, until both are equal."""
START = 4
"""Requests that may be inside before any replica has reported, and this many more with every second."""
SILENCE_S = 10.0
"""Seconds without any report after which `START` more requests may enter, and again: a pool whose replicas
are gone, or all busy with long answers, never blocks for ever."""
LEAST_SHARE = 1 / 16
"""Share of the free room that a gateway takes that has nothing in the pool."""
FIRST_SHARE, FIRST_LOAD = 1 / 8, 10.0
"""What a gateway takes to be its share, and of how many requests, before it has seen what others do."""
SHARE_MEMORY_S = 30.0
"""Seconds after which what was seen of the shares counts for a third."""
GONE_AFTER_S = 5.0
"""Least seconds of silence after which a replica is taken to be gone, where the others go on reporting."""
GONE_AFTER_REPORTS = 4
"""Reports per replica of the pool that must have come meanwhile."""
HOLD_S = 1.0
"""Seconds after which a fall of what others have is believed by two thirds."""
FULL_CACHE = 0.9
"""Use of the KV cache from which on an engine with a queue has only as many slots as it runs."""


class Capacity:
    """One pool as one gateway sees it. Times are seconds of one clock. Every call is O(1) but `forget`."""

    def __init__(self) -> None:
        self.own = 0
        """Requests of this gateway inside."""
        self.slots = 0
        """Slots of all replicas that are known."""
        self._replicas: dict[str, _Seen] = {}
        self._load = self._own_seen = 0
        """Sums over replicas: reported requests, and own requests at the time of the report."""
        self._others = 0.0
        self._reports = 0
        self._heard_s: float | None = None
        """Time of the last report, or of the first entry after this gateway had nothing inside."""
        self._seen_own, self._seen_all = FIRST_SHARE * FIRST_LOAD, FIRST_LOAD
        """Smoothed: own requests, and everybody's."""

    @property
    def others(self) -> float:
        """Requests of other gateways inside, as far as reports tell; it rises at once and falls slowly."""
        return self._others

    @property
    def share(self) -> float:
        """Share of the pool's load that is this gateway's, smoothed, 0 to 1."""
        return min(1.0, self._seen_own / self._seen_all)

    def limit(self, now_s: float, overcommit: float = OVERCOMMIT) -> float:
        """Return how many requests, everybody's together, may be inside while this gateway sends more.

        ``overcommit`` is how many that are for each slot.
        """
        silent_s = 0.0 if self._heard_s is None else max(0.0, now_s - self._heard_s)
        if not self._replicas:
            return START * (1 + int(silent_s))
        # of the load as it is now: with the smoothed share, gateways swing around the middle for minutes
        everybody = self.own + self.others
        share = self.own / everybody if everybody >= 1 else self.share
        limit = overcommit * self.slots * (1 + EQUALISER * (1 - share))
        return limit + START * int(silent_s / SILENCE_S) if silent_s >= SILENCE_S and self.own else limit

    def free(self, now_s: float, overcommit: float = OVERCOMMIT) -> int:
        """Return how many requests this gateway may send now; one at least while it has none inside."""
        limit, own = self.limit(now_s, overcommit), self.own
        if self._replicas:
            seen = self._own_seen / len(self._replicas)
            room = limit - self._load
            claim = room * max(self.share, LEAST_SHARE)
            if claim < 1 <= room:
                claim = 1.0
            # what is on its way to an engine is not in its report: no more of this gateway's can be there
            window = min(min(seen, self._load) + claim, limit - self._others)
            free = int(window - own + 0.5) if window > own else 0
        else:
            free = int(limit) - own
        return free if own else max(1, free)

    def enter(self, now_s: float) -> None:
        """Take note that one request goes in."""
        if self.own == 0:  # nobody is silent who was not asked
            self._heard_s = now_s
        self.own += 1

    def leave(self) -> None:
        """Take note that one request has ended."""
        self.own -= 1

    def report(self, replica: str, load: EngineLoad, now_s: float) -> None:
        """Take a replica's report, as old as the way here took."""
        self._drop(replica)
        seen = self._replicas[replica] = _Seen(load, self.own, now_s, self._reports)
        self._load += seen.load
        self._own_seen += seen.own
        self.slots += seen.slots
        self._judge(now_s)
        self._reports += 1
        self._heard_s = now_s

    def heard_s(self, replica: str) -> float:
        """Return the time of a replica's last report; minus infinity where there is none."""
        seen = self._replicas.get(replica)
        return -math.inf if seen is None else seen.at_s

    def lost(self, replica: str) -> None:
        """Forget a replica that has died, and what others had there."""
        self._drop(replica)
        self._others = self._seen_others()

    def forget(self, now_s: float) -> None:
        """Forget replicas that have gone silent while the others went on; O(replicas), for once a second."""
        least = GONE_AFTER_REPORTS * len(self._replicas)
        for replica, seen in list(self._replicas.items()):
            if now_s - seen.at_s >= GONE_AFTER_S and self._reports - seen.number > least:
                self._drop(replica)

    def _drop(self, replica: str) -> None:
        seen = self._replicas.pop(replica, None)
        if seen is not None:
            self._load -= seen.load
            self._own_seen -= seen.own
            self.slots -= seen.slots

    def _seen_others(self) -> float:
        return max(0.0, self._load - self._own_seen / len(self._replicas)) if self._replicas else 0.0

    def _judge(self, now_s: float) -> None:
        """Take note of what others have: less than before is believed bit by bit.

        Reports and what a gateway knows of its own requests are never of the same moment, and a place that
        seems free for some milliseconds is one that another gateway is about to fill again.
        """
        since_s = max(0.0, now_s - self._heard_s) if self._heard_s is not None else 0.0
        seen = self._seen_others()
        fall = 1.0 if seen > self._others else min(1.0, since_s / HOLD_S)
        self._others += fall * (seen - self._others)
        weight = min(1.0, since_s / SHARE_MEMORY_S)
        self._seen_own += weight * (self.own - self._seen_own)
        self._seen_all += weight * (self.own + self._others - self._seen_all)
        self._seen_all = max(self._seen_all, 1e-6)


class _Seen:
    """A replica's last report."""

    __slots__ = ("at_s", "load", "number", "own", "slots")

    def __init__(self, load: EngineLoad, own: int, at_s: float, number: int) -> None:
        self.load = load.running + load.waiting
        starved = load.waiting > 0 and load.kv_use >= FULL_CACHE
        self.slots = min(load.slots, max(1, load.running)) if starved else load.slots
        self.own, self.at_s, self.number = own, at_s, number
