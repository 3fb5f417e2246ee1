"""One clock: no part of the chart gives up on a request before the gateway does."""

import re
from typing import Any

import pytest

from tests.helm.rendering import Rendered, render
from tests.helm_tools import Tool

CLOCKS = (30, 899.5, 1800, 7200)
ABORT_S = 5
"""Seconds that a gateway gives its last requests after the drain."""


@pytest.fixture(params=CLOCKS)
def clocked(helm: Tool, request: pytest.FixtureRequest) -> tuple[float, Rendered]:
    """Render the chart, with both routes in, for one longest request."""
    clock: float = request.param
    values: dict[str, Any] = {
        "config": {"limits": {"max_request_s": clock}},
        "ingress": {"enabled": True, "host": "ai.example.com"},
    }
    return clock, render(helm, values)


def test_nobody_cuts_a_stream(clocked: tuple[float, Rendered]) -> None:
    """Every grace period and time-out is longer than the longest request."""
    clock, rendered = clocked
    settings = rendered.settings
    gateway = rendered.named("Deployment", "-gateway")["spec"]["template"]["spec"]
    pre_stop = gateway["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain = settings["gateway"]["stream"]["drain_s"]
    assert drain >= clock
    assert gateway["terminationGracePeriodSeconds"] >= pre_stop + drain + ABORT_S
    service = rendered.named("RayService")["spec"]
    assert service["rayClusterDeletionDelaySeconds"] > clock
    for name, pod in rendered.pods().items():
        if name.startswith("RayService"):
            env = {entry["name"]: entry["value"] for entry in pod["spec"]["containers"][0]["env"]}
            ray_drain = float(env["RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S"])
            assert float(env["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"]) > clock
            assert float(env["RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S"]) > clock
            assert pod["spec"]["terminationGracePeriodSeconds"] > ray_drain > clock
    for app in rendered.serve["applications"]:
        assert app["args"]["settings"]["limits"]["max_request_s"] == clock


def test_the_ingress_waits_as_long(clocked: tuple[float, Rendered]) -> None:
    """It neither gives up on a silent answer nor collects a stream before it passes it on."""
    clock, rendered = clocked
    notes = rendered.named("Ingress", "-gateway")["metadata"]["annotations"]
    assert float(notes["nginx.ingress.kubernetes.io/proxy-read-timeout"]) > clock
    assert float(notes["nginx.ingress.kubernetes.io/proxy-send-timeout"]) > clock
    assert notes["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    assert notes["nginx.ingress.kubernetes.io/proxy-next-upstream"] == "off"
    assert notes["nginx.ingress.kubernetes.io/proxy-body-size"] == "4194304"


def test_a_route_waits_as_long(helm: Tool) -> None:
    """The Gateway API writes it as a duration."""
    values = {"httpRoute": {"enabled": True, "parentRefs": [{"name": "shared"}]}}
    [rule] = render(helm, values).named("HTTPRoute", "-gateway")["spec"]["rules"]
    for timeout in rule["timeouts"].values():
        [seconds] = re.fullmatch(r"(\d+)s", timeout).groups()  # type: ignore[union-attr]
        assert int(seconds) > 1800


def test_a_site_may_wait_longer(helm: Tool) -> None:
    """What is longer than the clock asks for is taken as it stands."""
    values = {
        "gateway": {"terminationGracePeriodSeconds": 4000},
        "ray": {"terminationGracePeriodSeconds": 4001, "deletionDelaySeconds": 4002},
    }
    rendered = render(helm, values)
    gateway = rendered.named("Deployment", "-gateway")["spec"]["template"]["spec"]
    assert gateway["terminationGracePeriodSeconds"] == 4000
    assert rendered.named("RayService")["spec"]["rayClusterDeletionDelaySeconds"] == 4002
    for name, pod in rendered.pods().items():
        if name.startswith("RayService"):
            assert pod["spec"]["terminationGracePeriodSeconds"] == 4001
