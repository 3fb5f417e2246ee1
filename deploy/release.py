"""One release of the chart as the API tells of it, at one moment: what ``status`` and ``drain`` decide on."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeVar

from deploy import names
from deploy.api import ApiError, MissingError, Object, UnreachableError
from deploy.names import (
    CLUSTER_LABEL,
    COMPONENT_LABEL,
    GROUP_LABEL,
    NODE_TYPE_LABEL,
    OPERATOR,
    ORIGIN_LABEL,
    PRODUCT_LABEL,
    RELEASE_LABEL,
)
from deploy.objects import at, is_true, label, name

PREFETCH_LINES = 5
Answer = TypeVar("Answer")


class Reads(Protocol):
    """What reading takes of a Kubernetes API, such as `deploy.api.Api`. All of it raises `ApiError`."""

    @property
    def namespace(self) -> str:
        """The namespace that is read."""

    def get(self, path: str) -> Object:
        """Return the object at ``path``."""

    def find(self, path: str) -> Object | None:
        """Return it, None where there is none."""

    def all(self, path: str, **query: str) -> list[Object]:
        """Return a collection's objects."""

    def text(self, path: str, **query: str) -> str:
        """Return the text at ``path``."""


@dataclass(frozen=True, slots=True)
class Release:
    """All that was read of a release."""

    release: str
    namespace: str
    now: datetime
    crd: bool = True
    """Whether the API knows RayServices."""
    operator: bool | None = None
    """Whether a KubeRay operator is available; None: this account may not look."""
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
    prefetch_log: str = ""
    """Last lines of the prefetch Job's pod."""
    unread: tuple[str, ...] = ()
    """What could not be read, and why."""

    @property
    def fullname(self) -> str:
        """What the chart calls the release's objects."""
        return names.fullname(self.release)

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
    fullname, namespace = names.fullname(release), api.namespace
    reader = Reader(api)
    crd = reader.served(names.RAY)
    ray_clusters = reader.all(names.ray_clusters(namespace)) if crd else ()
    mine = tuple(each for each in ray_clusters if label(each, ORIGIN_LABEL) == fullname)
    clusters = {name(each) for each in mine}
    pods = tuple(
        pod
        for pod in reader.all(names.core(namespace, "pods"))
        if cluster(pod) in clusters or (not cluster(pod) and label(pod, RELEASE_LABEL) == release)
    )
    ours = {"labelSelector": f"{RELEASE_LABEL}={release}"}
    return Release(
        release=release,
        namespace=namespace,
        now=now,
        crd=crd,
        operator=reader.operator(),
        ray_service=reader.one(names.ray_services(namespace, fullname)) if crd else None,
        ray_clusters=mine,
        pods=pods,
        events=reader.all(names.core(namespace, "events")),
        deployments=reader.all(names.apps(namespace, "deployments"), **ours),
        stateful_sets=reader.all(names.apps(namespace, "statefulsets"), **ours),
        jobs=reader.all(names.jobs(namespace), **ours),
        claims=reader.all(names.core(namespace, "persistentvolumeclaims"), **ours),
        gpus=reader.gpus(),
        prefetch_log=reader.prefetch_log(pods),
        unread=tuple(reader.unread),
    )


class Reader:
    """Reads what this account may, and remembers what it may not."""

    def __init__(self, api: Reads) -> None:
        self._api = api
        self.unread: list[str] = []

    def all(self, path: str, **query: str) -> tuple[Object, ...]:
        """Return a collection, empty where there is none or it may not be read."""
        return self._allowed(lambda: tuple(self._api.all(path, **query))) or ()

    def one(self, path: str) -> Object | None:
        """Return an object, None where there is none or it may not be read."""
        return self._allowed(lambda: self._api.get(path))

    def served(self, group: str) -> bool:
        """Whether the API serves a group's version, such as ``/apis/ray.io/v1``."""
        return self._api.find(group) is not None

    def operator(self) -> bool | None:
        """Whether a KubeRay operator is available in some namespace; None: this account may not look."""
        found = self._allowed(lambda: self._api.all("/apis/apps/v1/deployments", labelSelector=OPERATOR))
        return None if found is None else any(is_true(each, "Available") for each in found)

    def gpus(self) -> dict[str, str]:
        """Return the GPU product of each node that has one."""
        nodes = self.all("/api/v1/nodes")
        return {name(node): label(node, PRODUCT_LABEL) for node in nodes if label(node, PRODUCT_LABEL)}

    def prefetch_log(self, pods: Iterable[Object]) -> str:
        """Return the last lines of the prefetch Job's newest pod."""
        own = [pod for pod in pods if label(pod, COMPONENT_LABEL) == "prefetch"]
        newest = max(own, key=lambda pod: str(at(pod, "metadata", "creationTimestamp")), default=None)
        if newest is None or at(newest, "status", "phase") == "Pending":
            return ""
        path = names.core(self._api.namespace, "pods", name(newest)) + "/log"
        return self._allowed(lambda: self._api.text(path, tailLines=str(PREFETCH_LINES))) or ""

    def _allowed(self, ask: Callable[[], Answer]) -> Answer | None:
        try:
            return ask()
        except MissingError:
            return None
        except UnreachableError:
            raise
        except ApiError as error:
            self.unread.append(str(error))
            return None
