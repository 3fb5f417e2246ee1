"""Service tiers from the client's field to the engine's queue and the answer."""

import time
from typing import Any

import orjson
import pytest

from tests.gateway.conftest import KEY, World, caller, chat_body
from tests.gateway.upstream import completion, good_stream, named, respond, response, response_item, stream

FAST = "key-fast"


@pytest.fixture
def tiered(world: World) -> World:
    """Return a world in which one caller has a right to priority."""
    world.keys.callers[FAST] = caller(tenant="desk", tier="priority")
    return world


@pytest.mark.parametrize(
    ("key", "asked", "tier", "due_s"),
    [
        pytest.param(KEY, {}, "default", 50, id="nothing"),
        pytest.param(KEY, {"service_tier": "flex"}, "flex", 110, id="flex"),
        pytest.param(KEY, {"service_tier": "priority"}, "default", 50, id="no right to priority"),
        pytest.param(FAST, {}, "priority", 45, id="a right to priority"),
    ],
)
async def test_the_tier_orders_the_engine_and_is_told(
    tiered: World, key: str, asked: dict[str, Any], tier: str, due_s: int
) -> None:
    """The engine's priority is in milliseconds; answer, usage line and ignored parameters tell the truth."""
    tiered.upstream.then(respond(200, completion()))
    before_s = time.time()
    async with tiered.post(chat_body(**asked), key=key) as got:
        assert "x-ignored-params" not in got.headers
        assert orjson.loads(await got.read())["service_tier"] == tier
    assert (await tiered.usage())["service_tier"] == tier
    priority_s = int(tiered.upstream.requests[0].headers["x-vllm-priority"]) / 1000
    assert before_s + due_s - 0.01 <= priority_s <= time.time() + due_s


async def test_the_clients_see_it(tiered: World) -> None:
    """The official client finds it in the first chunk of a chat stream, and in every response."""
    client = tiered.openai()
    tiered.upstream.then(good_stream())
    chat = await client.chat.completions.create(**chat_body(service_tier="flex", stream=True))
    told = [chunk.service_tier async for chunk in chat]
    assert told[0] == "flex"
    assert set(told[1:]) == {None}
    whole = response(response_item("msg_1", "Hello"))
    tiered.upstream.then(respond(200, whole))
    asked: dict[str, Any] = {"model": "gpt-oss-120b", "input": "Hi", "service_tier": "flex"}
    assert (await client.responses.create(**asked)).service_tier == "flex"
    begun = named("created", response=response(status="in_progress"))
    delta = named("output_text.delta", item_id="msg_1", output_index=0, content_index=0, delta="Hello")
    tiered.upstream.then(stream(begun, delta, named("completed", response=whole)))
    events = [event async for event in await client.responses.create(**asked, stream=True)]
    assert [event.response.service_tier for event in events if hasattr(event, "response")] == ["flex"] * 2


async def test_an_unknown_tier_is_refused(tiered: World) -> None:
    """With the words that there are."""
    async with tiered.post(chat_body(service_tier="gold")) as got:
        assert got.status == 400
        assert orjson.loads(await got.read())["error"]["param"] == "service_tier"
