"""What the simulated engine answers, read event by event through the official client: ids and truncation."""

from typing import Any

import pytest

from tests.gateway.conftest import KEY, SEEING, World

MODEL = "gpt-oss-120b"
QUESTION = "What is the weather in Lisbon?"
WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
KEYS = pytest.mark.parametrize("key", [KEY, SEEING], ids=["hidden", "seen"])


async def streamed(world: World, key: str, **fields: Any) -> list[Any]:
    """Return the events of a response."""
    body: Any = {"model": MODEL, "input": QUESTION, **fields}
    return [event async for event in await world.openai(key).responses.create(**body, stream=True)]


def ids(items: Any) -> list[tuple[Any, ...]]:
    """Return what names each item."""
    return [(item.type, item.id, getattr(item, "call_id", None)) for item in items]


@KEYS
@pytest.mark.parametrize("tools", [[], [WEATHER]], ids=["message", "call"])
async def test_ids_agree(simulated: World, key: str, tools: list[Any]) -> None:
    """An item is named alike when it is added, in its deltas, when it is done and in the final object."""
    events = await streamed(simulated, key, tools=tools)
    final = events[-1].response
    opened = [event.item for event in events if event.type == "response.output_item.added"]
    closed = [event.item for event in events if event.type == "response.output_item.done"]
    assert ids(opened) == ids(closed) == ids(final.output)
    assert len({item.id for item in final.output}) == len(final.output) == (1 if key == KEY else 2)
    for event in events:
        if hasattr(event, "item_id"):
            assert event.item_id == final.output[event.output_index].id
    assert {event.response.id for event in events if hasattr(event, "response")} == {final.id}
    assert [event.sequence_number for event in events] == list(range(len(events)))


@KEYS
@pytest.mark.parametrize("tools", [[], [WEATHER]], ids=["message", "call"])
async def test_the_helper_reads_it(simulated: World, key: str, tools: list[Any]) -> None:
    """``responses.stream``, which gathers the events itself, ends with the object that was sent."""
    async with simulated.openai(key).responses.stream(model=MODEL, input=QUESTION, tools=tools) as stream:
        gathered = [event async for event in stream]
        final = await stream.get_final_response()
    assert final.status == "completed"
    assert ids(final.output) == ids(gathered[-1].response.output)  # type: ignore[union-attr]


@KEYS
@pytest.mark.parametrize("limit", [2, 70, 90])
async def test_a_truncated_response_is_incomplete(simulated: World, key: str, limit: int) -> None:
    """Cut in its thoughts or in its answer, a response is incomplete and says why, whole and streamed."""
    whole: Any = await simulated.openai(key).responses.create(
        model=MODEL, input=QUESTION, max_output_tokens=limit
    )
    events = await streamed(simulated, key, max_output_tokens=limit)
    assert events[-1].type == "response.incomplete"
    assert [event.type for event in events].count("response.incomplete") == 1
    assert "response.completed" not in {event.type for event in events}
    for answer in (whole, events[-1].response):
        assert answer.status == "incomplete"
        assert answer.incomplete_details.reason == "max_output_tokens"
        assert answer.usage.output_tokens == limit
    assert whole.output_text == events[-1].response.output_text
    for _ in range(2):
        line = await simulated.usage()
        assert (line["outcome"], line["settled"]) == ("completed", line["tokens"]["prompt"] + limit)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("limit", [2, 70])
async def test_a_truncated_chat_says_so(simulated: World, stream: bool, limit: int) -> None:
    """Its finish reason is ``length``, whether it was cut in its thoughts or in its answer."""
    body: Any = {
        "model": MODEL, "messages": [{"role": "user", "content": QUESTION}], "max_completion_tokens": limit,
    }  # fmt: skip
    client = simulated.openai()
    if stream:
        chunks = [chunk async for chunk in await client.chat.completions.create(**body, stream=True)]
        reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices]
        assert [reason for reason in reasons if reason] == ["length"]
    else:
        answer = await client.chat.completions.create(**body)
        assert answer.choices[0].finish_reason == "length"
    assert (await simulated.usage())["outcome"] == "completed"
