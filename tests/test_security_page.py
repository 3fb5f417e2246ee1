"""docs/security.md claims nothing that no test or file holds, and the chart keeps what it claims."""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.helm.rendering import Object, Rendered, render
from tests.helm_tools import Tool

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text()
CALLS_HOME = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
}
PEERS = {"monitoring": "prometheus", "kuberay-system": "operator"}
CONTAINERS = ("initContainers", "containers")


@pytest.fixture(params=[{}, {"ray": {"autoscaling": {"enabled": True}}}], ids=["defaults", "autoscaling"])
def made(helm: Tool, request: pytest.FixtureRequest) -> Rendered:
    """Return what helm renders, of the defaults and with Ray's autoscaler."""
    return render(helm, request.param)


def containers(made: Rendered) -> list[tuple[str, Object, Object]]:
    """Return every container with the name and the specification of its pod."""
    pods = [(name, pod["spec"]) for name, pod in made.pods().items()]
    return [(name, pod, one) for name, pod in pods for kind in CONTAINERS for one in pod.get(kind, ())]


def test_every_reference_exists() -> None:
    """Each test and file that a claim names is there."""
    references = re.findall(r"`((?:tests|helm|docs)/[\w./-]+)(?:::(\w+))?`", PAGE)
    assert len(references) > 20
    for path, name in references:
        assert (ROOT / path).exists(), path
        if name:
            assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE), name


def peer(said: Object) -> str:
    """Return what the page calls a peer of a network policy."""
    pods = said.get("podSelector", {}).get("matchLabels", {})
    space = said.get("namespaceSelector", {}).get("matchLabels", {})
    if not pods and not space:
        return "clients"
    return str(pods.get("app.kubernetes.io/component") or PEERS[space["kubernetes.io/metadata.name"]])


def opened(made: Rendered) -> set[tuple[str, str, str]]:
    """Return what the policies let in: to, from, ports."""
    rows = set()
    for one in made.of("NetworkPolicy"):
        to = one["metadata"]["name"].removeprefix("gpt-oss-cluster-")
        for row in one["spec"]["ingress"]:
            ports = " ".join(str(port["port"]) for port in row.get("ports", ())) or "all"
            rows |= {(to, peer(said), ports) for said in row["from"]}
    return rows


def test_the_table_is_what_the_policies_open(made: Rendered) -> None:
    """Each row is a policy's, and every policy's row is there; tests and load tests ask as clients do."""
    table = re.findall(r"^\| ([\w-]+) \| ([\w-]+) \| ([\d ]+|all) \|", PAGE, re.MULTILINE)
    assert set(table) == opened(made) - {("gateway", own, "8080") for own in ("test", "loadtest")}


def test_everything_else_is_denied(made: Rendered) -> None:
    """One policy takes every pod of the release and opens nothing but names."""
    policy = made.named("NetworkPolicy", "-default")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == []
    assert [port["port"] for row in policy["egress"] for port in row["ports"]] == [53, 53]
    for name, pod in made.pods().items():
        assert policy["podSelector"]["matchLabels"].items() <= pod["metadata"]["labels"].items(), name


def test_every_container_is_told_not_to_call_home(made: Rendered) -> None:
    """Init containers and the autoscaler too."""
    for name, _, one in containers(made):
        env = {entry["name"]: entry.get("value") for entry in one.get("env", ())}
        assert env.items() >= CALLS_HOME.items(), (name, one["name"])
    autoscaler = made.cluster.get("autoscalerOptions")
    if autoscaler:
        assert {entry["name"]: entry["value"] for entry in autoscaler["env"]}.items() >= CALLS_HOME.items()


def test_no_secret_is_a_variable(made: Rendered) -> None:
    """Environments are seen by whoever may look at processes, and end in dumps."""
    for name, _, one in containers(made):
        assert not one.get("envFrom"), name
        for entry in one.get("env", ()):
            assert "secretKeyRef" not in entry.get("valueFrom", {}), (name, entry["name"])
    assert not re.search(
        r"password|pepper|engine-key", str(made.cluster["headGroupSpec"].get("rayStartParams"))
    )


def test_ray_demands_its_token(made: Rendered) -> None:
    """From a Secret, so that every Ray cluster of the release has the same one."""
    assert made.cluster["authOptions"] == {"mode": "token", "secretName": "gpt-oss-cluster-ray-auth"}


def test_pods_are_restricted(made: Rendered) -> None:
    """What Pod Security asks for at its highest level, and a read-only root beside it."""
    for name, pod, one in containers(made):
        context: dict[str, Any] = {**pod["securityContext"], **one["securityContext"]}
        assert context["runAsNonRoot"] is True, name
        assert context["runAsUser"] > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert not any("hostPath" in volume for volume in pod.get("volumes", ()))
        assert not any(pod.get(shared) for shared in ("hostNetwork", "hostPID", "hostIPC"))


def test_accounts_may_next_to_nothing(made: Rendered) -> None:
    """The gateway follows one Secret; only what uses the API has a token for it."""
    gateway = made.named("Role", "-gateway")["rules"]
    assert gateway == [
        {
            "apiGroups": [""],
            "resources": ["secrets"],
            "resourceNames": ["gpt-oss-cluster-keys"],
            "verbs": ["list", "watch"],
        }
    ]
    assert not made.of("ClusterRole")
    with_token = {
        name
        for name, pod in made.pods().items()
        if pod["spec"].get("automountServiceAccountToken") is not False
    }
    scaled = {"RayService/gpt-oss-cluster/head"} if "autoscalerOptions" in made.cluster else set()
    assert (
        with_token - {name for name in with_token if "test" in name}
        == {"Deployment/gpt-oss-cluster-gateway"} | scaled
    )
