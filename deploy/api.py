"""Requests to a Kubernetes API through the official client: patient, with errors that say what to do.

Errors: `ApiError`, the API refused
├── `MissingError`, no such object, or no such kind
├── `ForbiddenError`, this account has no right to it
├── `ConflictError`, somebody else changed or made the object first
└── `UnreachableError`, no answer, or none of use, for as long as `Api` is patient
"""

import json
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3
from kubernetes.client import ApiClient
from kubernetes.client.exceptions import ApiException

from cluster.stores.kubernetes_client import NoWayError, connect

Object = dict[str, Any]
"""A Kubernetes object as JSON."""

REQUEST_S = 10.0
"""Seconds that one request may take."""
PATIENCE_S = 30.0
"""Seconds for which a request that meets trouble is tried again."""
PAGE = 500
"""Objects asked for at once."""
MANAGER = "gpt-oss-cluster"
"""How the API's own records name what these tools change."""
_PASSING = frozenset({429, 500, 502, 503, 504})
_BUDGET = 429
"""How the API refuses an eviction that a disruption budget forbids at the moment."""
_GONE = 410


class ApiError(Exception):
    """The API refused; ``text`` is its own words."""

    def __init__(self, message: str, *, status: int = 0, text: str = "") -> None:
        super().__init__(message)
        self.status, self.text = status, text or message


class MissingError(ApiError):
    """No such object, or no such kind."""


class ForbiddenError(ApiError):
    """This account has no right to it."""


class ConflictError(ApiError):
    """Somebody else changed or made the object first."""


class UnreachableError(ApiError):
    """The API gave no answer of use in time."""


class Api:
    """One cluster's API, with the credentials of a kubeconfig or of the pod it runs in.

    Reads, and writes that the API has not taken, are tried again for `PATIENCE_S`: after 429 as late as the
    API asks, after 5xx and broken connections with growing pauses. Raises `UnreachableError` without a way.
    """

    def __init__(
        self,
        client: ApiClient,
        namespace: str,
        *,
        told: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client, self._namespace = client, namespace
        self._told, self._clock, self._sleep = told, clock, sleep

    @classmethod
    def connect(
        cls,
        kubeconfig: Path | None,
        context: str | None,
        namespace: str | None,
        told: Callable[[str], None] = lambda _: None,
    ) -> "Api":
        """Return the API that the options name; ``told`` hears of each trouble that is sat out."""
        try:
            client, own = connect(kubeconfig, context)
        except NoWayError as error:
            raise UnreachableError(str(error)) from error
        return cls(client, namespace or own, told=told)

    @property
    def namespace(self) -> str:
        """The namespace that commands work in."""
        return self._namespace

    @property
    def host(self) -> str:
        """Where the API is."""
        return str(self._client.configuration.host)

    def get(self, path: str, **query: str) -> Object:
        """Return the JSON at ``path``. Raises `ApiError`."""
        return self._patient(_Request("GET", path, query))

    def find(self, path: str) -> Object | None:
        """Return the object at ``path``, None where there is none. Raises `ApiError`."""
        try:
            return self.get(path)
        except MissingError:
            return None

    def all(self, path: str, **query: str) -> list[Object]:
        """Return all objects of a collection, page by page. Raises `ApiError`.

        A list that has become too old to be continued (410) is begun anew.
        """
        for _ in range(3):
            try:
                return [item for page in self._pages(path, query) for item in page]
            except ApiError as error:
                if error.status != _GONE:
                    raise
                self._told("the list became too old while it was read: begun anew")
        raise UnreachableError(f"GET {path}: the list became too old three times while it was read")

    def text(self, path: str, **query: str) -> str:
        """Return the text at ``path``, such as a log. Raises `ApiError`."""
        return self._tries(_Request("GET", path, query)).decode("utf-8", "replace")

    def create(self, path: str, body: Object, **query: str) -> Object:
        """Create an object in a collection. Raises `ApiError`, `ConflictError` where it exists."""
        return self._patient(_Request("POST", path, query, body))

    def apply(self, path: str, body: Object, **query: str) -> Object:
        """Apply an object on the server. Raises `ApiError`."""
        query = {"fieldManager": MANAGER, **query}
        return self._patient(_Request("PATCH", path, query, body, "application/apply-patch+yaml"))

    def merge(self, path: str, body: Object) -> Object:
        """Merge ``body`` into an object. Raises `ApiError`, `ConflictError` if it names an old version."""
        query = {"fieldManager": MANAGER}
        return self._patient(_Request("PATCH", path, query, body, "application/merge-patch+json"))

    def delete(self, path: str, uid: str) -> None:
        """Delete an object and what it owns, if it is still the one of that ``uid``. Raises `ApiError`."""
        body = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        try:
            self._patient(_Request("DELETE", path, body=body))
        except MissingError:
            self._told(f"DELETE {path}: gone already")

    def evict(self, path: str, pod: str, namespace: str) -> bool:
        """Evict a pod; return whether its disruption budget lets it go now. Raises `ApiError`."""
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": namespace},
        }
        try:
            self._patient(_Request("POST", f"{path}/eviction", body=body, passing=_PASSING - {_BUDGET}))
        except MissingError:
            self._told(f"{pod}: gone already")
        except ApiError as error:
            if error.status != _BUDGET:
                raise
            self._told(f"{pod} may not go yet: {error.text}")
            return False
        return True

    def _pages(self, path: str, query: Mapping[str, str]) -> Iterator[list[Object]]:
        more = ""
        while True:
            page = self.get(path, **{**query, "limit": str(PAGE), **({"continue": more} if more else {})})
            yield page.get("items") or []
            more = page.get("metadata", {}).get("continue") or ""
            if not more:
                return

    def _patient(self, request: "_Request") -> Object:
        answer = self._tries(request)
        try:
            value = json.loads(answer)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise UnreachableError(f"{request}: {self.host} did not answer in JSON; is it Kubernetes?")
        return value

    def _tries(self, request: "_Request") -> bytes:
        deadline, pause_s = self._clock() + PATIENCE_S, 0.2
        while True:
            try:
                return self._once(request)
            except ApiException as error:
                trouble = f"{error.status} {_message(error.body) or error.reason or ''}".strip()
                if error.status not in request.passing:
                    raise _refused(request, error) from error
                asked_s = _retry_after(error.headers)
            except urllib3.exceptions.HTTPError as error:
                trouble, asked_s = f"{type(error).__name__}: {error}", None
            wait_s = (pause_s if asked_s is None else asked_s) * random.uniform(1, 1.3)  # noqa: S311 - spreads
            if self._clock() + wait_s > deadline:
                raise UnreachableError(
                    f"{request}: no answer of use from {self.host} in {PATIENCE_S:g} s; last: {trouble}"
                )
            self._told(f"{request}: {trouble}; again in {wait_s:.1f} s")
            self._sleep(wait_s)
            pause_s = min(pause_s * 2, 5.0)

    def _once(self, request: "_Request") -> bytes:
        query = f"?{urlencode(request.query)}" if request.query else ""
        headers = {"accept": "application/json, */*", **self._client.default_headers}
        if request.body is not None:
            headers["Content-Type"] = request.kind
        method, path = request.method, request.path
        self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, request.body)
        response = self._client.call_api(
            method, f"{self.host}{path}{query}", headers, request.body, _request_timeout=REQUEST_S
        )
        data = bytes(response.read() or b"")
        if not 200 <= response.status <= 299:
            text = data.decode("utf-8", "replace")
            raise ApiException.from_response(http_resp=response, body=text, data=None)
        return data


@dataclass(frozen=True, slots=True)
class _Request:
    """One request."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    body: Object | None = None
    kind: str = "application/json"
    passing: frozenset[int] = _PASSING
    """Refusals that another try may change."""

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def _refused(request: _Request, error: ApiException) -> ApiError:
    """Return our error for a refusal that another try does not change."""
    status = int(error.status or 0)
    text = _message(error.body) or f"{status} {error.reason or ''}".strip()
    if status == 401:
        return UnreachableError(
            f"the API does not know this caller ({text}): renew the kubeconfig's credentials", status=status
        )
    kinds = {403: ForbiddenError, 404: MissingError, 409: ConflictError}
    return kinds.get(status, ApiError)(f"{request}: {text}", status=status, text=text)


def _message(body: str | bytes | None) -> str:
    try:
        value = json.loads(body or b"")
    except ValueError:
        return ""
    return str(value.get("message") or "") if isinstance(value, dict) else ""


def _retry_after(headers: Mapping[str, str] | None) -> float | None:
    """Return the seconds that a response's ``Retry-After`` asks for; it is never a date here."""
    given = (headers or {}).get("retry-after", "")
    return float(given) if given.isdecimal() else None
