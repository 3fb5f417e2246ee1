"""What the chart calls its objects, and where the API keeps each kind."""

CHART = "gpt-oss-cluster"

RAY = "/apis/ray.io/v1"
RELEASE_LABEL, COMPONENT_LABEL = "app.kubernetes.io/instance", "app.kubernetes.io/component"
ORIGIN_LABEL = "ray.io/originated-from-cr-name"
"""KubeRay's label on a RayCluster that names its RayService."""
CLUSTER_LABEL, GROUP_LABEL, NODE_TYPE_LABEL = "ray.io/cluster", "ray.io/group", "ray.io/node-type"
GPU = "nvidia.com/gpu"
PRODUCT_LABEL = "nvidia.com/gpu.product"


def fullname(release: str) -> str:
    """Return the name that the chart gives a release's objects, unless its values say another."""
    return release if CHART in release else f"{release}-{CHART}"


def ray_services(namespace: str, name: str = "") -> str:
    """Return the path of RayServices, or of one."""
    return _path(f"{RAY}/namespaces/{namespace}/rayservices", name)


def ray_clusters(namespace: str, name: str = "") -> str:
    """Return the path of RayClusters, or of one."""
    return _path(f"{RAY}/namespaces/{namespace}/rayclusters", name)


def core(namespace: str, kind: str, name: str = "") -> str:
    """Return the path of a core kind's objects in a namespace, or of one."""
    return _path(f"/api/v1/namespaces/{namespace}/{kind}", name)


def apps(namespace: str, kind: str, name: str = "") -> str:
    """Return the path of Deployments or StatefulSets, or of one."""
    return _path(f"/apis/apps/v1/namespaces/{namespace}/{kind}", name)


def jobs(namespace: str, name: str = "") -> str:
    """Return the path of Jobs, or of one."""
    return _path(f"/apis/batch/v1/namespaces/{namespace}/jobs", name)


def namespace(name: str) -> str:
    """Return the path of a namespace itself."""
    return f"/api/v1/namespaces/{name}"


def group(version: str) -> str:
    """Return where an ``apiVersion`` lists its kinds."""
    return f"/apis/{version}" if "/" in version else f"/api/{version}"


def path(version: str, plural: str, namespace: str) -> str:
    """Return the path of a kind's objects; ``namespace`` is empty for kinds without one."""
    return f"{group(version)}/namespaces/{namespace}/{plural}" if namespace else f"{group(version)}/{plural}"


def _path(collection: str, name: str) -> str:
    return f"{collection}/{name}" if name else collection
