"""The state of a release, decided from what was read."""

from dataclasses import replace
from typing import Any

import pytest

from deploy import status
from deploy.status import Status
from tests.deploy.recorded import release


def decided(name: str, **more: Any) -> Status:
    """Return the state of a recorded release."""
    return status.decide(release(name, **more))


def test_a_ready_release() -> None:
    """RayService, applications, workers, gateway, limit store and weights: all up, nothing to wait for."""
    found = decided("releases/ready")
    assert (found.ready, found.settled, found.progress, found.stalls) == (True, True, 1.0, ())
    assert [(each.name, each.side, each.status) for each in found.applications] == [
        ("gpt-oss-120b", "active", "RUNNING")
    ]
    (group,) = found.groups
    assert (group.gpu, group.gpus_each, group.wanted, group.running, group.ready) == (
        "NVIDIA-H100-80GB-HBM3",
        1,
        2,
        2,
        2,
    )
    assert [(part.name, part.told) for part in found.parts] == [
        ("gateway", "2 of 2 ready"),
        ("limit store", "1 of 1 ready"),
        ("weights", "copied and checked"),
    ]


def test_progress_while_weights_are_copied() -> None:
    """The prefetch Job's last line and its percentage are shown; it is not ready, and waiting is right."""
    found = decided("releases/loading")
    weights = next(part for part in found.parts if part.name == "weights")
    assert (weights.told, weights.percent) == ("gpt-oss-120b: 24.92 of 60.77 GiB (41%), 212 MiB/s", 41.0)
    assert (found.ready, found.settled) == (False, False)
    assert 0.4 < found.progress < 0.6


def changed(**service: Any) -> Status:
    """Return the state of the ready release with other values in its RayService, by dotted path."""
    found = release("releases/ready")
    for path, value in service.items():
        *steps, last = path.split("__")
        target: Any = found.ray_service
        for step in steps:
            target = target[int(step) if step.isdecimal() else step]
        target[last] = value
    return status.decide(found)


NOT_READY: list[Any] = [
    pytest.param({"metadata__generation": 2}, id="the operator has not seen the newest spec"),
    pytest.param({"status__conditions__0__status": "False"}, id="no endpoint serves"),
    pytest.param({"status__conditions__1__status": "True"}, id="an upgrade is under way"),
    pytest.param(
        {"status__activeServiceStatus__applicationStatuses__gpt-oss-120b__status": "DEPLOYING"},
        id="an application deploys",
    ),
    pytest.param(
        {"spec__serveConfigV2": "applications: [{name: new}]"}, id="an application is not submitted"
    ),
]


@pytest.mark.parametrize("service", NOT_READY)
def test_what_is_not_ready(service: dict[str, Any]) -> None:
    """Ready is said only of the newest spec, fully served."""
    assert changed().ready
    assert not changed(**service).ready


def test_a_gateway_of_the_old_version_is_not_ready() -> None:
    """Gateways count once all of them are of the newest Deployment."""
    found = release("releases/ready")
    found.deployments[0]["status"]["updatedReplicas"] = 1
    parts = status.decide(found).parts
    assert (parts[0].ready, parts[0].told) == (False, "2 of 2 ready, 1 of this version")


def test_what_may_not_be_read_is_told() -> None:
    """Without rights on nodes the GPU is the group's own selector, and what was not read is told."""
    found = decided("releases/ready", forbidden=["/nodes"])
    assert found.groups[0].gpu == "NVIDIA-H100-80GB-HBM3"
    assert [text.split(":")[0] for text in found.unread] == ["GET /api/v1/nodes"]
    assert found.ready


def test_nothing_is_installed() -> None:
    """Without any object of the release it is not installed, and not ready."""
    found = status.decide(replace(release("releases/ready"), ray_service=None, deployments=(), pods=()))
    assert (found.installed, found.ready) == (False, False)


def test_a_pending_cluster_has_its_own_lines() -> None:
    """In an upgrade the groups of both clusters are shown, and the stuck one has its reason."""
    found = decided("stalls/upgrade-stuck")
    assert [(each.side, each.ready) for each in found.groups] == [("active", 2), ("pending", 0)]
    assert (found.settled, found.stalls[0].code) == (True, "upgrade-stuck")


OUTDATING: list[Any] = [
    pytest.param("spec__rayClusterConfig__rayVersion", "2.61.0", True, id="another version of Ray"),
    pytest.param(
        "spec__rayClusterConfig__workerGroupSpecs__0__template__spec__containers__0__image",
        "other",
        True,
        id="another engine image",
    ),
    pytest.param("spec__rayClusterConfig__workerGroupSpecs__0__replicas", 3, False, id="another size"),
    pytest.param(
        "spec__rayClusterConfig__workerGroupSpecs__0__template__spec__tolerations",
        [],
        False,
        id="tolerations",
    ),
    pytest.param("spec__serveConfigV2", "applications: [{name: gpt-oss-120b}]", False, id="what is served"),
]


@pytest.mark.parametrize(("path", "value", "outdated"), OUTDATING)
def test_pods_of_an_older_specification(path: str, value: Any, outdated: bool) -> None:
    """What takes new pods is told until they are there; what changes in place, or never, is not."""
    assert changed(**{path: value}).outdated is outdated


def test_the_operators_spelling_is_no_change() -> None:
    """The operator writes numbers as text and empty objects for nothing; that takes no new pods."""
    found = release("releases/ready")
    (running,) = found.ray_clusters
    (worker,) = running["spec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"]
    worker["resources"]["limits"] = {"nvidia.com/gpu": 1, "memory": "98304Mi"}
    running["spec"]["headGroupSpec"]["template"]["metadata"] = {"creationTimestamp": None}
    running["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["resources"] = {}
    running["spec"]["workerGroupSpecs"][0]["scaleStrategy"] = {"workersToDelete": ["x"]}
    assert not status.decide(found).outdated
    worker["resources"]["limits"]["memory"] = "97Gi"
    assert status.decide(found).outdated


def test_old_pods_under_a_new_specification() -> None:
    """A cluster whose spec is the present one, and whose pods run another image, is of an older one."""
    found = release("releases/ready")
    (worker, *_) = found.workers(found.ray_cluster("active"))
    worker["spec"]["containers"][0]["image"] = "registry.example.com/gpt-oss-cluster/engine:older"
    assert status.decide(found).outdated


def test_events_of_another_release_tell_nothing() -> None:
    """A release whose name begins like this one's has stalls of its own."""
    found = release("stalls/quota")
    for event in found.events:
        event["involvedObject"]["name"] = "gpt-gpt-oss-cluster-2-x7k2p"
    assert status.decide(found).stalls == ()
