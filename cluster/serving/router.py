"""`EffortRouter`: Serve's request router that adapts `cluster.core.routing`.

HAProxy asks it once per request. Under direct streaming Serve tells a router nothing about the requests it
picked, so truth is what the replicas report twice a second and the router's own picks since then.
"""

import random
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from cluster.core import hint, routing

UNHINTED_TOKENS = 1000
"""Expected output of a request without a hint: between the priors of low and medium effort."""
ROUTERS = 2
"""Routers that share the traffic (`cluster.serving.deploy`): each one's picks stand for that many."""


@dataclass(slots=True)
class Picks:
    """A replica's picks by this router, newest last: (epoch seconds, expected output tokens)."""

    recent: deque[tuple[float, int]] = field(default_factory=deque)

    def since(self, stats_at_s: float) -> tuple[int, int]:
        """Return count and tokens of the picks after ``stats_at_s``; older ones are forgotten."""
        while self.recent and self.recent[0][0] <= stats_at_s:
            self.recent.popleft()
        return len(self.recent), sum(tokens for _, tokens in self.recent)


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
        picked, tokens = self._picks[name].since(stats.get("t", 0.0)) if name in self._picks else (0, 0)
        return routing.ReplicaView(
            replica=name,
            stats_at_s=stats.get("t"),
            running=stats.get("running", 0),
            waiting=stats.get("waiting", 0),
            slots=stats.get("slots", 1),
            kv_use=stats.get("kv_use", 0.0),
            expected_tokens=stats.get("expected_tokens", 0),
            picked=picked * ROUTERS,
            picked_tokens=tokens * ROUTERS,
        )

    def _remember(
        self, name: str, now_s: float, wanted: hint.RouteHint | None, alive: dict[str, RunningReplica]
    ) -> None:
        if name not in self._picks:
            self._picks = {known: picks for known, picks in self._picks.items() if known in alive}
        tokens = wanted.expected_output_tokens if wanted else UNHINTED_TOKENS
        self._picks.setdefault(name, Picks()).recent.append((now_s, tokens))
