"""The gateway in front of the simulated engine, with the official client and every fault the engine knows."""

from typing import Any

import openai
import pytest

from tests.gateway.conftest import SEEING, World

MODEL = "gpt-oss-120b"


@pytest.fixture
def world(simulated: World) -> World:
    """Return a gateway in front of a simulated engine that obeys fault words."""
    return simulated


def said(words: str) -> list[Any]:
    """Return messages that say ``words``."""
    return [{"role": "user", "content": words}]


async def chat(world: World, words: str, *, stream: bool, key: str = "key-plain", **more: Any) -> str:
    """Return the text of a chat answer."""
    client = world.openai(key)
    if not stream:
        whole = await client.chat.completions.create(model=MODEL, messages=said(words), **more)
        return whole.choices[0].message.content or ""
    parts = await client.chat.completions.create(model=MODEL, messages=said(words), stream=True, **more)
    return "".join([part.choices[0].delta.content or "" async for part in parts if part.choices])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
async def test_a_thought_is_as_long_as_its_budget(world: World, path: str, stream: bool) -> None:
    """The engine obeys what the gateway tells it, and the answer follows; the usage line has both figures."""
    asked = (
        {"messages": said("Hi"), "reasoning_effort": "high"}
        if "chat" in path
        else {"input": "Hi", "reasoning": {"effort": "high"}}
    )
    async with world.post(
        {"model": MODEL, **asked, "thinking_token_budget": 16, "stream": stream}, path=path
    ) as answer:
        assert answer.headers["x-reasoning-budget"] == "16"
        assert answer.headers.get("x-reasoning-truncated") == (None if stream else "true")
        await answer.read()
    line = await world.usage()
    assert (line["outcome"], line["reasoning_budget"], line["tokens"]["reasoning"]) == ("completed", 16, 16)
    assert line["tokens"]["answer"] > 0
    assert world.metric('gptoss_reasoning_truncated_total{effort="high",model="gpt-oss-120b"}') == 1


async def respond(world: World, words: str, *, stream: bool) -> str:
    """Return the text of a Responses answer; raise for one that failed."""
    client = world.openai()
    if not stream:
        return (await client.responses.create(model=MODEL, input=words)).output_text
    events = [event async for event in await client.responses.create(model=MODEL, input=words, stream=True)]
    last = events[-1]
    if last.type == "response.failed":
        raise openai.APIError("failed", request=None, body=None)  # type: ignore[arg-type]
    assert last.type == "response.completed"
    return last.response.output_text


ASKS = [
    pytest.param(ask, stream, id=f"{ask.__name__}-{stream}")
    for ask in (chat, respond)
    for stream in (False, True)
]


@pytest.mark.parametrize(("ask", "stream"), ASKS)
async def test_a_good_answer(world: World, ask: Any, stream: bool) -> None:
    """Every endpoint answers, whole and streamed, with true tokens of each kind."""
    assert await ask(world, "Tell me about rivers", stream=stream)
    line = await world.usage()
    assert (line["outcome"], line["replica"], line["attempts"]) == ("completed", "sim-1", 1)
    assert line["tokens"]["reasoning"] > 0
    assert line["tokens"]["answer"] > 0
    assert line["settled"] == sum(line["tokens"][kind] for kind in ("prompt", "reasoning", "answer"))


@pytest.mark.parametrize("fault", ["die", "reset", "harmony", "garbage", "control", "empty", "tool", "abort"])
@pytest.mark.parametrize(("ask", "stream"), ASKS)
async def test_a_fault_is_survived_or_told(world: World, ask: Any, stream: bool, fault: str) -> None:
    """Struck once, a fault is retried where nothing was shown; struck always, the client gets an error."""
    with pytest.raises(openai.APIError) as caught:
        await ask(world, f"fault-{fault}", stream=stream)
    assert "private" not in str(caught.value)
    line = await world.usage()
    assert line["outcome"] in ("upstream_failed", "upstream_broken", "harmony_fault")


@pytest.mark.parametrize("fault", ["die", "reset", "harmony", "control", "empty", "tool", "abort"])
@pytest.mark.parametrize("ask", [chat, respond])
async def test_a_fault_that_strikes_once_is_not_seen(world: World, ask: Any, fault: str) -> None:
    """A whole answer's fault is retried: nothing of it was shown."""
    assert await ask(world, f"fault-{fault}-once", stream=False)
    assert (await world.usage())["attempts"] == 2


@pytest.mark.parametrize("ask", [chat, respond])
async def test_a_cut_stream_never_ends_cleanly(world: World, ask: Any) -> None:
    """The engine's connection ends mid-answer; the client gets an error."""
    with pytest.raises(openai.APIError):
        await ask(world, "fault-cut", stream=True)
    assert (await world.usage())["outcome"] == "upstream_broken"


async def test_efforts_reach_the_engine(world: World) -> None:
    """The chain of thought grows with the effort, up to the budget where there is one."""
    lengths = []
    for effort in ("low", "medium", "high"):
        await chat(world, "Tell me about rivers", stream=False, reasoning_effort=effort)
        lengths.append((await world.usage())["tokens"]["reasoning"])
    assert lengths[0] < lengths[1] < lengths[2] == 64


@pytest.mark.parametrize("stream", [False, True])
async def test_reasoning_is_seen_by_policy(world: World, stream: bool) -> None:
    """Hidden from one caller and shown to the other, chat whole and streamed."""
    for key in ("key-plain", SEEING):
        body = {"model": MODEL, "messages": said("Tell me about rivers"), "stream": stream}
        async with world.post(body, key=key) as response:
            text = await response.text()
        assert ('"reasoning":"' in text) == (key == SEEING)
        assert ": usage" not in text


@pytest.mark.parametrize("store", [None, False, True])
async def test_nothing_is_stored(world: World, store: bool | None) -> None:
    """``store`` is accepted, echoed as false whole and streamed, and named where it asked for something."""
    client, more = world.openai(), {} if store is None else {"store": store}
    raw = await client.responses.with_raw_response.create(model=MODEL, input="Rivers", **more)  # type: ignore[call-overload]
    assert raw.parse().model_dump()["store"] is False
    assert raw.headers.get("x-ignored-params") == ("store" if store else None)
    events: list[Any] = [
        event
        async for event in await client.responses.create(model=MODEL, input="Rivers", stream=True, **more)  # type: ignore[call-overload]
    ]
    told = [event.response.model_dump()["store"] for event in events if hasattr(event, "response")]
    assert told == [False, False, False]


async def test_ignored_fields_are_named_in_a_header(world: World) -> None:
    """Each ignored field that was used is named once, with its path."""
    parts = [{"type": "text", "text": "Hi", "prompt_cache_breakpoint": {"mode": "explicit"}}] * 2
    messages = [{"role": "user", "name": "ann", "content": parts}] * 2
    async with world.post({"model": MODEL, "messages": messages, "user": "u1"}) as response:
        assert response.status == 200
        assert response.headers["x-ignored-params"] == (
            "messages[].name,messages[].content[].prompt_cache_breakpoint,user"
        )
