"""The Kubernetes API that tests speak to behaves as the real one, through its official client."""

import io
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.kube.access import ADMIN, Role
from tests.kube.api import KubernetesApi

SECRETS = "/api/v1/namespaces/serving/secrets"
READER = Role("reader", frozenset({"get", "list", "watch"}), frozenset({"keys"}))


@pytest.fixture
async def api() -> AsyncIterator[KubernetesApi]:
    """Return a running API with a Secret."""
    made = KubernetesApi(bookmark_s=0.05, tokens={"admin-token": ADMIN, "reader-token": READER})
    made.put("serving", "keys", {"a": b"1"})
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
async def http(api: KubernetesApi) -> AsyncIterator[aiohttp.ClientSession]:
    """Return a plain client of an administrator."""
    async with aiohttp.ClientSession(api.url, headers={"authorization": "Bearer admin-token"}) as session:
        yield session


async def call(
    http: aiohttp.ClientSession, method: str, path: str, body: Any = None, **more: Any
) -> tuple[int, Any]:
    """Send a request; return status and JSON."""
    kind = more.pop("kind", "application/merge-patch+json" if method == "PATCH" else "application/json")
    data = None if body is None else io.BytesIO(json.dumps(body).encode())
    async with http.request(
        method, path, data=data, headers={"content-type": kind, **more.pop("headers", {})}, **more
    ) as response:
        return response.status, await response.json()


async def watched(http: aiohttp.ClientSession, **query: str) -> list[dict[str, Any]]:
    """Watch until the API ends it; return the events."""
    query = {"watch": "true", "fieldSelector": "metadata.name=keys", "timeoutSeconds": "0.12", **query}
    async with http.get(SECRETS, params=query) as response:
        assert response.status == 200
        return [json.loads(line) async for line in response.content]


async def test_a_patch_merges(http: aiohttp.ClientSession) -> None:
    """A merge patch writes what it names, null removes, and the version grows; without a change it stays."""
    body = {"data": {"b": b64encode(b"2").decode(), "a": None}}
    _, old = await call(http, "GET", f"{SECRETS}/keys")
    status, new = await call(http, "PATCH", f"{SECRETS}/keys", body)
    assert (status, new["data"]) == (200, {"b": "Mg=="})
    assert int(new["metadata"]["resourceVersion"]) > int(old["metadata"]["resourceVersion"])
    assert new["metadata"]["uid"] == old["metadata"]["uid"]
    assert (await call(http, "PATCH", f"{SECRETS}/keys", body))[1] == new


async def test_an_old_version_is_a_conflict(http: aiohttp.ClientSession) -> None:
    """A patch that names another version than the object's is refused, and changes nothing."""
    body = {"metadata": {"resourceVersion": "1"}, "data": {"b": "Mg=="}}
    status, told = await call(http, "PATCH", f"{SECRETS}/keys", body)
    assert (status, told["reason"], told["kind"]) == (409, "Conflict", "Status")
    assert (await call(http, "GET", f"{SECRETS}/keys"))[1]["data"] == {"a": "MQ=="}


async def test_objects_come_and_go(http: aiohttp.ClientSession, api: KubernetesApi) -> None:
    """Create, read, replace and delete, and the errors of doing it twice."""
    secret = {"kind": "Secret", "metadata": {"name": "other"}, "data": {}}
    assert (await call(http, "POST", SECRETS, secret))[0] == 201
    assert (await call(http, "POST", SECRETS, secret))[1]["reason"] == "AlreadyExists"
    status, replaced = await call(http, "PUT", f"{SECRETS}/other", {**secret, "data": {"x": "MQ=="}})
    assert (status, replaced["data"]) == (200, {"x": "MQ=="})
    _, listed = await call(http, "GET", SECRETS)
    assert [item["metadata"]["name"] for item in listed["items"]] == ["keys", "other"]
    assert listed["metadata"]["resourceVersion"] == str(api.version)
    assert (await call(http, "DELETE", f"{SECRETS}/other"))[0] == 200
    assert (await call(http, "GET", f"{SECRETS}/other"))[1]["reason"] == "NotFound"


WRONG = [
    pytest.param({"data": {"b": "?"}}, 400, "illegal base64", id="not-base64"),
    pytest.param({"data": {"a/b": "MQ=="}}, 422, "a valid config key", id="bad-entry"),
    pytest.param({"data": {"b": "A" * 4 * 350_000}}, 422, "may not be more than 1048576 bytes", id="too-big"),
    pytest.param({"dta": {}}, 400, 'unknown field "dta"', id="unknown-field"),
    pytest.param([], 400, "unrecognized", id="not-an-object"),
]


@pytest.mark.parametrize(("body", "status", "words"), WRONG)
async def test_what_is_wrong_is_refused(
    http: aiohttp.ClientSession, body: Any, status: int, words: str
) -> None:
    """A Secret that the real API would not take is not taken."""
    given, told = await call(http, "PATCH", f"{SECRETS}/keys", body)
    assert given == status
    assert words in told["message"]


async def test_roles(http: aiohttp.ClientSession) -> None:
    """A token without a role is 401; a role with names lists only with a selector of one of them."""
    reader = {"authorization": "Bearer reader-token"}
    assert (await call(http, "GET", SECRETS, headers={"authorization": "Bearer x"}))[0] == 401
    status, told = await call(http, "GET", SECRETS, headers=reader)
    assert status == 403
    assert told["message"].startswith('secrets is forbidden: User "reader" cannot list resource "secrets"')
    one = {"fieldSelector": "metadata.name=keys"}
    assert (await call(http, "GET", SECRETS, headers=reader, params=one))[0] == 200
    assert (await call(http, "PATCH", f"{SECRETS}/keys", {}, headers=reader))[0] == 403
    assert (await call(http, "GET", SECRETS, params={"fieldSelector": "data.a=1"}))[0] == 400


async def test_a_watch_tells_what_came_after_its_version(
    http: aiohttp.ClientSession, api: KubernetesApi
) -> None:
    """Events after the version in order, of the selected object only, then the end; from 0 everything."""
    version = str(api.version)
    api.put("serving", "keys", {"a": b"2"})
    api.put("serving", "others", {"a": b"2"})
    api.remove("serving", "keys")
    events = await watched(http, resourceVersion=version)
    assert [event["type"] for event in events] == ["MODIFIED", "DELETED"]
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in events]
    assert versions == sorted(versions)
    api.put("serving", "keys", {})
    assert [event["type"] for event in await watched(http)] == ["ADDED"]


async def test_bookmarks(http: aiohttp.ClientSession, api: KubernetesApi) -> None:
    """Where they are asked for, bookmarks carry the newest version."""
    version = str(api.version)
    api.bump()
    events = await watched(http, resourceVersion=version, allowWatchBookmarks="true")
    assert {event["type"] for event in events} == {"BOOKMARK"}
    assert {event["object"]["metadata"]["resourceVersion"] for event in events} == {str(api.version)}
    assert await watched(http, resourceVersion=version) == []


async def test_a_version_that_is_gone(http: aiohttp.ClientSession, api: KubernetesApi) -> None:
    """A compacted version is an error event in a good response, with code 410."""
    version = str(api.version)
    api.put("serving", "keys", {"a": b"2"})
    api.compact()
    (event,) = await watched(http, resourceVersion=version)
    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")
    assert await watched(http, resourceVersion=str(api.version)) == []
