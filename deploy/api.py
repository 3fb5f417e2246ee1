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
_PASSING = {429, 500, 502, 503, 504}
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
        return self._patient("GET", path, query, None, None)

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
        return self._tries("GET", path, query, None, None).decode("utf-8", "replace")

    def create(self, path: str, body: Object, **query: str) -> Object:
        """Create an object in a collection. Raises `ApiError`, `ConflictError` where it exists."""
        return self._patient("POST", path, query, body, "application/json")

    def apply(self, path: str, body: Object, **query: str) -> Object:
        """Apply an object on the server. Raises `ApiError`."""
        return self._patient(
            "PATCH", path, {"fieldManager": MANAGER, **query}, body, "application/apply-patch+yaml"
        )

    def merge(self, path: str, body: Object) -> Object:
        """Merge ``body`` into an object. Raises `ApiError`, `ConflictError` if it names an old version."""
        return self._patient("PATCH", path, {"fieldManager": MANAGER}, body, "application/merge-patch+json")

    def _pages(self, path: str, query: Mapping[str, str]) -> Iterator[list[Object]]:
        more = ""
        while True:
            page = self.get(path, **{**query, "limit": str(PAGE), **({"continue": more} if more else {})})
            yield page.get("items") or []
            more = page.get("metadata", {}).get("continue") or ""
            if not more:
                return

    def _patient(
        self, method: str, path: str, query: Mapping[str, str], body: Object | None, kind: str | None
    ) -> Object:
        answer = self._tries(method, path, query, body, kind)
        try:
            value = json.loads(answer)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise UnreachableError(f"{method} {path}: {self.host} did not answer in JSON; is it Kubernetes?")
        return value

    def _tries(
        self, method: str, path: str, query: Mapping[str, str], body: Object | None, kind: str | None
    ) -> bytes:
        deadline, pause_s = self._clock() + PATIENCE_S, 0.2
        while True:
            try:
                return self._once(method, path, query, body, kind)
            except ApiException as error:
                trouble = f"{error.status} {_message(error.body) or error.reason or ''}".strip()
                if error.status not in _PASSING:
                    raise _refused(method, path, error) from error
                asked_s = _retry_after(error.headers)
            except urllib3.exceptions.HTTPError as error:
                trouble, asked_s = f"{type(error).__name__}: {error}", None
            wait_s = (pause_s if asked_s is None else asked_s) * random.uniform(1, 1.3)  # noqa: S311 - spreads
            if self._clock() + wait_s > deadline:
                raise UnreachableError(
                    f"{method} {path}: no answer of use from {self.host} in {PATIENCE_S:g} s; last: {trouble}"
                )
            self._told(f"{method} {path}: {trouble}; again in {wait_s:.1f} s")
            self._sleep(wait_s)
            pause_s = min(pause_s * 2, 5.0)

    def _once(
        self, method: str, path: str, query: Mapping[str, str], body: Object | None, kind: str | None
    ) -> bytes:
        url = f"{self._client.configuration.host}{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {"accept": "application/json, */*", **self._client.default_headers}
        if kind is not None:
            headers["Content-Type"] = kind
        self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        response = self._client.call_api(method, url, headers, body, _request_timeout=REQUEST_S)
        data = bytes(response.read() or b"")
        if not 200 <= response.status <= 299:
            raise ApiException.from_response(
                http_resp=response, body=data.decode("utf-8", "replace"), data=None
            )
        return data


def _refused(method: str, path: str, error: ApiException) -> ApiError:
    """Return our error for a refusal that another try does not change."""
    status = int(error.status or 0)
    text = _message(error.body) or f"{status} {error.reason or ''}".strip()
    if status == 401:
        return UnreachableError(
            f"the API does not know this caller ({text}): renew the kubeconfig's credentials", status=status
        )
    kinds = {403: ForbiddenError, 404: MissingError, 409: ConflictError}
    return kinds.get(status, ApiError)(f"{method} {path}: {text}", status=status, text=text)


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
