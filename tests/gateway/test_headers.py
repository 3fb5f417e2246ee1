"""Headers of a response."""

from typing import Any

import pytest

from cluster.gateway.headers import go_duration
from cluster.settings import RateLimits
from tests.gateway.conftest import KEY, NARROW, World, caller, chat_body
from tests.gateway.upstream import chat_usage, completion, respond, response, response_item


@pytest.mark.parametrize(("seconds", "text"), [
    (0.012, "12ms"), (1.0, "1s"), (360.0, "6m0s"), (0.0, "0s"), (-1.0, "0s"), (0.9996, "1s"), (1.5, "1.5s"),
    (61.25, "1m1.25s"), (3600.0, "1h0m0s"), (7322.5, "2h2m2.5s"), (59.9999, "1m0s"),
])  # fmt: skip
def test_durations_are_gos(seconds: float, text: str) -> None:
    """OpenAI writes the time until a limit is full as Go does."""
    assert go_duration(seconds) == text


async def headers(world: World, body: Any = None, *, key: str = KEY, **more: str) -> dict[str, str]:
    """Return the headers of one response."""
    world.upstream.then(respond(200, completion()))
    async with world.post(body, key=key, headers=more) as response:
        return {name.lower(): value for name, value in response.headers.items()}


async def test_what_a_good_answer_tells(world: World) -> None:
    """Ids, time and what is left of the limits come with every answer; nothing of the engine's does."""
    got = await headers(world)
    assert len(got["x-request-id"]) == 36
    assert got["openai-processing-ms"].isdigit()
    assert (got["x-effort"], got["x-effort-reason"]) == ("medium", "default")
    assert (got["x-ratelimit-limit-requests"], got["x-ratelimit-remaining-requests"]) == ("600", "599")
    assert got["x-ratelimit-reset-requests"].endswith("ms")
    assert got["x-ratelimit-limit-tokens"] == "100000"
    assert not {"x-engine-replica", "x-engine-load", "server"} & got.keys()


@pytest.mark.parametrize(("given", "echoed"), [("trace-1/2", "trace-1/2"), ("a b", None), ("x" * 129, None)])
async def test_a_clients_own_id_is_echoed_if_harmless(world: World, given: str, echoed: str | None) -> None:
    """It never becomes the request's id, and goes no further than the client itself."""
    got = await headers(world, **{"x-request-id": given})
    assert got.get("x-client-request-id") == echoed
    assert got["x-request-id"] != given
    assert given not in str(world.upstream.requests[0].headers)


@pytest.mark.parametrize(("asked", "level", "reason"), [
    ("low", "low", "requested"), ("xhigh", "high", "mapped"), ("minimal", "low", "mapped"),
])  # fmt: skip
async def test_the_effort_served_is_told(world: World, asked: str, level: str, reason: str) -> None:
    """A mapped effort says so."""
    got = await headers(world, chat_body(reasoning_effort=asked))
    assert (got["x-effort"], got["x-effort-reason"]) == (level, reason)


async def test_a_capped_effort_is_told(world: World) -> None:
    """A key's cap lowers the effort, and the client can see why."""
    got = await headers(world, chat_body(model="gpt-oss-20b", reasoning_effort="high"), key=NARROW)
    assert (got["x-effort"], got["x-effort-reason"]) == ("low", "tenant_cap")


@pytest.mark.parametrize(("effort", "served"), [("low", "gpt-oss-20b"), ("high", "gpt-oss-120b")])
async def test_an_alias_says_which_model_served(world: World, effort: str, served: str) -> None:
    """The alias chooses by effort; ``x-served-model`` names its choice."""
    got = await headers(world, chat_body(model="gpt-oss", reasoning_effort=effort))
    assert got["x-served-model"] == served


async def test_ignored_fields_are_named(world: World) -> None:
    """A field that has no effect is accepted and said."""
    got = await headers(world, chat_body(user="u", verbosity="low"))
    assert got["x-ignored-params"] == "user,verbosity"


async def test_a_failure_has_the_same_headers(world: World) -> None:
    """Ids, limits and effort are told of a failed request too, as far as they are known."""
    world.upstream.then(respond(400, {"error": {"message": "m", "code": 400}}))
    async with world.post() as response:
        got = {name.lower() for name in response.headers}
    assert {"x-request-id", "x-effort", "x-ratelimit-limit-requests", "openai-processing-ms"} <= got


async def test_a_cut_chain_of_thought_is_told(world: World) -> None:
    """Where the reasoning used up its budget the answer says so."""
    answer = {**completion(), "usage": chat_usage(reasoning=64, answer=4)}
    world.upstream.then(respond(200, answer))
    async with world.post(chat_body(reasoning_effort="high")) as response:
        assert response.headers["x-reasoning-budget"] == "64"
        assert response.headers["x-reasoning-truncated"] == "true"
    assert world.upstream.requests[0].body["thinking_token_budget"] == 64


@pytest.mark.parametrize(
    ("effort", "budget"),
    [
        pytest.param("high", "64", id="a budget that was not used up"),
        pytest.param("low", None, id="no budget"),
    ],
)
async def test_a_whole_chain_of_thought_is_not_told_as_cut(
    world: World, effort: str, budget: str | None
) -> None:
    """The budget itself is told wherever there is one."""
    answer = {**completion(), "usage": chat_usage(reasoning=63, answer=4)}
    world.upstream.then(respond(200, answer))
    async with world.post(chat_body(reasoning_effort=effort)) as response:
        assert response.headers.get("x-reasoning-budget") == budget
        assert "x-reasoning-truncated" not in response.headers


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
async def test_a_request_may_tighten_its_budget(world: World, path: str) -> None:
    """On both endpoints; the engine is told the tightest, and so is the client."""
    chat = "chat" in path
    body = chat_body(reasoning_effort="high")
    if not chat:
        body = {"model": "gpt-oss-120b", "input": "Hi", "reasoning": {"effort": "high"}}
    world.upstream.then(respond(200, completion() if chat else response(response_item("msg_1", "Hello"))))
    for own, budget in ((16, 16), (5000, 64)):
        async with world.post({**body, "thinking_token_budget": own}, path=path) as answer:
            assert answer.status == 200
            assert answer.headers["x-reasoning-budget"] == str(budget)
        assert world.upstream.requests[-1].body["thinking_token_budget"] == budget


async def test_a_refused_request_is_told_when_to_come_back(world: World) -> None:
    """A limit gives 429 with the time to wait, and the limits' headers."""
    world.keys.callers[KEY] = caller(limits=(RateLimits(requests_per_min=1),))
    world.upstream.then(respond(200, completion()))
    async with world.post() as first, world.post() as second:
        assert (first.status, second.status) == (200, 429)
        assert (await second.json())["error"]["code"] == "rate_limit_exceeded"
        assert 1 <= int(second.headers["retry-after"]) <= 60
        assert second.headers["x-ratelimit-remaining-requests"] == "0"
    assert len(world.upstream.requests) == 1
    assert world.ledger.settled == [15]
    assert world.metric('gptoss_limit_rejections_total{limit="requests"}') == 1
