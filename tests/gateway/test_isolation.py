"""Tenants share replicas, and nothing of each other's in their caches."""

from tests.gateway.conftest import KEY, SEEING, World, caller, chat_body
from tests.gateway.test_responses_stream import message, response
from tests.gateway.upstream import completion, respond


async def salts(world: World, *keys: str, path: str = "/v1/chat/completions") -> list[str]:
    """Return the cache salts that the engine gets with a request of each key."""
    chat = path.endswith("completions")
    world.upstream.then(respond(200, completion() if chat else response(message("m"))))
    before = len(world.upstream.requests)
    for key in keys:
        body = chat_body() if chat else {"model": "gpt-oss-120b", "input": "Hi"}
        async with world.post(body, path=path, key=key) as answer:
            assert answer.status == 200
    return [seen.body["cache_salt"] for seen in world.upstream.requests[before:]]


async def test_each_tenant_has_its_own_cache(world: World) -> None:
    """A tenant's requests carry one salt, on both endpoints and from all its keys; another's another."""
    world.keys.callers["key-second"] = caller(key_id="key00002")
    one, again, second, other = await salts(world, KEY, KEY, "key-second", SEEING)
    assert one == again == second != other
    assert await salts(world, KEY, SEEING, path="/v1/responses") == [one, other]


async def test_a_salt_tells_nothing(world: World) -> None:
    """It is long enough not to be guessed, and holds neither the tenant's name nor anything of its key."""
    (salt,) = await salts(world, KEY)
    assert len(salt) == 64
    assert "acme" not in salt
    assert KEY not in salt


async def test_a_client_cannot_choose_its_salt(world: World) -> None:
    """A request that names a salt, its own or another tenant's, never reaches the engine."""
    (salt,) = await salts(world, SEEING)
    before = len(world.upstream.requests)
    async with world.post(chat_body(cache_salt=salt)) as answer:
        assert (answer.status, (await answer.json())["error"]["param"]) == (400, "cache_salt")
    assert len(world.upstream.requests) == before


async def test_affinity_keys_are_apart_too(world: World) -> None:
    """One conversation key of two tenants' is two in the route hint: neither finds the other's replica."""
    world.upstream.then(respond(200, completion()))
    for key in (KEY, SEEING):
        async with world.post(chat_body(prompt_cache_key="thread-1"), key=key) as answer:
            assert answer.status == 200
    hints = [seen.headers["x-route-hint"].split(";") for seen in world.upstream.requests]
    keys = [next(part for part in hint if part.startswith("c=")) for hint in hints]
    assert keys[0] != keys[1]
