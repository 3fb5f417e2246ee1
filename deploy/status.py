"""The state of a release on one screen: what is up, what is missing, and why. Pure."""

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from deploy import stalls
from deploy.api import Object
from deploy.names import COMPONENT_LABEL, GPU, PRODUCT_LABEL
from deploy.objects import at, condition, is_quantity, is_true, label, name, number, request
from deploy.release import Release, cluster
from deploy.stalls import Stall

_PERCENT = re.compile(r"(\d{1,3}(?:\.\d+)?) ?%")


@dataclass(frozen=True, slots=True)
class Condition:
    """One condition of the RayService."""

    kind: str
    status: str
    reason: str
    message: str
    current: bool
    """Whether it speaks of the RayService's present generation."""


@dataclass(frozen=True, slots=True)
class Application:
    """One pool as Serve sees it."""

    name: str
    side: str
    """``active``: it gets the traffic; ``pending``: an upgrade prepares it."""
    status: str
    message: str
    deployments: Mapping[str, str]
    """Status by deployment."""


@dataclass(frozen=True, slots=True)
class Group:
    """The workers of one group in one Ray cluster: a replica and a GPU each."""

    name: str
    side: str
    gpu: str
    """GPU product; empty where neither nodes nor the group tell."""
    gpus_each: int
    wanted: int
    running: int
    ready: int
    """Those on which a replica serves."""


@dataclass(frozen=True, slots=True)
class Part:
    """Gateway, limit store, or weights."""

    name: str
    ready: bool
    told: str
    percent: float | None = None
    """How far it is, where it tells."""


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a release."""

    release: str
    namespace: str
    installed: bool
    ready: bool
    generation: int
    observed_generation: int
    conditions: tuple[Condition, ...]
    applications: tuple[Application, ...]
    groups: tuple[Group, ...]
    parts: tuple[Part, ...]
    outdated: bool
    """Whether Ray's pods are of an older specification, which nothing will replace by itself."""
    stalls: tuple[Stall, ...]
    unread: tuple[str, ...]

    @property
    def settled(self) -> bool:
        """Whether waiting changes nothing: it is ready, not there, or stalls and does not mend itself."""
        return self.ready or not self.installed or any(stall.lasting for stall in self.stalls)

    @property
    def progress(self) -> float:
        """How much is up, in [0, 1]: parts, applications and workers count alike."""
        up = [1.0 if part.ready else (part.percent or 0.0) / 100 for part in self.parts]
        up += [float(each.status == "RUNNING") for each in self.applications]
        up += [group.ready / group.wanted for group in self.groups if group.wanted]
        return sum(up) / len(up) if up else 0.0


def decide(release: Release) -> Status:
    """Return the state of a release."""
    service = release.ray_service
    generation = int(at(service, "metadata", "generation") or 0)
    observed = int(at(service, "status", "observedGeneration") or 0)
    applications = tuple(_applications(release))
    parts = tuple(_parts(release))
    return Status(
        release=release.release,
        namespace=release.namespace,
        installed=bool(service or release.deployments),
        ready=service is not None
        and observed >= generation
        and is_true(service, "Ready")
        and not is_true(service, "UpgradeInProgress")
        and _all_run(service, applications)
        and all(part.ready for part in parts),
        generation=generation,
        observed_generation=observed,
        conditions=tuple(_conditions(service, generation)),
        applications=applications,
        groups=tuple(_groups(release)),
        parts=parts,
        outdated=_outdated(release),
        stalls=stalls.find(release),
        unread=release.unread,
    )


def _outdated(release: Release) -> bool:
    """Compare specs and images; an upgrade that is under way replaces the pods by itself.

    Specs alone do not tell: a new version of the operator writes the present one to a cluster of old pods.
    """
    active = release.ray_cluster("active")
    running = next((each for each in release.ray_clusters if name(each) == active), None)
    wanted = at(release.ray_service, "spec", "rayClusterConfig")
    if running is None or not wanted or release.ray_cluster("pending"):
        return False
    images = _images(wanted)
    old = [pod for pod in release.pods if cluster(pod) == active and not _first_images(pod) <= images]
    return bool(old) or bool(_pods_of(running["spec"]) != _pods_of(wanted))


def _images(spec: Object) -> set[str]:
    """Return the images of a Ray cluster's own containers."""
    groups = [spec.get("headGroupSpec") or {}, *(spec.get("workerGroupSpecs") or [])]
    return {image for group in groups for image in _first_images(group.get("template") or {})}


def _first_images(pod: Object) -> set[str]:
    """Return the image of a pod's Ray container, which is the first; the operator adds others."""
    return {str(each.get("image")) for each in (at(pod, "spec", "containers") or [])[:1]}


def _pods_of(spec: Object) -> Any:
    """Return a Ray cluster's spec without what never makes new pods: sizes of groups, and tolerations."""
    kept = copy.deepcopy(spec)
    groups = kept.get("workerGroupSpecs") or []
    for group in groups:
        for key in ("replicas", "minReplicas", "maxReplicas", "scaleStrategy"):
            group.pop(key, None)
    for group in (kept.get("headGroupSpec") or {}, *groups):
        (at(group, "template", "spec") or {}).pop("tolerations", None)
    return _meant(kept)


def _meant(value: Any) -> Any:
    """Return what a value means: the operator writes ``1`` as ``"1"``, and ``resources: {}`` for nothing."""
    if isinstance(value, dict):
        items = {key: _meant(each) for key, each in value.items()}
        return {key: each for key, each in items.items() if each}
    if isinstance(value, list):
        return [_meant(each) for each in value]
    return number(value) if is_quantity(value) else value


def _conditions(service: Object | None, generation: int) -> Iterator[Condition]:
    for each in at(service, "status", "conditions") or []:
        yield Condition(
            kind=str(each.get("type")),
            status=str(each.get("status")),
            reason=str(each.get("reason") or ""),
            message=str(each.get("message") or ""),
            current=int(each.get("observedGeneration") or 0) >= generation,
        )


def _all_run(service: Object, applications: tuple[Application, ...]) -> bool:
    """Whether each application of ``serveConfigV2`` runs in the active cluster."""
    running = {each.name for each in applications if each.side == "active" and each.status == "RUNNING"}
    return bool(running) and wanted_applications(service) <= running


def wanted_applications(service: Object | None) -> set[str]:
    """Return the applications that a RayService's ``serveConfigV2`` names."""
    return {str(each.get("name")) for each in serve_config(service).get("applications") or []}


def serve_config(service: Object | None) -> dict[str, Any]:
    """Return a RayService's ``serveConfigV2``; empty where there is none."""
    config = yaml.safe_load(at(service, "spec", "serveConfigV2") or "")
    return config if isinstance(config, dict) else {}


def _applications(release: Release) -> Iterator[Application]:
    told = set()
    for side in ("active", "pending"):
        known = at(release.ray_service, "status", f"{side}ServiceStatus", "applicationStatuses") or {}
        for application, state in sorted(known.items()):
            told.add(application)
            parts = state.get("serveDeploymentStatuses") or {}
            yield Application(
                name=application,
                side=side,
                status=str(state.get("status") or "?"),
                message=str(state.get("message") or ""),
                deployments={each: str(part.get("status") or "?") for each, part in sorted(parts.items())},
            )
    for application in sorted(wanted_applications(release.ray_service) - told):
        yield Application(application, "pending", "NOT_SUBMITTED", "", {})


def _groups(release: Release) -> Iterator[Group]:
    clusters = {name(each): each for each in release.ray_clusters}
    for side in ("active", "pending"):
        ray_cluster = release.ray_cluster(side)
        spec = at(clusters.get(ray_cluster), "spec") or at(release.ray_service, "spec", "rayClusterConfig")
        if not ray_cluster or not spec:
            continue
        for group in spec.get("workerGroupSpecs") or []:
            own = str(group.get("groupName"))
            pods = release.workers(ray_cluster, own)
            template = at(group, "template", "spec") or {}
            products = {release.gpus.get(str(at(pod, "spec", "nodeName"))) for pod in pods} - {None}
            declared = str(at(template, "nodeSelector", PRODUCT_LABEL) or "")
            yield Group(
                name=own,
                side=side,
                gpu=", ".join(sorted(str(each) for each in products)) or declared,
                gpus_each=int(request(template, GPU)),
                wanted=int(group.get("replicas") or group.get("minReplicas") or 0),
                running=sum(at(pod, "status", "phase") == "Running" for pod in pods),
                ready=sum(is_true(pod, "Ready") for pod in pods),
            )


def _parts(release: Release) -> Iterator[Part]:
    yield _gateway(release)
    yield _limits(release)
    yield _weights(release)


def _gateway(release: Release) -> Part:
    own = next((each for each in release.deployments if label(each, COMPONENT_LABEL) == "gateway"), None)
    if own is None:
        return Part("gateway", False, "no Deployment")
    wanted, ready = int(at(own, "spec", "replicas") or 1), int(at(own, "status", "readyReplicas") or 0)
    updated = int(at(own, "status", "updatedReplicas") or 0)
    seen = int(at(own, "status", "observedGeneration") or 0) >= int(at(own, "metadata", "generation") or 0)
    told = f"{ready} of {wanted} ready" + (
        "" if updated >= wanted and seen else f", {updated} of this version"
    )
    return Part("gateway", ready >= wanted and updated >= wanted and seen, told, 100 * min(1, ready / wanted))


def _limits(release: Release) -> Part:
    own = [each for each in release.stateful_sets if label(each, COMPONENT_LABEL) == "redis"]
    if not own:
        return Part("limit store", True, "not in this release: another Redis, or each gateway's memory")
    wanted = sum(int(at(each, "spec", "replicas") or 1) for each in own)
    ready = sum(int(at(each, "status", "readyReplicas") or 0) for each in own)
    return Part("limit store", ready >= wanted, f"{ready} of {wanted} ready", 100 * min(1, ready / wanted))


def _weights(release: Release) -> Part:
    pending = [name(each) for each in release.claims if at(each, "status", "phase") == "Pending"]
    if pending:
        return Part("weights", False, f"PVC {', '.join(pending)} has no volume yet")
    job = next((each for each in release.jobs if label(each, COMPONENT_LABEL) == "prefetch"), None)
    if job is None:
        return Part("weights", True, "no prefetch Job: in place, or checked before its removal")
    if is_true(job, "Complete"):
        return Part("weights", True, "copied and checked")
    if is_true(job, "Failed"):
        return Part("weights", False, str(condition(job, "Failed").get("message") or "the prefetch failed"))
    lines = release.prefetch_log.strip().splitlines()
    found = _PERCENT.findall(lines[-1]) if lines else []
    return Part(
        "weights", False, lines[-1] if lines else "prefetch begins", float(found[-1]) if found else None
    )
