"""HTTP requests as acts on objects: paths, bodies, patches, lists and watches."""

import asyncio
import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml
from aiohttp import web

from tests.kube import patches, protobuf
from tests.kube.access import Action, Caller, require
from tests.kube.faults import DroppedError, Faults
from tests.kube.kinds import Catalog, Kind
from tests.kube.objects import Objects, Write
from tests.kube.selectors import Selection, selection
from tests.kube.status import ApiError, Object, bad_request
from tests.kube.store import Watch, error_event

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_APPLY = {"application/apply-patch+yaml", "application/apply-patch+cbor"}
_INITIAL_EVENTS_END = "k8s.io/initial-events-end"


@dataclass(frozen=True)
class Target:
    """What a path is about."""

    kind: Kind
    namespace: str | None
    name: str | None
    subresource: str

    @property
    def resource(self) -> str:
        """As roles name it: ``pods/log``."""
        return f"{self.kind.plural}/{self.subresource}" if self.subresource else self.kind.plural


class Requests:
    """Answers everything below ``/api/v1`` and ``/apis/{group}/{version}``."""

    def __init__(
        self,
        objects: Objects,
        faults: Faults,
        caller: Callable[[web.Request], Caller],
        bookmark_s: Callable[[], float],
    ) -> None:
        self._objects, self._faults = objects, faults
        self._caller, self._bookmark_s = caller, bookmark_s
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        """Verb, path and query of every request."""

    @property
    def _catalog(self) -> Catalog:
        return self._objects.catalog

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer one request; a refusal is a ``Status``."""
        try:
            return await self._answer(request)
        except ApiError as error:
            headers = {} if error.retry_after_s is None else {"retry-after": str(error.retry_after_s)}
            return web.json_response(error.status, status=error.code, headers=headers)
        except DroppedError:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        target, query = self._target(request.path), dict(request.query)
        chosen = selection(target.kind, target.namespace, query)
        verb = _verb(request, target, query)
        action = Action(
            verb, target.kind.group, target.resource, target.namespace, target.name or chosen.name
        )
        self.seen.append((verb, request.path, query))
        while self._faults.hanging:  # noqa: ASYNC110 - it may be ordered from another thread
            await asyncio.sleep(0.01)
        caller = self._caller(request)
        self._faults.meet(action)
        if target.kind.kind not in {"SelfSubjectAccessReview", "SelfSubjectReview"}:
            require(caller, action, target.kind, self._objects.store)
        if verb not in target.kind.verbs and not target.subresource:
            raise ApiError(
                405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
            )
        if verb == "watch":
            return await self._watch(request, chosen, query)
        if verb == "list":
            return web.json_response(self._list(target.kind, chosen, query))
        if verb == "get":
            return self._get(target)
        return self._written(*self._write(verb, target, chosen, caller, await _sent(request)))

    def _target(self, path: str) -> Target:
        """Read a path. Raises `ApiError` where there is nothing."""
        parts = path.strip("/").split("/")
        group, version, *rest = ["", *parts[1:]] if parts[0] == "api" else parts[1:]
        namespace = None
        if rest[:1] == ["namespaces"] and len(rest) > 2 and rest[2] not in {"status", "finalize"}:
            namespace, rest = rest[1], rest[2:]
        kind = self._catalog.at(group, version, rest[0]) if rest else None
        if kind is None or len(rest) > 3 or (namespace is not None and not kind.namespaced):
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        name, subresource = (*rest[1:], "", "")[:2]
        if subresource and subresource not in kind.subresources:
            raise ApiError(404, "NotFound", "the server could not find the requested resource")
        return Target(kind, namespace, name or None, subresource)

    # --- reading

    def _get(self, target: Target) -> web.Response:
        assert target.name is not None
        found = self._objects.get(target.kind, target.namespace, target.name)
        if target.subresource == "log":
            return web.Response(text=str(found["metadata"].get("annotations", {}).get("test/log", "")))
        return web.json_response(_scale(found) if target.subresource == "scale" else found)

    def _list(self, kind: Kind, chosen: Selection, query: dict[str, str]) -> Object:
        store = self._objects.store
        with store.lock:
            items, version = store.chosen(chosen), str(store.version)
        start = 0
        if token := query.get("continue"):
            start, version = json.loads(base64.urlsafe_b64decode(token))
            if int(version) < store.compacted:
                raise ApiError(410, "Expired", "The provided continue parameter is too old")
        metadata: Object = {"resourceVersion": version}
        limit = int(query.get("limit") or 0)
        if limit and len(items) > start + limit:
            metadata["continue"] = base64.urlsafe_b64encode(
                json.dumps([start + limit, version]).encode()
            ).decode()
            metadata["remainingItemCount"] = len(items) - start - limit
        page = items[start : start + limit] if limit else items[start:]
        listed = {"kind": f"{kind.kind}List", "apiVersion": kind.api_version}
        return {**listed, "metadata": metadata, "items": page}

    async def _watch(
        self, request: web.Request, chosen: Selection, query: dict[str, str]
    ) -> web.StreamResponse:
        wanted, store = query.get("resourceVersion", ""), self._objects.store
        if wanted and not wanted.isdecimal():
            raise bad_request(f'invalid resource version "{wanted}"')
        watch = Watch(chosen, asyncio.get_running_loop(), request.transport)
        initial = query.get("sendInitialEvents") == "true"
        try:
            with store.lock:
                store.open(watch, 0 if initial else int(wanted or "0"))
                if initial:
                    watch.send(_bookmark(chosen.kind, store.version, initial=True))
        except ApiError as error:
            watch.send(error_event(error))
        response = web.StreamResponse(headers={"content-type": "application/json"})
        response.enable_chunked_encoding()
        try:
            await response.prepare(request)
            await self._send(watch, response, query)
        except ConnectionError:
            pass  # the client has left, or the test has cut it
        finally:
            store.close(watch)
        return response

    async def _send(self, watch: Watch, response: web.StreamResponse, query: dict[str, str]) -> None:
        now = watch.loop.time
        end_s = now() + min(float(query.get("timeoutSeconds", "1800")), self._faults.watch_end_s)
        bookmarks = query.get("allowWatchBookmarks") in {"1", "true"}
        while (left_s := end_s - now()) > 0:
            pause_s = min(left_s, self._bookmark_s()) if bookmarks else left_s
            try:
                event = await asyncio.wait_for(watch.events.get(), pause_s)
            except TimeoutError:
                if not bookmarks or left_s <= self._bookmark_s():
                    return
                event = _bookmark(watch.selection.kind, self._objects.store.version)
            if event is None:
                return
            if self._faults.watch_delay_s:
                await asyncio.sleep(self._faults.watch_delay_s)
            await response.write(json.dumps(event).encode() + b"\n")
            if event["type"] == "ERROR":
                return

    # --- writing

    def _write(
        self, verb: str, target: Target, chosen: Selection, caller: Caller, sent: "_Sent"
    ) -> tuple[Object, int]:
        """Do what a request asks for, in one step; return the answer and its status."""
        write = Write(sent.manager, target.subresource, sent.dry_run)
        kind, objects, body = target.kind, self._objects, sent.body
        if verb in {"delete", "deletecollection"}:
            return self._delete(target, chosen, body, write), 200
        if verb == "create":
            return self._create(target, caller, body, write)
        assert target.name is not None
        place = (kind, target.namespace, target.name)
        if sent.form in _APPLY and verb == "patch":
            old = objects.store.find(*place)
            return objects.apply(*place, _object(body), write, force=sent.force), 201 if old is None else 200
        if target.subresource == "scale":
            return _scale(objects.change(*place, _scaled(sent), write)), 200
        return objects.change(*place, self._act(verb, kind, sent), write), 200

    def _act(self, verb: str, kind: Kind, sent: "_Sent") -> Callable[[Object], Object]:
        """Return what makes the new object of the old one. Raises `ApiError`."""
        body, content = sent.body, sent.form
        if verb == "update":
            return lambda _: _object(body)
        if content == "application/merge-patch+json":
            return lambda old: _object(patches.merged(old, _object(body)))
        if content == "application/json-patch+json":
            return lambda old: patches.patched(old, body)
        if content == "application/strategic-merge-patch+json" and not kind.custom:
            shape = self._objects.shape(kind)
            return lambda old: _object(patches.merged_strategically(old, _object(body), shape))
        raise ApiError(
            415,
            "UnsupportedMediaType",
            f"the body of the request was in an unknown format - {content} of {kind.resource}",
        )

    def _create(self, target: Target, caller: Caller, body: Any, write: Write) -> tuple[Object, int]:
        body, store = _object(body), self._objects.store
        if target.subresource == "eviction":
            assert target.name is not None
            self._objects.delete(target.kind, target.namespace, target.name, body.get("deleteOptions") or {})
            return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}, 201
        if target.kind.kind == "SelfSubjectAccessReview":
            asked = body["spec"].get("resourceAttributes")
            allowed = asked is not None and caller.may(_asked(asked), store)
            return {
                **body,
                "status": {"allowed": allowed, **({} if allowed else {"reason": "no role allows it"})},
            }, 201
        if target.kind.kind == "SelfSubjectReview":
            return {**body, "status": {"userInfo": {"username": caller.user}}}, 201
        if target.name is not None:
            raise ApiError(
                405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
            )
        return self._objects.create(target.kind, target.namespace, body, write), 201

    def _delete(self, target: Target, chosen: Selection, body: Any, write: Write) -> Object:
        options = {
            **(body if isinstance(body, dict) else {}),
            **({"dryRun": ["All"]} if write.dry_run else {}),
        }
        if target.name is not None:
            gone = self._objects.delete(target.kind, target.namespace, target.name, options)
            details = {"name": target.name, "kind": target.kind.plural, "uid": gone["metadata"]["uid"]}
        else:
            for item in self._objects.store.chosen(chosen):
                metadata = item["metadata"]
                self._objects.delete(target.kind, metadata.get("namespace"), metadata["name"], options)
            details = {"kind": target.kind.plural}
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}

    def _written(self, made: Object, status: int) -> web.StreamResponse:
        if self._faults.break_after_write:
            self._faults.break_after_write = False
            raise DroppedError
        return web.json_response(made, status=status)


def _verb(request: web.Request, target: Target, query: dict[str, str]) -> str:
    if request.method == "GET":
        if target.name is None:
            return "watch" if query.get("watch") in {"1", "true"} else "list"
        return "get"
    if request.method == "DELETE" and target.name is None:
        return "deletecollection"
    return _VERBS.get(request.method, "")


@dataclass(frozen=True)
class _Sent:
    """What came with a request."""

    body: Any
    form: str
    manager: str
    """Who manages the fields that are written."""
    dry_run: bool
    force: bool


async def _sent(request: web.Request) -> _Sent:
    form, query = request.content_type, request.query
    if form in _APPLY and request.method == "PATCH" and "fieldManager" not in query:
        told = "fieldManager: Required value: is required for apply patch"
        raise bad_request(f"PatchOptions.meta.k8s.io is invalid: {told}")
    agent = request.headers.get("user-agent", "unknown").split("/")[0]
    manager, force = query.get("fieldManager") or agent, query.get("force") in {"true", "1"}
    body = _read(await request.read(), form, empty=request.method == "DELETE")
    return _Sent(body, form, manager, query.get("dryRun") == "All", force)


def _read(data: bytes, form: str, *, empty: bool) -> Any:
    if empty and not data:
        return {}
    if data.startswith(protobuf.MAGIC):
        return protobuf.decoded(data)
    try:
        return yaml.safe_load(data) if form.endswith("yaml") else json.loads(data)
    except (ValueError, yaml.YAMLError) as error:
        raise bad_request(f"the object provided is unrecognized: {error}") from None


def _object(body: Any) -> Object:
    if not isinstance(body, dict):
        raise bad_request("the object provided is unrecognized")
    return body


def _asked(attributes: Object) -> Action:
    resource = attributes.get("resource", "")
    if attributes.get("subresource"):
        resource = f"{resource}/{attributes['subresource']}"
    namespace, name = attributes.get("namespace") or None, attributes.get("name") or None
    return Action(attributes.get("verb", ""), attributes.get("group", ""), resource, namespace, name)


def _scale(body: Object) -> Object:
    metadata = {key: body["metadata"].get(key) for key in ("name", "namespace", "uid", "resourceVersion")}
    replicas = body["spec"].get("replicas", 0)
    status = {"replicas": body.get("status", {}).get("replicas", 0)}
    told = {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata}
    return {**told, "spec": {"replicas": replicas}, "status": status}


def _scaled(sent: _Sent) -> Callable[[Object], Object]:
    """Return the change that a new scale makes."""
    if sent.form == "application/json-patch+json":
        raise ApiError(415, "UnsupportedMediaType", "this stand-in takes no JSON patch of a scale")
    replicas = _object(sent.body)["spec"]["replicas"]
    return lambda old: {**old, "spec": {**old["spec"], "replicas": replicas}}


def _bookmark(kind: Kind, version: int, *, initial: bool = False) -> Object:
    metadata: Object = {"resourceVersion": str(version), "creationTimestamp": None}
    if initial:
        metadata["annotations"] = {_INITIAL_EVENTS_END: "true"}
    return {
        "type": "BOOKMARK",
        "object": {"kind": kind.kind, "apiVersion": kind.api_version, "metadata": metadata},
    }
