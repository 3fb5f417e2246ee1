"""Small questions to Kubernetes objects as JSON: what is missing is empty, never an error."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from deploy.api import Object

_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)([KMGTPE]i?|[mk])?")
_UNITS = {"": 1.0, "m": 0.001, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_UNITS |= {f"{letter}i": 1024.0**power for power, letter in enumerate("KMGTPE", 1)}


def at(value: Any, *path: str) -> Any:
    """Return what stands at ``path`` in nested objects, None where a step is missing."""
    for step in path:
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def name(item: Object) -> str:
    """Return an object's name."""
    return str(at(item, "metadata", "name") or "")


def label(item: Object, key: str) -> str:
    """Return a label's value, empty where there is none."""
    return str((at(item, "metadata", "labels") or {}).get(key) or "")


def condition(item: Object | None, kind: str) -> Object:
    """Return a condition of an object's status, empty where there is none."""
    for each in at(item, "status", "conditions") or []:
        if each.get("type") == kind:
            return dict(each)
    return {}


def is_true(item: Object | None, kind: str) -> bool:
    """Whether a condition is ``True``."""
    return condition(item, kind).get("status") == "True"


def moment(text: Any) -> datetime | None:
    """Return an API time stamp as a time; None where there is none."""
    if not isinstance(text, str) or not text:
        return None
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)


def age_s(text: Any, now: datetime) -> float:
    """Return the seconds since a time stamp; 0 where there is none."""
    then = moment(text)
    return max(0.0, (now - then).total_seconds()) if then else 0.0


def is_quantity(value: Any) -> bool:
    """Whether a value is a number, or a quantity such as ``64Gi``."""
    return not isinstance(value, bool) and _QUANTITY.fullmatch(str(value)) is not None


def number(quantity: Any) -> float:
    """Return a quantity such as ``64Gi`` or ``500m`` as a number; 0 for what is none."""
    found = _QUANTITY.fullmatch(str(quantity if quantity is not None else ""))
    return float(found[1]) * _UNITS[found[2] or ""] if found else 0.0


def containers(pod_spec: Object) -> list[Object]:
    """Return init and other containers of a pod's spec."""
    return [*(pod_spec.get("initContainers") or []), *(pod_spec.get("containers") or [])]


def statuses(pod: Object) -> Iterator[tuple[Object, bool]]:
    """Yield the status of each of a pod's containers, and whether it is an init container."""
    for each in at(pod, "status", "initContainerStatuses") or []:
        yield each, True
    for each in at(pod, "status", "containerStatuses") or []:
        yield each, False


def is_operator(deployment: Object) -> bool:
    """Whether a Deployment is a KubeRay operator: by its chart's label, or by its image."""
    images = [str(each.get("image")) for each in containers(at(deployment, "spec", "template", "spec") or {})]
    known = label(deployment, "app.kubernetes.io/name") == "kuberay-operator"
    return known or any("kuberay" in image and "operator" in image for image in images)


def request(pod_spec: Object, resource: str) -> float:
    """Return how much of a resource a pod's containers ask for together."""
    asked = 0.0
    for each in pod_spec.get("containers") or []:
        resources = each.get("resources") or {}
        asked += number(
            (resources.get("requests") or {}).get(resource) or (resources.get("limits") or {}).get(resource)
        )
    return asked


def span(seconds: float) -> str:
    """Return a span of time for people: ``45 s``, ``12 min``, ``3 h``, ``2 d``."""
    for unit, size, limit in (("s", 1, 100), ("min", 60, 100 * 60), ("h", 3600, 48 * 3600)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"
