"""The operator acts on what the chart renders: it breaks no rule that an API server does not know."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.helm.operator_rules import broken
from tests.helm.rendering import render, value_files
from tests.helm_tools import Tool

Object = dict[str, Any]


def test_no_rendering_breaks_a_rule(helm: Tool) -> None:
    """Neither the defaults nor any file of values."""
    for path in (None, *value_files()):
        rendered = render(helm, None, *([path] if path else []))
        assert list(broken(rendered.named("RayService"))) == [], path


def spec(service: Object) -> Object:
    """Return the cluster's specification."""
    cluster: Object = service["spec"]["rayClusterConfig"]
    return cluster


def head(service: Object) -> Object:
    """Return the head's group."""
    group: Object = spec(service)["headGroupSpec"]
    return group


def worker(service: Object) -> Object:
    """Return the first worker group."""
    group: Object = spec(service)["workerGroupSpecs"][0]
    return group


def variable(group: Object, name: str) -> Object:
    """Give a group's pods a variable; return the group."""
    group["template"]["spec"]["containers"][0]["env"].append({"name": name, "value": "1"})
    return group


INCREMENTAL = {
    "type": "NewClusterWithIncrementalUpgrade",
    "clusterUpgradeOptions": {"gatewayClassName": "c", "stepSizePercent": 5, "intervalSeconds": 1},
}

BREAKS: dict[str, Callable[[Object], Any]] = {
    "name": lambda one: one["metadata"].update(name="x" * 48),
    "deletion delay": lambda one: one["spec"].update(rayClusterDeletionDelaySeconds=-1),
    "name of the head's Service": lambda one: head(one).update(headService={"metadata": {"name": "a"}}),
    "upgrade strategy of the cluster": lambda one: spec(one).update(upgradeStrategy={"type": "Recreate"}),
    "upgrade type": lambda one: one["spec"].update(upgradeStrategy={"type": "Recreate"}),
    "incremental upgrade without autoscaler": lambda one: one["spec"].update(upgradeStrategy=INCREMENTAL),
    "incremental upgrade without options": lambda one: one["spec"].update(
        upgradeStrategy={"type": INCREMENTAL["type"]}
    ),
    "steps of an incremental upgrade": lambda one: one["spec"].update(
        upgradeStrategy={**INCREMENTAL, "clusterUpgradeOptions": {"stepSizePercent": 101}}
    ),
    "incremental upgrade without class": lambda one: one["spec"].update(
        upgradeStrategy={**INCREMENTAL, "clusterUpgradeOptions": {"stepSizePercent": 5}}
    ),
    "Kubernetes tokens in a RayService": lambda one: spec(one)["authOptions"].update(enableK8sTokenAuth=True),
    "tokens with an old Ray": lambda one: spec(one).update(rayVersion="2.51.9"),
    "fault tolerance twice": lambda one: (
        one["metadata"].update(annotations={"ray.io/ft-enabled": "true"}),
        spec(one).update(gcsFaultToleranceOptions={"redisAddress": "a:1"}),
    ),
    "Redis in the head's variables": lambda one: variable(head(one), "REDIS_PASSWORD"),
    "Redis password in the head's parameters": lambda one: (
        spec(one).update(gcsFaultToleranceOptions={"redisAddress": "a:1"}),
        head(one)["rayStartParams"].update({"redis-password": "x"}),
    ),
    "storage with Redis": lambda one: spec(one).update(gcsFaultToleranceOptions={"storage": {"size": "1Gi"}}),
    "bounds of a group": lambda one: worker(one).update(minReplicas=5, maxReplicas=1),
    "suspended group": lambda one: worker(one).update(suspend=True),
    "idle time-out without autoscaler": lambda one: worker(one).update(idleTimeoutSeconds=1),
    "no container": lambda one: worker(one)["template"]["spec"].update(containers=[]),
    "resources twice": lambda one: worker(one)["rayStartParams"].update({"num-cpus": "1"}),
    "labels in parameters": lambda one: worker(one)["rayStartParams"].update(labels="a=b"),
    "autoscaler's variable without autoscaler": lambda one: variable(head(one), "RAY_enable_autoscaler_v2"),
    "autoscaler's version twice": lambda one: (
        spec(one).update(enableInTreeAutoscaling=True, autoscalerOptions={"version": "v2"}),
        variable(head(one), "RAY_enable_autoscaler_v2"),
    ),
    "restart policy with the autoscaler": lambda one: (
        spec(one).update(enableInTreeAutoscaling=True),
        worker(one)["template"]["spec"].update(restartPolicy="Always"),
    ),
}


@pytest.mark.parametrize("rule", BREAKS)
def test_each_rule_can_be_broken(default_service: Object, rule: str) -> None:
    """The rules are true ones: a RayService that is changed to break one is found out."""
    BREAKS[rule](default_service)
    assert rule in list(broken(default_service))
