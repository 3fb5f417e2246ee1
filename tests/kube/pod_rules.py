"""What the API checks of a pod's spec beyond its schema."""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from tests.kube.status import Cause, Object

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_PORT_NAME = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?")
_QUANTITY = re.compile(r"([+-]?\d+(?:\.\d+)?)(Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE]|[eE][+-]?\d+)?")
_UNITS = {
    **{unit: Decimal(1024) ** (at + 1) for at, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"))},
    **{
        unit: Decimal(1000) ** (at - 3)
        for at, unit in enumerate(("n", "u", "m", "", "k", "M", "G", "T", "P", "E"))
    },
}
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_PULL = {"Always", "IfNotPresent", "Never"}


def broken_pod(spec: Object, path: str, restart: set[str]) -> Iterator[Cause]:
    """Yield each rule that a pod's spec breaks; ``restart`` are the policies that its owner allows."""
    containers = spec.get("containers") or []
    if not containers:
        yield Cause(f"{path}.containers", "FieldValueRequired", "Required value")
    policy = spec.get("restartPolicy", "Always")
    if policy not in restart:
        yield Cause(
            f"{path}.restartPolicy",
            "FieldValueNotSupported",
            f'Unsupported value: "{policy}": supported values: {", ".join(sorted(restart))}',
        )
    volumes = [volume["name"] for volume in spec.get("volumes") or ()]
    yield from _volumes(spec, volumes, path)
    names: list[str] = []
    for where in ("initContainers", "containers"):
        for at, container in enumerate(spec.get(where) or ()):
            place = f"{path}.{where}[{at}]"
            if container["name"] in names:
                yield Cause(f"{place}.name", "FieldValueDuplicate", f'Duplicate value: "{container["name"]}"')
            names.append(container["name"])
            yield from _container(container, place, volumes)


def _volumes(spec: Object, volumes: list[str], path: str) -> Iterator[Cause]:
    for at, volume in enumerate(spec.get("volumes") or ()):
        place = f"{path}.volumes[{at}]"
        if volumes.count(volume["name"]) > 1:
            yield Cause(f"{place}.name", "FieldValueDuplicate", f'Duplicate value: "{volume["name"]}"')
        if len(volume) > 2:
            yield Cause(place, "FieldValueForbidden", "Forbidden: may not specify more than 1 volume type")


def _container(container: Object, path: str, volumes: list[str]) -> Iterator[Cause]:
    if not _LABEL.fullmatch(container["name"]):
        yield _wrong(f"{path}.name", container["name"], "is no DNS label")
    if not container.get("image"):
        yield Cause(f"{path}.image", "FieldValueRequired", "Required value")
    if (pull := container.get("imagePullPolicy", "Always")) not in _PULL:
        yield Cause(f"{path}.imagePullPolicy", "FieldValueNotSupported", f'Unsupported value: "{pull}"')
    yield from _ports(container, path)
    yield from _environment(container, path)
    yield from _mounts(container, path, volumes)
    yield from _probes(container, path)
    yield from _resources(container.get("resources") or {}, f"{path}.resources")


def _ports(container: Object, path: str) -> Iterator[Cause]:
    seen: set[str] = set()
    for at, port in enumerate(container.get("ports") or ()):
        place = f"{path}.ports[{at}]"
        yield from port_number(port.get("containerPort"), f"{place}.containerPort")
        if (name := port.get("name")) is not None:
            if not _PORT_NAME.fullmatch(name):
                yield _wrong(
                    f"{place}.name", name, "must be no more than 15 characters, and a service's name"
                )
            if name in seen:
                yield Cause(f"{place}.name", "FieldValueDuplicate", f'Duplicate value: "{name}"')
            seen.add(name)


def _environment(container: Object, path: str) -> Iterator[Cause]:
    for at, variable in enumerate(container.get("env") or ()):
        if not variable["name"] or "=" in variable["name"]:
            yield _wrong(f"{path}.env[{at}].name", variable["name"], "a valid environment variable name")
        if "value" in variable and variable["value"] and "valueFrom" in variable:
            told = "may not be specified when `value` is not empty"
            yield _wrong(f"{path}.env[{at}].valueFrom", "", told)


def _mounts(container: Object, path: str, volumes: list[str]) -> Iterator[Cause]:
    paths = [mount["mountPath"] for mount in container.get("volumeMounts") or ()]
    for at, mount in enumerate(container.get("volumeMounts") or ()):
        place = f"{path}.volumeMounts[{at}]"
        if mount["name"] not in volumes:
            yield Cause(f"{place}.name", "FieldValueNotFound", f'Not found: "{mount["name"]}"')
        if paths.count(mount["mountPath"]) > 1:
            yield _wrong(f"{place}.mountPath", mount["mountPath"], "must be unique")


def _probes(container: Object, path: str) -> Iterator[Cause]:
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe = container.get(name)
        if probe is None:
            continue
        handlers = [handler for handler in _HANDLERS if handler in probe]
        if not handlers:
            yield Cause(f"{path}.{name}", "FieldValueRequired", "Required value: must specify a handler type")
        if len(handlers) > 1:
            yield Cause(
                f"{path}.{name}", "FieldValueForbidden", "Forbidden: may not specify more than 1 handler type"
            )
        if name != "readinessProbe" and probe.get("successThreshold", 1) != 1:
            yield _wrong(f"{path}.{name}.successThreshold", probe["successThreshold"], "must be 1")


def _resources(resources: Object, path: str) -> Iterator[Cause]:
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for where, found in (("limits", limits), ("requests", requests)):
        for name, value in found.items():
            if quantity(value) is None:
                yield _wrong(f"{path}.{where}[{name}]", value, "quantities must match the regular expression")
    for name, value in requests.items():
        asked, most = quantity(value), quantity(limits.get(name, value))
        if asked is not None and most is not None and asked > most:
            yield _wrong(
                f"{path}.requests", value, f"must be less than or equal to {name} limit of {limits[name]}"
            )
    for name in limits.keys() | requests.keys():
        extended = "/" in name and not name.startswith("kubernetes.io/")
        if extended and name in requests and quantity(requests[name]) != quantity(limits.get(name, "")):
            yield _wrong(f"{path}.requests", requests[name], f"must be equal to {name} limit")


def port_number(value: Any, path: str) -> Iterator[Cause]:
    """Yield what is wrong with the number of a port."""
    if isinstance(value, int) and not 0 < value < 65536:
        yield _wrong(path, value, "must be between 1 and 65535, inclusive")


def quantity(value: Any) -> Decimal | None:
    """Return a quantity as a number; None for what is none."""
    found = _QUANTITY.fullmatch(str(value))
    if found is None:
        return None
    unit = found[2] or ""
    if unit[:1] in {"e", "E"} and len(unit) > 1:
        return Decimal(found[0])
    return Decimal(found[1]) * _UNITS[unit]


def _wrong(path: str, value: Any, why: str) -> Cause:
    return Cause(path, "FieldValueInvalid", f"Invalid value: {json.dumps(value)}: {why}")
