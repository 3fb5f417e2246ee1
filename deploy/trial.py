"""What the API would say to an install: rights by review, objects by ``dryRun=All``; nothing is written."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from deploy import names
from deploy.api import Api, ApiError, ForbiddenError, Object, UnreachableError
from deploy.objects import at, name
from deploy.reader import Reader
from deploy.wishes import PodWish, Wishes

VERBS = ("get", "create", "patch", "delete")
"""What Helm does with each kind."""


@dataclass(frozen=True, slots=True)
class Resource:
    """Where the API keeps a kind."""

    plural: str
    namespaced: bool


@dataclass(frozen=True, slots=True)
class Refusal:
    """What the API said to an object that was only tried (``dryRun=All``)."""

    what: str
    message: str


Resources = Mapping[tuple[str, str], Resource]
"""By ``apiVersion`` and kind."""


def denied(api: Api, reader: Reader, kinds: Iterable[tuple[str, str]], resources: Resources) -> Iterator[str]:
    """Yield the rights that an install takes and this account lacks."""
    for version, kind in kinds:
        resource = resources.get((version, kind))
        if resource is None:
            continue
        group = version.split("/")[0] if "/" in version else ""
        reviews = {verb: partial(_review, api, verb, group, resource) for verb in VERBS}
        lacking = [verb for verb, review in reviews.items() if reader.allowed(review) is False]
        if lacking:
            where = f" in {api.namespace}" if resource.namespaced else ""
            yield f"{', '.join(lacking)} {resource.plural}{'.' + group if group else ''}{where}"


def _review(api: Api, verb: str, group: str, resource: Resource) -> bool:
    attributes = {"verb": verb, "group": group, "resource": resource.plural}
    if resource.namespaced:
        attributes["namespace"] = api.namespace
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    answer = api.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body)
    return bool(at(answer, "status", "allowed"))


def refusals(api: Api, reader: Reader, wishes: Wishes, resources: Resources) -> Iterator[Refusal]:
    """Yield what the API refuses: of the objects, and of the pods as their controllers would make them."""
    for each in wishes.objects:
        resource = resources.get((str(each["apiVersion"]), str(each["kind"])))
        if resource is None:
            continue  # that the kind is unknown is told once
        namespace = str(at(each, "metadata", "namespace") or api.namespace) if resource.namespaced else ""
        path = f"{names.path(str(each['apiVersion']), resource.plural, namespace)}/{name(each)}"
        yield from _tried(reader, f"{each['kind']} {name(each)}", partial(_apply, api, path, each))
    for pod in wishes.pods:
        yield from _tried(reader, f"a pod of {pod.owner}", partial(_make, api, pod))


def _apply(api: Api, path: str, item: Object) -> None:
    api.apply(path, item, dryRun="All", force="true", fieldValidation="Strict")


def _make(api: Api, wish: PodWish) -> None:
    """Try a pod; under the default account, as its own is made by the same install."""
    spec = {key: value for key, value in wish.spec.items() if key != "serviceAccountName"}
    metadata = {"generateName": "preflight-", "labels": wish.metadata.get("labels") or {}}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    api.create(names.core(api.namespace, "pods"), body, dryRun="All", fieldValidation="Strict")


def _tried(reader: Reader, what: str, act: Callable[[], None]) -> Iterator[Refusal]:
    """Yield why the API refuses; that this account may not even try is told as unread."""
    try:
        act()
    except UnreachableError:
        raise
    except ApiError as error:
        if isinstance(error, ForbiddenError) and " cannot " in str(error):
            reader.unread.append(f"not tried: {what}: {error.text}")
        else:
            yield Refusal(what, error.text)
