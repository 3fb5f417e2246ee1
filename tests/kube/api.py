"""The API server as a test holds it: start and stop, what others write, whose token may what, faults."""

import asyncio
import base64
import json
import threading
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakSet

import yaml
from aiohttp import web
from aiohttp.typedefs import Handler

from tests.certificates import Certificates
from tests.kube.access import ADMIN, Account, Caller, Role
from tests.kube.controllers import Fate
from tests.kube.faults import Fault, Faults
from tests.kube.kinds import KINDS, Catalog, Kind
from tests.kube.objects import Objects, Write
from tests.kube.requests import Requests
from tests.kube.schemas import custom_definitions
from tests.kube.status import ApiError, Object, too_old
from tests.kube.store import error_event

_OTHERS = Write("somebody-else")
_LARGEST_BODY = 4 * 1024 * 1024


class KubernetesApi:
    """The API, on one address of loopback from its first `start` on."""

    def __init__(
        self,
        *,
        bookmark_s: float = 60.0,
        tokens: dict[str, Role] | None = None,
        certificates: Certificates | None = None,
        minor: str = "1.37",
        without: Collection[str] = (),
    ) -> None:
        """Make it of a minor version, without the groups that this cluster has no definitions of."""
        self._certificates, self._minor = certificates, minor
        self.tokens: dict[str, Caller] = {"admin-token": ADMIN}
        if tokens is not None:
            self.tokens = dict(tokens)
        self.bookmark_s = bookmark_s
        self._catalog = Catalog(kind for kind in KINDS if kind.group not in without)
        self.objects = Objects(self._catalog, minor)
        self.faults = Faults()
        self._requests = Requests(self.objects, self.faults, self._caller, lambda: self.bookmark_s)
        self._port = 0
        self._runner: web.AppRunner | None = None
        self._transports: WeakSet[asyncio.Transport] = WeakSet()
        for namespace in ("default", "kube-system"):
            self.add_namespace(namespace)
        for name, definition in custom_definitions().items():
            if definition["spec"]["group"] not in without:
                self._define(name, definition)

    # --- what a test orders and looks at

    @property
    def url(self) -> str:
        """Where the API is."""
        return f"{'https' if self._certificates else 'http'}://127.0.0.1:{self._port}"

    @property
    def version(self) -> int:
        """The newest version of anything."""
        return self.objects.store.version

    @property
    def watching(self) -> int:
        """How many watches are open."""
        return len(self.objects.store.watches)

    @property
    def requests(self) -> list[tuple[str, str, dict[str, str]]]:
        """Verb, path and query of every request."""
        return self._requests.seen

    def kind(self, name: str) -> Kind:
        """Return a kind by its name; no two of those served have the same."""
        (found,) = [kind for kind in self._catalog.kinds if kind.kind == name]
        return found

    def add_namespace(self, name: str, labels: dict[str, str] | None = None) -> None:
        """Make a namespace where there is none."""
        kind = self.kind("Namespace")
        if self.objects.store.find(kind, None, name) is None:
            self.objects.create(kind, None, {"metadata": {"name": name, "labels": labels or {}}}, _OTHERS)

    def add(self, body: Object) -> Object:
        """Write an object, with its status if it has one, as somebody else would; an older one gives way."""
        kind = self.kind(body["kind"])
        return self._put(
            kind, body["metadata"].get("namespace", "default") if kind.namespaced else None, body
        )

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """Return an object as it is stored; None where there is none."""
        return self.objects.store.find(self.kind(kind), namespace, name)

    def names(self, kind: str, namespace: str | None = None) -> list[str]:
        """Return the names of a kind's objects."""
        found = [body["metadata"] for other, body in self.objects.store.all() if other.kind == kind]
        return sorted(entry["name"] for entry in found if namespace in (None, entry.get("namespace")))

    def drop(self, kind: str, name: str, namespace: str | None = None) -> None:
        """Delete an object, as somebody else would."""
        self.objects.delete(self.kind(kind), namespace, name, {})

    def put(self, namespace: str, name: str, data: dict[str, bytes]) -> None:
        """Write a Secret, as somebody else would."""
        encoded = {key: base64.b64encode(value).decode() for key, value in data.items()}
        self.add({"kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "data": encoded})

    def remove(self, namespace: str, name: str) -> None:
        """Delete a Secret, as somebody else would."""
        self.drop("Secret", name, namespace)

    def data(self, namespace: str, name: str) -> dict[str, bytes]:
        """Return the values of a Secret."""
        found = self.objects.get(self.kind("Secret"), namespace, name).get("data") or {}
        return {key: base64.b64decode(value) for key, value in found.items()}

    def give(self, kind: str, fate: Fate, name: str | None = None) -> None:
        """Let the objects of a kind, or one of them, meet a fate."""
        self.objects.give(self.kind(kind), fate, name)

    def account_token(self, namespace: str, name: str) -> str:
        """Return a token of a service account, whose rights are the roles that are bound to it."""
        token = f"token-of-{namespace}-{name}"
        self.tokens[token] = Account(namespace, name)
        return token

    # --- faults

    def fail(
        self,
        code: int,
        times: int = 1,
        reason: str = "InternalError",
        *,
        verb: str | None = None,
        resource: str | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        """Refuse the next requests, or the next of a verb or a resource."""
        error = ApiError(code, reason, f"ordered by the test: {code}", retry_after_s=retry_after_s)
        self.faults.order(Fault(error, times, verb, resource))

    def drop_connections(
        self, times: int = 1, *, verb: str | None = None, resource: str | None = None
    ) -> None:
        """Break the connection of the next requests before anything is done."""
        self.faults.order(Fault(None, times, verb, resource))

    def hang(self, hanging: bool) -> None:
        """Take requests and never answer, or answer again."""
        self.faults.hanging = hanging

    def slow_watches(self, delay_s: float) -> None:
        """Send each event of a watch so much later."""
        self.faults.watch_delay_s = delay_s

    def end_watches_after(self, seconds: float) -> None:
        """End every watch from now on after so long, whatever its client asks for."""
        self.faults.watch_end_s = seconds

    def break_after_write(self) -> None:
        """Do the next write, and break its connection instead of answering."""
        self.faults.break_after_write = True

    def compact(self) -> None:
        """Forget all history."""
        self.objects.store.compact()

    def bump(self) -> None:
        """Let the version grow, as writes to other objects do."""
        self.objects.store.version += 1

    def cut_watches(self) -> None:
        """Break the connection of every watch; none of them is open any more."""
        for watch in list(self.objects.store.watches):
            if watch.transport is not None:
                watch.loop.call_soon_threadsafe(watch.transport.abort)
            watch.send(None)  # a handler does not notice that its client is gone
        self.objects.store.watches.clear()

    def expire_watches(self) -> None:
        """Send every watch that its version is too old, as a server that falls behind does."""
        for watch in list(self.objects.store.watches):
            watch.send(error_event(too_old(0, self.objects.store.compacted)))

    # --- life

    async def start(self) -> None:
        """Listen; after a `stop`, on the same port as before."""
        app = web.Application(client_max_size=_LARGEST_BODY, middlewares=[self._noted])
        app.router.add_get("/version", self._version)
        app.router.add_get("/{tail:(api|apis)/?}", self._groups)
        app.router.add_get("/api/v1", self._resources)
        app.router.add_get("/apis/{group}", self._group)
        app.router.add_get("/apis/{group}/{version}", self._resources)
        app.router.add_get("/openapi/v3", self._openapi_index)
        app.router.add_get("/openapi/v3/api/{version}", self._openapi)
        app.router.add_get("/openapi/v3/apis/{group}/{version}", self._openapi)
        app.router.add_get("/{probe:livez|readyz|healthz}", self._alive)
        app.router.add_route("*", "/{root:api|apis}/{tail:.+}", self._requests.answer)
        app.router.add_route("*", "/{tail:.*}", self._nothing)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        secured = self._certificates.server() if self._certificates else None
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True, ssl_context=secured)
        await site.start()
        self._port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop listening and end every connection; objects stay."""
        for watch in list(self.objects.store.watches):
            watch.send(None)
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        for transport in self._transports:
            transport.abort()  # over TLS a close would wait for the client's
        await asyncio.sleep(0)  # a transport closes its socket in the loop's next round

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

    # --- inside

    def _define(self, name: str, definition: Object) -> None:
        """Write a definition that needs no check."""
        established = {"conditions": [{"type": "Established", "status": "True"}]}
        metadata = {"name": name, "uid": str(uuid.uuid4()), "generation": 1}
        body = {**definition, "metadata": metadata, "status": established}
        self.objects.store.put(self.kind("CustomResourceDefinition"), body)

    def _put(self, kind: Kind, namespace: str | None, body: Object) -> Object:
        if namespace is not None:
            self.add_namespace(namespace)
        name = body["metadata"]["name"]
        with self.objects.store.lock:
            if self.objects.store.find(kind, namespace, name) is None:
                made = self.objects.create(kind, namespace, body, _OTHERS)
            else:
                made = self.objects.replace(kind, namespace, name, body, _OTHERS)
            if "status" in body and made.get("status") != body["status"]:
                made = self.objects.store.put(kind, {**made, "status": body["status"]})
        return made

    @web.middleware
    async def _noted(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Keep in mind which connections there are."""
        if request.transport is not None:
            self._transports.add(request.transport)
        return await handler(request)

    def _caller(self, request: web.Request) -> Caller:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        caller = self.tokens.get(token) if scheme.lower() == "bearer" else None
        if caller is None:
            raise ApiError(401, "Unauthorized", "Unauthorized")
        return caller

    async def _version(self, request: web.Request) -> web.Response:
        major, minor = self._minor.split(".")
        told = {"major": major, "minor": minor, "gitVersion": f"v{self._minor}.0", "platform": "linux/amd64"}
        return web.json_response(told)

    async def _groups(self, request: web.Request) -> web.Response:
        core = request.path.startswith("/api") and not request.path.startswith("/apis")
        if "apidiscovery.k8s.io;v=v2;" in f"{request.headers.get('accept', '').split(',')[0]};":
            form = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
            told = self._catalog.aggregated(core=core)
            return web.Response(text=json.dumps(told), headers={"content-type": form})
        if core:
            return web.json_response(
                {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
            )
        return web.json_response(self._catalog.group_list())

    async def _group(self, request: web.Request) -> web.Response:
        return _found(self._catalog.group(request.match_info["group"]))

    async def _resources(self, request: web.Request) -> web.Response:
        found = request.match_info
        return _found(self._catalog.resource_list(found.get("group", ""), found.get("version", "v1")))

    async def _openapi_index(self, request: web.Request) -> web.Response:
        return web.json_response(self._catalog.openapi_index())

    async def _openapi(self, request: web.Request) -> web.Response:
        found = request.match_info
        return web.json_response(self._catalog.openapi(found.get("group", ""), found["version"]))

    async def _alive(self, request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _nothing(self, request: web.Request) -> web.Response:
        return _found(None)


def _found(told: Any) -> web.Response:
    if told is None:
        error = ApiError(404, "NotFound", "the server could not find the requested resource")
        return web.json_response(error.status, status=404)
    return web.json_response(told)


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
