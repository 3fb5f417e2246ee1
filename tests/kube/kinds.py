"""The kinds that the API knows, and how it tells of them: discovery in both forms, and a stub of OpenAPI."""

from collections.abc import Iterable
from dataclasses import dataclass

from tests.kube.status import Object

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True)
class Kind:
    """One kind of object in the one version that is served."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    subresources: tuple[str, ...] = ()
    verbs: tuple[str, ...] = VERBS
    short: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        """As objects name it: ``apps/v1``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """As messages name it: ``deployments.apps``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def full_kind(self) -> str:
        """As refusals name it: ``Deployment.apps``."""
        return f"{self.kind}.{self.group}" if self.group else self.kind

    @property
    def custom(self) -> bool:
        """Whether a CustomResourceDefinition made it."""
        return self.group in CUSTOM_GROUPS


CUSTOM_GROUPS = ("ray.io", "monitoring.coreos.com", "cert-manager.io", "gateway.networking.k8s.io")
_STATUS = ("status",)
_SCALED = ("status", "scale")
_REVIEW = ("create",)

KINDS = (
    Kind("", "v1", "namespaces", "Namespace", namespaced=False, subresources=_STATUS, short=("ns",)),
    Kind("", "v1", "nodes", "Node", namespaced=False, subresources=_STATUS, short=("no",)),
    Kind("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False, short=("pv",)),
    Kind("", "v1", "pods", "Pod", subresources=("status", "log", "eviction"), short=("po",)),
    Kind("", "v1", "services", "Service", subresources=_STATUS, short=("svc",)),
    Kind("", "v1", "configmaps", "ConfigMap", short=("cm",)),
    Kind("", "v1", "secrets", "Secret"),
    Kind("", "v1", "serviceaccounts", "ServiceAccount", short=("sa",)),
    Kind("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", subresources=_STATUS, short=("pvc",)),
    Kind("", "v1", "events", "Event", short=("ev",)),
    Kind("", "v1", "endpoints", "Endpoints", short=("ep",)),
    Kind("", "v1", "resourcequotas", "ResourceQuota", subresources=_STATUS, short=("quota",)),
    Kind("", "v1", "limitranges", "LimitRange", short=("limits",)),
    Kind("", "v1", "replicationcontrollers", "ReplicationController", subresources=_SCALED, short=("rc",)),
    Kind("apps", "v1", "deployments", "Deployment", subresources=_SCALED, short=("deploy",)),
    Kind("apps", "v1", "statefulsets", "StatefulSet", subresources=_SCALED, short=("sts",)),
    Kind("apps", "v1", "daemonsets", "DaemonSet", subresources=_STATUS, short=("ds",)),
    Kind("apps", "v1", "replicasets", "ReplicaSet", subresources=_SCALED, short=("rs",)),
    Kind("batch", "v1", "jobs", "Job", subresources=_STATUS),
    Kind("batch", "v1", "cronjobs", "CronJob", subresources=_STATUS, short=("cj",)),
    Kind(
        "autoscaling",
        "v2",
        "horizontalpodautoscalers",
        "HorizontalPodAutoscaler",
        subresources=_STATUS,
        short=("hpa",),
    ),
    Kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", subresources=_STATUS, short=("pdb",)),
    Kind("networking.k8s.io", "v1", "ingresses", "Ingress", subresources=_STATUS, short=("ing",)),
    Kind("networking.k8s.io", "v1", "ingressclasses", "IngressClass", namespaced=False),
    Kind("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", short=("netpol",)),
    Kind("rbac.authorization.k8s.io", "v1", "roles", "Role"),
    Kind("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding"),
    Kind("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False),
    Kind("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False),
    Kind("storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False, short=("sc",)),
    Kind("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", namespaced=False, short=("pc",)),
    Kind("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", namespaced=False),
    Kind("coordination.k8s.io", "v1", "leases", "Lease"),
    Kind("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
    Kind(
        "apiextensions.k8s.io",
        "v1",
        "customresourcedefinitions",
        "CustomResourceDefinition",
        namespaced=False,
        subresources=_STATUS,
        short=("crd", "crds"),
    ),
    Kind(
        "authorization.k8s.io",
        "v1",
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
        namespaced=False,
        verbs=_REVIEW,
    ),
    Kind("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", False, verbs=_REVIEW),
    Kind("ray.io", "v1", "rayclusters", "RayCluster", subresources=_STATUS),
    Kind("ray.io", "v1", "rayservices", "RayService", subresources=_STATUS),
    Kind("monitoring.coreos.com", "v1", "servicemonitors", "ServiceMonitor", short=("smon",)),
    Kind("monitoring.coreos.com", "v1", "podmonitors", "PodMonitor", short=("pmon",)),
    Kind("monitoring.coreos.com", "v1", "prometheusrules", "PrometheusRule", short=("promrule",)),
    Kind("cert-manager.io", "v1", "certificates", "Certificate", subresources=_STATUS, short=("cert",)),
    Kind("cert-manager.io", "v1", "issuers", "Issuer", subresources=_STATUS),
    Kind("cert-manager.io", "v1", "clusterissuers", "ClusterIssuer", namespaced=False, subresources=_STATUS),
    Kind("gateway.networking.k8s.io", "v1", "gateways", "Gateway", subresources=_STATUS, short=("gtw",)),
    Kind("gateway.networking.k8s.io", "v1", "gatewayclasses", "GatewayClass", False, subresources=_STATUS),
    Kind("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute", subresources=_STATUS),
)


class Catalog:
    """What one API serves."""

    def __init__(self, kinds: Iterable[Kind] = KINDS) -> None:
        self.kinds = tuple(kinds)
        self._by_plural = {(kind.group, kind.version, kind.plural): kind for kind in self.kinds}
        self._by_name = {(kind.api_version, kind.kind): kind for kind in self.kinds}

    def at(self, group: str, version: str, plural: str) -> Kind | None:
        """Return the kind of a path."""
        return self._by_plural.get((group, version, plural))

    def named(self, api_version: str, kind: str) -> Kind | None:
        """Return the kind that an object says to be."""
        return self._by_name.get((api_version, kind))

    @property
    def groups(self) -> dict[str, str]:
        """Each group but the core one, with its version."""
        return {kind.group: kind.version for kind in self.kinds if kind.group}

    def group_list(self) -> Object:
        """``/apis``, plain."""
        groups = [_group(group, version) for group, version in self.groups.items()]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}

    def group(self, name: str) -> Object | None:
        """``/apis/{group}``."""
        version = self.groups.get(name)
        return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, version)} if version else None

    def resource_list(self, group: str, version: str) -> Object | None:
        """``/api/v1`` and ``/apis/{group}/{version}``."""
        kinds = [kind for kind in self.kinds if (kind.group, kind.version) == (group, version)]
        if not kinds:
            return None
        resources = [entry for kind in kinds for entry in _plain(kind)]
        name = kinds[0].api_version
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": resources}

    def aggregated(self, *, core: bool) -> Object:
        """Return ``/api`` or ``/apis`` in one document, as clients since 1.27 ask for."""
        groups = {"": "v1"} if core else self.groups
        items = [
            {
                "metadata": {"name": group, "creationTimestamp": None},
                "versions": [
                    {
                        "version": version,
                        "freshness": "Current",
                        "resources": [_aggregated(kind) for kind in self.kinds if kind.group == group],
                    }
                ],
            }
            for group, version in groups.items()
        ]
        return {
            "kind": "APIGroupDiscoveryList",
            "apiVersion": "apidiscovery.k8s.io/v2",
            "metadata": {},
            "items": items,
        }

    def openapi_index(self) -> Object:
        """``/openapi/v3``: where each group's document is."""
        names = ["api/v1", *(f"apis/{group}/{version}" for group, version in self.groups.items())]
        return {"paths": {name: {"serverRelativeURL": f"/openapi/v3/{name}?hash=1"} for name in names}}

    def openapi(self, group: str, version: str) -> Object:
        """``/openapi/v3/…``: no schemas, only that each kind's patch knows ``fieldValidation``."""
        paths: Object = {}
        for kind in self.kinds:
            if (kind.group, kind.version) != (group, version):
                continue
            base = f"/apis/{kind.api_version}" if kind.group else "/api/v1"
            place = "/namespaces/{namespace}" if kind.namespaced else ""
            known = [{"name": name, "in": "query"} for name in ("dryRun", "fieldManager", "fieldValidation")]
            action = {
                "parameters": known,
                "x-kubernetes-group-version-kind": {
                    "group": kind.group,
                    "version": kind.version,
                    "kind": kind.kind,
                },
                "responses": {},
            }
            paths[f"{base}{place}/{kind.plural}/{{name}}"] = {"patch": action}
        about = {"title": "Kubernetes", "version": "unversioned"}
        return {"openapi": "3.0.0", "info": about, "paths": paths, "components": {"schemas": {}}}


def _group(group: str, version: str) -> Object:
    entry = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [entry], "preferredVersion": entry}


def _plain(kind: Kind) -> Iterable[Object]:
    yield {
        "name": kind.plural,
        "singularName": kind.kind.lower(),
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": list(kind.verbs),
        **({"shortNames": list(kind.short)} if kind.short else {}),
    }
    for name in kind.subresources:
        yield {
            "name": f"{kind.plural}/{name}",
            "singularName": "",
            "namespaced": kind.namespaced,
            **_subresource(kind, name),
        }


def _subresource(kind: Kind, name: str) -> Object:
    if name == "scale":
        told = {"group": "autoscaling", "version": "v1", "kind": "Scale"}
        return {**told, "verbs": ["get", "patch", "update"]}
    if name == "eviction":
        return {"group": "policy", "version": "v1", "kind": "Eviction", "verbs": ["create"]}
    if name == "log":
        return {"kind": kind.kind, "verbs": ["get"]}
    return {"kind": kind.kind, "verbs": ["get", "patch", "update"]}


def _aggregated(kind: Kind) -> Object:
    def response(group: str, version: str, name: str) -> Object:
        return {"group": group, "version": version, "kind": name}

    subresources = []
    for name in kind.subresources:
        told = _subresource(kind, name)
        where = response(told.get("group", kind.group), told.get("version", kind.version), told["kind"])
        subresources.append({"subresource": name, "responseKind": where, "verbs": told["verbs"]})
    return {
        "resource": kind.plural,
        "responseKind": response(kind.group, kind.version, kind.kind),
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.kind.lower(),
        "verbs": list(kind.verbs),
        **({"shortNames": list(kind.short)} if kind.short else {}),
        **({"subresources": subresources} if subresources else {}),
    }
