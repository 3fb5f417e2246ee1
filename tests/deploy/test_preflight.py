"""What preflight finds, decided from what was read."""

from dataclasses import replace
from typing import Any

import pytest

from deploy import gpus, preflight
from deploy.api import Object
from deploy.gpus import Stock
from deploy.preflight import Finding
from deploy.site import RAY_SERVICE, Site
from deploy.trial import Refusal, Resource
from deploy.wishes import Wishes, parse
from tests.deploy.test_wishes import MANIFESTS

H100 = "NVIDIA-H100-80GB-HBM3"
GPU_TAINT = {"key": "nvidia.com/gpu", "effect": "NoSchedule", "value": "present"}


def operator(tag: str = "v1.7.1", available: str = "True", *args: str) -> Object:
    """Return an operator's Deployment."""
    container = {"image": f"registry.example.com/kuberay/operator:{tag}", "args": list(args)}
    return {
        "metadata": {
            "name": "kuberay-operator",
            "namespace": "kuberay",
            "labels": {"app.kubernetes.io/name": "kuberay-operator"},
        },
        "spec": {"template": {"spec": {"containers": [container]}}},
        "status": {"conditions": [{"type": "Available", "status": available}]},
    }


def node(name: str, gpus: int, product: str = H100, **more: Any) -> Object:
    """Return a node with GPUs, tainted as GPU nodes usually are."""
    return {
        "metadata": {"name": name, "labels": {"nvidia.com/gpu.product": product}},
        "spec": {"taints": [GPU_TAINT], **more},
        "status": {
            "allocatable": {"nvidia.com/gpu": str(gpus), "cpu": "64", "memory": "512Gi"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def holder(on: str, gpus: int, **labels: str) -> Object:
    """Return a pod that holds GPUs of a node."""
    container = {"resources": {"limits": {"nvidia.com/gpu": gpus}}}
    return {"metadata": {"labels": labels}, "spec": {"nodeName": on, "containers": [container]}}


PREPARED = MANIFESTS.replace(
    "            runtimeClassName: nvidia\n",
    f"""            runtimeClassName: nvidia
            nodeSelector: {{nvidia.com/gpu.product: {H100}}}
            tolerations: [{{key: nvidia.com/gpu, operator: Exists}}]
""",
)
WISHES = parse(PREPARED)
SITE = Site(
    namespace="ai",
    version="v1.33.2",
    resources={kind: Resource("x", True) for kind in [*WISHES.kinds, RAY_SERVICE]},
    ray_service_fields=frozenset({"suspend", "serveConfigV2"}),
    operators=(operator(),),
    nodes=(node("gpu-1", 4),),
    storage_classes={"nfs": False},
    classes={
        "RuntimeClass": frozenset({"nvidia"}),
        "PriorityClass": frozenset({"high"}),
        "IngressClass": frozenset({"nginx"}),
    },
    labels={"pod-security.kubernetes.io/enforce": "restricted"},
    claims={"of-the-site": "Bound"},
    secrets={secret: frozenset(keys) for secret, keys in WISHES.secrets.items()},
)


def found(wishes: Wishes = WISHES, **changed: Any) -> list[Finding]:
    """Return what is found of a good site with something changed."""
    return list(preflight.decide(replace(SITE, **changed), wishes))


def test_a_good_site_has_no_finding() -> None:
    """Where all is there, nothing is found."""
    assert found() == []


def without(*kinds: tuple[str, str]) -> dict[tuple[str, str], Resource]:
    """Return the kinds that the good site serves, less some."""
    return {kind: where for kind, where in SITE.resources.items() if kind not in kinds}


TABLE: list[Any] = [
    ({"version": "v1.27.3"}, "error", "kubernetes-old", "v1.27.3"),
    ({"resources": without(RAY_SERVICE)}, "error", "crd-missing", "RayService of ray.io/v1"),
    ({"resources": without(("apps/v1", "Deployment"))}, "error", "kind-unserved", "Deployment of apps/v1"),
    ({"operators": ()}, "error", "operator-missing", "no KubeRay operator"),
    ({"operators": (operator("v1.6.2"),)}, "error", "operator-old", "1.6"),
    ({"operators": (operator("v1.7.0", "False"),)}, "error", "operator-down", "not available"),
    (
        {"operators": (operator("v1.7.1", "True", "--watch-namespace", "a,b"),)},
        "error",
        "operator-elsewhere",
        "does not watch namespace ai",
    ),
    ({"ray_service_fields": frozenset({"serveConfigV2"})}, "error", "crd-old", "older than KubeRay 1.7"),
    ({"exists": False}, "warning", "namespace-missing", "no namespace ai"),
    ({"labels": {}}, "warning", "pod-security-unset", "enforces no Pod Security level"),
    ({"nodes": (node("gpu-1", 3),)}, "error", "gpu-missing", f"room for 3. GPUs here: 3 x {H100}"),
    ({"nodes": (node("a", 8, "NVIDIA-L4"),)}, "error", "gpu-missing", "GPUs here: 8 x NVIDIA-L4"),
    ({"nodes": (node("a", 4, unschedulable=True),)}, "error", "gpu-missing", "room for 0"),
    (
        {"nodes": (node("a", 4, taints=[{"key": "x", "effect": "NoSchedule"}]),)},
        "error",
        "gpu-missing",
        "for 0",
    ),
    ({"pods": (holder("gpu-1", 1),)}, "warning", "gpu-taken", "3 of them fit what is free now"),
    ({"claims": {"of-the-site": None}}, "error", "claim-missing", "PVC of-the-site is not there"),
    ({"claims": {"of-the-site": "Lost"}}, "error", "claim-lost", "has lost its volume"),
    ({"storage_classes": {"ceph": True}}, "error", "storage-class-missing", "no storage class nfs"),
    ({"secrets": {**SITE.secrets, "tls": None}}, "error", "secret-missing", "Secret tls is not there"),
    (
        {"secrets": {**SITE.secrets, "site": frozenset({"pepper"})}},
        "error",
        "secret-key-missing",
        "Secret site has no engine-key",
    ),
    ({"classes": {**SITE.classes, "RuntimeClass": frozenset({"runc"})}}, "error", "class-missing", "nvidia"),
    ({"denied": ("create secrets in ai",)}, "error", "right-missing", "may not create secrets in ai"),
    ({"refusals": (Refusal("Ingress x", "bad host"),)}, "error", "refused", "refuses Ingress x: bad host"),
    (
        {"refusals": (Refusal("a pod of x", 'pods "y" is forbidden: violates PodSecurity "restricted"'),)},
        "error",
        "pod-security",
        "violates PodSecurity",
    ),
    ({"unread": ("GET /api/v1/nodes: forbidden",), "nodes": None}, "unknown", "unread", "/api/v1/nodes"),
]


@pytest.mark.parametrize(
    ("changed", "level", "code", "words"), [pytest.param(*row, id=f"{row[2]} {row[3][:12]}") for row in TABLE]
)
def test_what_is_wrong_is_one_finding(changed: dict[str, Any], level: str, code: str, words: str) -> None:
    """Each thing that is wrong is one finding, with a mend, and nothing else is found."""
    (finding,) = found(**changed)
    assert (finding.level, finding.code) == (level, code)
    assert words in finding.what
    assert finding.mend


def test_an_operator_that_watches_here_among_others() -> None:
    """Both forms of its argument are read, and no argument means all namespaces."""
    for args in (["--watch-namespace", "other,ai"], ["--watch-namespace=ai"], []):
        assert found(operators=(operator("v1.7.1", "True", *args),)) == []


def test_the_release_itself_takes_no_gpu() -> None:
    """What the same RayService holds now is free for its successor."""
    own = holder("gpu-1", 4, **{"ray.io/cluster": "ray-x7k2p"})
    assert found(pods=(own,)) == []
    other = holder("gpu-1", 4, **{"ray.io/cluster": "rays-x7k2p"})
    assert [each.code for each in found(pods=(other,))] == ["gpu-taken"]


def test_the_stock_of_gpus() -> None:
    """GPUs are counted by product, less those that pods hold on these nodes."""
    nodes = [node("a", 8), node("b", 8), node("c", 4, "NVIDIA-L4"), node("d", 0)]
    held = [holder("a", 3), holder("c", 1), holder("elsewhere", 2)]
    assert gpus.stock(nodes, held) == [Stock(H100, 16, 13), Stock("NVIDIA-L4", 4, 3)]


VERSIONS = [
    ("registry.example.com:5000/kuberay/operator:v1.7.1", ["v1.7.1"]),
    ("registry.example.com/kuberay/operator:v1.7.1@sha256:" + "a" * 64, ["v1.7.1"]),
    ("registry.example.com:5000/kuberay/operator@sha256:" + "1" * 64, [""]),
]


@pytest.mark.parametrize(("image", "versions"), VERSIONS, ids=["tag", "tag and digest", "digest"])
def test_the_version_of_an_operator(image: str, versions: list[str]) -> None:
    """A tag names the version, whatever the registry's port; a digest alone does not, and is no finding."""
    named = operator()
    named["spec"]["template"]["spec"]["containers"][0]["image"] = image
    assert preflight.operator_versions(replace(SITE, operators=(named,))) == versions
    assert found(operators=(named,)) == []


def test_groups_share_the_gpus() -> None:
    """Two groups of one product take from the same nodes, one after the other."""
    group = PREPARED[PREPARED.index("      - groupName") : PREPARED.index("---\napiVersion: networking")]
    wishes = parse(PREPARED.replace(group, group + group.replace("h100", "more")))
    short = [each for each in found(wishes) if each.code == "gpu-missing"]
    assert ["group more" in each.what and "room for 0" in each.what for each in short] == [True]


def test_a_node_must_be_large_enough() -> None:
    """A node with the GPUs and without the memory that a worker asks for takes none."""
    wishes = parse(
        PREPARED.replace("limits: {nvidia.com/gpu: 1}", "limits: {nvidia.com/gpu: 1, memory: 1Ti}")
    )
    assert [each.code for each in found(wishes)] == ["gpu-missing"]
    small = parse(
        PREPARED.replace("limits: {nvidia.com/gpu: 1}", "limits: {nvidia.com/gpu: 1, memory: 64Gi}")
    )
    assert found(small) == []


def test_errors_come_first() -> None:
    """Errors stand before warnings, and these before what could not be looked at."""
    levels = [each.level for each in found(labels={}, unread=("x",), denied=("y",))]
    assert levels == ["error", "warning", "unknown"]


def test_without_manifests_the_cluster_alone_is_checked() -> None:
    """With no wishes, a missing CRD or operator is still found."""
    assert found(Wishes()) == []
    assert [each.code for each in found(Wishes(), resources={})] == ["crd-missing"]
