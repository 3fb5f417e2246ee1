"""Carry out a plan of `deploy.drain`: step by step, told as it goes, and stopped by the first stall."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from deploy import names, stalls, status
from deploy import release as releases
from deploy.api import Api, ConflictError
from deploy.drain import Plan
from deploy.objects import at, is_true, name
from deploy.release import Release

LOOK_S = 5.0
"""Seconds between two looks."""
CHANGES = 5
"""How often a change that others overtake is decided again."""


class DrainStoppedError(Exception):
    """It was stopped half-way; the message says by what, and how things stand."""


@dataclass
class Drain:
    """One run."""

    api: Api
    release: str
    told: Callable[[str], None]
    timeout_s: float
    """Longest that one step may take."""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _known: frozenset[str] = field(default=frozenset(), init=False)

    def run(self, plan: Plan) -> None:
        """Do what the plan says. Raises `DrainStoppedError` and `ApiError`."""
        before = self._look()
        self._known = frozenset(str(stall) for stall in stalls.find(before))
        if plan.kind == "restart":
            for worker in plan.workers:
                self._restart(plan, worker)
        elif plan.kind == "shrink":
            self._resize(plan, {loss.group: plan.keep for loss in plan.losses})
            self._until("streams end", lambda seen: _gone(seen, plan.workers))
        else:
            self._rebuild(plan)

    def _restart(self, plan: Plan, worker: str) -> None:
        before = self._look()
        serving = _ready(before, plan.ray_cluster)
        path = names.core(self.api.namespace, "pods", worker)
        self._until(
            f"{worker} may go", lambda _: self.api.evict(path, worker, self.api.namespace), stalled=False
        )
        self.told(f"{worker} ends its streams")
        self._until(f"{worker} is gone", lambda seen: _gone(seen, (worker,)), stalled=False)
        if plan.returns:
            self.told(f"{worker} is gone; its successor starts")
            self._until(
                f"{serving} workers serve again", lambda seen: _ready(seen, plan.ray_cluster) >= serving
            )
        self.told(f"{worker} is done")

    def _rebuild(self, plan: Plan) -> None:
        self._resize(plan, {loss.group: 0 for loss in plan.losses})
        self._until("all streams have ended", lambda seen: _gone(seen, plan.workers), stalled=False)
        self.told("all workers are gone; the Ray cluster is built anew")
        path = names.ray_clusters(self.api.namespace, plan.ray_cluster)
        found = self.api.find(path)
        if found is not None:
            self.api.delete(path, str(at(found, "metadata", "uid")))
        self._until(
            "the new Ray cluster serves",
            lambda seen: _another(seen, plan.ray_cluster) and status.decide(seen).ready,
        )

    def _resize(self, plan: Plan, sizes: dict[str, int]) -> None:
        """Make groups of the running Ray cluster smaller, under the version that it was decided on."""
        path, seen = names.ray_clusters(self.api.namespace, plan.ray_cluster), self._look()
        for _ in range(CHANGES):
            found = self.api.get(path)
            groups = at(found, "spec", "workerGroupSpecs") or []
            for group in groups:
                own = str(group.get("groupName"))
                if own in sizes:
                    pods = {name(pod) for pod in seen.workers(plan.ray_cluster, own)}
                    fewest = min(sizes[own], int(group.get("minReplicas") or 0))
                    group |= {"replicas": sizes[own], "minReplicas": fewest}
                    group["scaleStrategy"] = {"workersToDelete": sorted(pods & set(plan.workers))}
            version = at(found, "metadata", "resourceVersion")
            body = {"metadata": {"resourceVersion": version}, "spec": {"workerGroupSpecs": groups}}
            try:
                self.api.merge(path, body)
            except ConflictError:
                self.told("the Ray cluster was changed meanwhile: decided again")
                continue
            self.told(f"Ray cluster {plan.ray_cluster}: {', '.join(f'{k} to {v}' for k, v in sizes.items())}")
            return
        raise DrainStoppedError(
            f"{plan.ray_cluster} was changed by others {CHANGES} times; nothing is drained"
        )

    def _until(self, what: str, done: Callable[[Release], bool], *, stalled: bool = True) -> None:
        """Look until ``done``; stop at a stall that was not there before, and at the time limit."""
        deadline = self.clock() + self.timeout_s
        while True:
            seen = self._look()
            if done(seen):
                return
            fresh = [each for each in stalls.find(seen) if each.lasting and str(each) not in self._known]
            if stalled and fresh:
                raise DrainStoppedError(f"stopped, waiting until {what}: {fresh[0]}")
            if self.clock() > deadline:
                raise DrainStoppedError(f"stopped: {what} was not so within {self.timeout_s:g} s")
            self.sleep(LOOK_S)

    def _look(self) -> Release:
        return releases.read(self.api, self.release, self.now())


def _gone(seen: Release, workers: tuple[str, ...]) -> bool:
    return not set(workers) & {name(pod) for pod in seen.pods}


def _ready(seen: Release, ray_cluster: str) -> int:
    return sum(is_true(pod, "Ready") for pod in seen.workers(ray_cluster))


def _another(seen: Release, ray_cluster: str) -> bool:
    """Whether the operator speaks of another cluster: its word on the old one outlives that for a while."""
    return seen.ray_cluster("active") not in {"", ray_cluster}
