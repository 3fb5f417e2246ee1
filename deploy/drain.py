"""How workers are taken out without spare GPUs, and what it costs: decided before anything is touched. Pure.

Three ways, cheapest first (docs/decisions/0020):

- `restart`: workers of a group or a node, or one worker, one after the other. Each is evicted, ends its
  streams, and is back before the next one goes; workers of a cordoned node come back when the node does.
- `shrink`: the running Ray cluster gives GPUs of a group to the one that an upgrade prepares.
- `rebuild`: all workers end their streams and go, then the Ray cluster; the operator builds it anew from the
  present spec. What an engine image needs where no upgrade strategy applies it (``upgradeStrategy: None``).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from deploy.api import Object
from deploy.names import GROUP_LABEL
from deploy.objects import age_s, at, condition, is_true, label, moment, name
from deploy.release import Release
from deploy.status import Group, decide, serve_config


class DrainError(ValueError):
    """What was asked for cannot be done; the message says why and what can."""


@dataclass(frozen=True, slots=True)
class Loss:
    """What one group loses."""

    group: str
    pools: tuple[str, ...]
    """Pools that run on it."""
    serving: int
    """Workers that serve now."""
    left: int
    """Workers that serve meanwhile."""
    gpu: str

    @property
    def percent(self) -> int:
        """Capacity lost meanwhile, of what serves now."""
        return round(100 * (self.serving - self.left) / self.serving) if self.serving else 0


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be done, in order, and what it costs."""

    kind: Literal["restart", "shrink", "rebuild"]
    ray_cluster: str
    losses: tuple[Loss, ...]
    workers: tuple[str, ...]
    """Pods that go: one after the other in a restart, else at once."""
    keep: int
    """Workers that a shrunk group keeps."""
    returns: bool
    """Whether each worker's successor is waited for."""
    streams_s: float
    """Longest that a worker may take to end its streams."""
    start_s: float | None
    """Longest start of a worker that runs now; None: none has come up yet."""

    @property
    def outage(self) -> tuple[str, ...]:
        """Pools that nothing serves meanwhile."""
        left = {pool for loss in self.losses for pool in loss.pools if loss.left}
        return tuple(sorted({pool for loss in self.losses for pool in loss.pools} - left))


def restart(release: Release, group: str | None, worker: str | None, node: str | None) -> Plan:
    """Return the plan to restart workers. Raises `DrainError`."""
    ray_cluster = _active(release)
    pods = [
        pod
        for pod in release.workers(ray_cluster, group)
        if worker in (None, name(pod)) and node in (None, at(pod, "spec", "nodeName"))
    ]
    if not pods:
        known = ", ".join(sorted({each.name for each in _groups(release)})) or "none"
        raise DrainError(f"no such worker in Ray cluster {ray_cluster}; its groups: {known}")
    returns = not (node and node in release.cordoned)
    losses = []
    for each in sorted({label(pod, GROUP_LABEL) for pod in pods}):
        going = [pod for pod in pods if label(pod, GROUP_LABEL) == each and is_true(pod, "Ready")]
        losses.append(_loss(release, each, min(1, len(going)) if returns else len(going)))
    return _plan(release, "restart", pods, tuple(losses), returns=returns)


def shrink(release: Release, group: str, keep: int) -> Plan:
    """Return the plan to leave a group ``keep`` workers while an upgrade wants GPUs. Raises `DrainError`."""
    ray_cluster = _active(release)
    _fixed_size(release)
    if not release.ray_cluster("pending"):
        raise DrainError(
            "no upgrade waits for GPUs: --keep gives those of the running cluster to the one that helm "
            "upgrade has begun (ray.upgradeStrategy.type: NewCluster); without one use --all"
        )
    pods = release.workers(ray_cluster, group)
    if keep >= len(pods):
        raise DrainError(f"group {group} has {len(pods)} workers: keep fewer")
    going = sorted(pods, key=lambda pod: is_true(pod, "Ready"))[: len(pods) - keep]
    loss = _loss(release, group, sum(is_true(pod, "Ready") for pod in going))
    return _plan(release, "shrink", list(going), (loss,), keep=keep)


def rebuild(release: Release) -> Plan:
    """Return the plan to build the Ray cluster anew. Raises `DrainError`."""
    ray_cluster = _active(release)
    _fixed_size(release)
    if release.ray_cluster("pending"):
        raise DrainError("an upgrade is under way: let it end, give it GPUs with --keep, or undo it")
    pods = list(release.workers(ray_cluster))
    losses = tuple(_loss(release, each.name, each.ready) for each in _groups(release))
    return _plan(release, "rebuild", pods, losses)


def _plan(
    release: Release,
    kind: Literal["restart", "shrink", "rebuild"],
    pods: list[Object],
    losses: tuple[Loss, ...],
    *,
    keep: int = 0,
    returns: bool = True,
) -> Plan:
    longest_s = longest_request_s(release)
    for pod in pods:
        grace_s = float(at(pod, "spec", "terminationGracePeriodSeconds") or 30)
        if grace_s < longest_s:
            raise DrainError(
                f"{name(pod)} has {grace_s:g} s to end (terminationGracePeriodSeconds), and a request may "
                f"take {longest_s:g} s: streams would be cut. Set ray.terminationGracePeriodSeconds to 0 or "
                "to more than limits.max_request_s"
            )
    starts = list(_starts(release))
    return Plan(
        kind=kind,
        ray_cluster=_active(release),
        losses=losses,
        workers=tuple(name(pod) for pod in pods),
        keep=keep,
        returns=returns,
        streams_s=longest_s,
        start_s=max(starts) if starts else None,
    )


def longest_request_s(release: Release) -> float:
    """Return the longest that a request may take, as the running ``serveConfigV2`` has it."""
    applications = serve_config(release.ray_service).get("applications") or []
    clocks = [at(each, "args", "settings", "limits", "max_request_s") for each in applications]
    return max((float(each) for each in clocks if each), default=0.0)


def pools(release: Release, group: str) -> tuple[str, ...]:
    """Return the pools that run on a group; all of them where ``serveConfigV2`` does not say."""
    applications = serve_config(release.ray_service).get("applications") or []
    found = {}
    for each in applications:
        pool = str(each.get("name"))
        found[pool] = at(each, "args", "settings", "serving", "pools", pool, "worker_group")
    return tuple(sorted(pool for pool, own in found.items() if own in (None, group)))


def _active(release: Release) -> str:
    ray_cluster = release.ray_cluster("active")
    if not ray_cluster:
        raise DrainError(f"no Ray cluster of release {release.release} serves: see gpt-oss-cluster status")
    return ray_cluster


def _fixed_size(release: Release) -> None:
    if at(release.ray_service, "spec", "rayClusterConfig", "enableInTreeAutoscaling"):
        raise DrainError(
            "Ray's autoscaler decides the size of groups here and would undo this: switch ray.autoscaling "
            "off, or restart workers one by one"
        )


def _groups(release: Release) -> list[Group]:
    return [each for each in decide(release).groups if each.side == "active"]


def _loss(release: Release, group: str, going: int) -> Loss:
    found = next((each for each in _groups(release) if each.name == group), None)
    if found is None:
        known = ", ".join(each.name for each in _groups(release)) or "none"
        raise DrainError(f"there is no worker group {group}; there are: {known}")
    return Loss(group, pools(release, group), found.ready, found.ready - going, found.gpu)


def _starts(release: Release) -> Iterator[float]:
    """Yield the seconds that each ready worker took from its creation to ready."""
    for pod in release.workers(release.ray_cluster("active")):
        ready = condition(pod, "Ready")
        if ready.get("status") == "True" and (then := moment(ready.get("lastTransitionTime"))):
            yield age_s(at(pod, "metadata", "creationTimestamp"), then)
