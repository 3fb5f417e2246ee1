"""A cluster before an install, as the API tells of it: what ``preflight`` decides on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from deploy import names
from deploy.api import Api, Object
from deploy.objects import at, is_operator, name
from deploy.reader import Reader
from deploy.trial import Refusal, Resource, denied, refusals
from deploy.wishes import Wishes

RAY_SERVICE = ("ray.io/v1", "RayService")
CLASSES = {
    "RuntimeClass": ("/apis/node.k8s.io/v1/runtimeclasses", "runtimeClassName"),
    "PriorityClass": ("/apis/scheduling.k8s.io/v1/priorityclasses", "priorityClassName"),
    "IngressClass": ("/apis/networking.k8s.io/v1/ingressclasses", "ingressClassName"),
}
"""Where the API keeps each kind of class, and the field that names one."""


@dataclass(frozen=True, slots=True)
class Site:
    """All that was read of a cluster. None: this account may not read it."""

    namespace: str
    version: str
    resources: Mapping[tuple[str, str], Resource]
    """Kinds that the API serves, of the groups that were asked for."""
    ray_service_fields: frozenset[str] | None = None
    """Fields of RayService's spec in the installed CRD."""
    operators: tuple[Object, ...] | None = ()
    nodes: tuple[Object, ...] | None = ()
    pods: tuple[Object, ...] | None = ()
    """Pods of all namespaces that are not over."""
    storage_classes: Mapping[str, bool] | None = field(default_factory=dict)
    """Whether each is the default."""
    classes: Mapping[str, frozenset[str] | None] = field(default_factory=dict)
    """Names of RuntimeClasses, PriorityClasses and IngressClasses, by kind."""
    exists: bool = True
    """Whether the namespace is there, or may not be looked at."""
    labels: Mapping[str, str] | None = field(default_factory=dict)
    """Labels of the namespace."""
    claims: Mapping[str, str | None] = field(default_factory=dict)
    """Phase of each PVC that was asked for; None: there is none."""
    secrets: Mapping[str, frozenset[str] | None] = field(default_factory=dict)
    """Keys of each Secret that was asked for; None: there is none."""
    denied: tuple[str, ...] = ()
    """Rights that this account lacks, in words."""
    refusals: tuple[Refusal, ...] = ()
    unread: tuple[str, ...] = ()


def read(api: Api, wishes: Wishes) -> Site:
    """Read what the wishes are about, and try the objects. Raises `ApiError` if the API gives no version."""
    reader = Reader(api)
    namespace = reader.one(names.namespace(api.namespace))
    missing = namespace is None and not reader.unread
    kinds = sorted({*wishes.kinds, RAY_SERVICE})
    resources = _resources(reader, {version for version, _ in kinds})
    deployments = reader.all("/apis/apps/v1/deployments")
    running = "status.phase!=Succeeded,status.phase!=Failed"
    return Site(
        namespace=api.namespace,
        version=str(api.get("/version").get("gitVersion") or ""),
        resources=resources,
        ray_service_fields=_ray_service_fields(reader),
        operators=None if deployments is None else tuple(filter(is_operator, deployments)),
        nodes=reader.all("/api/v1/nodes"),
        pods=reader.all("/api/v1/pods", fieldSelector=running),
        storage_classes=_storage_classes(reader),
        classes=_classes(reader, wishes),
        exists=not missing,
        labels=None if namespace is None else dict(at(namespace, "metadata", "labels") or {}),
        claims=_claims(reader, wishes.claims),
        secrets=_secrets(reader, wishes.secrets),
        denied=tuple(denied(api, reader, kinds, resources)),
        refusals=() if missing else tuple(refusals(api, reader, wishes, resources)),
        unread=tuple(reader.unread),
    )


def _resources(reader: Reader, versions: Iterable[str]) -> dict[tuple[str, str], Resource]:
    """Return where the API keeps each kind of some versions."""
    found = {}
    for version in sorted(versions):
        served = reader.one(names.group(version))
        for each in at(served, "resources") or []:
            if "/" not in each["name"]:
                found[version, str(each["kind"])] = Resource(str(each["name"]), bool(each["namespaced"]))
    return found


def _ray_service_fields(reader: Reader) -> frozenset[str] | None:
    """Return the fields that the installed CRD gives RayService's spec in v1."""
    crd = reader.one("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/rayservices.ray.io")
    for version in at(crd, "spec", "versions") or []:
        spec = at(version, "schema", "openAPIV3Schema", "properties", "spec", "properties")
        if version.get("name") == "v1" and version.get("served") and spec:
            return frozenset(spec)
    return None


def _storage_classes(reader: Reader) -> dict[str, bool] | None:
    """Return each storage class, and whether it is the default."""
    found = reader.all("/apis/storage.k8s.io/v1/storageclasses")
    key = "storageclass.kubernetes.io/is-default-class"
    if found is None:
        return None
    return {name(each): (at(each, "metadata", "annotations") or {}).get(key) == "true" for each in found}


def _classes(reader: Reader, wishes: Wishes) -> dict[str, frozenset[str] | None]:
    """Return the names of the classes of each kind that the wishes name."""
    found: dict[str, frozenset[str] | None] = {}
    for kind, (path, field_name) in CLASSES.items():
        named = wishes.classes(field_name)
        there = reader.all(path) if named else ()
        found[kind] = None if there is None else frozenset(map(name, there))
    return found


def _claims(reader: Reader, wanted: Iterable[str]) -> dict[str, str | None]:
    """Return the phase of each claim, None for one that is not there; without those it may not read."""
    found = {}
    for each in sorted(wanted):
        before = len(reader.unread)
        claim = reader.one(names.core(reader.namespace, "persistentvolumeclaims", each))
        if len(reader.unread) == before:
            found[each] = str(at(claim, "status", "phase")) if claim else None
    return found


def _secrets(reader: Reader, wanted: Iterable[str]) -> dict[str, frozenset[str] | None]:
    """Return the keys of each Secret, None for one that is not there; without those it may not read."""
    found = {}
    for each in sorted(wanted):
        before = len(reader.unread)
        secret = reader.one(names.core(reader.namespace, "secrets", each))
        if len(reader.unread) == before:
            found[each] = None if secret is None else frozenset(map(str, secret.get("data") or {}))
    return found
