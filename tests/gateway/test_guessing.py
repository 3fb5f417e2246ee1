"""Wrong keys over HTTP: which address they count for, and what they never cost anybody else."""

import json

from cluster.core.guessing import BURST
from tests.gateway.conftest import World, Worlds
from tests.gateway.upstream import completion, respond

NOBODY = 'gptoss_requests_total{effort="none",model="none",outcome="rate_limited",tenant="none"}'


async def statuses(world: World, count: int, forwarded: str) -> list[int]:
    """Send wrong keys, each with another ``X-Forwarded-For``; return their statuses."""
    found = []
    for number in range(count):
        headers = {"x-forwarded-for": forwarded.format(number)}
        async with world.post(key=f"guess-{number}", headers=headers) as response:
            found.append(response.status)
        await world.usage()
    return found


async def test_guessing_is_told_to_stop_and_a_live_key_is_served(world: World) -> None:
    """After a burst of 401 comes 429, which says that waiting cannot help; a live key from there works."""
    assert await statuses(world, BURST + 5, "203.0.113.{}") == [401] * BURST + [429] * 5
    async with world.post(key="guess") as response:
        assert response.headers["x-should-retry"] == "false"
        assert "retry-after" not in response.headers
        error = json.loads(await response.read())["error"]
    assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    world.upstream.then(respond(200, completion()))
    async with world.post() as response:
        assert response.status == 200
    async with world.http.get(f"{world.url}/v1/models", headers={"authorization": "Bearer x"}) as response:
        assert response.status == 429
    assert world.metric(NOBODY) == 7


async def test_refused_guesses_fill_no_audit_log(world: World) -> None:
    """Each failure has its audit line, and what comes after the burst has only its usage line."""
    await statuses(world, BURST + 30, "")
    lines = [json.loads(line) for line in world.log().splitlines()]
    assert len([line for line in lines if line["log"] == "audit"]) == BURST
    assert len([line for line in lines if line["log"] == "usage"]) == BURST + 30


async def test_a_trusted_proxy_tells_clients_apart(worlds: Worlds) -> None:
    """Behind one, failures count for the client that it names, in whatever form, and junk for the proxy."""
    world = await worlds(gateway={"trusted_proxies": ["127.0.0.0/8"]})
    assert await statuses(world, 2 * BURST, "203.0.113.{}") == [401] * 2 * BURST
    assert await statuses(world, BURST + 2, "10.1.2.{}, 198.51.100.7") == [401] * BURST + [429] * 2
    assert await statuses(world, BURST + 2, "\xff%00{}, ::g") == [401] * BURST + [429] * 2
    audit = [json.loads(line) for line in world.log().splitlines() if '"log":"audit"' in line]
    assert {line["address"] for line in audit[2 * BURST :]} == {"198.51.100.7", "127.0.0.1"}


async def test_nobody_else_is_believed(worlds: Worlds) -> None:
    """A client behind no trusted proxy cannot shed its failures by pretending to be many."""
    world = await worlds(gateway={"trusted_proxies": ["192.0.2.0/24"]})
    assert await statuses(world, BURST + 2, "203.0.113.{}") == [401] * BURST + [429] * 2


async def test_a_gateway_without_keys_yet(world: World) -> None:
    """Until keys are loaded every key gets 503 and a reason to come back, in OpenAI's error body."""
    world.keys.ready = False
    for _ in range(2 * BURST):
        async with world.post(key="unknown") as response:
            assert response.status == 503
            assert response.headers["retry-after"] == "1"
            error = json.loads(await response.read())["error"]
    assert (error["type"], error["code"]) == ("service_unavailable_error", "keys_not_loaded")
    world.keys.ready = True
    async with world.post(key="unknown") as response:
        assert response.status == 401
