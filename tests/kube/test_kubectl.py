"""The API for tests, held to what real kubectl expects of a real one."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm_tools import Tool
from tests.kube.access import Role
from tests.kube.cluster import Cluster, running
from tests.kube.good_objects import KINDS, good


@pytest.fixture
def ctl(cluster: Cluster, kubectl: Tool) -> Tool:
    """Return kubectl, connected to the cluster as its administrator."""
    return cluster.connected(kubectl)


def file(folder: Path, *bodies: dict[str, Any]) -> str:
    """Write objects to a file; return its path."""
    path = folder / "objects.yaml"
    path.write_text(yaml.safe_dump_all(bodies))
    return str(path)


def test_it_lists_what_there_is(ctl: Tool) -> None:
    """Discovery tells kubectl every kind, with its short names and its version."""
    assert "v1.37.0" in ctl("version").stdout
    told = ctl("api-resources", "--no-headers").stdout
    assert "rayservices" in told
    assert "ray.io/v1" in told
    assert ctl("get", "ns", "-o", "name").stdout.split() == [
        "namespace/default",
        "namespace/kube-system",
        "namespace/serving",
    ]


def test_apply_on_the_client(ctl: Tool, cluster: Cluster, tmp_path: Path) -> None:
    """Every kind can be applied, again without a change, and with one: lists are merged by their keys."""
    path = file(tmp_path, *(good(kind) for kind in KINDS))
    assert ctl("apply", "-f", path).stdout.count(" created") == len(KINDS)
    version = cluster.api.version
    ctl("apply", "-f", path)
    assert cluster.api.version == version
    env = [{"name": "MODE", "value": "slow"}, {"name": "MORE", "value": "1"}]
    path = file(tmp_path, good("Deployment", ("spec/template/spec/containers/0/env", env)))
    assert "configured" in ctl("apply", "-f", path).stdout
    found = cluster.api.get("Deployment", "web", "serving")
    assert found is not None
    assert found["spec"]["template"]["spec"]["containers"][0]["env"] == env
    assert found["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]


def test_apply_on_the_server(ctl: Tool, cluster: Cluster, tmp_path: Path) -> None:
    """A field that somebody else owns is a conflict, named; with force it changes its owner."""
    path = file(tmp_path, good("Deployment"))
    assert "serverside-applied" in ctl("apply", "--server-side", "-f", path).stdout
    ctl("scale", "deployment", "web", "--replicas", "5")
    refused = ctl("apply", "--server-side", "-f", path, check=False)
    assert refused.returncode == 1
    assert "conflict with" in refused.stderr
    assert ".spec.replicas" in refused.stderr
    ctl("apply", "--server-side", "--force-conflicts", "-f", path)
    found = cluster.api.get("Deployment", "web", "serving")
    assert found is not None
    assert found["spec"]["replicas"] == 2


def test_apply_takes_back_what_it_gave(ctl: Tool, cluster: Cluster, tmp_path: Path) -> None:
    """What a manager no longer applies goes; what others have written stays."""
    body = good("ConfigMap", ("data/a", "1"), ("data/b", "2"))
    ctl("apply", "--server-side", "-f", file(tmp_path, body))
    ctl("patch", "configmap", "settings", "--type", "merge", "--patch", '{"data": {"mine": "3"}}')
    ctl(
        "apply",
        "--server-side",
        "-f",
        file(tmp_path, good("ConfigMap", ("data/b", "2"), ("data", {"b": "2"}))),
    )
    found = cluster.api.get("ConfigMap", "settings", "serving")
    assert found is not None
    assert found["data"] == {"b": "2", "mine": "3"}


def test_a_dry_run_stores_nothing(ctl: Tool, cluster: Cluster, tmp_path: Path) -> None:
    """The server checks and answers as if, and keeps nothing."""
    path = file(tmp_path, good("Deployment"))
    assert "server dry run" in ctl("apply", "--dry-run=server", "-f", path).stdout
    assert "server dry run" in ctl("create", "--dry-run=server", "-f", path).stdout
    assert cluster.api.names("Deployment") == []
    wrong = file(tmp_path, good("Deployment", ("spec/replicas", -1)))
    assert "greater than or equal to 0" in ctl("create", "--dry-run=server", "-f", wrong, check=False).stderr


PATCHES = [
    pytest.param(("merge", '{"data": {"a": null, "b": "2"}}'), {"b": "2"}, id="merge"),
    pytest.param(("strategic", '{"data": {"b": "2"}}'), {"a": "1", "b": "2"}, id="strategic"),
    pytest.param(("json", '[{"op": "replace", "path": "/data/a", "value": "3"}]'), {"a": "3"}, id="json"),
]


@pytest.mark.parametrize(("patch", "data"), PATCHES)
def test_patches(
    ctl: Tool, cluster: Cluster, tmp_path: Path, patch: tuple[str, str], data: dict[str, str]
) -> None:
    """All three kinds of patch, each in its own way."""
    ctl("create", "-f", file(tmp_path, good("ConfigMap")))
    ctl("patch", "configmap", "settings", "--type", patch[0], "--patch", patch[1])
    found = cluster.api.get("ConfigMap", "settings", "serving")
    assert found is not None
    assert found["data"] == data


def test_a_strategic_patch_of_a_custom_object_is_refused(ctl: Tool, tmp_path: Path) -> None:
    """Only kinds of Kubernetes itself know the keys of their lists in that way."""
    ctl("create", "-f", file(tmp_path, good("RayService")))
    refused = ctl("patch", "rayservice", "llm", "--type", "strategic", "--patch", "{}", check=False)
    assert refused.returncode == 1
    assert "unknown format" in refused.stderr or "strategic merge patch is not supported" in refused.stderr


def test_selectors(ctl: Tool, tmp_path: Path) -> None:
    """Labels by equality and by set, fields by name."""
    bodies = [good("ConfigMap", ("metadata", {"name": n, "labels": {"tier": n}})) for n in ("a", "b", "c")]
    ctl("create", "-f", file(tmp_path, *bodies))

    def names(*options: str) -> list[str]:
        found = ctl("get", "configmaps", "-o", "name", *options).stdout.split()
        return [name.removeprefix("configmap/") for name in found]

    assert names("-l", "tier in (a,b)") == ["a", "b"]
    assert names("-l", "tier!=a,tier") == ["b", "c"]
    assert names("-l", "!tier") == []
    assert names("--field-selector", "metadata.name=c") == ["c"]
    assert names("--chunk-size", "1") == ["a", "b", "c"]


def test_wait_follows_a_condition(ctl: Tool, cluster: Cluster, tmp_path: Path) -> None:
    """A watch tells of the status when it comes; what does not come is a time-out."""
    cluster.api.give("RayService", "pending")
    ctl("create", "-f", file(tmp_path, good("RayService")))
    late = ctl("wait", "rayservice/llm", "--for=condition=Ready", "--timeout=1s", check=False)
    assert late.returncode == 1
    assert "timed out" in late.stderr
    command = [str(ctl.path), "wait", "rayservice/llm", "--for=condition=Ready", "--timeout=20s"]
    with subprocess.Popen(command, env=ctl.environment, stdout=subprocess.PIPE) as waiting:
        while not cluster.api.watching:
            assert waiting.poll() is None
        cluster.api.slow_watches(0.5)
        cluster.api.give("RayService", "done")
        assert waiting.wait(20) == 0


def test_deleting_takes_what_is_owned(ctl: Tool, cluster: Cluster, tmp_path: Path) -> None:
    """A deployment goes with its ReplicaSet; kubectl waits until it is gone."""
    ctl("create", "-f", file(tmp_path, good("Deployment")))
    assert len(cluster.api.names("ReplicaSet")) == 1
    assert "deleted" in ctl("delete", "deployment", "web").stdout
    assert cluster.api.names("ReplicaSet") == []
    missing = ctl("delete", "deployment", "web", check=False)
    assert 'deployments.apps "web" not found' in missing.stderr
    ctl("delete", "namespace", "serving")
    assert cluster.api.names("ConfigMap", "serving") == []


def test_a_finalizer_holds_an_object(ctl: Tool, cluster: Cluster, tmp_path: Path) -> None:
    """What has a finalizer is marked as deleted, and goes once the finalizer does."""
    body = good("ConfigMap", ("metadata", {"name": "held", "finalizers": ["example.com/hold"]}))
    ctl("create", "-f", file(tmp_path, body))
    ctl("delete", "configmap", "held", "--wait=false")
    found = cluster.api.get("ConfigMap", "held", "serving")
    assert found is not None
    assert found["metadata"]["deletionTimestamp"]
    ctl("patch", "configmap", "held", "--type", "merge", "--patch", '{"metadata": {"finalizers": null}}')
    assert cluster.api.get("ConfigMap", "held", "serving") is None


def test_a_busy_server_is_asked_again(ctl: Tool, cluster: Cluster) -> None:
    """Go's client waits as long as a 429 says and asks again, as it does of a real server."""
    cluster.api.fail(429, 1, "TooManyRequests", resource="configmaps", retry_after_s=1)
    assert ctl("get", "configmaps").returncode == 0
    asked = [path for verb, path, _ in cluster.api.requests if verb == "list" and "configmaps" in path]
    assert len(asked) == 2


def test_rights_are_told_and_held(cluster: Cluster, kubectl: Tool, tmp_path: Path) -> None:
    """A service account may what a role that is bound to it says, and nothing else."""
    token = cluster.api.account_token("serving", "gateway")
    cluster.api.add({**good("Role"), "metadata": {"name": "reader", "namespace": "serving"}})
    cluster.api.add(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "reader", "namespace": "serving"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
            "subjects": [{"kind": "ServiceAccount", "name": "gateway"}],
        }
    )
    ctl = cluster.connected(kubectl, token)
    assert "system:serviceaccount:serving:gateway" in ctl("auth", "whoami").stdout
    assert ctl("auth", "can-i", "list", "secrets/keys").stdout == "yes\n"
    assert ctl("auth", "can-i", "delete", "secrets/keys", check=False).stdout.startswith("no")
    assert ctl("get", "secrets", "--field-selector", "metadata.name=keys").returncode == 0
    refused = ctl("get", "secrets", check=False)
    assert 'User "system:serviceaccount:serving:gateway" cannot list resource "secrets"' in refused.stderr


def test_rollouts_and_logs(ctl: Tool, cluster: Cluster, tmp_path: Path) -> None:
    """A rollout's status is the deployment's; a pod's log is the annotation that a test wrote."""
    ctl("create", "-f", file(tmp_path, good("Deployment")))
    assert "successfully rolled out" in ctl("rollout", "status", "deployment/web", "--timeout=10s").stdout
    cluster.api.add(
        good("Pod", ("metadata", {"name": "p", "namespace": "serving", "annotations": {"test/log": "hi"}}))
    )
    assert ctl("logs", "p").stdout == "hi"


def test_a_cluster_without_kuberay(kubectl: Tool, tmp_path: Path) -> None:
    """A group that a cluster lacks is unknown to kubectl too."""
    with running(tmp_path, without={"ray.io"}) as cluster:
        ctl = cluster.connected(kubectl)
        refused = ctl("get", "rayservices", check=False)
        assert 'doesn\'t have a resource type "rayservices"' in refused.stderr
        assert "rayservices.ray.io" not in ctl("get", "crd", "-o", "name").stdout


def test_refusals_are_told(ctl: Tool, cluster: Cluster) -> None:
    """An ordered fault reaches the client as the API would tell it, and so do a missing right and token."""
    cluster.api.fail(500, 1, resource="secrets")
    assert "ordered by the test: 500" in ctl("get", "secrets", check=False).stderr
    cluster.api.tokens["admin-token"] = Role("nobody", frozenset())
    assert "cannot list resource" in ctl("get", "secrets", check=False).stderr
    cluster.api.tokens.clear()
    assert "Unauthorized" in ctl("get", "secrets", check=False).stderr
