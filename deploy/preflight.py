"""Is a cluster ready for an install: what is wrong or in doubt, each with its mend. Pure."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from deploy import gpus
from deploy.api import Object
from deploy.names import PRODUCT_LABEL
from deploy.objects import at, containers, is_true, name
from deploy.site import CLASSES, RAY_SERVICE, Site
from deploy.wishes import Wishes

OLDEST_KUBERNETES = (1, 30)
"""Oldest minor that the chart's objects are checked against."""
OLDEST_OPERATOR = (1, 7)
"""KubeRay whose RayService can be suspended, and whose checks the chart is tested with."""
_VERSION = re.compile(r"v?(\d+)\.(\d+)")

Level = Literal["error", "warning", "unknown"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong (``error``), will be (``warning``), or could not be looked at (``unknown``)."""

    level: Level
    code: str
    what: str
    mend: str


Rule = Callable[[Site, Wishes], Iterator[Finding]]


def decide(site: Site, wishes: Wishes) -> tuple[Finding, ...]:
    """Return every finding, errors first."""
    found = [finding for rule in RULES for finding in rule(site, wishes)]
    order: list[Level] = ["error", "warning", "unknown"]
    return tuple(sorted(found, key=lambda finding: order.index(finding.level)))


def _kubernetes(site: Site, _: Wishes) -> Iterator[Finding]:
    if (version := _minor(site.version)) and version < OLDEST_KUBERNETES:
        yield Finding(
            "error",
            "kubernetes-old",
            f"the API is Kubernetes {site.version}",
            f"Upgrade to {'.'.join(map(str, OLDEST_KUBERNETES))} at least",
        )


_OWNERS: Mapping[str, tuple[str, str]] = {
    "ray.io": ("crd-missing", "Install the KubeRay operator 1.7 with its CRDs"),
    "monitoring.coreos.com": (
        "prometheus-operator-missing",
        "Install the Prometheus operator, or switch off monitoring.serviceMonitor, .podMonitor and .rules",
    ),
    "cert-manager.io": (
        "cert-manager-missing",
        "Install cert-manager, or name a TLS Secret of your own in tls",
    ),
    "gateway.networking.k8s.io": (
        "gateway-api-missing",
        "Install the Gateway API and an implementation, or use ingress in place of httpRoute",
    ),
}


def _kinds(site: Site, wishes: Wishes) -> Iterator[Finding]:
    for version, kind in sorted({*wishes.kinds, RAY_SERVICE}):
        if (version, kind) not in site.resources:
            code, mend = _OWNERS.get(
                version.split("/", maxsplit=1)[0], ("kind-unserved", "Install what brings this kind")
            )
            yield Finding("error", code, f"the API does not know {kind} of {version}", mend)


def _operator(site: Site, _: Wishes) -> Iterator[Finding]:
    if RAY_SERVICE not in site.resources or site.operators is None:
        return
    here = [each for each in site.operators if _watches(each, site.namespace)]
    if not site.operators:
        yield Finding(
            "error",
            "operator-missing",
            "the CRDs are there, but no KubeRay operator is",
            "Install the KubeRay operator 1.7",
        )
    elif not here:
        yield Finding(
            "error",
            "operator-elsewhere",
            f"the KubeRay operator does not watch namespace {site.namespace}",
            f"Add {site.namespace} to its watchNamespace",
        )
    elif not any(is_true(each, "Available") for each in here):
        yield Finding(
            "error",
            "operator-down",
            f"the KubeRay operator {name(here[0])} is not available",
            f"kubectl describe deployment -n {at(here[0], 'metadata', 'namespace')} {name(here[0])}",
        )
    for each in here:
        version = _minor(_operator_version(each))
        if version and version < OLDEST_OPERATOR:
            yield Finding(
                "error",
                "operator-old",
                f"the KubeRay operator is {'.'.join(map(str, version))}",
                "Upgrade it to 1.7, and its CRDs with it: helm upgrade leaves CRDs as they are",
            )


def _crd(site: Site, _: Wishes) -> Iterator[Finding]:
    if site.ray_service_fields is not None and "suspend" not in site.ray_service_fields:
        yield Finding(
            "error",
            "crd-old",
            "the RayService CRD is older than KubeRay 1.7",
            "Apply the CRDs of the operator's version: helm upgrade leaves CRDs as they are",
        )


def _namespace(site: Site, _: Wishes) -> Iterator[Finding]:
    if not site.exists:
        yield Finding(
            "warning",
            "namespace-missing",
            f"there is no namespace {site.namespace}, so nothing could be tried in it",
            f"kubectl create namespace {site.namespace}, label it, and run preflight again",
        )
    elif site.labels is not None and "pod-security.kubernetes.io/enforce" not in site.labels:
        yield Finding(
            "warning",
            "pod-security-unset",
            f"namespace {site.namespace} enforces no Pod Security level",
            f"kubectl label namespace {site.namespace} pod-security.kubernetes.io/enforce=restricted",
        )


def _gpus(site: Site, wishes: Wishes) -> Iterator[Finding]:
    if site.nodes is None:
        return
    for short in gpus.shortages(site, wishes):
        where = short.selector.get(PRODUCT_LABEL) or "any product"
        wanted = f"{short.owner} wants {short.wanted} pods with {short.gpus_each} GPU each of {where}"
        if short.possible < short.wanted:
            there = (
                ", ".join(f"{each.total} x {each.product}" for each in gpus.stock(site.nodes, ())) or "none"
            )
            yield Finding(
                "error",
                "gpu-missing",
                f"{wanted}; nodes that would take them have room for {short.possible}. GPUs here: {there}",
                "Correct the group's nodeSelector, tolerations or replicas",
            )
        else:
            yield Finding(
                "warning",
                "gpu-taken",
                f"{wanted}, and {short.free} of them fit what is free now",
                "Free GPUs, or start with fewer replicas",
            )


def _storage(site: Site, wishes: Wishes) -> Iterator[Finding]:
    for claim, phase in site.claims.items():
        if phase is None:
            yield Finding(
                "error", "claim-missing", f"PVC {claim} is not there", "Create it, or correct modelStorage"
            )
        elif phase == "Lost":
            yield Finding("error", "claim-lost", f"PVC {claim} has lost its volume", "Restore the volume")
    known = site.storage_classes
    if known is None:
        return
    for wanted in sorted(wishes.storage_classes):
        if wanted and wanted not in known:
            yield Finding(
                "error",
                "storage-class-missing",
                f"there is no storage class {wanted}",
                f"Use one of: {', '.join(sorted(known)) or 'none is there'}",
            )
        elif not wanted and True not in known.values():
            yield Finding(
                "error",
                "storage-class-default",
                "a claim wants the default storage class, and none is the default",
                f"Name one of: {', '.join(sorted(known)) or 'none is there'}",
            )


def _secrets(site: Site, wishes: Wishes) -> Iterator[Finding]:
    for secret, keys in sorted(wishes.secrets.items()):
        if secret not in site.secrets:
            continue  # it could not be read, which is a finding of its own
        there = site.secrets[secret]
        if there is None:
            listed = f" with {', '.join(sorted(keys))}" if keys else ""
            yield Finding(
                "error",
                "secret-missing",
                f"Secret {secret} is not there",
                f"Create it in {site.namespace}{listed}",
            )
        elif lacking := sorted(keys - there):
            yield Finding(
                "error",
                "secret-key-missing",
                f"Secret {secret} has no {', '.join(lacking)}",
                "Add what is missing; an entry's name is the one that the values say",
            )


def _classes(site: Site, wishes: Wishes) -> Iterator[Finding]:
    for kind, (_, field) in CLASSES.items():
        there = site.classes.get(kind)
        for each in sorted(wishes.classes(field) - there) if there is not None else ():
            yield Finding(
                "error",
                "class-missing",
                f"there is no {kind} {each}",
                f"Use one of: {', '.join(sorted(there or ())) or 'none is there'}",
            )


def _rights(site: Site, _: Wishes) -> Iterator[Finding]:
    for right in site.denied:
        yield Finding(
            "error",
            "right-missing",
            f"this account may not {right}",
            "Ask the cluster's administrator for it",
        )


def _tried(site: Site, _: Wishes) -> Iterator[Finding]:
    for refusal in site.refusals:
        security = "violates PodSecurity" in refusal.message
        yield Finding(
            "error",
            "pod-security" if security else "refused",
            f"the API refuses {refusal.what}: {refusal.message}",
            "Restore the chart's securityContext, or label the namespace for a lower level"
            if security
            else "Mend what it names",
        )


def _unread(site: Site, _: Wishes) -> Iterator[Finding]:
    for text in dict.fromkeys(site.unread):
        yield Finding("unknown", "unread", text, "Run preflight with an account that may, or look yourself")


RULES: tuple[Rule, ...] = (
    _kubernetes,
    _kinds,
    _operator,
    _crd,
    _namespace,
    _gpus,
    _storage,
    _secrets,
    _classes,
    _rights,
    _tried,
    _unread,
)


def operator_versions(site: Site) -> list[str]:
    """Return the versions of the KubeRay operators that watch the namespace, by their images' tags."""
    here = [each for each in site.operators or () if _watches(each, site.namespace)]
    return sorted({_operator_version(each) for each in here})


def _minor(version: str) -> tuple[int, int] | None:
    found = _VERSION.match(version)
    return (int(found[1]), int(found[2])) if found else None


def _operator_version(deployment: Object) -> str:
    """Return an operator's image tag, as its releases are named; empty where there is a digest alone."""
    spec = at(deployment, "spec", "template", "spec") or {}
    image = str(next(iter(containers(spec)), {}).get("image") or "")
    return image.partition("@")[0].rpartition("/")[2].partition(":")[2]


def _watches(deployment: Object, namespace: str) -> bool:
    """Whether an operator watches a namespace: all of them, unless its arguments name some."""
    spec = at(deployment, "spec", "template", "spec") or {}
    words = [str(word) for each in containers(spec) for word in each.get("args") or []]
    for index, word in enumerate(words):
        flag, _, value = word.lstrip("-").partition("=")
        if flag == "watch-namespace":
            watched = value or (words[index + 1] if index + 1 < len(words) else "")
            return namespace in watched.split(",") or not watched
    return True
