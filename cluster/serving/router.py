"""`EffortRouter`: Serve's request router that adapts `cluster.core.routing`.

HAProxy asks it once per request. Under direct streaming Serve tells a router nothing about the requests it
picked, so truth is what the replicas report twice a second and the router's own picks since then. Its peers
are right to do the same: the lanes follow from the reports alone (`cluster.core.lanes`).
"""

import random
import time
from collections.abc import Mapping
from typing import Any

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from cluster.core import hint, routing
from cluster.serving import report
from cluster.serving.deploy import ROUTERS_PER_NODE
from cluster.serving.meter import UNHINTED_TOKENS
from cluster.serving.picks import Picks

RESCORE_S = 1.0
"""Age of the scores at which they are made anew though nothing was reported: silence has to show."""


NO_PICKS = Picks()


class EffortRouter(RequestRouter):
    """Sends each request to the replica where it waits and slows others least."""

    def initialize_state(self, policy: Mapping[str, float] | None = None, **kwargs: Any) -> None:
        """Start without picks. ``policy`` are the fields of `routing.Policy`, from the pool's settings."""
        del kwargs
        self._policy = routing.Policy(**(policy or {}))
        self._picks: dict[str, Picks] = {}
        self._known: list[RunningReplica] = []
        self._learn([], 0.0)

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Take new reports or another set of replicas from Serve; it may be called before any request."""
        super().update_replicas(replicas)
        if replicas:
            # Private, though it is what `choose_replicas` gets: no request has to wait for the scores.
            self._learn(self._replicas_list, time.time())

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        """Return the one chosen replica, as the only member of the only rank."""
        if not candidate_replicas or pending_request is None:
            return [candidate_replicas]
        now_s = time.time()
        # Serve makes a new list whenever a report arrives, and whenever a replica dies, drains or fails.
        if candidate_replicas is not self._known or now_s - self._learned_at_s > RESCORE_S:
            self._learn(candidate_replicas, now_s)
        wanted = hint.parse(pending_request.metadata.session_id or None)
        choice = self._fleet.choose(wanted, tie=random.random())  # noqa: S311 - not a secret
        tokens = wanted.expected_output_tokens if wanted else UNHINTED_TOKENS
        self._fleet.book(choice, tokens)
        picks = self._picks.setdefault(choice.replica, Picks())
        picks.add(now_s, choice.requests, choice.requests * tokens)
        return [[self._by_id[choice.replica]]]

    def _learn(self, replicas: list[RunningReplica], now_s: float) -> None:
        """Score the replicas as they are now."""
        self._known, self._learned_at_s = replicas, now_s
        self._by_id = {replica.replica_id.unique_id: replica for replica in replicas}
        self._picks = {name: picks for name, picks in self._picks.items() if name in self._by_id}
        if replicas:
            # An HAProxy with its routers stands on each node that has a replica.
            peers = ROUTERS_PER_NODE * len({replica.node_id for replica in replicas})
            views = [self._view(name, replica) for name, replica in self._by_id.items()]
            self._fleet = routing.Fleet(views, now_s=now_s, policy=self._policy, peers=peers)

    def _view(self, name: str, replica: RunningReplica) -> routing.ReplicaView:
        stats, picks = replica.routing_stats or {}, self._picks.get(name, NO_PICKS)
        picks.drop_until(stats.get("t", 0.0))
        return report.read(name, stats, picked=picks.requests, picked_tokens=picks.tokens)
