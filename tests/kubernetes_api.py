"""A Kubernetes API for Secrets, over real HTTP, for clients that a test starts.

It stands in for kube-apiserver where that cannot run. What it does as the real one does:

- ``GET``, ``LIST``, ``WATCH``, ``POST``, ``PUT``, ``PATCH`` (JSON merge patch, and strategic, which is
  the same for a Secret) and ``DELETE`` of ``/api/v1/namespaces/{namespace}/secrets``; errors are
  ``Status`` objects with the real codes, reasons and messages.
- One growing version for all objects. A write that names another version than the object's is 409
  ``Conflict``; one that changes nothing leaves the version alone.
- A list has the version of the moment, an object that of its last write. A watch sends every event after
  its version, ends after ``timeoutSeconds``, and sends bookmarks where it is asked to. A version that has
  been compacted away is an ``ERROR`` event with code 410 in a stream of status 200.
- Field selectors ``metadata.name`` and ``metadata.namespace``, label selectors of equalities.
- Bearer tokens, and roles: verbs, and names of objects. A role with names may list and watch only with a
  field selector of one of them. 401 and 403 otherwise.
- Secrets are checked: names of entries, base64, at most 1 MiB of values (422 ``Invalid``), unknown
  fields.

What it does not: other resources, discovery, server-side apply, JSON patch (415), protobuf, paging,
quotas, admission, ``managedFields``, ``resourceVersionMatch``, and it loses everything when it ends.
Bookmarks come as often as a test says.

Faults that a test can order: refuse (`fail`), be silent (`hang`), cut or expire every watch
(`cut_watches`, `expire_watches`), forget old versions (`compact`), break a connection after a write has
been done (`break_after_write`), be away (`stop` and `start`).
"""

import asyncio
import base64
import binascii
import copy
import json
import re
import threading
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from tests.certificates import Certificates

MAX_SECRET_BYTES = 1024 * 1024
_ENTRY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_FIELDS = {"apiVersion", "kind", "metadata", "data", "stringData", "type", "immutable"}
_MERGES = {"application/merge-patch+json", "application/strategic-merge-patch+json"}
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class ApiError(Exception):
    """A refusal, as the API tells it."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "code": code,
        }


@dataclass(frozen=True)
class Role:
    """What the holder of a token may do with Secrets."""

    user: str
    verbs: frozenset[str]
    names: frozenset[str] | None = None
    """Objects that it may touch; None: all."""


ADMIN = Role("admin", frozenset({"get", "list", "watch", "create", "update", "patch", "delete"}))


@dataclass(eq=False)
class _Watch:
    """An open watch."""

    namespace: str
    selectors: dict[str, str]
    events: "asyncio.Queue[dict[str, Any] | None]" = field(default_factory=asyncio.Queue)
    request: web.Request | None = None


class KubernetesApi:
    """The API, on one address of loopback from its first `start` on."""

    def __init__(
        self,
        *,
        bookmark_s: float = 60.0,
        tokens: dict[str, Role] | None = None,
        certificates: Certificates | None = None,
    ) -> None:
        self._certificates = certificates
        self.tokens = {"admin-token": ADMIN} if tokens is None else tokens
        self.bookmark_s = bookmark_s
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        """Verb, path and query of every request."""
        self._objects: dict[tuple[str, str], dict[str, Any]] = {}
        self._version = 1000
        self._history: deque[dict[str, Any]] = deque()
        self._compacted = 0
        self._watches: set[_Watch] = set()
        self._failures: deque[ApiError] = deque()
        self._hanging, self._break_after_write = False, False
        self._port = 0
        self._runner: web.AppRunner | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    # --- what a test orders

    @property
    def url(self) -> str:
        """Where the API is."""
        return f"{'https' if self._certificates else 'http'}://127.0.0.1:{self._port}"

    @property
    def version(self) -> int:
        """The newest version of anything."""
        return self._version

    @property
    def watching(self) -> int:
        """How many watches are open."""
        return len(self._watches)

    def put(self, namespace: str, name: str, data: dict[str, bytes]) -> None:
        """Write a Secret, as somebody else would."""
        encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
        old = self._objects.get((namespace, name))
        body = {"metadata": {"name": name}, "data": encoded}
        self._store(namespace, name, body, old)

    def remove(self, namespace: str, name: str) -> None:
        """Delete a Secret, as somebody else would."""
        self._delete(namespace, name)

    def data(self, namespace: str, name: str) -> dict[str, bytes]:
        """Return the values of a Secret."""
        found = self._objects[namespace, name].get("data") or {}
        return {key: base64.b64decode(value) for key, value in found.items()}

    def fail(self, code: int, times: int = 1, reason: str = "InternalError") -> None:
        """Refuse the next requests."""
        self._failures.extend([ApiError(code, reason, f"ordered by the test: {code}")] * times)

    def hang(self, hanging: bool) -> None:
        """Take requests and never answer, or answer again."""
        self._hanging = hanging

    def break_after_write(self) -> None:
        """Do the next write, and break its connection instead of answering."""
        self._break_after_write = True

    def compact(self) -> None:
        """Forget all history."""
        self._history.clear()
        self._compacted = self._version

    def bump(self) -> None:
        """Let the version grow, as writes to other objects do."""
        self._version += 1

    def cut_watches(self) -> None:
        """Break the connection of every watch; none of them is open any more."""
        for watch in self._watches:
            if watch.request is not None and watch.request.transport is not None:
                watch.request.transport.abort()
            watch.events.put_nowait(None)  # a handler does not notice that its client is gone
        self._watches.clear()

    def expire_watches(self) -> None:
        """Send every watch that its version is too old, as a server that falls behind does."""
        for watch in self._watches:
            watch.events.put_nowait(_error_event(_too_old(0, self._compacted)))

    async def start(self) -> None:
        """Listen; after a `stop`, on the same port as before."""
        self._loop = asyncio.get_running_loop()
        app = web.Application(client_max_size=4 * MAX_SECRET_BYTES)
        app.router.add_route("*", "/api/v1/namespaces/{namespace}/secrets", self._collection)
        app.router.add_route("*", "/api/v1/namespaces/{namespace}/secrets/{name}", self._object)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        secured = self._certificates.server() if self._certificates else None
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True, ssl_context=secured)
        await site.start()
        self._port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop listening and end every connection; objects stay."""
        for watch in self._watches:
            watch.events.put_nowait(None)
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def kubeconfig(self, path: Path, token: str = "admin-token", namespace: str | None = "serving") -> Path:
        """Write a kubeconfig for the holder of a token; return its path."""
        context = {"cluster": "here", "user": "me", **({"namespace": namespace} if namespace else {})}
        authority = {"certificate-authority": str(self._certificates.ca)} if self._certificates else {}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "main",
            "clusters": [{"name": "here", "cluster": {"server": self.url, **authority}}],
            "users": [{"name": "me", "user": {"token": token}}],
            "contexts": [
                {"name": "main", "context": context},
                {"name": "other", "context": {**context, "namespace": "elsewhere"}},
            ],
        }
        path.write_text(yaml.safe_dump(document))
        return path

    # --- requests

    async def _collection(self, request: web.Request) -> web.StreamResponse:
        namespace, query = request.match_info["namespace"], dict(request.query)
        watching = query.get("watch") in {"1", "true"}
        verb = {"GET": "watch" if watching else "list"}.get(request.method, _VERBS.get(request.method, ""))
        try:
            selectors = _field_selectors(query)
            await self._admit(request, verb, namespace, selectors.get("metadata.name"))
            if verb == "watch":
                return await self._watch(request, namespace, query)
            if verb == "list":
                return web.json_response(self._list(namespace, query))
            if verb == "create":
                body = await _body(request)
                name = body.get("metadata", {}).get("name")
                if not isinstance(name, str) or not _NAME.fullmatch(name):
                    raise ApiError(
                        422, "Invalid", f'Secret "{name}" is invalid: metadata.name: Invalid value'
                    )
                if (namespace, name) in self._objects:
                    raise ApiError(409, "AlreadyExists", f'secrets "{name}" already exists')
                return self._written(request, self._store(namespace, name, body, None), status=201)
            raise ApiError(405, "MethodNotAllowed", "the server does not allow this method on the resource")
        except ApiError as error:
            return web.json_response(error.status, status=error.code)

    async def _object(self, request: web.Request) -> web.StreamResponse:
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        verb = {"GET": "get"}.get(request.method, _VERBS.get(request.method, ""))
        try:
            await self._admit(request, verb, namespace, name)
            body = await _body(request, partial=verb == "patch") if verb in {"patch", "update"} else {}
            old = self._objects.get((namespace, name))  # from here on nothing waits: one step for all
            if old is None:
                raise ApiError(404, "NotFound", f'secrets "{name}" not found')
            if verb == "get":
                return web.json_response(old)
            if verb == "delete":
                self._delete(namespace, name)
                return web.json_response({"kind": "Status", "apiVersion": "v1", "status": "Success"})
            if verb == "patch":
                if request.content_type not in _MERGES:
                    raise ApiError(415, "UnsupportedMediaType", f"this stand-in takes {sorted(_MERGES)}")
                _check_version(name, old, body)
                body = _merged(old, body)
            else:
                _check_version(name, old, body)
            return self._written(request, self._store(namespace, name, body, old))
        except ApiError as error:
            return web.json_response(error.status, status=error.code)

    async def _admit(self, request: web.Request, verb: str, namespace: str, name: str | None) -> None:
        self.requests.append((verb, request.path, dict(request.query)))
        while self._hanging:  # noqa: ASYNC110 - it may be ordered from another thread
            await asyncio.sleep(0.01)
        if self._failures:
            raise self._failures.popleft()
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        role = self.tokens.get(token) if scheme.lower() == "bearer" else None
        if role is None:
            raise ApiError(401, "Unauthorized", "Unauthorized")
        if verb not in role.verbs or (role.names is not None and name not in role.names):
            thing = "secrets" if name is None else f'secrets "{name}"'
            raise ApiError(
                403,
                "Forbidden",
                f'{thing} is forbidden: User "{role.user}" cannot {verb} resource "secrets" in API group "" '
                f'in the namespace "{namespace}"',
            )

    def _written(self, request: web.Request, made: dict[str, Any], status: int = 200) -> web.StreamResponse:
        if self._break_after_write:
            self._break_after_write = False
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(made, status=status)

    def _list(self, namespace: str, query: dict[str, str]) -> dict[str, Any]:
        selectors = _field_selectors(query)
        items = [
            item
            for (place, _), item in sorted(self._objects.items())
            if place == namespace and _selected(item, selectors, query.get("labelSelector", ""))
        ]
        return {
            "kind": "SecretList",
            "apiVersion": "v1",
            "metadata": {"resourceVersion": str(self._version)},
            "items": items,
        }

    async def _watch(self, request: web.Request, namespace: str, query: dict[str, str]) -> web.StreamResponse:
        wanted = query.get("resourceVersion", "")
        if wanted and not wanted.isdecimal():
            raise ApiError(400, "BadRequest", f'invalid resource version "{wanted}"')
        response = web.StreamResponse(headers={"content-type": "application/json"})
        response.enable_chunked_encoding()
        watch = _Watch(namespace, _field_selectors(query), request=request)
        for event in self._missed(watch, int(wanted or "0")):
            watch.events.put_nowait(event)
        self._watches.add(watch)
        try:
            await response.prepare(request)
            await self._send_events(watch, response, query)
        except ConnectionError:
            pass  # the client has left, or the test has cut it
        finally:
            self._watches.discard(watch)
        return response

    def _missed(self, watch: _Watch, version: int) -> Iterator[dict[str, Any]]:
        """Yield what a watch from ``version`` on has not seen: all objects for 0."""
        if version == 0:
            for (place, _), item in sorted(self._objects.items()):
                if place == watch.namespace and _selected(item, watch.selectors, ""):
                    yield {"type": "ADDED", "object": item}
        elif version < self._compacted:
            yield _error_event(_too_old(version, self._compacted))
        else:
            for event in self._history:
                if int(event["object"]["metadata"]["resourceVersion"]) > version and _seen(watch, event):
                    yield event

    async def _send_events(self, watch: _Watch, response: web.StreamResponse, query: dict[str, str]) -> None:
        now = asyncio.get_running_loop().time
        end_s = now() + float(query.get("timeoutSeconds", "1800"))
        while (left_s := end_s - now()) > 0:
            bookmarks = query.get("allowWatchBookmarks") in {"1", "true"}
            pause_s = min(left_s, self.bookmark_s) if bookmarks else left_s
            try:
                event = await asyncio.wait_for(watch.events.get(), pause_s)
            except TimeoutError:
                event = _bookmark(self._version) if bookmarks and left_s > self.bookmark_s else None
                if event is None:
                    return
            if event is None:
                return
            await response.write(json.dumps(event).encode() + b"\n")
            if event["type"] == "ERROR":
                return

    # --- objects

    def _store(
        self, namespace: str, name: str, body: dict[str, Any], old: dict[str, Any] | None
    ) -> dict[str, Any]:
        made = _checked(name, body)
        kept = (old or {}).get("metadata", {})
        metadata = {
            "uid": kept.get("uid") or str(uuid.uuid4()),
            "creationTimestamp": kept.get("creationTimestamp") or f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            **{key: made["metadata"][key] for key in ("labels", "annotations") if key in made["metadata"]},
            "name": name,
            "namespace": namespace,
        }
        made["metadata"] = metadata
        if old is not None and {**old, "metadata": {**kept, "resourceVersion": None}} == {
            **made,
            "metadata": {**metadata, "resourceVersion": None},
        }:
            return old
        self._version += 1
        metadata["resourceVersion"] = str(self._version)
        self._objects[namespace, name] = made
        self._tell("MODIFIED" if old is not None else "ADDED", made)
        return made

    def _delete(self, namespace: str, name: str) -> None:
        gone = copy.deepcopy(self._objects.pop((namespace, name)))
        self._version += 1
        gone["metadata"]["resourceVersion"] = str(self._version)
        self._tell("DELETED", gone)

    def _tell(self, kind: str, item: dict[str, Any]) -> None:
        event = {"type": kind, "object": copy.deepcopy(item)}
        self._history.append(event)
        for watch in self._watches:
            if _seen(watch, event):
                watch.events.put_nowait(event)


async def _body(request: web.Request, *, partial: bool = False) -> dict[str, Any]:
    try:
        body = json.loads(await request.read())
    except ValueError as error:
        raise ApiError(400, "BadRequest", f"the object provided is unrecognized: {error}") from None
    if not isinstance(body, dict):
        raise ApiError(400, "BadRequest", "the object provided is unrecognized")
    if not partial and body.get("kind", "Secret") != "Secret":
        raise ApiError(400, "BadRequest", "the kind of the object is not Secret")
    if unknown := body.keys() - _FIELDS:
        raise ApiError(400, "BadRequest", f'strict decoding error: unknown field "{min(unknown)}"')
    return body


def _checked(name: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return a Secret as it is stored. Raises `ApiError` for one that the real API would not take."""
    data = dict(body.get("data") or {})
    size = 0
    for key, value in data.items():
        if not _ENTRY.fullmatch(key) or key in {".", ".."}:
            raise ApiError(
                422,
                "Invalid",
                f'Secret "{name}" is invalid: data[{key}]: Invalid value: "{key}": a valid config key must '
                "consist of alphanumeric characters, '-', '_' or '.'",
            )
        try:
            size += len(base64.b64decode(value, validate=True))
        except (binascii.Error, TypeError):
            raise ApiError(
                400, "BadRequest", "Secret in version v1 cannot be handled: illegal base64 data"
            ) from None
    if size > MAX_SECRET_BYTES:
        raise ApiError(
            422,
            "Invalid",
            f'Secret "{name}" is invalid: data: Too long: may not be more than {MAX_SECRET_BYTES} bytes',
        )
    made = {
        "kind": "Secret",
        "apiVersion": "v1",
        "metadata": dict(body.get("metadata") or {}),
        "type": "Opaque",
    }
    return {**made, "data": data} if data else made


def _check_version(name: str, old: dict[str, Any], body: dict[str, Any]) -> None:
    given = (body.get("metadata") or {}).get("resourceVersion")
    if given not in (None, old["metadata"]["resourceVersion"]):
        raise ApiError(
            409,
            "Conflict",
            f'Operation cannot be fulfilled on secrets "{name}": the object has been modified; please apply '
            "your changes to the latest version and try again",
        )


def _merged(target: Any, patch: Any) -> Any:
    """Return RFC 7386's merge of a patch into a value."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merged(result.get(key), value)
    return result


def _field_selectors(query: dict[str, str]) -> dict[str, str]:
    pairs = [pair.split("=", 1) for pair in query.get("fieldSelector", "").split(",") if pair]
    if any(len(pair) != 2 or pair[0] not in {"metadata.name", "metadata.namespace"} for pair in pairs):
        raise ApiError(400, "BadRequest", "field label not supported")
    return {pair[0]: pair[1] for pair in pairs}


def _selected(item: dict[str, Any], fields: dict[str, str], labels: str) -> bool:
    metadata = item["metadata"]
    wanted = (pair.split("=", 1) for pair in labels.split(",") if pair)
    return all(metadata[key.removeprefix("metadata.")] == value for key, value in fields.items()) and all(
        metadata.get("labels", {}).get(key) == value for key, value in wanted
    )


def _seen(watch: _Watch, event: dict[str, Any]) -> bool:
    item = event["object"]
    return item["metadata"]["namespace"] == watch.namespace and _selected(item, watch.selectors, "")


def _bookmark(version: int) -> dict[str, Any]:
    metadata = {"resourceVersion": str(version), "creationTimestamp": None}
    return {"type": "BOOKMARK", "object": {"kind": "Secret", "apiVersion": "v1", "metadata": metadata}}


def _too_old(version: int, oldest: int) -> ApiError:
    return ApiError(410, "Expired", f"too old resource version: {version} ({oldest})")


def _error_event(error: ApiError) -> dict[str, Any]:
    return {"type": "ERROR", "object": error.status}


@contextmanager
def in_thread(api: KubernetesApi) -> Iterator[KubernetesApi]:
    """Run the API in a thread of its own, for clients that block."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(api.start(), loop).result(10)
    try:
        yield api
    finally:
        asyncio.run_coroutine_threadsafe(api.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
