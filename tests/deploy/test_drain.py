"""What draining costs, decided before anything is touched; and that it does what it said."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from deploy import drain
from deploy.api import Api
from deploy.drain import DrainError, Loss, Plan
from deploy.draining import Drain, DrainStoppedError
from deploy.release import Release
from tests.deploy.conftest import NAMESPACE
from tests.deploy.recorded import load, now, put, release
from tests.kube.access import ADMIN
from tests.kube.api import KubernetesApi

CLUSTER = "gpt-gpt-oss-cluster-x7k2p"
FIRST, SECOND = f"{CLUSTER}-h100-worker-7hd2k", f"{CLUSTER}-h100-worker-q9x5m"
H100 = "NVIDIA-H100-80GB-HBM3"


def ready() -> Release:
    """Return a release with two ready workers."""
    return release("releases/ready")


def test_a_group_restarts_one_worker_after_the_other() -> None:
    """Half of two serves meanwhile; the plan says what streams and starts may take."""
    plan = drain.restart(ready(), "h100", None, None)
    assert plan.losses == (Loss("h100", ("gpt-oss-120b",), 2, 1, H100),)
    assert (plan.losses[0].percent, plan.outage, plan.workers) == (50, (), (FIRST, SECOND))
    assert (plan.streams_s, plan.start_s) == (1800, 120)


def test_the_only_worker_is_an_outage() -> None:
    """A pool with one ready worker is out while that one restarts."""
    found = ready()
    alone = tuple(pod for pod in found.pods if pod["metadata"]["name"] != SECOND)
    plan = drain.restart(replace(found, pods=alone), "h100", None, None)
    assert (plan.losses[0].percent, plan.outage) == (100, ("gpt-oss-120b",))


def test_a_cordoned_node_gives_nothing_back() -> None:
    """Workers of a node that takes no pods all go, and are not waited for."""
    plan = drain.restart(replace(ready(), cordoned=frozenset({"gpu-1"})), None, None, "gpu-1")
    assert (plan.returns, plan.losses[0].left, plan.outage) == (False, 0, ("gpt-oss-120b",))
    assert drain.restart(ready(), None, None, "gpu-1").returns


def test_an_upgrade_is_given_gpus() -> None:
    """While an upgrade waits, a group gives what it does not keep; keeping one is no outage."""
    found = release("stalls/upgrade-stuck")
    plan = drain.shrink(found, "h100", 1)
    assert (plan.kind, len(plan.workers), plan.losses[0].left, plan.outage) == ("shrink", 1, 1, ())
    assert drain.shrink(found, "h100", 0).outage == ("gpt-oss-120b",)


def test_what_does_not_serve_is_given_first() -> None:
    """A worker that is not ready goes before one that serves, and costs nothing."""
    found = release("stalls/upgrade-stuck")
    (idle,) = [pod for pod in found.pods if pod["metadata"]["name"] == SECOND]
    for each in idle["status"]["conditions"]:
        each["status"] = "False"
    plan = drain.shrink(found, "h100", 1)
    assert (plan.workers, plan.losses[0].percent) == ((SECOND,), 0)


def test_building_anew_takes_everything() -> None:
    """All workers of all groups go, and every pool is out."""
    plan = drain.rebuild(ready())
    assert (plan.kind, plan.workers, plan.outage) == ("rebuild", (FIRST, SECOND), ("gpt-oss-120b",))


def short_grace() -> Release:
    """Return a release whose workers have less time to end than a request may take."""
    found = ready()
    for pod in found.pods:
        pod["spec"]["terminationGracePeriodSeconds"] = 30
    return found


def autoscaled() -> Release:
    """Return a release whose groups Ray's autoscaler sizes."""
    found = ready()
    assert found.ray_service is not None
    found.ray_service["spec"]["rayClusterConfig"]["enableInTreeAutoscaling"] = True
    return found


REFUSED: list[Any] = [
    pytest.param(lambda: drain.restart(ready(), "a100", None, None), "its groups: h100", id="no such group"),
    pytest.param(lambda: drain.restart(ready(), None, "x", None), "no such worker", id="no such worker"),
    pytest.param(
        lambda: drain.restart(short_grace(), "h100", None, None),
        "streams would be cut",
        id="too short a grace",
    ),
    pytest.param(lambda: drain.shrink(ready(), "h100", 1), "no upgrade waits", id="nothing wants the GPUs"),
    pytest.param(
        lambda: drain.shrink(release("stalls/upgrade-stuck"), "h100", 2), "keep fewer", id="nothing given"
    ),
    pytest.param(lambda: drain.rebuild(release("stalls/upgrade-stuck")), "under way", id="amid an upgrade"),
    pytest.param(lambda: drain.rebuild(autoscaled()), "autoscaler", id="the autoscaler would undo it"),
    pytest.param(lambda: drain.rebuild(release("stalls/no-gpu")), "serves", id="nothing runs yet"),
]


@pytest.mark.parametrize(("ask", "words"), REFUSED)
def test_what_is_refused(ask: Callable[[], Plan], words: str) -> None:
    """What cannot be done, or would cut streams, is refused with a reason."""
    with pytest.raises(DrainError, match=words):
        ask()


class Operator:
    """Does between two looks what KubeRay would: pods leave and come, clusters are built anew."""

    def __init__(self, kube: KubernetesApi, api: Api, name: str) -> None:
        self.kube, self.api, self.record = kube, api, load(name)
        self.told: list[str] = []
        self.slept_s = 0.0
        self.broken = False
        """Whether successors find no GPU."""
        kube.tokens["admin-token"] = ADMIN
        put(kube, self.record)

    def drain(self, plan: Plan, timeout_s: float = 600) -> None:
        """Carry out a plan with this operator at work."""
        Drain(
            self.api,
            "gpt",
            self.told.append,
            timeout_s,
            clock=lambda: self.slept_s,
            sleep=self._sleep,
            now=lambda: now(self.record),
        ).run(plan)

    def workers(self) -> list[str]:
        """Return the names of the worker pods."""
        return [name for name in self.kube.names("Pod", NAMESPACE) if "-worker-" in name]

    def groups(self) -> list[Any]:
        """Return the groups of the running Ray cluster."""
        found = self.kube.get("RayCluster", CLUSTER, NAMESPACE)
        return [] if found is None else list(found["spec"]["workerGroupSpecs"])

    def _sleep(self, seconds: float) -> None:
        self.slept_s += seconds
        groups, workers = self.groups(), self.workers()
        for group in groups:
            for name in (group.get("scaleStrategy") or {}).get("workersToDelete") or []:
                if name in workers:
                    self.kube.drop("Pod", name, NAMESPACE)
        if not groups:
            self._build_anew()
        elif groups[0]["replicas"] > len(self.workers()):
            self._add_worker(CLUSTER)

    def _add_worker(self, ray_cluster: str) -> None:
        source = load("stalls/no-gpu") if self.broken else load("releases/ready")
        kind = "q9x5m" if self.broken else "7hd2k"
        pods = [each for each in source["objects"] if each["kind"] == "Pod"]
        (model,) = [each for each in pods if each["metadata"]["name"].endswith(kind)]
        model["metadata"]["name"] = f"{ray_cluster}-h100-worker-new{int(self.slept_s)}"
        model["metadata"]["labels"]["ray.io/cluster"] = ray_cluster
        put(self.kube, {"objects": [model]})

    def _build_anew(self) -> None:
        fresh = f"{CLUSTER[:-5]}fresh"
        text = [each for each in self.record["objects"] if each["kind"] in {"RayCluster", "RayService"}]
        for each in text:
            status = each["status"]
            if each["kind"] == "RayCluster":
                each["metadata"]["name"] = fresh
            else:
                status["activeServiceStatus"]["rayClusterName"] = fresh
        put(self.kube, {"objects": text})


def test_a_restart_goes_worker_by_worker(kube: KubernetesApi, api: Api) -> None:
    """Each worker is evicted, and the next one only once a new one is ready."""
    operator = Operator(kube, api, "releases/ready")
    operator.drain(drain.restart(ready(), "h100", None, None))
    assert not {FIRST, SECOND} & set(operator.workers())
    assert len(operator.workers()) == 2
    evictions = [path for verb, path, _ in kube.requests if path.endswith("/eviction")]
    assert [path.split("/")[-2] for path in evictions] == [FIRST, SECOND]
    assert operator.told == [
        f"{FIRST} ends its streams",
        f"{FIRST} is gone; its successor starts",
        f"{FIRST} is done",
        f"{SECOND} ends its streams",
        f"{SECOND} is gone; its successor starts",
        f"{SECOND} is done",
    ]


def test_a_stall_stops_it(kube: KubernetesApi, api: Api) -> None:
    """Where the successor finds no GPU, the second worker is left alone, and the reason is told."""
    operator = Operator(kube, api, "releases/ready")
    operator.broken = True
    with pytest.raises(DrainStoppedError, match="finds no node with 1 free GPU"):
        operator.drain(drain.restart(ready(), "h100", None, None))
    assert SECOND in operator.workers()


def test_a_disruption_budget_is_waited_for(kube: KubernetesApi, api: Api, told: list[str]) -> None:
    """An eviction that a budget forbids is tried again until it may go; for ever, it stops at the limit."""
    operator = Operator(kube, api, "releases/ready")
    kube.fail(429, 2, "TooManyRequests", resource="pods/eviction")
    operator.drain(drain.restart(ready(), None, FIRST, None))
    assert FIRST not in operator.workers()
    assert [text for text in told if "may not go yet" in text] == [
        f"{FIRST} may not go yet: ordered by the test: 429"
    ] * 2
    kube.fail(429, 999, "TooManyRequests", resource="pods/eviction")
    with pytest.raises(DrainStoppedError, match="may go was not so within 60 s"):
        operator.drain(drain.restart(ready(), None, SECOND, None), timeout_s=60)


def test_a_group_gives_its_workers(kube: KubernetesApi, api: Api) -> None:
    """Shrinking lowers the group in the running cluster alone, after a conflict again."""
    operator = Operator(kube, api, "stalls/upgrade-stuck")
    kube.fail(409, 1, "Conflict", verb="patch", resource="rayclusters")
    plan = drain.shrink(release("stalls/upgrade-stuck"), "h100", 1)
    operator.drain(plan)
    (group,) = operator.groups()
    assert (group["replicas"], group["minReplicas"], group["maxReplicas"]) == (1, 1, 2)
    assert not set(plan.workers) & set(operator.workers())
    assert "the Ray cluster was changed meanwhile: decided again" in operator.told


def test_others_that_change_it_all_the_time(kube: KubernetesApi, api: Api) -> None:
    """After five conflicts it gives up with nothing drained."""
    operator = Operator(kube, api, "stalls/upgrade-stuck")
    kube.fail(409, 99, "Conflict", verb="patch", resource="rayclusters")
    with pytest.raises(DrainStoppedError, match="nothing is drained"):
        operator.drain(drain.shrink(release("stalls/upgrade-stuck"), "h100", 1))
    assert operator.groups()[0]["replicas"] == 2


def test_the_cluster_is_built_anew(kube: KubernetesApi, api: Api) -> None:
    """Workers go first, then the Ray cluster; it is done once the new one serves."""
    operator = Operator(kube, api, "releases/ready")
    operator.drain(drain.rebuild(ready()))
    assert kube.names("RayCluster", NAMESPACE) == [f"{CLUSTER[:-5]}fresh"]
    assert "all workers are gone; the Ray cluster is built anew" in operator.told
    order = [(verb, path.rsplit("/", 1)[1]) for verb, path, _ in kube.requests if verb in {"patch", "delete"}]
    assert order == [("patch", CLUSTER), ("delete", CLUSTER)]
