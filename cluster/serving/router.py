"""`EffortRouter`: Serve's request router that adapts `cluster.core.routing`.

HAProxy asks it once per request. Under direct streaming Serve tells a router nothing about the requests it
picked, so truth is what the replicas report twice a second and the router's own picks since then.
"""

import random
import time
from collections import deque
from typing import Any

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from cluster.core import hint, routing
from cluster.serving.deploy import ROUTERS_PER_NODE
from cluster.serving.meter import UNHINTED_TOKENS

MOST_PICKS = 4096
"""Picks kept for a replica that never reports; a reporting one keeps half a second's worth."""


class Picks:
    """What this router sent to one replica since the replica's last statistics."""

    __slots__ = ("_recent", "tokens")

    def __init__(self) -> None:
        self._recent: deque[tuple[float, int]] = deque()
        self.tokens = 0
        """Their expected output tokens."""

    @property
    def count(self) -> int:
        """How many they are."""
        return len(self._recent)

    def add(self, at_s: float, tokens: int) -> None:
        """Remember a pick at ``at_s`` (epoch seconds); the oldest of more than `MOST_PICKS` is forgotten."""
        self._recent.append((at_s, tokens))
        self.tokens += tokens
        if len(self._recent) > MOST_PICKS:
            self._forget()

    def drop_until(self, stats_at_s: float) -> None:
        """Forget the picks that statistics of ``stats_at_s`` include."""
        while self._recent and self._recent[0][0] <= stats_at_s:
            self._forget()

    def _forget(self) -> None:
        self.tokens -= self._recent.popleft()[1]


NO_PICKS = Picks()


class EffortRouter(RequestRouter):
    """Sends each request to the replica where it waits and slows others least."""

    def initialize_state(self, **kwargs: Any) -> None:
        """Start without picks; Serve calls it once, without arguments of ours."""
        del kwargs
        self._picks: dict[str, Picks] = {}

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """Return the one chosen replica, as the only member of the only rank."""
        if not candidate_replicas or pending_request is None:
            return [candidate_replicas]
        by_id = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        wanted = hint.parse(pending_request.metadata.session_id or None)
        now_s = time.time()
        views = [self._view(name, replica) for name, replica in by_id.items()]
        choice = routing.choose(views, wanted, now_s=now_s, tie=random.random())  # noqa: S311 - not a secret
        self._remember(choice.replica, now_s, wanted, by_id)
        return [[by_id[choice.replica]]]

    def _view(self, name: str, replica: RunningReplica) -> routing.ReplicaView:
        stats = replica.routing_stats or {}
        picks = self._picks.get(name, NO_PICKS)
        picks.drop_until(stats.get("t", 0.0))
        return routing.ReplicaView(
            replica=name,
            stats_at_s=stats.get("t"),
            running=stats.get("running", 0),
            waiting=stats.get("waiting", 0),
            slots=stats.get("slots", 1),
            kv_use=stats.get("kv_use", 0.0),
            expected_tokens=stats.get("expected_tokens", 0),
            # Its peers send as much: the traffic is shared evenly.
            picked=picks.count * ROUTERS_PER_NODE,
            picked_tokens=picks.tokens * ROUTERS_PER_NODE,
        )

    def _remember(
        self, name: str, now_s: float, wanted: hint.RouteHint | None, alive: dict[str, RunningReplica]
    ) -> None:
        if name not in self._picks:
            self._picks = {known: picks for known, picks in self._picks.items() if known in alive}
        tokens = wanted.expected_output_tokens if wanted else UNHINTED_TOKENS
        self._picks.setdefault(name, Picks()).add(now_s, tokens)
