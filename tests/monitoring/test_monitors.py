"""What Prometheus is told to scrape is there: the objects' selectors and ports meet pods of the chart."""

from collections.abc import Iterable
from typing import Any

import pytest

from tests.helm.rendering import NAMESPACE, RELEASE, Object
from tests.monitoring import rules

PROMETHEUS = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}


def chosen(selector: dict[str, str], among: Iterable[Object]) -> list[Object]:
    """Return the objects that have the labels of a selector."""
    return [one for one in among if selector.items() <= one["metadata"].get("labels", {}).items()]


def ports(pods: Iterable[Object]) -> dict[str, int]:
    """Return the ports of pods by name."""
    containers = [one for pod in pods for one in pod["spec"]["containers"]]
    return {port["name"]: port["containerPort"] for one in containers for port in one.get("ports", ())}


def named_job(endpoint: Object, suffix: str) -> bool:
    """Whether what is scraped gets the job by which rules and dashboards find it."""
    return {"targetLabel": "job", "replacement": f"{RELEASE}{suffix}"} in endpoint["relabelings"]


@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort", "LoadBalancer"])
def test_gateways_are_scraped_once_whatever_their_service(kind: str) -> None:
    """One Service that the ServiceMonitor selects has the admin port, and clients outside never reach it."""
    made = rules.rendered(gateway={"service": {"type": kind}})
    spec = made.named("ServiceMonitor", "-gateway")["spec"]
    (endpoint,) = spec["endpoints"]
    services = chosen(spec["selector"]["matchLabels"], made.of("Service"))
    (service,) = [
        one for one in services if endpoint["port"] in {port["name"] for port in one["spec"]["ports"]}
    ]
    assert service["spec"]["type"] == "ClusterIP"
    pods = chosen(service["spec"]["selector"], made.pods().values())
    assert len(pods) == 1
    assert endpoint["port"] in ports(pods)
    assert named_job(endpoint, "-gateway")
    assert spec["namespaceSelector"] == {"matchNames": [NAMESPACE]}


@pytest.mark.parametrize("autoscaling", [False, True])
def test_ray_pods_are_scraped_on_ports_that_they_have(autoscaling: bool) -> None:
    """The head's autoscaler only where it runs: a target that never answers is an alarm without a mend."""
    made = rules.rendered(ray={"autoscaling": {"enabled": autoscaling}})
    spec = made.named("PodMonitor", "-ray")["spec"]
    pods = chosen(spec["selector"]["matchLabels"], made.pods().values())
    assert len(pods) == 2
    asked = {one["port"] for one in spec["podMetricsEndpoints"]}
    assert asked <= set(ports(pods))
    assert ("as-metrics" in asked) is autoscaling
    assert all(named_job(one, "-ray") for one in spec["podMetricsEndpoints"])
    assert "ray.io/node-type" in spec["podTargetLabels"]


def test_prometheus_may_reach_what_it_scrapes() -> None:
    """The network policies open exactly these ports to it."""
    made = rules.rendered(ray={"autoscaling": {"enabled": True}})
    numbers = ports(made.pods().values())
    for kind, suffix, field in (
        ("ServiceMonitor", "-gateway", "endpoints"),
        ("PodMonitor", "-ray", "podMetricsEndpoints"),
    ):
        asked = {numbers[one["port"]] for one in made.named(kind, suffix)["spec"][field]}
        rows = made.named("NetworkPolicy", suffix)["spec"]["ingress"]
        opened = {port["port"] for row in rows if PROMETHEUS in row.get("from", ()) for port in row["ports"]}
        assert asked == opened


def test_nothing_of_it_is_there_by_default() -> None:
    """A cluster without the Prometheus Operator can install the chart."""
    made = rules.rendered(monitoring={part: {"enabled": False} for part in rules.PARTS})
    assert not {one["kind"] for one in made} & {"ServiceMonitor", "PodMonitor", "PrometheusRule"}
    assert not [one for one in made.of("ConfigMap") if "dashboard" in one["metadata"]["name"]]


def test_labels_objectives_and_disabled_alerts_are_values() -> None:
    """Operators select by label, a site may want another objective, and not every alert."""
    labels: dict[str, Any] = {part: {"labels": {"release": "prom"}} for part in rules.PARTS}
    labels["rules"] |= {"disabled": ["GptOssTenantLimited", "GptOssWrongKeys"], "objectives": {"high": 0.95}}
    made = rules.rendered(monitoring=labels)
    for kind in ("PrometheusRule", "ServiceMonitor", "PodMonitor"):
        (one,) = made.of(kind)
        assert one["metadata"]["labels"]["release"] == "prom"
    (rule,) = made.of("PrometheusRule")
    every: list[Any] = [one for group in rule["spec"]["groups"] for one in group["rules"]]
    names = {one["alert"] for one in every if "alert" in one}
    assert names == set(rules.alerts()) - {"GptOssTenantLimited", "GptOssWrongKeys"}
    budgets = [one for one in every if one.get("record") == "gptoss:slo_budget:ratio"]
    assert {one["labels"]["effort"]: one["expr"] for one in budgets} == {
        "low": "vector(1 - 0.99)", "medium": "vector(1 - 0.99)", "high": "vector(1 - 0.95)",
    }  # fmt: skip


def test_the_certificate_is_watched_only_where_it_is_made() -> None:
    """A site with a certificate of its own has no rule about one that is not there."""
    made = rules.rendered(tls={"certManager": {"enabled": False}})
    (rule,) = made.of("PrometheusRule")
    names = {one.get("alert") for group in rule["spec"]["groups"] for one in group["rules"]}
    assert names - {None} == set(rules.alerts()) - {"GptOssCertificateNotRenewed"}
