"""What reaches the engine, and what must not."""

import orjson
import pytest

from cluster.core.hint import parse
from tests.gateway.conftest import SEEING, World, chat_body
from tests.gateway.upstream import completion, respond

HEADERS = {
    "authorization", "content-length", "content-type", "host", "x-request-id", "x-route-hint",
    "x-vllm-priority",
}  # fmt: skip


async def test_no_client_header_reaches_the_engine(world: World) -> None:
    """Headers that steer Serve or vLLM are not passed on, nor is the client's key."""
    world.upstream.then(respond(200, completion()))
    steering = {
        "x-vllm-priority": "-9", "x-data-parallel-rank": "7", "x-session-id": "s", "x-route-hint": "v=1",
        "x-request-timeout-seconds": "1", "x-request-disconnect-disabled": "?1", "cookie": "a=b",
        "accept": "x/y",
    }  # fmt: skip
    async with world.post(headers=steering) as response:
        assert response.status == 200
    got = world.upstream.requests[0].headers
    assert got.keys() == HEADERS
    assert got["authorization"] == "Bearer engine-key"
    assert int(got["x-vllm-priority"]) > 1_700_000_000_000


async def test_the_body_is_built_anew(world: World) -> None:
    """Known fields pass; the gateway's own decisions replace the client's."""
    world.upstream.then(respond(200, completion()))
    async with world.post(chat_body(max_tokens=999, reasoning_effort="low", temperature=0.5)) as response:
        assert response.status == 200
    body = world.upstream.requests[0].body
    salt = body.pop("cache_salt")
    assert body == {
        "model": "gpt-oss-120b", "messages": [{"role": "user", "content": "Say hello"}], "temperature": 0.5,
        "stream": False, "include_reasoning": False, "store": False, "max_completion_tokens": 100,
        "reasoning_effort": "low",
    }  # fmt: skip
    assert "acme" not in salt


async def test_tenants_do_not_share_a_prefix_cache(world: World) -> None:
    """Each tenant has a salt of its own, the same for all its requests."""
    world.upstream.then(respond(200, completion()))
    for key in ("key-plain", SEEING, "key-plain"):
        async with world.post(key=key) as response:
            assert response.status == 200
    first, other, again = (seen.body["cache_salt"] for seen in world.upstream.requests)
    assert first == again != other


async def test_the_hint_tells_the_router_what_it_needs(world: World) -> None:
    """Effort, size, deadline and affinity keys, none of which shows a text."""
    world.upstream.then(respond(200, completion()))
    messages = [{"role": "developer", "content": "SECRET rules"}, {"role": "user", "content": "Hi"}]
    async with world.post(chat_body(messages=messages, n=2, prompt_cache_key="SECRET")) as response:
        assert response.status == 200
    seen = world.upstream.requests[0]
    hint = parse(seen.headers["x-route-hint"])
    assert hint is not None
    assert (hint.effort, hint.expected_output_tokens, hint.attempt) == ("medium", 160, 1)
    assert len(hint.prefix) == len(hint.conversation) == 16
    assert hint.deadline_ms == int(seen.headers["x-vllm-priority"])
    assert hint.deadline_ms > 1_700_000_000_000
    assert "SECRET" not in str(seen.headers)


@pytest.mark.parametrize(
    "field", ["ignore_eos", "priority", "chat_template", "cache_salt", "kv_transfer_params"]
)
async def test_engine_fields_are_refused(world: World, field: str) -> None:
    """A field that is not OpenAI's is 400 and never reaches the engine."""
    async with world.post(chat_body(**{field: 1})) as response:
        assert response.status == 400
        assert orjson.loads(await response.read())["error"]["param"] == field
    assert world.upstream.requests == []
