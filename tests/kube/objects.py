"""The life of an object: made, changed, checked, stored, given a status, deleted with what it owns."""

import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.kube import controllers, ownership
from tests.kube.controllers import Fate
from tests.kube.defaults import filled
from tests.kube.kinds import Catalog, Kind
from tests.kube.rules import UNREADABLE, broken
from tests.kube.schemas import Schemas, Shape, broken_rules
from tests.kube.status import ApiError, Cause, Object, bad_request, conflict, invalid, not_found
from tests.kube.store import Store

_SERVERS_OWN = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "selfLink")
_MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


@dataclass(frozen=True)
class Write:
    """How an object is written."""

    manager: str
    subresource: str = ""
    dry_run: bool = False


class Objects:
    """All objects of one cluster, and the only way to change them."""

    def __init__(self, catalog: Catalog, minor: str) -> None:
        self.store = Store()
        self.catalog = catalog
        self._schemas = Schemas(minor)
        self._shapes: dict[Kind, Shape] = {}
        self._fates: dict[tuple[str, str | None], Fate] = {}

    def shape(self, kind: Kind) -> Shape:
        """Return how a kind's lists and maps are merged."""
        if kind not in self._shapes:
            self._shapes[kind] = self._schemas.shape(kind)
        return self._shapes[kind]

    def get(self, kind: Kind, namespace: str | None, name: str) -> Object:
        """Return an object. Raises `ApiError`."""
        found = self.store.find(kind, namespace, name)
        if found is None:
            raise not_found(kind.resource, name)
        return found

    def create(self, kind: Kind, namespace: str | None, body: Object, write: Write) -> Object:
        """Make an object. Raises `ApiError`."""
        metadata = dict(body.get("metadata") or {})
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = f"{metadata['generateName']}{secrets.token_hex(3)[:5]}"
        if not metadata.get("name"):
            told = Cause(
                "metadata.name", "FieldValueRequired", "Required value: name or generateName is required"
            )
            raise invalid(kind.full_kind, "", [told])
        self._require_namespace(namespace)
        with self.store.lock:
            if self.store.find(kind, namespace, metadata["name"]):
                raise ApiError(409, "AlreadyExists", f'{kind.resource} "{metadata["name"]}" already exists')
            return self._write(kind, namespace, {**body, "metadata": metadata}, None, write)

    def replace(self, kind: Kind, namespace: str | None, name: str, body: Object, write: Write) -> Object:
        """Put an object in the place of the old one. Raises `ApiError`."""
        return self.change(kind, namespace, name, lambda _: body, write)

    def change(
        self, kind: Kind, namespace: str | None, name: str, act: Callable[[Object], Object], write: Write
    ) -> Object:
        """Change an object by what ``act`` makes of it. Raises `ApiError`."""
        with self.store.lock:
            old = self.get(kind, namespace, name)
            body = act(old)
            given = (body.get("metadata") or {}).get("resourceVersion")
            if given not in (None, "", old["metadata"]["resourceVersion"]):
                raise conflict(kind.resource, name, _MODIFIED)
            if body.get("metadata", {}).get("name", name) != name:
                raise bad_request(
                    f"the name of the object ({body['metadata']['name']}) does not match {name}"
                )
            return self._write(kind, namespace, body, old, write)

    def apply(
        self, kind: Kind, namespace: str | None, name: str, body: Object, write: Write, *, force: bool
    ) -> Object:
        """Apply an object on the server. Raises `ApiError`."""
        self._require_namespace(namespace)
        body = without_nulls(body)
        if body.get("metadata", {}).get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        with self.store.lock:
            old = self.store.find(kind, namespace, name)
            self._check(kind, {**body, "metadata": {**body.get("metadata", {}), "name": name}})
            made = ownership.applied(old, body, self.shape(kind), write.manager, force=force, now=_now())
            return self._write(kind, namespace, made, old, write, owned=True)

    def delete(self, kind: Kind, namespace: str | None, name: str, options: Object) -> Object:
        """Delete an object, and in the background what it owns. Raises `ApiError`."""
        with self.store.lock:
            old = self.get(kind, namespace, name)
            wanted = options.get("preconditions") or {}
            for key in ("uid", "resourceVersion"):
                if wanted.get(key) not in (None, old["metadata"][key]):
                    why = f"Precondition failed: {key} in precondition: {wanted[key]}"
                    raise conflict(kind.resource, name, why)
            if options.get("dryRun"):
                return old
            if old["metadata"].get("finalizers") and not old["metadata"].get("deletionTimestamp"):
                metadata = {**old["metadata"], "deletionTimestamp": _now(), "deletionGracePeriodSeconds": 0}
                return self.store.put(kind, {**old, "metadata": metadata})
            if old["metadata"].get("finalizers"):
                return old
            gone = self.store.remove(kind, old)
            if options.get("propagationPolicy") != "Orphan":
                self._delete_owned(kind, gone)
            return gone

    def give(self, kind: Kind, fate: Fate, name: str | None = None) -> None:
        """Let every object of a kind, or one of them, meet a fate, those that are there too."""
        with self.store.lock:
            self._fates[kind.kind, name] = fate
            for other, body in self.store.all():
                if other == kind and name in (None, body["metadata"]["name"]):
                    self._settle(kind, body)

    # --- one write

    def _write(
        self,
        kind: Kind,
        namespace: str | None,
        body: Object,
        old: Object | None,
        write: Write,
        *,
        owned: bool = False,
    ) -> Object:
        made = self._formed(kind, namespace, without_nulls(body), old, write)
        self._check(kind, made)
        made = filled(kind, made, old)
        causes = [*broken(kind, made, old), *broken_rules(kind, made, old)]
        if unreadable := [cause.message for cause in causes if cause.reason == UNREADABLE]:
            raise bad_request(
                f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: {unreadable[0]}'
            )
        if causes:
            raise invalid(kind.full_kind, made["metadata"]["name"], causes)
        if not owned:
            owner = ownership.Owner(write.manager, "Update", write.subresource)
            entries = ownership.updated(old, made, self.shape(kind), owner, now=_now())
            made["metadata"]["managedFields"] = entries
        if old is not None:
            if _same(old, made):
                return old
            grown = _spec_of(old) != _spec_of(made)
            made["metadata"]["generation"] = old["metadata"].get("generation", 1) + grown
        if write.dry_run:
            metadata = made["metadata"]
            version = old["metadata"]["resourceVersion"] if old else None
            return {**made, "metadata": {**metadata, **({"resourceVersion": version} if version else {})}}
        made = self.store.put(kind, made)
        if (
            old is not None
            and made["metadata"].get("deletionTimestamp")
            and not made["metadata"].get("finalizers")
        ):
            return self.store.remove(kind, made)
        if write.subresource != "status":
            self._settle(kind, made)
        return self.store.find(kind, namespace, made["metadata"]["name"]) or made

    def _formed(
        self, kind: Kind, namespace: str | None, body: Object, old: Object | None, write: Write
    ) -> Object:
        """Return the object with what only the server writes, and nothing else of that."""
        if (
            body.get("kind", kind.kind) != kind.kind
            or body.get("apiVersion", kind.api_version) != kind.api_version
        ):
            raise bad_request(
                f"the object's {body.get('apiVersion')}, Kind={body.get('kind')} is not the path's "
                f"{kind.api_version}, Kind={kind.kind}"
            )
        metadata = dict(body.get("metadata") or {})
        if namespace is not None and metadata.get("namespace") not in (None, "", namespace):
            raise bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        kept = (old or {}).get("metadata", {})
        for name in (*_SERVERS_OWN, "resourceVersion"):
            metadata.pop(name, None)
        metadata |= {name: kept[name] for name in _SERVERS_OWN if name in kept}
        if old is None:
            metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": _now(), "generation": 1}
        if namespace is not None:
            metadata["namespace"] = namespace
        made = {**body, "apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}
        if write.subresource == "status":
            return {**(old or {}), "status": body.get("status", {}), "metadata": {**kept}}
        if "status" in kind.subresources:
            made.pop("status", None)
            if old is not None and "status" in old:
                made["status"] = old["status"]
        return made

    def _check(self, kind: Kind, body: Object) -> None:
        """Raise `ApiError` for what the schema does not take."""
        problems = list(self._schemas.problems(kind, filled_types(kind, body)))
        if not problems:
            return
        unknown = [cause.message for code, cause in problems if code == 400]
        if unknown:
            raise bad_request(
                f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}: '
                f"strict decoding error: {', '.join(unknown)}"
            )
        raise invalid(kind.full_kind, body["metadata"].get("name", ""), [cause for _, cause in problems])

    def _require_namespace(self, namespace: str | None) -> None:
        kind = self.catalog.at("", "v1", "namespaces")
        if namespace is not None and kind is not None and self.store.find(kind, None, namespace) is None:
            raise not_found("namespaces", namespace)

    # --- what follows a write

    def _settle(self, kind: Kind, body: Object) -> None:
        """Write the status that the object's fate gives it."""
        fate = self._fates.get((kind.kind, body["metadata"]["name"])) or self._fates.get(
            (kind.kind, None), "done"
        )
        status = controllers.status_of(kind.kind, body, fate, _now())
        if status is not None and status != body.get("status"):
            body = self.store.put(kind, {**body, "status": status})
        if kind.kind == "Deployment" and fate != "ignored":
            self._own_replica_set(controllers.replica_set(body, fate))

    def _own_replica_set(self, body: Object) -> None:
        kind = self.catalog.at("apps", "v1", "replicasets")
        assert kind is not None
        namespace, name = body["metadata"]["namespace"], body["metadata"]["name"]
        old = self.store.find(kind, namespace, name)
        kept = (
            old["metadata"]
            if old
            else {"uid": str(uuid.uuid4()), "creationTimestamp": _now(), "generation": 1}
        )
        self.store.put(kind, {**body, "metadata": {**kept, **body["metadata"]}})

    def _delete_owned(self, kind: Kind, gone: Object) -> None:
        uid, space = gone["metadata"]["uid"], gone["metadata"]["name"]
        for other, body in self.store.all():
            metadata = body["metadata"]
            owned = any(owner["uid"] == uid for owner in metadata.get("ownerReferences") or ())
            inside = kind.kind == "Namespace" and metadata.get("namespace") == space
            if (owned or inside) and self.store.find(other, metadata.get("namespace"), metadata["name"]):
                self.delete(other, metadata.get("namespace"), metadata["name"], {})


def filled_types(kind: Kind, body: Object) -> Object:
    """Return an object with the defaults that its schema's required fields go by."""
    return filled(kind, body, None) if kind.group == "ray.io" else body


def without_nulls(value: Any) -> Any:
    """Return a value without its nulls: in an object they say nothing."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def _spec_of(body: Object) -> Object:
    return {key: value for key, value in body.items() if key not in {"metadata", "status"}}


def _same(old: Object, new: Object) -> bool:
    ignored = {"resourceVersion", "generation"}

    def bare(body: Object) -> Object:
        return {**body, "metadata": {k: v for k, v in body["metadata"].items() if k not in ignored}}

    return bare(old) == bare(new)


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
