"""What the KubeRay operator (1.7) checks of a RayService before it acts, as far as it can concern this chart.

Read in its ``ray-operator/controllers/ray/utils/validation.go``. An API server accepts an object that breaks
these; the operator then reports an event and does nothing, which no dry run shows.
"""

import re
from collections.abc import Iterator
from typing import Any

MAX_NAME = 47
RESOURCES_IN_START = {"num-cpus", "num-gpus", "memory", "resources"}
RESERVED_ON_HEAD = {"REDIS_PASSWORD", "RAY_REDIS_ADDRESS", "REDIS_USERNAME"}
FIRST_WITH_TOKENS = (2, 52, 0)
UPGRADES = {"None", "NewCluster", "NewClusterWithIncrementalUpgrade"}


def broken(service: dict[str, Any]) -> Iterator[str]:
    """Yield each rule that a RayService breaks."""
    name, spec = service["metadata"]["name"], service["spec"]
    cluster = spec["rayClusterConfig"]
    if len(name) > MAX_NAME or not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name):
        yield "name"
    if spec.get("rayClusterDeletionDelaySeconds", 0) < 0:
        yield "deletion delay"
    if cluster["headGroupSpec"].get("headService", {}).get("metadata", {}).get("name"):
        yield "name of the head's Service"
    if "upgradeStrategy" in cluster:
        yield "upgrade strategy of the cluster"
    yield from _upgrade(spec)
    yield from _tokens(cluster)
    yield from _head(cluster, service["metadata"].get("annotations", {}))
    for group in cluster["workerGroupSpecs"]:
        yield from _group(group, autoscaled=bool(cluster.get("enableInTreeAutoscaling")))
    yield from _autoscaler(cluster)


def _upgrade(spec: dict[str, Any]) -> Iterator[str]:
    strategy = spec.get("upgradeStrategy", {})
    if strategy.get("type", "NewCluster") not in UPGRADES:
        yield "upgrade type"
    if strategy.get("type") != "NewClusterWithIncrementalUpgrade":
        return
    options = strategy.get("clusterUpgradeOptions")
    if not spec["rayClusterConfig"].get("enableInTreeAutoscaling"):
        yield "incremental upgrade without autoscaler"
    if not options:
        yield "incremental upgrade without options"
        return
    surge, step = options.get("maxSurgePercent", 100), options.get("stepSizePercent", -1)
    if not (0 <= surge <= 100 and 0 <= step <= surge and options.get("intervalSeconds", 0) > 0):
        yield "steps of an incremental upgrade"
    if not options.get("gatewayClassName"):
        yield "incremental upgrade without class"


def _tokens(cluster: dict[str, Any]) -> Iterator[str]:
    auth = cluster.get("authOptions", {})
    if auth.get("enableK8sTokenAuth"):
        yield "Kubernetes tokens in a RayService"
    if auth.get("mode") == "token":
        version = tuple(int(part) for part in cluster.get("rayVersion", "0").split("."))
        if version < FIRST_WITH_TOKENS:
            yield "tokens with an old Ray"


def _head(cluster: dict[str, Any], annotations: dict[str, str]) -> Iterator[str]:
    head = cluster["headGroupSpec"]
    yield from _resources(head)
    names = _variables(head)
    tolerant = "gcsFaultToleranceOptions" in cluster
    if "ray.io/ft-enabled" in annotations and tolerant:
        yield "fault tolerance twice"
    if names & RESERVED_ON_HEAD:
        yield "Redis in the head's variables"
    if tolerant and "redis-password" in head.get("rayStartParams", {}):
        yield "Redis password in the head's parameters"
    if tolerant and "storage" in cluster["gcsFaultToleranceOptions"]:
        yield "storage with Redis"


def _group(group: dict[str, Any], *, autoscaled: bool) -> Iterator[str]:
    yield from _resources(group)
    least, most = group.get("minReplicas"), group.get("maxReplicas")
    if not autoscaled and (least is None or most is None):
        yield "bounds of a group"
    if least is not None and most is not None and not 0 <= least <= most:
        yield "bounds of a group"
    if group.get("suspend"):
        yield "suspended group"
    if not autoscaled and "idleTimeoutSeconds" in group:
        yield "idle time-out without autoscaler"


def _resources(group: dict[str, Any]) -> Iterator[str]:
    if not group["template"]["spec"]["containers"]:
        yield "no container"
    if group.get("resources") and RESOURCES_IN_START & group.get("rayStartParams", {}).keys():
        yield "resources twice"
    if "labels" in group.get("rayStartParams", {}):
        yield "labels in parameters"


def _autoscaler(cluster: dict[str, Any]) -> Iterator[str]:
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    named = "RAY_enable_autoscaler_v2" in _variables(cluster["headGroupSpec"])
    if not cluster.get("enableInTreeAutoscaling"):
        if named:
            yield "autoscaler's variable without autoscaler"
        return
    if named and "version" in cluster.get("autoscalerOptions", {}):
        yield "autoscaler's version twice"
    for group in groups:
        if group["template"]["spec"].get("restartPolicy", "Never") != "Never":
            yield "restart policy with the autoscaler"


def _variables(group: dict[str, Any]) -> set[str]:
    return {entry["name"] for entry in group["template"]["spec"]["containers"][0].get("env", [])}
