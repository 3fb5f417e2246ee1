"""Stalls of the operator and of the RayService as a whole: nothing is made, or it takes too long."""

import re
from collections.abc import Iterator

from deploy.names import NODE_TYPE_LABEL
from deploy.objects import age_s, at, condition, is_true, label, name, span
from deploy.release import Release, cluster
from deploy.stalls.words import (
    OPERATOR_S,
    PATIENCE_S,
    Stall,
    about,
    events,
    one_line,
    pod_words,
)

UPGRADE_S = 1800.0
"""Seconds that an upgrade may take: weights are loaded once more in it."""


def crd(release: Release) -> Iterator[Stall]:
    """Tell that the API knows no RayService."""
    if not release.crd:
        yield Stall(
            "crd-missing",
            "this cluster does not know ray.io/v1 RayService",
            "Install the KubeRay operator 1.7 with its CRDs, then install the chart again",
            True,
        )


def operator(release: Release) -> Iterator[Stall]:
    """Tell that nobody acts on the RayService."""
    service = release.ray_service
    if service is None or at(service, "status", "observedGeneration") == at(
        service, "metadata", "generation"
    ):
        return
    unseen_s = age_s(at(service, "metadata", "creationTimestamp"), release.now)
    if release.operator is False or (not at(service, "status") and unseen_s > OPERATOR_S):
        yield Stall(
            "operator-absent",
            f"no KubeRay operator acts on RayService {name(service)}",
            "Install the operator, or let the one that runs watch this namespace (its watchNamespace)",
            True,
        )


def invalid(release: Release) -> Iterator[Stall]:
    """Tell why the operator refuses the spec."""
    ready = condition(release.ray_service, "Ready")
    if ready.get("reason") == "ValidationFailed":
        yield Stall(
            "spec-refused",
            f"the operator refuses the RayService: {one_line(ready.get('message'))}",
            "Correct the values and run helm upgrade",
            True,
        )


def suspended(release: Release) -> Iterator[Stall]:
    """Tell that somebody has switched the RayService off."""
    if at(release.ray_service, "spec", "suspend") or is_true(release.ray_service, "Suspended"):
        yield Stall(
            "suspended",
            f"RayService {release.fullname} is suspended",
            "Set its spec.suspend to false to serve again",
            True,
        )


_CREATION = {"FailedCreate", "FailedToCreateHeadPod", "FailedToCreateWorkerPod"}
_QUOTA = re.compile(r"exceeded quota: ([^,]+), requested: (\S+?), used: (\S+?), limited: (\S+)")
_SECURITY = re.compile(r'violates PodSecurity "([^"]+)": (.*)')


def refused_pods(release: Release) -> Iterator[Stall]:
    """Pods that the API does not let their controllers create."""
    for event in events(release, _CREATION):
        maker, message = f"{about(event)}", str(event.get("message"))
        if quota := _QUOTA.search(message):
            yield Stall(
                "quota",
                f"{maker} may create no pod: quota {quota[1]} allows {quota[4]}, {quota[3]} are used, "
                f"{quota[2]} more are asked for",
                f"Raise ResourceQuota {quota[1]} in {release.namespace}, or ask for fewer replicas",
                True,
            )
        elif security := _SECURITY.search(message):
            yield Stall(
                "pod-security",
                f"{maker} may create no pod: Pod Security {security[1]} forbids {one_line(security[2])}",
                "Restore the chart's securityContext values, or label the namespace for a lower level",
                True,
            )
        else:
            yield Stall(
                "pod-refused", f"{maker} may create no pod: {one_line(message)}", "Mend what it names", True
            )


def cut_off(release: Release) -> Iterator[Stall]:
    """Tell that the operator does not get through to a ready Ray head: it says so in its log alone."""
    for side in ("pending", "active"):
        ray_cluster = release.ray_cluster(side)
        for pod in release.pods:
            if not ray_cluster or cluster(pod) != ray_cluster or label(pod, NODE_TYPE_LABEL) != "head":
                continue
            ready_s = age_s(condition(pod, "Ready").get("lastTransitionTime"), release.now)
            silent = not at(release.ray_service, "status", f"{side}ServiceStatus", "applicationStatuses")
            if silent and is_true(pod, "Ready") and ready_s > PATIENCE_S:
                yield Stall(
                    "operator-cut-off",
                    f"{pod_words(pod)} has been ready for {span(ready_s)}, and the operator has not told it "
                    "what to serve",
                    "Let networkPolicy.operator name the operator's namespace (port 8265); its log says "
                    "whether that is it, or a Ray token that it does not hold",
                    True,
                )


def timeout(release: Release) -> Iterator[Stall]:
    """Tell that the operator has given up."""
    if condition(release.ray_service, "Ready").get("reason") == "InitializingTimeout":
        yield Stall(
            "initializing-timeout",
            "the operator has given the RayService up: it did not come up within ray.io/initializing-timeout",
            f"Mend the cause, then delete RayService {release.fullname} and run helm upgrade",
            True,
        )


def upgrade(release: Release) -> Iterator[Stall]:
    """Tell of an upgrade that takes long."""
    state = condition(release.ray_service, "UpgradeInProgress")
    aged_s = age_s(state.get("lastTransitionTime"), release.now)
    if state.get("status") == "True" and aged_s > UPGRADE_S:
        yield Stall(
            "upgrade-slow",
            f"the upgrade to {release.ray_cluster('pending')} has taken {span(aged_s)}",
            "Look at its applications above; helm rollback returns to the running cluster",
            False,
        )
