"""Every pod that the chart describes, those inside the RayService too: locked down, offline, fixed images."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.helm.rendering import Rendered, render, value_files
from tests.helm_tools import Tool

Object = dict[str, Any]
OFFLINE = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
}
VOLUMES = {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}
"""Kinds of volume that the chart uses, all of which Pod Security `restricted` allows."""


@pytest.fixture(params=[None, *value_files()], ids=lambda path: path.stem if path else "defaults")
def rendered(helm: Tool, request: pytest.FixtureRequest) -> Rendered:
    """Render the defaults, and each file of values."""
    return render(helm, None, *([request.param] if request.param else []))


def containers(rendered: Rendered) -> Iterator[tuple[str, Object]]:
    """Yield every container with where it is, the autoscaler that the operator adds to the head too."""
    for name, pod in rendered.pods().items():
        for kind in ("initContainers", "containers"):
            for container in pod["spec"].get(kind, []):
                yield f"{name}/{container['name']}", container
    if rendered.cluster.get("enableInTreeAutoscaling"):
        yield "autoscaler", rendered.cluster["autoscalerOptions"]


def test_pod_security_restricted(rendered: Rendered) -> None:
    """Each pod passes the strictest of Kubernetes' standards, but for a node's folder of weights."""
    for name, pod in rendered.pods().items():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys(), name
        kinds = {kind for volume in spec.get("volumes", []) for kind in volume if kind != "name"}
        assert kinds <= VOLUMES or (kinds <= VOLUMES | {"hostPath"} and name.startswith("RayService")), name
    for name, container in containers(rendered):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False, name
        assert context["capabilities"] == {"drop": ["ALL"]}, name
        assert context["readOnlyRootFilesystem"] is True, name


def test_only_a_site_that_asks_for_it_uses_folders_of_nodes(default: Rendered) -> None:
    """Pod Security `restricted` forbids them."""
    assert "hostPath" not in str(default.objects)


def test_nothing_calls_home(rendered: Rendered) -> None:
    """The four variables are in every container."""
    for name, container in containers(rendered):
        found = {entry["name"]: entry.get("value") for entry in container["env"]}
        assert found.items() >= OFFLINE.items(), name


def test_no_variable_stands_twice(rendered: Rendered) -> None:
    """Helm 4 and server-side apply refuse that."""
    for name, container in containers(rendered):
        names = [entry["name"] for entry in container["env"]]
        assert len(names) == len(set(names)), name


def test_every_container_says_what_it_needs(rendered: Rendered) -> None:
    """CPU and memory are requested, and memory has a limit."""
    for name, container in containers(rendered):
        assert container["resources"]["requests"].keys() >= {"cpu", "memory"}, name
        assert "memory" in container["resources"]["limits"], name


def test_what_is_mounted_is_there(rendered: Rendered) -> None:
    """Each mount names a volume of its pod, and each volume is used."""
    for name, pod in rendered.pods().items():
        spec = pod["spec"]
        mounted = {
            mount["name"]
            for kind in ("initContainers", "containers")
            for container in spec.get(kind, [])
            for mount in container.get("volumeMounts", [])
        }
        claims = {claim["metadata"]["name"] for claim in _claims(rendered, name)}
        assert mounted == {volume["name"] for volume in spec.get("volumes", [])} | claims, name


def _claims(rendered: Rendered, pod: str) -> list[Object]:
    owner = next((one for one in rendered if f"{one['kind']}/{one['metadata']['name']}" == pod), {})
    claims: list[Object] = owner.get("spec", {}).get("volumeClaimTemplates", [])
    return claims


def test_no_pod_has_a_token_that_it_does_not_use(rendered: Rendered) -> None:
    """Only who speaks to the Kubernetes API gets one: gateways that watch keys, the test, the autoscaler."""
    watches = rendered.settings["auth"]["keys"]["source"] == "kubernetes"
    scaled = bool(rendered.cluster.get("enableInTreeAutoscaling"))
    for name, pod in rendered.pods().items():
        token = pod["spec"].get("automountServiceAccountToken", True)
        expected = (
            (watches and name.startswith("Deployment"))
            or name.startswith("Pod/")
            or (scaled and name.endswith("/head"))
        )
        assert token == expected, name


def test_pods_of_one_component_are_selected(rendered: Rendered) -> None:
    """Each selector finds the pods that it is for: labels and selectors agree, and hold no version."""
    labels = {name: pod["metadata"]["labels"] for name, pod in rendered.pods().items()}
    for one in rendered:
        if one["kind"] in {"Deployment", "StatefulSet"}:
            selector = one["spec"]["selector"]["matchLabels"]
            own = labels[f"{one['kind']}/{one['metadata']['name']}"]
            assert selector.items() <= own.items()
        if one["kind"] in {"PodDisruptionBudget", "NetworkPolicy"}:
            selector = one["spec"].get("podSelector", one["spec"].get("selector"))["matchLabels"]
            wanted = {key: text for key, text in selector.items() if not key.startswith("ray.io/")}
            assert any(wanted.items() <= found.items() for found in labels.values()), one["metadata"]["name"]
    for name, found in labels.items():
        versioned = [key for key in found if "version" in key or "chart" in key]
        assert name.startswith("Pod/") or not versioned, name


def test_a_digest_wins_over_a_tag(helm: Tool) -> None:
    """And the registry stands before every image."""
    digest = f"sha256:{'a' * 64}"
    images = {name: {"digest": digest} for name in ("gateway", "engine", "redis")}
    rendered = render(helm, {"global": {"imageRegistry": "r.example.com/x"}, "images": images})
    found = {container["image"] for _, container in containers(rendered)}
    assert found == {
        f"r.example.com/x/{name}@{digest}"
        for name in ("gpt-oss-cluster/gateway", "gpt-oss-cluster/engine", "valkey/valkey")
    }


def test_pull_secrets_reach_every_pod(helm: Tool) -> None:
    """A private registry serves nobody without them."""
    values = {"global": {"imagePullSecrets": [{"name": "registry"}]}, "prefetch": PREFETCH}
    for name, pod in render(helm, values).pods().items():
        assert pod["spec"]["imagePullSecrets"] == [{"name": "registry"}], name


PREFETCH = {"url": "https://mirror.example.com", "publicKey": "-----BEGIN PUBLIC KEY-----"}


def test_only_the_prefetch_writes_weights(helm: Tool) -> None:
    """Workers mount them read-only, and wait for those of their group's models."""
    rendered = render(helm, {"prefetch": PREFETCH})
    mounts = {
        name: mount.get("readOnly", False)
        for name, container in containers(rendered)
        for mount in container["volumeMounts"]
        if mount["name"] == "models"
    }
    assert {name.split("/")[0] for name, read_only in mounts.items() if not read_only} == {"Job"}
    assert len(mounts) == 3
    waited = rendered.named("ConfigMap", "-config")["data"]["weights.h100"]
    assert waited == "/models/gpt-oss-120b /models/gpt-oss-20b"


def test_another_model_replaces_no_pod(helm: Tool) -> None:
    """Which weights a worker waits for stands in the ConfigMap, not in its pod."""
    fewer = {
        "config": {
            "serving": {"pools": {"gpt-oss-20b": None}},
            "models": {"gpt-oss-20b": None},
            "aliases": None,
        }
    }
    whole, part = render(helm), render(helm, fewer)
    assert part.cluster == whole.cluster
    assert part.named("ConfigMap", "-config")["data"]["weights.h100"] == "/models/gpt-oss-120b"


def test_worker_groups_keep_their_order(helm: Tool) -> None:
    """A group that is added later, with a higher `order`, comes last whatever its name."""
    groups = {"a100": {"order": 1, "accelerator": "A100", "gpuMemoryGB": 80}, "l4": {"order": 1}}
    before, after = render(helm).cluster, render(helm, {"ray": {"workerGroups": groups}}).cluster
    assert [group["groupName"] for group in after["workerGroupSpecs"]] == ["h100", "a100", "l4"]
    assert after["workerGroupSpecs"][0] == before["workerGroupSpecs"][0]


def test_serve_traffic_avoids_the_head(default: Rendered) -> None:
    """Replicas and requests are the workers': the head has no logical CPU and is out of Serve's Service."""
    assert default.named("RayService")["spec"]["excludeHeadPodFromServeSvc"] is True
    assert default.cluster["headGroupSpec"]["resources"] == {"CPU": "0", "GPU": "0"}
    assert default.cluster["authOptions"] == {"mode": "token", "secretName": "gpt-oss-cluster-ray-auth"}


def test_hpa_owns_the_number_of_gateways(helm: Tool) -> None:
    """With an autoscaler the Deployment has no number: each upgrade would set it back."""
    rendered = render(helm, {"gateway": {"autoscaling": {"enabled": True}}})
    assert "replicas" not in rendered.named("Deployment", "-gateway")["spec"]
    assert rendered.settings["limits"]["redis"]["assumed_gateways"] == 6
    assert "replicas" in render(helm).named("Deployment", "-gateway")["spec"]


def test_metrics_ports_are_declared(default: Rendered) -> None:
    """Monitors select container ports by name."""
    for name, pod in default.pods().items():
        if name.startswith("RayService"):
            [container] = pod["spec"]["containers"]
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            assert ports.items() >= {"metrics": 8080, "haproxy-metrics": 9101, "serve": 8000}.items()
            assert not name.endswith("/head") or ports["as-metrics"] == 44217


def test_rays_head_asks_no_cloud_and_reports_to_nobody(rendered: Rendered) -> None:
    """A file in its home, and an address of nowhere, stop what Ray does with usage reports off too."""
    template = rendered.cluster["headGroupSpec"]["template"]
    (head,) = template["spec"]["containers"]
    environment = {entry["name"]: entry.get("value") for entry in head["env"]}
    assert environment["RAY_USAGE_STATS_REPORT_URL"] == "http://127.0.0.1:9"
    (mount,) = [mount for mount in head["volumeMounts"] if mount.get("subPath")]
    assert mount["mountPath"] == f"{environment['HOME']}/ray_bootstrap_config.yaml"
    (volume,) = [one for one in template["spec"]["volumes"] if one["name"] == mount["name"]]
    assert rendered.named("ConfigMap", "-config")["data"][mount["subPath"]] == "{}"
    assert volume["configMap"]["name"] == rendered.named("ConfigMap", "-config")["metadata"]["name"]


@pytest.mark.parametrize(
    ("workers", "replicas", "least"),
    [
        pytest.param(2, 1, 1, id="two serve"),
        pytest.param(8, 6, 6, id="a spare worker does not count"),
        pytest.param(1, 0, None, id="a single one may go"),
    ],
)
def test_workers_leave_one_after_the_other(
    helm: Tool, workers: int, replicas: int, least: int | None
) -> None:
    """Of those that serve all but one stay; Kubernetes has no ``maxUnavailable`` for RayClusters."""
    pools = {
        "gpt-oss-120b": {"replicas": {"min": replicas, "max": 8}} if replicas else None,
        "gpt-oss-20b": {"replicas": {"min": 1, "max": 1}},
    }
    config: Object = {"serving": {"pools": pools}}
    if not replicas:
        config |= {"models": {"gpt-oss-120b": None}, "aliases": {"gpt-oss": None}}
    bounds = {"replicas": {"min": workers, "max": workers}}
    rendered = render(helm, {"config": config, "ray": {"workerGroups": {"h100": bounds}}})
    budgets = [one for one in rendered.of("PodDisruptionBudget") if one["metadata"]["name"].endswith("-ray")]
    assert [one["spec"].get("minAvailable") for one in budgets] == ([least] if least else [])
    assert "maxUnavailable" not in str(budgets)


def test_another_pod_is_another_prefetch_job(helm: Tool) -> None:
    """A Job's pod cannot be changed, so that its name follows from it: an upgrade never meets that error."""
    changes: list[Object] = [
        {},
        {"images": {"gateway": {"tag": "0.1.1"}}},
        {"global": {"imagePullSecrets": [{"name": "registry"}]}},
        {"modelStorage": {"existingClaim": "other"}},
        {"prefetch": {**PREFETCH, "publicKey": "-----BEGIN PUBLIC KEY----- other"}},
    ]
    jobs = [render(helm, {"prefetch": PREFETCH, **change}).of("Job")[0] for change in changes]
    assert len({job["metadata"]["name"] for job in jobs}) == len(changes)
    assert all(len(job["metadata"]["name"]) <= 63 for job in jobs)
    unrelated = render(helm, {"prefetch": PREFETCH, "gateway": {"replicas": 3}}).of("Job")[0]
    assert unrelated["metadata"]["name"] == jobs[0]["metadata"]["name"]


BYTES = {"Mi": 2**20, "Gi": 2**30}


def test_the_object_store_lies_in_memory(rendered: Rendered) -> None:
    """It is smaller than /dev/shm, else Ray would put it on the disk; its size fits the pod's limit."""
    groups = [rendered.cluster["headGroupSpec"], *rendered.cluster["workerGroupSpecs"]]
    for group in groups:
        spec = group["template"]["spec"]
        [shared] = [one["emptyDir"]["sizeLimit"] for one in spec["volumes"] if one["name"] == "shared-mem"]
        size = int(shared[:-2]) * BYTES[shared[-2:]]
        assert int(group["rayStartParams"]["object-store-memory"]) < size
        limit = spec["containers"][0]["resources"]["limits"]["memory"]
        assert size < int(limit[:-2]) * BYTES[limit[-2:]]
