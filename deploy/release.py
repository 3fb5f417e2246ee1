"""One release of the chart as the API tells of it, at one moment: what ``status`` and ``drain`` decide on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from deploy import names
from deploy.api import Object
from deploy.names import (
    CLUSTER_LABEL,
    COMPONENT_LABEL,
    GROUP_LABEL,
    NODE_TYPE_LABEL,
    ORIGIN_LABEL,
    PRODUCT_LABEL,
    RELEASE_LABEL,
)
from deploy.objects import at, is_operator, is_true, label, name
from deploy.reader import Reader, Reads

PREFETCH_LINES = 5
"""Lines of its log that are read."""


@dataclass(frozen=True, slots=True)
class Release:
    """All that was read of a release."""

    release: str
    namespace: str
    now: datetime
    crd: bool = True
    """Whether the API knows RayServices."""
    operator: bool | None = None
    """Whether a KubeRay operator is available; None: not looked for, as it has acted, or may not be."""
    ray_service: Object | None = None
    ray_clusters: tuple[Object, ...] = ()
    pods: tuple[Object, ...] = ()
    """Pods of the release: Ray's, and those of the chart's own objects."""
    events: tuple[Object, ...] = ()
    """Events of the namespace."""
    deployments: tuple[Object, ...] = ()
    stateful_sets: tuple[Object, ...] = ()
    jobs: tuple[Object, ...] = ()
    claims: tuple[Object, ...] = ()
    gpus: Mapping[str, str] = field(default_factory=dict)
    """GPU product by node."""
    cordoned: frozenset[str] = frozenset()
    """Nodes that take no new pods."""
    prefetch_log: str = ""
    """Last lines of the prefetch Job's pod."""
    unread: tuple[str, ...] = ()
    """What could not be read, and why."""

    @property
    def fullname(self) -> str:
        """What the chart calls the release's objects."""
        return name(self.ray_service) if self.ray_service else names.fullname(self.release)

    def component(self, component: str) -> tuple[Object, ...]:
        """Return the pods of a component of the chart, Ray's aside."""
        return tuple(
            pod for pod in self.pods if label(pod, COMPONENT_LABEL) == component and not cluster(pod)
        )

    def workers(self, ray_cluster: str, group: str | None = None) -> tuple[Object, ...]:
        """Return the worker pods of a Ray cluster, of one group or of all."""
        return tuple(
            pod
            for pod in self.pods
            if cluster(pod) == ray_cluster
            and label(pod, NODE_TYPE_LABEL) == "worker"
            and group in (None, label(pod, GROUP_LABEL))
        )

    def ray_cluster(self, side: str) -> str:
        """Return the name of the ``active`` or ``pending`` Ray cluster, empty where there is none."""
        return str(at(self.ray_service, "status", f"{side}ServiceStatus", "rayClusterName") or "")


def cluster(pod: Object) -> str:
    """Return the Ray cluster of a pod, empty for a pod that is none of Ray's."""
    return label(pod, CLUSTER_LABEL)


def read(api: Reads, release: str, now: datetime) -> Release:
    """Read a release. What this account may not read is told in ``unread``. Raises `UnreachableError`."""
    reader, namespace = Reader(api), api.namespace
    ours = {"labelSelector": f"{RELEASE_LABEL}={release}"}
    crd = reader.one(names.RAY) is not None
    ray_service = next(iter(reader.all(names.ray_services(namespace), **ours) or ()), None)
    found = reader.all(names.ray_clusters(namespace)) or ()
    own = name(ray_service or {})
    ray_clusters = tuple(each for each in found if own and label(each, ORIGIN_LABEL) == own)
    clusters = {name(each) for each in ray_clusters}
    pods = tuple(
        pod
        for pod in reader.all(names.core(namespace, "pods")) or ()
        if cluster(pod) in clusters or (not cluster(pod) and label(pod, RELEASE_LABEL) == release)
    )
    nodes = reader.all("/api/v1/nodes") or ()
    return Release(
        release=release,
        namespace=namespace,
        now=now,
        crd=crd,
        operator=_operator(reader) if _behind(ray_service) else None,
        ray_service=ray_service,
        ray_clusters=ray_clusters,
        pods=pods,
        events=reader.all(names.core(namespace, "events")) or (),
        deployments=reader.all(names.apps(namespace, "deployments"), **ours) or (),
        stateful_sets=reader.all(names.apps(namespace, "statefulsets"), **ours) or (),
        jobs=reader.all(names.jobs(namespace), **ours) or (),
        claims=reader.all(names.core(namespace, "persistentvolumeclaims"), **ours) or (),
        gpus={name(node): label(node, PRODUCT_LABEL) for node in nodes if label(node, PRODUCT_LABEL)},
        cordoned=frozenset(name(node) for node in nodes if at(node, "spec", "unschedulable")),
        prefetch_log=_prefetch_log(reader, pods),
        unread=tuple(reader.unread),
    )


def _behind(ray_service: Object | None) -> bool:
    """Whether no operator has seen the RayService's present spec."""
    wanted = at(ray_service, "metadata", "generation")
    return ray_service is not None and at(ray_service, "status", "observedGeneration") != wanted


def _operator(reader: Reader) -> bool | None:
    """Return whether an operator is available in some namespace; None: this account may not look."""
    found = reader.all("/apis/apps/v1/deployments")
    return None if found is None else any(is_operator(each) and is_true(each, "Available") for each in found)


def _prefetch_log(reader: Reader, pods: Iterable[Object]) -> str:
    """Return the last lines of the prefetch Job's newest pod."""
    own = [pod for pod in pods if label(pod, COMPONENT_LABEL) == "prefetch"]
    newest = max(own, key=lambda pod: str(at(pod, "metadata", "creationTimestamp")), default=None)
    if newest is None or at(newest, "status", "phase") == "Pending":
        return ""
    path = names.core(reader.namespace, "pods", name(newest)) + "/log"
    return reader.text(path, tailLines=str(PREFETCH_LINES))
