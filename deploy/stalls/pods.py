"""Stalls of pods: they get no node, no image, no volume, or do not stay up."""

import re
from collections.abc import Iterator

from deploy.api import Object
from deploy.names import COMPONENT_LABEL, GPU, PRODUCT_LABEL
from deploy.objects import age_s, at, condition, containers, is_true, label, name, request, span, statuses
from deploy.release import Release, cluster
from deploy.stalls.words import (
    OPERATOR_S,
    PATIENCE_S,
    RESTARTS,
    Stall,
    aged_s,
    events,
    last_words,
    memory_limit,
    never_again,
    of_token,
    one_line,
    pod_words,
    scheduler_words,
)

WEIGHTS = "weights"
"""The chart's init container that waits for the marker beside the weights."""
INIT_S = 600.0
"""Seconds that an init container may take: it waits for the head, or checks 60 GB of weights."""


def images(release: Release) -> Iterator[Stall]:
    """Tell which images cannot be pulled, and why."""
    for pod in release.pods:
        for status, _ in statuses(pod):
            waiting = at(status, "state", "waiting") or {}
            if waiting.get("reason") not in {"ImagePullBackOff", "ErrImagePull", "InvalidImageName"}:
                continue
            failures = [str(event.get("message")) for event in events(release, {"Failed"}, pod)]
            told = " ".join([str(waiting.get("message")), *failures])
            image = str(status.get("image") or _image(pod, str(status.get("name"))))
            why, mend, lasting = _pull(told, image)
            lasting = lasting or aged_s(release, pod) > PATIENCE_S
            yield Stall("image-pull", f"{pod_words(pod)} cannot pull {image}: {why}", mend, lasting)


def _pull(told: str, image: str) -> tuple[str, str, bool]:
    """Return why a pull failed, its mend, and whether waiting is in vain."""
    registry, words = image.split("/", maxsplit=1)[0], told.lower()
    if "not found" in words or "manifest unknown" in words or "notfound" in words:
        return "the registry has no such image", f"Load it into {registry}, or correct the digest", True
    if any(word in words for word in ("unauthorized", "authentication required", "denied", "forbidden")):
        return (
            "the registry refuses this cluster",
            f"Name a pull Secret for {registry}: global.imagePullSecrets",
            True,
        )
    if "x509" in words or "certificate" in words:
        return "the nodes do not trust the registry's certificate", f"Give the nodes {registry}'s CA", True
    if "no such host" in words:
        return "the registry's name does not resolve", "Set global.imageRegistry to the site's registry", True
    return "the registry does not answer", f"See whether the nodes reach {registry}", False


def _image(pod: Object, container: str) -> str:
    return next(
        (str(each.get("image")) for each in containers(pod["spec"]) if each.get("name") == container),
        "its image",
    )


_MISSING = re.compile(
    r'(secret|configmap) "([^"]+)" not found|couldn\'t find key (\S+) in (Secret|ConfigMap) (\S+)'
)


def missing_references(release: Release) -> Iterator[Stall]:
    """Tell which Secrets and ConfigMaps a pod needs and that are not there, or lack a key."""
    for pod in release.pods:
        told = [
            str(at(status, "state", "waiting", "message"))
            for status, _ in statuses(pod)
            if at(status, "state", "waiting", "reason") == "CreateContainerConfigError"
        ]
        if at(pod, "status", "phase") == "Pending":
            told += [str(event.get("message")) for event in events(release, {"FailedMount"}, pod)]
        for message in told:
            if found := _MISSING.search(message):
                what = f"{found[4]} {found[5]}, which has no key {found[3]}"
                if found[2]:
                    what = f"{found[1]} {found[2]}, which is not there"
                yield Stall(
                    "reference-missing",
                    f"{pod_words(pod)} needs {what}",
                    "Create it, or correct its name in the values; gpt-oss-cluster preflight lists them all",
                    True,
                )


def claims(release: Release) -> Iterator[Stall]:
    """Tell which claims get no volume."""
    for claim in release.claims:
        if at(claim, "status", "phase") != "Pending":
            continue
        told = [event for event in events(release, None, claim) if event.get("type") == "Warning"]
        waits = any(event.get("reason") == "WaitForFirstConsumer" for event in events(release, None, claim))
        old_s = aged_s(release, claim)
        if not told and (waits or old_s < OPERATOR_S):
            continue
        why = one_line(told[-1].get("message")) if told else f"no volume for {span(old_s)}"
        storage = at(claim, "spec", "storageClassName") or "the default"
        yield Stall(
            "claim-pending",
            f"PVC {name(claim)} (storage class {storage}) has no volume: {why}",
            "Set modelStorage to a storage class that can give it, or to a claim that is bound",
            bool(told) or old_s > PATIENCE_S,
        )


def memory(release: Release) -> Iterator[Stall]:
    """Tell which containers were killed at their memory limit."""
    for pod in release.pods:
        for status, _ in statuses(pod):
            ended = at(status, "lastState", "terminated") or at(status, "state", "terminated") or {}
            if ended.get("reason") == "OOMKilled" and not status.get("ready"):
                limit = memory_limit(pod, str(status.get("name")))
                yield Stall(
                    "out-of-memory",
                    f"{pod_words(pod)} was killed at its memory limit of {limit}",
                    "Raise that limit in the values: weights, /dev/shm and page cache all count against it",
                    int(status.get("restartCount") or 0) >= RESTARTS or never_again(pod),
                )


def crashes(release: Release) -> Iterator[Stall]:
    """Tell which containers end again and again; the prefetch has a line of its own."""
    for pod in release.pods:
        if label(pod, COMPONENT_LABEL) == "prefetch":
            continue
        for status, _ in statuses(pod):
            if at(status, "state", "waiting", "reason") != "CrashLoopBackOff":
                continue
            ended = at(status, "lastState", "terminated") or {}
            words = list(last_words(pod))
            if ended.get("reason") == "OOMKilled" or any(of_token(each) for each in words):
                continue  # these have a line of their own
            yield Stall(
                "crash-loop",
                f"{pod_words(pod)} ended {status.get('restartCount')} times "
                f"(exit status {ended.get('exitCode')})"
                + (f": {one_line(words[-1].splitlines()[-1])}" if words else ""),
                f"kubectl logs --previous -n {release.namespace} {name(pod)} -c {status.get('name')}",
                int(status.get("restartCount") or 0) >= RESTARTS,
            )


def unscheduled(release: Release) -> Iterator[Stall]:
    """Tell which pods get no node; those of an upgrade wait for GPUs that the running cluster holds."""
    active, pending = release.ray_cluster("active"), release.ray_cluster("pending")
    waiting = [
        pod
        for pod in release.pods
        if condition(pod, "PodScheduled").get("reason") == "Unschedulable"
        and "PersistentVolumeClaim" not in scheduler_words(pod)  # the claim has a line of its own
    ]
    for_gpu = [pod for pod in waiting if request(pod["spec"], GPU)]
    upgrade = [pod for pod in for_gpu if active and pending and cluster(pod) == pending]
    if upgrade:
        gpus = sum(int(request(pod["spec"], GPU)) for pod in upgrade)
        yield Stall(
            "upgrade-stuck",
            f"the upgrade waits for {gpus} GPUs that the running cluster {active} holds",
            "Free them group by group: gpt-oss-cluster drain GROUP --keep N; or undo with helm rollback",
            max(aged_s(release, pod) for pod in upgrade) > PATIENCE_S,
        )
    for pod in for_gpu:
        if pod in upgrade:
            continue
        where = at(pod, "spec", "nodeSelector", PRODUCT_LABEL)
        yield Stall(
            "no-gpu",
            f"{pod_words(pod)} finds no node with {int(request(pod['spec'], GPU))} free GPU"
            + (f" of {where}" if where else "")
            + f": {scheduler_words(pod)}",
            "Compare the group's nodeSelector and tolerations with the nodes, or free a GPU",
            aged_s(release, pod) > PATIENCE_S,
        )
    for pod in waiting:
        if pod not in for_gpu:
            yield Stall(
                "unschedulable",
                f"{pod_words(pod)} finds no node: {scheduler_words(pod)}",
                "Compare what it asks for with what the nodes have free",
                aged_s(release, pod) > PATIENCE_S,
            )


def init(release: Release) -> Iterator[Stall]:
    """Tell which init containers wait too long."""
    for pod in release.pods:
        for status, is_init in statuses(pod):
            since = at(status, "state", "running", "startedAt")
            if not is_init or not since or age_s(since, release.now) < INIT_S:
                continue
            yield from _initializing(release, pod, str(status.get("name")), span(age_s(since, release.now)))


def _initializing(release: Release, pod: Object, container: str, aged: str) -> Iterator[Stall]:
    if container == "wait-gcs-ready":
        yield Stall(
            "init-stuck",
            f"{pod_words(pod)} has waited {aged} for the Ray head",
            "See whether the head is ready, and whether NetworkPolicies let workers reach it",
            True,
        )
    elif any(at(job, "status", "active") for job in release.jobs):
        return  # it waits for the weights, which are being copied
    elif container == WEIGHTS:
        yield Stall(
            "weights-missing",
            f"{pod_words(pod)} has waited {aged} for weights that nobody brings",
            "Set prefetch.url to a bundle, or fill the volume: gpt-oss-cluster bundle load",
            True,
        )
    else:
        yield Stall(
            "init-stuck",
            f"{pod_words(pod)} has been in init container {container} for {aged}",
            f"kubectl logs -n {release.namespace} {name(pod)} -c {container}",
            True,
        )


def gateway(release: Release) -> Iterator[Stall]:
    """Tell which gateways run and are not ready."""
    for pod in release.component("gateway"):
        if at(pod, "status", "phase") != "Running" or is_true(pod, "Ready"):
            continue
        started = [at(status, "state", "running", "startedAt") for status, _ in statuses(pod)]
        old_s = max((age_s(each, release.now) for each in started), default=0.0)
        if old_s < OPERATOR_S:
            continue
        told = [str(event.get("message")) for event in events(release, {"Unhealthy"}, pod)]
        why = one_line(told[-1]) if told else "its readiness probe fails"
        yield Stall(
            "gateway-not-ready",
            f"{pod_words(pod)} has not been ready for {span(old_s)}: {why}",
            "/readyz is 503 until settings and keys are loaded: "
            f"kubectl logs -n {release.namespace} {name(pod)}",
            old_s > PATIENCE_S,
        )
