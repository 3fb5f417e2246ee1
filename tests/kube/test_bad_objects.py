"""What a real API server would not take, the one for tests does not take either."""

from typing import Any

import pytest

from tests.kube.api import KubernetesApi
from tests.kube.good_objects import KINDS, good
from tests.kube.objects import Write
from tests.kube.status import ApiError, Object

WRITE, DRY = Write("test"), Write("test", dry_run=True)
POD = "spec/template/spec"
CONTAINER = f"{POD}/containers/0"
RAY = "spec/rayClusterConfig"

BAD = [
    pytest.param(
        "Deployment", (f"{CONTAINER}/imagePulPolicy", "Never"), 400, "unknown field", id="misspelt-field"
    ),
    pytest.param("Deployment", ("spec/replicas", "two"), 400, "spec.replicas", id="wrong-type"),
    pytest.param(
        "Deployment", ("spec/selector", {"matchLabels": {"app": "x"}}), 422, "selector", id="selector"
    ),
    pytest.param("Deployment", (f"{POD}/containers", []), 422, "containers: Required", id="no-containers"),
    pytest.param(
        "Deployment", (f"{CONTAINER}/name", "Main_1"), 422, "containers[0].name", id="container-name"
    ),
    pytest.param("Deployment", (f"{CONTAINER}/volumeMounts/0/name", "x"), 422, "Not found", id="no-volume"),
    pytest.param("Deployment", (f"{CONTAINER}/ports/0/containerPort", 0), 422, "65535", id="port-0"),
    pytest.param("Deployment", (f"{CONTAINER}/ports/0/name", "a" * 16), 422, "15 characters", id="port-name"),
    pytest.param(
        "Deployment", (f"{CONTAINER}/readinessProbe", {}), 422, "handler type", id="probe-without-handler"
    ),
    pytest.param(
        "Deployment",
        (f"{CONTAINER}/resources/requests/memory", "2Gi"),
        422,
        "memory limit",
        id="request-above-limit",
    ),
    pytest.param(
        "Deployment", (f"{CONTAINER}/resources/limits/memory", "1 GB"), 422, "quantities", id="no-quantity"
    ),
    pytest.param(
        "Deployment",
        (f"{CONTAINER}/resources", {"requests": {"nvidia.com/gpu": 1}}),
        422,
        "nvidia.com/gpu limit",
        id="gpu-without-limit",
    ),
    pytest.param("Deployment", ("metadata/labels/app", "a" * 64), 422, "63", id="long-label"),
    pytest.param("Deployment", ("metadata/name", "Web"), 422, "metadata.name", id="capitals"),
    pytest.param("Job", (f"{POD}/restartPolicy", "Always"), 422, "restartPolicy", id="job-always"),
    pytest.param(
        "Pod", ("spec/volumes/0/secret", {"secretName": "x"}), 422, "more than 1 volume", id="two-volumes"
    ),
    pytest.param("Secret", ("data/a", "plain text"), 400, "illegal base64", id="not-base64"),
    pytest.param("Secret", ("data/a b", "MQ=="), 422, "a valid config key", id="entry-with-space"),
    pytest.param("ConfigMap", ("data/a", 1), 400, "data.a", id="number-in-config"),
    pytest.param("ConfigMap", ("data/a", "x" * 1_048_577), 422, "may not be more than", id="too-big"),
    pytest.param("Service", ("metadata/name", "1web"), 422, "metadata.name", id="service-name"),
    pytest.param(
        "Service", ("spec/ports", [{"port": 1}, {"port": 2}]), 422, "ports[0].name", id="unnamed-ports"
    ),
    pytest.param("HorizontalPodAutoscaler", ("spec/minReplicas", 5), 422, "maxReplicas", id="min-above-max"),
    pytest.param("PodDisruptionBudget", ("spec/minAvailable", 1), 422, "both set", id="both-bounds"),
    pytest.param(
        "NetworkPolicy", ("spec/ingress/0/from/0/ipBlock/cidr", "10.0.0.0/33"), 422, "CIDR", id="no-cidr"
    ),
    pytest.param(
        "Ingress", ("spec/rules/0/http/paths/0/pathType", "Suffix"), 422, "pathType", id="unknown-path-type"
    ),
    pytest.param("PersistentVolumeClaim", ("spec/accessModes", []), 422, "accessModes", id="no-access-mode"),
    pytest.param("Role", ("rules/0/verbs", []), 422, "verbs", id="no-verbs"),
    pytest.param(
        "RayService", (f"{RAY}/workerGroupSpecs/0/maxReplica", 1), 400, "maxReplica", id="ray-misspelt-field"
    ),
    pytest.param("RayService", (f"{RAY}/authOptions", {"mode": "basic"}), 422, "mode", id="ray-auth-mode"),
    pytest.param(
        "RayService",
        (f"{RAY}/headGroupSpec", {"rayStartParams": {}}),
        422,
        "template: Required",
        id="ray-no-template",
    ),
    pytest.param(
        "RayService",
        (f"{RAY}/headGroupSpec/template/spec/containers/0/volumeMounts", [{"name": "x", "mountPath": "/x"}]),
        422,
        "headGroupSpec.template.spec.containers[0].volumeMounts[0].name: Not found",
        id="ray-no-volume",
    ),
    pytest.param("RayService", ("spec/managedBy", "me"), 422, "managedBy field value", id="ray-rule"),
]


@pytest.fixture(scope="module")
def api() -> KubernetesApi:
    """Return an API that nobody needs to reach, and that stores nothing in these tests."""
    return KubernetesApi()


def create(api: KubernetesApi, body: Object, write: Write = DRY) -> Object:
    """Create an object in the default namespace."""
    return api.objects.create(api.kind(body["kind"]), "default", body, write)


@pytest.mark.parametrize("kind", KINDS)
def test_good_objects_are_taken(api: KubernetesApi, kind: str) -> None:
    """Each object that the rows below spoil is good before."""
    assert create(api, good(kind))["metadata"]["uid"]


@pytest.mark.parametrize(("kind", "change", "code", "words"), BAD)
def test_bad_objects_are_refused(
    api: KubernetesApi, kind: str, change: tuple[str, Any], code: int, words: str
) -> None:
    """One mistake is enough: 400 for what cannot be read, 422 for what breaks a rule; the field is named."""
    with pytest.raises(ApiError) as told:
        create(api, good(kind, change))
    assert told.value.code == code, told.value
    assert words in str(told.value)


FIXED = [
    pytest.param("Deployment", ("spec/selector", {"matchLabels": {"app": "other"}}), id="selector"),
    pytest.param("Job", (f"{CONTAINER}/image", "other:1"), id="job-template"),
    pytest.param("PersistentVolumeClaim", ("spec/accessModes", ["ReadWriteOnce"]), id="access-modes"),
    pytest.param("Secret", ("type", "kubernetes.io/tls"), id="secret-type"),
]


@pytest.mark.parametrize(("kind", "change"), FIXED)
def test_what_may_not_change_does_not(kind: str, change: tuple[str, Any]) -> None:
    """Fields that are fixed once an object exists refuse another value."""
    api = KubernetesApi()
    create(api, body := good(kind), WRITE)
    changed = good(kind, change)
    if change[0] == "spec/selector":
        changed["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    with pytest.raises(ApiError, match="immutable") as told:
        api.objects.replace(api.kind(kind), "default", body["metadata"]["name"], changed, WRITE)
    assert told.value.code == 422


def test_an_object_needs_its_namespace(api: KubernetesApi) -> None:
    """Nothing is made in a namespace that does not exist."""
    with pytest.raises(ApiError, match='namespaces "nowhere" not found'):
        api.objects.create(api.kind("Secret"), "nowhere", good("Secret"), WRITE)


def test_a_variable_twice_is_refused_by_apply(api: KubernetesApi) -> None:
    """Server-side apply, by which Helm 4 installs, takes no list that has a key twice; a plain write does."""
    twice = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
    body = good("Deployment", (f"{CONTAINER}/env", twice), ("metadata/name", "twice"))
    with pytest.raises(ApiError, match="duplicate entries for key"):
        api.objects.apply(api.kind("Deployment"), "default", "twice", body, DRY, force=False)
    assert create(api, body)
