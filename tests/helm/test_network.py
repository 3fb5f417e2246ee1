"""Who may speak to whom: nobody, except as one table says."""

from typing import Any

import pytest

from tests.helm.chart_docs import CHART
from tests.helm.rendering import RELEASE, Rendered, render
from tests.helm_tools import Tool

Object = dict[str, Any]
COMPONENT = "app.kubernetes.io/component"


def peer(one: Object) -> str:
    """Return a short name for who is meant."""
    if "podSelector" in one:
        return str(one["podSelector"]["matchLabels"][COMPONENT])
    if "namespaceSelector" in one:
        labels = one["namespaceSelector"].get("matchLabels", {})
        return f"namespace {labels.get('kubernetes.io/metadata.name', '*')}"
    return str(one["ipBlock"]["cidr"])


def rows(rendered: Rendered, direction: str) -> set[tuple[str, str, str]]:
    """Return what is allowed: whose pods, who, on which ports; ``*`` is anybody, or any port."""
    key = {"ingress": "from", "egress": "to"}[direction]
    return {
        (
            policy["metadata"]["name"].removeprefix(f"{RELEASE}-"),
            peer(one) if one else "*",
            " ".join(str(port["port"]) for port in rule["ports"]) if "ports" in rule else "*",
        )
        for policy in rendered.of("NetworkPolicy")
        for rule in policy["spec"][direction]
        for one in rule.get(key, [None])
    }


def test_what_reaches_the_release(default: Rendered) -> None:
    """Clients the gateway, the gateway the replicas, the operator the head, Prometheus the metrics."""
    assert rows(default, "ingress") == {
        ("gateway", "namespace *", "8080"),
        ("gateway", "test", "8080"),
        ("gateway", "loadtest", "8080"),
        ("gateway", "namespace monitoring", "8081"),
        ("ray", "ray", "*"),
        ("ray", "gateway", "8000"),
        ("ray", "namespace monitoring", "8080 9101 44217 44227"),
        ("ray-head", "namespace kuberay-system", "8265"),
        ("redis", "gateway", "6379"),
    }


def test_what_the_release_reaches(default: Rendered) -> None:
    """Names, each other, and the Kubernetes API where keys are followed: nothing outside."""
    assert rows(default, "egress") == {
        ("default", "namespace kube-system", "53 53"),
        ("gateway", "ray", "8000"),
        ("gateway", "redis", "6379"),
        ("gateway", "*", "443 6443"),
        ("ray", "ray", "*"),
        ("test", "gateway", "8080"),
        ("test", "*", "443 6443"),
    }


def test_what_every_option_opens(helm: Tool) -> None:
    """The autoscaler the API, fault tolerance Redis, the prefetch its web server."""
    rendered = render(helm, None, CHART / "ci" / "everything-values.yaml")
    plain = render(helm)
    assert rows(rendered, "egress") - rows(plain, "egress") == {
        ("ray-head", "*", "443 6443"),
        ("ray-head", "redis", "6379"),
        ("ray-redis-cleanup", "redis", "6379"),
        ("prefetch", "*", "80 443"),
        ("loadtest", "gateway", "8080"),
    }
    assert rows(rendered, "ingress") - rows(plain, "ingress") == {("redis", "ray", "6379")}


def test_a_site_narrows_it(helm: Tool) -> None:
    """Peers of its own take the place of anybody; an external Redis is reached on its own ports."""
    rendered = render(helm, None, CHART / "ci" / "gitops-values.yaml")
    assert rows(rendered, "ingress") >= {("gateway", "namespace ingress-nginx", "8080")}
    assert ("gateway", "namespace *", "8080") not in rows(rendered, "ingress")
    assert {row for row in rows(rendered, "egress") if row[0] == "gateway"} == {
        ("gateway", "ray", "8000"),
        ("gateway", "10.1.0.0/24", "6379 26379"),
        ("gateway", "10.2.0.7/32", "443"),
    }


def test_a_service_that_is_open_is_open(helm: Tool) -> None:
    """A load balancer's clients are no pods: where no client is named, anybody may come."""
    rendered = render(helm, {"gateway": {"service": {"type": "LoadBalancer"}}})
    assert ("gateway", "*", "8080") in rows(rendered, "ingress")
    ports = [port["name"] for port in rendered.named("Service", "-gateway")["spec"]["ports"]]
    assert ports == ["http"]


@pytest.mark.parametrize("component", ["gateway", "ray", "redis", "prefetch", "test"])
def test_the_default_covers_every_pod(default: Rendered, component: str) -> None:
    """Its selector holds no component: what no other policy opens is shut."""
    selector = default.named("NetworkPolicy", "-default")["spec"]["podSelector"]["matchLabels"]
    assert COMPONENT not in selector
    for name, pod in default.pods().items():
        assert selector.items() <= pod["metadata"]["labels"].items(), name


def test_it_can_be_left_to_the_site(helm: Tool) -> None:
    """Where a site has policies of its own."""
    assert render(helm, {"networkPolicy": {"enabled": False}}).of("NetworkPolicy") == []


def test_what_shifts_traffic_reaches_serve(helm: Tool) -> None:
    """An incremental upgrade sends requests by way of a data plane of the site's."""
    peer_of_site = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "gateways"}}}
    rendered = render(helm, {"networkPolicy": {"serveClients": [peer_of_site]}})
    assert ("ray", "namespace gateways", "8000") in rows(rendered, "ingress")
