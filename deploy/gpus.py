"""Whether the GPUs that pods want are there, and free. Pure."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from deploy.api import Object
from deploy.names import CLUSTER_LABEL, GPU, PRODUCT_LABEL
from deploy.objects import at, is_true, label, name, number, request
from deploy.site import Site
from deploy.wishes import PodWish, Wishes


@dataclass(frozen=True, slots=True)
class Shortage:
    """Pods with GPUs that do not all fit."""

    owner: str
    selector: Mapping[str, str]
    gpus_each: int
    wanted: int
    possible: int
    """Pods that fit if nobody else used the nodes."""
    free: int
    """Pods that fit now; pods of the same RayService count as gone, as its new ones take their place."""


def shortages(site: Site, wishes: Wishes) -> Iterator[Shortage]:
    """Yield the templates whose pods do not all fit, placed one template after the other."""
    nodes = list(site.nodes or ())
    own = tuple(f"{each}-" for each in wishes.ray_services)
    taken = used(pod for pod in site.pods or () if not label(pod, CLUSTER_LABEL).startswith(own))
    total = {name(node): int(number(at(node, "status", "allocatable", GPU))) for node in nodes}
    free = {node: count - taken[node] for node, count in total.items()}
    for wish in wishes.pods:
        if not wish.gpus_each or not wish.replicas:
            continue
        fitting = [name(node) for node in nodes if _takes(node, wish.spec)]
        possible, now = _place(wish, fitting, total), _place(wish, fitting, free)
        if now < wish.replicas:
            selector = {str(k): str(v) for k, v in (wish.spec.get("nodeSelector") or {}).items()}
            yield Shortage(wish.owner, selector, wish.gpus_each, wish.replicas, possible, now)


def used(pods: Iterable[Object]) -> Counter[str]:
    """Return the GPUs that pods hold, by node."""
    held: Counter[str] = Counter()
    for pod in pods:
        if node := at(pod, "spec", "nodeName"):
            held[str(node)] += int(request(pod["spec"], GPU))
    return held


@dataclass(frozen=True, slots=True)
class Stock:
    """The GPUs of one product."""

    product: str
    total: int
    free: int


def stock(nodes: Iterable[Object], pods: Iterable[Object]) -> list[Stock]:
    """Return how many GPUs of each product there are, and how many no pod holds."""
    held = used(pods)
    total, taken = Counter[str](), Counter[str]()
    for node in nodes:
        if count := int(number(at(node, "status", "allocatable", GPU))):
            product = label(node, PRODUCT_LABEL) or "of no labelled product"
            total[product] += count
            taken[product] += held[name(node)]
    return [Stock(product, count, count - taken[product]) for product, count in sorted(total.items())]


def _place(wish: PodWish, nodes: Iterable[str], room: dict[str, int]) -> int:
    """Place pods where there is room, take it, and return how many found a place."""
    placed = 0
    for node in nodes:
        here = min(max(0, room[node]) // wish.gpus_each, wish.replicas - placed)
        room[node] -= here * wish.gpus_each
        placed += here
    return placed


def _takes(node: Object, spec: Object) -> bool:
    """Whether a node would take such a pod: selector, taints, readiness, and its size in CPU and memory."""
    labels = at(node, "metadata", "labels") or {}
    chosen = all(
        str(labels.get(key)) == str(value) for key, value in (spec.get("nodeSelector") or {}).items()
    )
    large = all(
        request(spec, kind) <= number(at(node, "status", "allocatable", kind)) for kind in ("cpu", "memory")
    )
    taints = [
        taint for taint in at(node, "spec", "taints") or [] if taint.get("effect") != "PreferNoSchedule"
    ]
    tolerated = all(_tolerates(spec, taint) for taint in taints)
    return chosen and large and tolerated and is_true(node, "Ready") and not at(node, "spec", "unschedulable")


def _tolerates(spec: Object, taint: Mapping[str, Any]) -> bool:
    for each in spec.get("tolerations") or []:
        if each.get("effect") not in (None, "", taint.get("effect")):
            continue
        if each.get("operator") == "Exists":
            if each.get("key") in (None, "", taint.get("key")):
                return True
        elif each.get("key") == taint.get("key") and (each.get("value") or "") == (taint.get("value") or ""):
            return True
    return False
