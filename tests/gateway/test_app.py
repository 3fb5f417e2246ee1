"""Paths, methods and bodies before any of the flow's steps."""

import asyncio
from typing import Any

import pytest
from aiohttp import ClientResponse

from cluster.core.accounting import Outcome
from tests.gateway.conftest import KEY, World, Worlds, chat_body
from tests.gateway.upstream import completion, respond


async def ask(world: World, method: str, path: str, **more: Any) -> ClientResponse:
    """Send a request with a good key and read its response."""
    headers = {"authorization": f"Bearer {KEY}", **more.pop("headers", {})}
    async with world.http.request(method, world.url + path, headers=headers, **more) as response:
        await response.read()
        return response


@pytest.mark.parametrize("path", [
    "/", "/v1", "/v1/completions", "/v1/chat/completions/", "/v1//chat/completions", "/V1/chat/completions",
    "/v1/embeddings", "/metrics", "/health", "/invocations", "/v1/responses/resp_1", "/v1/modelsx",
])  # fmt: skip
async def test_other_paths_are_404(world: World, path: str) -> None:
    """Only the API's own paths exist, exactly as written."""
    response = await ask(world, "POST", path)
    assert response.status == 404
    assert (await response.json())["error"]["code"] == "unknown_url"


@pytest.mark.parametrize("path", [b"/v1/chat%2fcompletions", b"/v1/../v1/models", b"/v1/%6dodels"])
async def test_paths_are_not_normalised(world: World, path: bytes) -> None:
    """A path that only means one of ours after decoding is another path."""
    host, port = world.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET %s HTTP/1.1\r\nhost: x\r\nauthorization: Bearer %s\r\n\r\n" % (path, KEY.encode()))
    assert (await reader.readline()).startswith(b"HTTP/1.1 404 ")
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize(("method", "path", "allow"), [
    ("GET", "/v1/chat/completions", "POST"), ("PUT", "/v1/responses", "POST"),
    ("OPTIONS", "/v1/responses", "POST"),
    ("POST", "/v1/models", "GET"), ("DELETE", "/v1/models/gpt-oss-20b", "GET"),
])  # fmt: skip
async def test_other_methods_are_405(world: World, method: str, path: str, allow: str) -> None:
    """The answer says which method the path takes."""
    response = await ask(world, method, path)
    assert (response.status, response.headers["allow"]) == (405, allow)
    assert (await response.json())["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_too_large_is_413(worlds: Worlds, chunked: bool) -> None:
    """With a declared length before it is read, without one as soon as it is too long."""
    world = await worlds(gateway={"max_body_bytes": 100})

    async def pieces() -> Any:
        for _ in range(10):
            yield b" " * 20

    response = await ask(
        world, "POST", "/v1/chat/completions", data=pieces() if chunked else b" " * 200,
        headers={"content-type": "application/json"},
    )  # fmt: skip
    assert (response.status, response.headers["connection"]) == (413, "close")
    assert (await world.usage())["outcome"] == "invalid"


@pytest.mark.parametrize("more", [
    {"data": b"{}", "headers": {"content-type": "text/plain"}},
    {"data": b"{}", "headers": {"content-type": "application/json", "content-encoding": "br"}},
])  # fmt: skip
async def test_other_media_are_415(world: World, more: dict[str, Any]) -> None:
    """Only plain JSON is read."""
    assert (await ask(world, "POST", "/v1/chat/completions", **more)).status == 415


async def test_a_draining_gateway_sheds(world: World) -> None:
    """A request that comes while draining is 503 with a time to try elsewhere, and costs nothing."""
    world.gate.drain()
    response = await ask(world, "POST", "/v1/chat/completions", json=chat_body())
    assert (response.status, response.headers["retry-after"]) == (503, "1")
    line = await world.usage()
    assert (line["outcome"], world.ledger.settled) == (Outcome.SHED, [0])


async def test_a_fault_of_ours_is_a_500_that_tells_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody foresaw is `internal`; the next request is served."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError("SECRET")

    with monkeypatch.context() as patched:
        patched.setattr(world.ledger, "reserve", broken)
        response = await ask(world, "POST", "/v1/chat/completions", json=chat_body())
    assert response.status == 500
    assert "SECRET" not in await response.text()
    assert (await world.usage())["outcome"] == "internal"
    world.upstream.then(respond(200, completion()))
    assert (await ask(world, "POST", "/v1/chat/completions", json=chat_body())).status == 200
