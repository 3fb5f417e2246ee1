"""Recorded states of a cluster, given as a Kubernetes API would: by path, label and namespace."""

import copy
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from deploy import release as releases
from deploy.api import ForbiddenError, MissingError, Object
from deploy.release import Release
from tests.kube.api import KubernetesApi

DATA = Path(__file__).resolve().parent.parent / "data"
KINDS = {
    "pods": "Pod",
    "events": "Event",
    "persistentvolumeclaims": "PersistentVolumeClaim",
    "deployments": "Deployment",
    "statefulsets": "StatefulSet",
    "jobs": "Job",
    "rayservices": "RayService",
    "rayclusters": "RayCluster",
    "nodes": "Node",
}


def load(name: str) -> dict[str, Any]:
    """Return a record, by its path below ``tests/data`` without the ending."""
    record: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text())
    return record


def names(folder: str) -> list[str]:
    """Return the names of all records in a folder."""
    return sorted(path.stem for path in (DATA / folder).glob("*.json"))


@dataclass
class RecordedApi:
    """`deploy.release.Reads` on the objects of a record."""

    objects: list[Object]
    logs: dict[str, str] = field(default_factory=dict)
    unserved: Iterable[str] = ()
    forbidden: Iterable[str] = ()
    """Parts of paths that this account may not read."""
    namespace: str = "ai"

    def get(self, path: str) -> Object:
        """Return the object or group at ``path``."""
        found = self.find(path)
        if found is None:
            raise MissingError(f"GET {path}: not found", status=404)
        return found

    def find(self, path: str) -> Object | None:
        """Return it, None where there is none."""
        self._check(path)
        if path.startswith("/apis/ray.io") and "ray.io" in self.unserved:
            return None
        if path.endswith("/v1"):
            return {"kind": "APIResourceList"}
        collection, name = path.rsplit("/", 1)
        return next((each for each in self.all(collection) if each["metadata"]["name"] == name), None)

    def all(self, path: str, **query: str) -> list[Object]:
        """Return a collection's objects."""
        self._check(path)
        kind = KINDS[path.rsplit("/", 1)[1]]
        key, _, value = query.get("labelSelector", "").partition("=")
        return [
            each
            for each in self.objects
            if each["kind"] == kind
            and ("/namespaces/" not in path or each["metadata"]["namespace"] == self.namespace)
            and (not key or each["metadata"].get("labels", {}).get(key) == value)
        ]

    def text(self, path: str, **query: str) -> str:
        """Return a pod's log."""
        self._check(path)
        assert query
        return self.logs[path.split("/")[-2]]

    def _check(self, path: str) -> None:
        if any(part in path for part in self.forbidden):
            raise ForbiddenError(f"GET {path}: it is forbidden", status=403)


def release(name: str, **more: Any) -> Release:
    """Return the release ``gpt`` of a record, read as the command reads it."""
    record = load(name)
    kept: dict[str, Any] = {key: record[key] for key in ("objects", "logs", "unserved") if key in record}
    return releases.read(RecordedApi(**{**kept, **more}), "gpt", now(record))


def now(record: dict[str, Any]) -> datetime:
    """Return the moment at which a record was taken."""
    return datetime.fromisoformat(record["now"])


def put(kube: KubernetesApi, record: dict[str, Any]) -> None:
    """Write a record's objects into an API, with the ages and states that they have."""
    for each in record["objects"]:
        made = kube.add(copy.deepcopy(each))
        metadata = {**made["metadata"], "creationTimestamp": each["metadata"].get("creationTimestamp")}
        if "generation" in each["metadata"]:
            metadata["generation"] = each["metadata"]["generation"]
        if each["metadata"]["name"] in record.get("logs", {}):
            metadata["annotations"] = {"test/log": record["logs"][each["metadata"]["name"]]}
        kept = {**made, "metadata": {key: value for key, value in metadata.items() if value is not None}}
        kube.objects.store.put(kube.kind(each["kind"]), {**kept, "status": each.get("status", {})})
