"""What the API fills in where an object says nothing: the part that clients go by."""

import base64
from itertools import count
from typing import Any

from tests.kube.kinds import Kind
from tests.kube.schemas import defaulted
from tests.kube.status import Object

_ADDRESSES = count(10)
_SURGE = {"maxSurge": "25%", "maxUnavailable": "25%"}


def filled(kind: Kind, body: Object, old: Object | None) -> Object:
    """Return an object with its defaults; ``old`` gives what was chosen once."""
    if kind.group == "ray.io":
        return defaulted(kind, body)
    fill = _FILLS.get(kind.kind)
    return fill(body, old) if fill is not None else body


def _spec(body: Object, **defaults: Any) -> Object:
    return {**body, "spec": {**defaults, **body.get("spec", {})}}


def _template(body: Object, policy: str) -> Object:
    template = body["spec"].get("template")
    if not template:
        return body
    spec = {"restartPolicy": policy, "terminationGracePeriodSeconds": 30, **template.get("spec", {})}
    return {**body, "spec": {**body["spec"], "template": {**template, "spec": spec}}}


def _deployment(body: Object, old: Object | None) -> Object:
    made = _spec(body, replicas=1, strategy={"type": "RollingUpdate"}, progressDeadlineSeconds=600)
    if made["spec"]["strategy"].get("type", "RollingUpdate") == "RollingUpdate":
        rolling = {**_SURGE, **(made["spec"]["strategy"].get("rollingUpdate") or {})}
        made["spec"]["strategy"] = {"type": "RollingUpdate", "rollingUpdate": rolling}
    return _template(made, "Always")


def _stateful_set(body: Object, old: Object | None) -> Object:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}
    made = _spec(body, replicas=1, updateStrategy=strategy, podManagementPolicy="OrderedReady")
    return _template(made, "Always")


def _job(body: Object, old: Object | None) -> Object:
    return _spec(body, parallelism=1, completions=1, backoffLimit=6, completionMode="NonIndexed")


def _pod(body: Object, old: Object | None) -> Object:
    return _spec(body, restartPolicy="Always", terminationGracePeriodSeconds=30)


def _service(body: Object, old: Object | None) -> Object:
    made = _spec(body, type="ClusterIP")
    spec = made["spec"]
    if spec["type"] != "ExternalName" and not spec.get("clusterIP"):
        spec["clusterIP"] = (old or {}).get("spec", {}).get("clusterIP") or f"10.96.0.{next(_ADDRESSES)}"
    if "ports" in spec:
        spec["ports"] = [
            {"protocol": "TCP", **({"targetPort": port["port"]} if "port" in port else {}), **port}
            for port in spec["ports"]
        ]
    return made


def _secret(body: Object, old: Object | None) -> Object:
    made = {**body, "type": body.get("type") or "Opaque"}
    texts = made.pop("stringData", None)
    if texts:
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in texts.items()}
        made["data"] = {**(made.get("data") or {}), **encoded}
    return made


def _claim(body: Object, old: Object | None) -> Object:
    return _spec(body, volumeMode="Filesystem")


def _namespace(body: Object, old: Object | None) -> Object:
    metadata = body["metadata"]
    labels = {**(metadata.get("labels") or {}), "kubernetes.io/metadata.name": metadata["name"]}
    return {**body, "metadata": {**metadata, "labels": labels}, "spec": {"finalizers": ["kubernetes"]}}


_FILLS = {
    "Deployment": _deployment,
    "StatefulSet": _stateful_set,
    "Job": _job,
    "Pod": _pod,
    "Service": _service,
    "Secret": _secret,
    "PersistentVolumeClaim": _claim,
    "Namespace": _namespace,
}
