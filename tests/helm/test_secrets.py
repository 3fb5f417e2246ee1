"""Secrets are made once and kept; tenants and keys belong to the command line and no upgrade touches them."""

import base64
import json
from typing import Any

import pytest

from tests.helm.chart_docs import CHART
from tests.helm.rendering import RELEASE, Rendered, render
from tests.helm_tools import Tool
from tests.kube.cluster import Cluster

NAMESPACE = "serving"
MADE = {
    "-keys": set[str](),
    "-secrets": {"pepper", "engine-key"},
    "-ray-auth": {"auth_token"},
    "-redis": {"password"},
}


@pytest.fixture
def connected(helm: Tool, cluster: Cluster) -> Tool:
    """Return helm, connected to a cluster as its administrator."""
    return cluster.connected(helm)


def install(helm: Tool, verb: str, *options: str) -> None:
    """Install or upgrade the release."""
    helm(verb, RELEASE, str(CHART), "--namespace", NAMESPACE, *options)


def secrets(cluster: Cluster) -> dict[str, Any]:
    """Return the content of the release's Secrets."""
    found = {}
    for suffix in MADE:
        secret = cluster.api.get("Secret", RELEASE + suffix, NAMESPACE)
        assert secret is not None, suffix
        found[suffix] = secret.get("data", {})
    return found


def test_they_outlive_everything(connected: Tool, cluster: Cluster) -> None:
    """An upgrade keeps each as it is, and so do uninstalling and installing again; a new key stays too."""
    install(connected, "install")
    first = secrets(cluster)
    assert {name: set(content) for name, content in first.items()} == MADE
    secret = cluster.api.get("Secret", f"{RELEASE}-keys", NAMESPACE)
    assert secret is not None
    first["-keys"] = {"key.a.json": base64.b64encode(b"{}").decode()}
    cluster.api.add({**secret, "data": first["-keys"]})
    install(connected, "upgrade", "--set", "gateway.preStopSeconds=6")
    assert secrets(cluster) == first
    connected("uninstall", RELEASE, "--namespace", NAMESPACE)
    assert secrets(cluster) == first
    install(connected, "install")
    assert secrets(cluster) == first


def test_what_is_random_is_long(default: Rendered) -> None:
    """Each has 48 characters of its own."""
    values = [
        base64.b64decode(value).decode()
        for secret in default.of("Secret")
        for value in secret.get("data", {}).values()
    ]
    assert len(set(values)) == len(values) == 4
    assert all(len(value) == 48 and value.isalnum() for value in values)


def test_no_secret_stands_in_what_many_may_read(default: Rendered) -> None:
    """Neither in the settings, nor in the Serve config, nor in any pod: only in Secrets."""
    hidden = {value for secret in default.of("Secret") for value in secret.get("data", {}).values()}
    shown = json.dumps([one for one in default if one["kind"] != "Secret"])
    for value in hidden:
        assert value not in shown
        assert base64.b64decode(value).decode() not in shown


def test_existing_ones_are_used(helm: Tool) -> None:
    """With `secrets.create: false` none is made, and each name is where it is needed."""
    rendered = render(helm, None, CHART / "ci" / "gitops-values.yaml")
    assert rendered.of("Secret") == []
    pods = rendered.pods()
    gateway = pods[f"Deployment/{RELEASE}-gateway"]["spec"]["volumes"]
    named = {volume["secret"]["secretName"] for volume in gateway if "secret" in volume}
    assert named == {"team-keys", "product", "limits"}
    assert rendered.cluster["authOptions"]["secretName"] == "ray"
    engine = pods[f"RayService/{RELEASE}/h100"]["spec"]["volumes"]
    [secret] = [volume["secret"] for volume in engine if "secret" in volume]
    assert (secret["secretName"], [item["key"] for item in secret["items"]]) == ("product", ["engine-key"])


def test_the_gateway_may_follow_one_secret_and_no_more(default: Rendered) -> None:
    """It cannot write keys, nor see any other Secret; the test may write that one while it runs."""
    [rule] = default.named("Role", "-gateway")["rules"]
    assert rule == {
        "apiGroups": [""],
        "resources": ["secrets"],
        "resourceNames": [f"{RELEASE}-keys"],
        "verbs": ["list", "watch"],
    }
    [rule] = default.named("Role", "-test")["rules"]
    assert (rule["resourceNames"], rule["verbs"]) == ([f"{RELEASE}-keys"], ["get", "patch"])
    assert len(default.of("Role")) == 2
    assert default.of("ClusterRole") == []


def test_mounted_keys_need_no_rights(helm: Tool) -> None:
    """With `source: file` the gateway speaks to no API."""
    rendered = render(helm, {"config": {"auth": {"keys": {"source": "file"}}}})
    assert [role["metadata"]["name"] for role in rendered.of("Role")] == [f"{RELEASE}-test"]
    assert rendered.settings["auth"]["keys"] == {"source": "file", "path": "/etc/gpt-oss-cluster/keys"}


def test_the_password_of_redis_reaches_it_unseen(default: Rendered) -> None:
    """It comes from its file by standard input, and stands in no argument and no variable."""
    script = default.named("ConfigMap", "-redis")["data"]["start.sh"]
    assert "requirepass $(cat " in script
    [container] = default.pods()[f"StatefulSet/{RELEASE}-redis"]["spec"]["containers"]
    assert container["command"] == ["sh", "/etc/redis/start.sh"]
    assert "password" not in str(container["env"])
