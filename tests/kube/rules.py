"""What the API checks of an object beyond its schema: names, selectors, sizes, what may not change."""

import base64
import binascii
import ipaddress
import json
import re
from collections.abc import Iterator
from typing import Any

from tests.kube.kinds import Kind
from tests.kube.pod_rules import broken_pod, port_number, quantity
from tests.kube.status import Cause, Object

UNREADABLE = "FieldValueTypeInvalid"
"""Why an object cannot even be read: 400, where a broken rule is 422."""
MAX_SECRET_BYTES = 1024 * 1024
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SERVICE = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_QUALIFIED = re.compile(r"(?:([a-z0-9.-]{1,253})/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_ENTRY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_PATH_NAMES = {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}
_FIXED = {
    "Deployment": ("selector",),
    "ReplicaSet": ("selector",),
    "StatefulSet": ("selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates"),
    "Job": ("selector", "template", "completions", "completionMode"),
    "PersistentVolumeClaim": ("accessModes", "storageClassName", "volumeMode", "selector"),
}
"""Fields of a spec that may not change."""


def broken(kind: Kind, body: Object, old: Object | None) -> Iterator[Cause]:
    """Yield each rule that an object breaks, given what it was before."""
    yield from _metadata(kind, body)
    check = _CHECKS.get(kind.kind)
    if check is not None:
        yield from check(body)
    if old is not None:
        yield from _changed(kind, body, old)


def _metadata(kind: Kind, body: Object) -> Iterator[Cause]:
    metadata = body["metadata"]
    name = metadata["name"]
    allowed = {"Service": _SERVICE, "Namespace": _LABEL}.get(kind.kind, _SUBDOMAIN)
    if kind.kind in _PATH_NAMES:
        allowed = re.compile(r"(?!\.\.?$)[^/%]+")
    if not allowed.fullmatch(name) or len(name) > 253:
        yield _wrong("metadata.name", name, f"does not match {allowed.pattern}")
    for key, value in (metadata.get("labels") or {}).items():
        yield from _label("metadata.labels", key, value)
    for key in metadata.get("annotations") or {}:
        if not _QUALIFIED.fullmatch(key):
            yield _wrong("metadata.annotations", key, "is no qualified name")


def _label(path: str, key: str, value: Any) -> Iterator[Cause]:
    if not _QUALIFIED.fullmatch(key):
        yield _wrong(path, key, "is no qualified name")
    if not isinstance(value, str) or not _LABEL_VALUE.fullmatch(value):
        yield _wrong(path, value, "a label's value has at most 63 letters, digits, '-', '_' or '.'")


def _changed(kind: Kind, body: Object, old: Object) -> Iterator[Cause]:
    for name in _FIXED.get(kind.kind, ()):
        before, after = old.get("spec", {}).get(name), body.get("spec", {}).get(name)
        if before is not None and before != after:
            yield _wrong(f"spec.{name}", after, "field is immutable")
    if kind.kind in {"RoleBinding", "ClusterRoleBinding"} and body.get("roleRef") != old.get("roleRef"):
        yield _wrong("roleRef", body.get("roleRef"), "cannot change roleRef")
    frozen = kind.kind in {"Secret", "ConfigMap"} and old.get("immutable")
    if frozen and any(body.get(name) != old.get(name) for name in ("data", "immutable")):
        told = "Forbidden: field is immutable when `immutable` is set"
        yield Cause("data", "FieldValueForbidden", told)
    if kind.kind == "Secret" and body.get("type") != old.get("type"):
        yield _wrong("type", body.get("type"), "field is immutable")


def _workload(body: Object) -> Iterator[Cause]:
    spec = body["spec"]
    template = spec.get("template", {})
    labels = template.get("metadata", {}).get("labels", {})
    selector = spec.get("selector", {})
    for key, value in labels.items():
        yield from _label("spec.template.metadata.labels", key, value)
    wanted = selector.get("matchLabels") or {}
    if not wanted and not selector.get("matchExpressions"):
        yield Cause("spec.selector", "FieldValueRequired", "Required value")
    elif any(labels.get(key) != value for key, value in wanted.items()):
        yield _wrong("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
    if spec.get("replicas", 1) < 0:
        yield _wrong("spec.replicas", spec["replicas"], "must be greater than or equal to 0")
    claims = [{"name": claim["metadata"]["name"]} for claim in spec.get("volumeClaimTemplates") or ()]
    pod = template.get("spec", {})
    pod = {**pod, "volumes": [*(pod.get("volumes") or ()), *claims]}
    yield from broken_pod(pod, "spec.template.spec", {"Always"})


def _job(body: Object) -> Iterator[Cause]:
    template = body["spec"].get("template", {})
    yield from broken_pod(template.get("spec", {}), "spec.template.spec", {"OnFailure", "Never"})


def _cron_job(body: Object) -> Iterator[Cause]:
    spec = body["spec"].get("jobTemplate", {}).get("spec", {}).get("template", {}).get("spec", {})
    yield from broken_pod(spec, "spec.jobTemplate.spec.template.spec", {"OnFailure", "Never"})
    if len(str(body["spec"].get("schedule", "")).split()) != 5:
        yield _wrong("spec.schedule", body["spec"].get("schedule"), "expected exactly 5 fields")


def _pod(body: Object) -> Iterator[Cause]:
    yield from broken_pod(body["spec"], "spec", {"Always", "OnFailure", "Never"})


def _ray_service(body: Object) -> Iterator[Cause]:
    """Yield what is wrong with the pods that the operator would make: the API would take the object."""
    cluster, path = body["spec"].get("rayClusterConfig", {}), "spec.rayClusterConfig"
    head = cluster.get("headGroupSpec", {})
    groups = [(f"{path}.headGroupSpec", head)]
    for at, group in enumerate(cluster.get("workerGroupSpecs") or ()):
        groups.append((f"{path}.workerGroupSpecs[{at}]", group))
    for place, group in groups:
        template = group.get("template", {})
        for key, value in template.get("metadata", {}).get("labels", {}).items():
            yield from _label(f"{place}.template.metadata.labels", key, value)
        yield from broken_pod(template.get("spec", {}), f"{place}.template.spec", {"Always", "Never"})


def _secret(body: Object) -> Iterator[Cause]:
    size = 0
    for key, value in (body.get("data") or {}).items():
        yield from _entry(key)
        try:
            size += len(base64.b64decode(value, validate=True))
        except (binascii.Error, TypeError):
            yield Cause(f"data[{key}]", UNREADABLE, "illegal base64 data")
    yield from _too_long(size)
    if body.get("type") == "kubernetes.io/tls":
        for key in ("tls.crt", "tls.key"):
            if key not in (body.get("data") or {}):
                yield Cause(f"data[{key}]", "FieldValueRequired", "Required value")


def _config_map(body: Object) -> Iterator[Cause]:
    for key in body.get("data") or {}:
        yield from _entry(key)
    yield from _too_long(sum(len(value.encode()) for value in (body.get("data") or {}).values()))


def _entry(key: str) -> Iterator[Cause]:
    if not _ENTRY.fullmatch(key) or key in {".", ".."}:
        told = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
        yield _wrong(f"data[{key}]", key, told)


def _too_long(size: int) -> Iterator[Cause]:
    if size > MAX_SECRET_BYTES:
        told = f"Too long: may not be more than {MAX_SECRET_BYTES} bytes"
        yield Cause("data", "FieldValueTooLong", told)


def _service(body: Object) -> Iterator[Cause]:
    spec = body["spec"]
    ports = spec.get("ports") or []
    if not ports and spec.get("type") != "ExternalName" and spec.get("clusterIP") != "None":
        yield Cause("spec.ports", "FieldValueRequired", "Required value")
    names = [port.get("name", "") for port in ports]
    for at, port in enumerate(ports):
        path = f"spec.ports[{at}]"
        yield from port_number(port.get("port"), f"{path}.port")
        if len(ports) > 1 and not names[at]:
            yield Cause(f"{path}.name", "FieldValueRequired", "Required value")
        elif names[at] and not _LABEL.fullmatch(names[at]):
            yield _wrong(f"{path}.name", names[at], "is no DNS label")
        elif names.count(names[at]) > 1:
            yield Cause(f"{path}.name", "FieldValueDuplicate", f"Duplicate value: {names[at]}")


def _autoscaler(body: Object) -> Iterator[Cause]:
    spec = body["spec"]
    if spec.get("minReplicas", 1) > spec.get("maxReplicas", 0):
        yield _wrong(
            "spec.maxReplicas", spec.get("maxReplicas"), "must be greater than or equal to `minReplicas`"
        )


def _disruption_budget(body: Object) -> Iterator[Cause]:
    spec = body.get("spec", {})
    if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
        yield _wrong("spec", spec, "minAvailable and maxUnavailable cannot be both set")


def _network_policy(body: Object) -> Iterator[Cause]:
    spec = body.get("spec", {})
    for way, peers in (("ingress", "from"), ("egress", "to")):
        for at, rule in enumerate(spec.get(way) or ()):
            for place, peer in enumerate(rule.get(peers) or ()):
                path = f"spec.{way}[{at}].{peers}[{place}]"
                if not peer:
                    yield Cause(path, "FieldValueRequired", "Required value: must specify a peer")
                if "ipBlock" in peer:
                    yield from _cidr(peer["ipBlock"].get("cidr"), f"{path}.ipBlock.cidr")
                    if len(peer) > 1:
                        told = "Forbidden: may not specify both ipBlock and another peer"
                        yield Cause(path, "FieldValueForbidden", told)
            for place, port in enumerate(rule.get("ports") or ()):
                if isinstance(port.get("port"), int):
                    yield from port_number(port["port"], f"spec.{way}[{at}].ports[{place}].port")
    if unknown := set(spec.get("policyTypes") or ()) - {"Ingress", "Egress"}:
        yield _wrong("spec.policyTypes", sorted(unknown), "supported values: Ingress, Egress")


def _cidr(value: Any, path: str) -> Iterator[Cause]:
    try:
        ipaddress.ip_network(str(value))
    except ValueError:
        yield _wrong(path, value, "must be a valid CIDR value")


def _ingress(body: Object) -> Iterator[Cause]:
    spec = body.get("spec", {})
    if not spec.get("rules") and not spec.get("defaultBackend"):
        yield _wrong("spec", spec, "either `defaultBackend` or `rules` must be specified")
    for at, rule in enumerate(spec.get("rules") or ()):
        for place, entry in enumerate(rule.get("http", {}).get("paths") or ()):
            if entry.get("pathType") not in {"Exact", "Prefix", "ImplementationSpecific"}:
                path = f"spec.rules[{at}].http.paths[{place}].pathType"
                yield Cause(path, "FieldValueRequired", "Required value: pathType must be specified")


def _claim(body: Object) -> Iterator[Cause]:
    spec = body["spec"]
    modes = {"ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"}
    if not spec.get("accessModes"):
        yield Cause(
            "spec.accessModes", "FieldValueRequired", "Required value: at least 1 access mode is required"
        )
    elif unknown := set(spec["accessModes"]) - modes:
        yield _wrong("spec.accessModes", sorted(unknown), f"supported values: {', '.join(sorted(modes))}")
    size = spec.get("resources", {}).get("requests", {}).get("storage")
    if size is None:
        yield Cause("spec.resources[storage]", "FieldValueRequired", "Required value")
    elif quantity(size) is None:
        yield _wrong("spec.resources[storage]", size, "is no quantity")


def _role(body: Object) -> Iterator[Cause]:
    for at, rule in enumerate(body.get("rules") or ()):
        if not rule.get("verbs"):
            yield Cause(
                f"rules[{at}].verbs",
                "FieldValueRequired",
                "Required value: verbs must contain at least one value",
            )
        if not rule.get("nonResourceURLs") and not (rule.get("resources") and "apiGroups" in rule):
            yield Cause(
                f"rules[{at}].resources",
                "FieldValueRequired",
                "Required value: resource rules must supply at least one resource",
            )


def _wrong(path: str, value: Any, why: str) -> Cause:
    return Cause(path, "FieldValueInvalid", f"Invalid value: {json.dumps(value)}: {why}")


_CHECKS = {
    "Deployment": _workload,
    "StatefulSet": _workload,
    "DaemonSet": _workload,
    "ReplicaSet": _workload,
    "Job": _job,
    "CronJob": _cron_job,
    "Pod": _pod,
    "RayService": _ray_service,
    "Secret": _secret,
    "ConfigMap": _config_map,
    "Service": _service,
    "HorizontalPodAutoscaler": _autoscaler,
    "PodDisruptionBudget": _disruption_budget,
    "NetworkPolicy": _network_policy,
    "Ingress": _ingress,
    "PersistentVolumeClaim": _claim,
    "Role": _role,
    "ClusterRole": _role,
}
