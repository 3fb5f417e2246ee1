"""What runs in a cluster beside its API, as far as clients wait for it.

Each object meets the fate that a test gave its kind, or itself.

A fate is ``done`` (ready, complete, bound: the default), ``pending``, ``failed``, or ``ignored``: nobody has
seen the object, it has no status at all.
"""

import hashlib
import json
from collections.abc import Callable
from typing import Literal

from tests.kube.status import Object

Fate = Literal["done", "pending", "failed", "ignored"]


def status_of(kind: str, body: Object, fate: Fate, now: str) -> Object | None:
    """Return the status that a fate gives an object; None: none is written."""
    report = _REPORTS.get(kind)
    if report is None or fate == "ignored":
        return None
    return report(body, fate, now)


def replica_set(deployment: Object, fate: Fate) -> Object:
    """Return the ReplicaSet of a deployment's present template: helm looks for it."""
    metadata, spec = deployment["metadata"], deployment["spec"]
    template = spec["template"]
    digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]
    labels = {**template["metadata"].get("labels", {}), "pod-template-hash": digest}
    owner = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    wanted = spec["replicas"]
    ready = wanted if fate == "done" else 0
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{metadata['name']}-{digest}",
            "namespace": metadata["namespace"],
            "labels": labels,
            "ownerReferences": [owner],
        },
        "spec": {
            "replicas": wanted,
            "selector": {"matchLabels": labels},
            "template": {**template, "metadata": {**template["metadata"], "labels": labels}},
        },
        "status": {
            "observedGeneration": 1,
            "replicas": wanted,
            "readyReplicas": ready,
            "availableReplicas": ready,
        },
    }


def _deployment(body: Object, fate: Fate, now: str) -> Object:
    wanted = body["spec"]["replicas"]
    ready = wanted if fate == "done" else 0
    progress = {
        "done": ("True", "NewReplicaSetAvailable"),
        "pending": ("True", "ReplicaSetUpdated"),
        "failed": ("False", "ProgressDeadlineExceeded"),
    }[fate]
    return {
        "observedGeneration": body["metadata"]["generation"],
        "replicas": wanted,
        "updatedReplicas": wanted,
        "readyReplicas": ready,
        "availableReplicas": ready,
        "unavailableReplicas": wanted - ready,
        "conditions": [
            _condition("Available", "True" if ready == wanted else "False", "MinimumReplicasAvailable", now),
            _condition("Progressing", *progress, now),
        ],
    }


def _stateful_set(body: Object, fate: Fate, now: str) -> Object:
    wanted = body["spec"]["replicas"]
    ready = wanted if fate == "done" else 0
    revision = f"{body['metadata']['name']}-{body['metadata']['generation']}"
    return {
        "observedGeneration": body["metadata"]["generation"],
        "replicas": wanted,
        "readyReplicas": ready,
        "availableReplicas": ready,
        "currentReplicas": wanted,
        "updatedReplicas": wanted,
        "currentRevision": revision,
        "updateRevision": revision,
    }


def _job(body: Object, fate: Fate, now: str) -> Object:
    if fate == "pending":
        return {"active": 1, "startTime": now}
    if fate == "failed":
        return {
            "failed": body["spec"]["backoffLimit"] + 1,
            "startTime": now,
            "conditions": [_condition("Failed", "True", "BackoffLimitExceeded", now)],
        }
    return {
        "succeeded": body["spec"]["completions"],
        "startTime": now,
        "completionTime": now,
        "conditions": [_condition("Complete", "True", "CompletionsReached", now)],
    }


def _pod(body: Object, fate: Fate, now: str) -> Object:
    lasting = body["spec"].get("restartPolicy", "Always") == "Always"
    phase = {"done": "Running" if lasting else "Succeeded", "pending": "Pending", "failed": "Failed"}[fate]
    ready = "True" if phase == "Running" else "False"
    return {
        "phase": phase,
        "startTime": now,
        "conditions": [
            _condition("PodScheduled", "True", "Scheduled", now),
            _condition("Ready", ready, "ContainersReady" if ready == "True" else "PodCompleted", now),
        ],
    }


def _claim(body: Object, fate: Fate, now: str) -> Object:
    if fate != "done":
        return {"phase": "Pending" if fate == "pending" else "Lost"}
    spec = body["spec"]
    return {"phase": "Bound", "accessModes": spec["accessModes"], "capacity": spec["resources"]["requests"]}


def _ray_service(body: Object, fate: Fate, now: str) -> Object:
    ready = fate == "done"
    reason = {"done": "NonZeroServeEndpoints", "pending": "Initializing", "failed": "InitializingTimeout"}[
        fate
    ]
    groups = body["spec"]["rayClusterConfig"].get("workerGroupSpecs") or ()
    return {
        "observedGeneration": body["metadata"]["generation"],
        "serviceStatus": "Running" if ready else "",
        "numServeEndpoints": sum(group.get("replicas", 0) for group in groups) if ready else 0,
        "conditions": [
            _condition("Ready", "True" if ready else "False", reason, now),
            _condition("UpgradeInProgress", "False", "NoPendingCluster", now),
        ],
    }


def _ready(body: Object, fate: Fate, now: str) -> Object:
    """Return the status of what has one condition, ``Ready``."""
    reason = {"done": "Ready", "pending": "Pending", "failed": "Failed"}[fate]
    return {"conditions": [_condition("Ready", "True" if fate == "done" else "False", reason, now)]}


def _namespace(body: Object, fate: Fate, now: str) -> Object:
    return {"phase": "Active"}


def _disruption_budget(body: Object, fate: Fate, now: str) -> Object:
    counts = {"currentHealthy": 1, "desiredHealthy": 1, "disruptionsAllowed": 1, "expectedPods": 1}
    return {"observedGeneration": body["metadata"]["generation"], **counts}


def _condition(kind: str, status: str, reason: str, now: str) -> Object:
    told = "" if status == "True" else reason
    return {"type": kind, "status": status, "reason": reason, "message": told, "lastTransitionTime": now}


_REPORTS: dict[str, Callable[[Object, Fate, str], Object]] = {
    "Deployment": _deployment,
    "StatefulSet": _stateful_set,
    "Job": _job,
    "Pod": _pod,
    "PersistentVolumeClaim": _claim,
    "RayService": _ray_service,
    "Certificate": _ready,
    "Namespace": _namespace,
    "PodDisruptionBudget": _disruption_budget,
}
