"""Every answer is one that OpenAI's own types describe, with nothing beside it."""

import json
from collections.abc import Iterator
from typing import Any, cast, get_args

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel

from cluster.gateway.openai_form import clean_chunk, fingerprint, part, trim_chunk
from tests.contract.shapes import events
from tests.gateway.conftest import KEY, SEEING, World
from tests.gateway.upstream import data

MODEL = "gpt-oss-120b"
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CHAT_TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}
TOOL = {"type": "function", "name": "get_weather", "parameters": PARAMETERS, "strict": True}
SCHEMA = {"name": "Place", "schema": PARAMETERS, "strict": True}
EVENTS: dict[str, type[BaseModel]] = {
    get_args(event.model_fields["type"].annotation)[0]: event
    for event in get_args(get_args(ResponseStreamEvent)[0])
}
OURS = frozenset({"reasoning", "store"})
"""What OpenAI's types of this client lack: the chain of thought of those who may see it, and ``store``."""
ASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("chat/completions", {}),
    "chat tool": ("chat/completions", {"tools": [CHAT_TOOL], "tool_choice": "required"}),
    "chat schema": ("chat/completions", {"response_format": {"type": "json_schema", "json_schema": SCHEMA}}),
    "chat cut": ("chat/completions", {"max_completion_tokens": 5}),
    "chat choices": ("chat/completions", {"n": 2}),
    "chat usage": ("chat/completions", {"stream_options": {"include_usage": True}}),
    "responses": ("responses", {}),
    "responses tool": ("responses", {"tools": [TOOL], "tool_choice": "required"}),
    "responses schema": ("responses", {"text": {"format": {"type": "json_schema", **SCHEMA}}}),
    "responses cut": ("responses", {"max_output_tokens": 30}),
    "responses told": ("responses", {"metadata": {"a": "b"}, "instructions": "Be brief.", "store": True}),
}


def strangers(value: Any, place: str = "") -> Iterator[str]:
    """Yield the places of members that OpenAI's types lack, in a model that was validated from an answer."""
    if isinstance(value, BaseModel):
        for name in value.model_extra or {}:
            if name not in OURS:
                yield f"{place}.{name}"
        for name in type(value).model_fields:
            yield from strangers(getattr(value, name), f"{place}.{name}")
    elif isinstance(value, list):
        for one in value:
            yield from strangers(one, f"{place}[]")


def conforms(kind: type[BaseModel], document: dict[str, Any]) -> None:
    """Check that ``document`` has all that ``kind`` requires, and nothing that ``kind`` lacks."""
    assert list(strangers(kind.model_validate(document))) == []
    assert "vllm" not in json.dumps(document).lower()


@pytest.mark.parametrize("key", [KEY, SEEING])
async def test_whole_answers_have_openai_form(simulated: World, key: str) -> None:
    """Required members are there, and none of the engine's own."""
    for path, more in ASKS.values():
        body = asked(path, {name: value for name, value in more.items() if name != "stream_options"})
        async with simulated.post(body, path=f"/v1/{path}", key=key) as response:
            assert response.status == 200, more
            conforms(ChatCompletion if path.startswith("chat") else Response, await response.json())


@pytest.mark.parametrize("key", [KEY, SEEING])
async def test_streams_have_openai_form(simulated: World, key: str) -> None:
    """Each event is of a type that OpenAI describes, and has its members and no others."""
    for path, more in ASKS.values():
        body = asked(path, more) | {"stream": True}
        async with simulated.post(body, path=f"/v1/{path}", key=key) as response:
            found = events(await response.read())
        assert len(found) >= 3, more
        for event in found:
            if event.data == "[DONE]":
                continue
            document = json.loads(event.data)
            conforms(ChatCompletionChunk if path.startswith("chat") else EVENTS[document["type"]], document)


@pytest.mark.parametrize("key", [KEY, SEEING])
@pytest.mark.parametrize("more", [{}, {"tools": [TOOL], "tool_choice": "required"}], ids=["text", "tool"])
async def test_ids_of_a_stream_are_those_of_its_final_object(
    simulated: World, more: dict[str, Any], key: str
) -> None:
    """Response, items and calls bear one id each, from the event that opens them to the last one."""
    body = asked("responses", more) | {"stream": True}
    async with simulated.post(body, path="/v1/responses", key=key) as response:
        found = [json.loads(event.data) for event in events(await response.read())]
    final = found[-1]["response"]
    assert {event["response"]["id"] for event in found if "response" in event} == {final["id"]}
    by_place = {index: item["id"] for index, item in enumerate(final["output"])}
    assert by_place
    for event in found:
        if "output_index" in event:
            identity = event["item"]["id"] if "item" in event else event["item_id"]
            assert identity == by_place[event["output_index"]]
    calls = {event["item"]["call_id"] for event in found if "call_id" in event.get("item", {})}
    assert calls == {item["call_id"] for item in final["output"] if "call_id" in item}


async def test_what_a_response_says_of_its_request(simulated: World) -> None:
    """Nothing is stored, and what was asked for is repeated."""
    body = asked("responses", {"store": True, "metadata": {"a": "b"}, "instructions": "Be brief."})
    async with simulated.post(body, path="/v1/responses") as response:
        answer = await response.json()
        assert response.headers["x-ignored-params"] == "store"
    assert (answer["store"], answer["service_tier"], answer["error"]) == (False, "default", None)
    assert (answer["metadata"], answer["instructions"]) == ({"a": "b"}, "Be brief.")


def test_a_fingerprint_tells_only_change() -> None:
    """Equal for one engine, different for another, and of OpenAI's look."""
    assert fingerprint("vllm-0.29.0-tp1-abc") == fingerprint("vllm-0.29.0-tp1-abc")
    assert fingerprint("vllm-0.29.0-tp1-abc") != fingerprint("vllm-0.29.0-tp2-abc")
    assert fingerprint("vllm-0.29.0-tp1-abc").startswith("fp_")


@pytest.mark.parametrize("hidden", [{"reasoning": None}, {}], ids=["hidden", "visible"])
def test_the_nulls_of_plain_content_are_cut_off(hidden: dict[str, None]) -> None:
    """Without parsing the event; a text that spells them is escaped in JSON, and so is left alone."""
    text = '"token_ids":null}]}'
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
    written = {**choice, "delta": {"content": text, **hidden}, "token_ids": None}
    assert trim_chunk(data({"choices": [written]})) == data({"choices": [choice]})
    assert trim_chunk(data({"choices": [choice]})) == data({"choices": [choice]})


def asked(path: str, more: dict[str, Any]) -> dict[str, Any]:
    """Return a body for ``path``."""
    words = "What does get_weather say of Lisbon"
    prompt = (
        {"messages": [{"role": "user", "content": words}]} if path.startswith("chat") else {"input": words}
    )
    return cast(dict[str, Any], {"model": MODEL, **prompt, **more})


def test_members_of_the_engines_own_leave_a_chunk() -> None:
    """At every level of a chat chunk, and the caller is told whether any did."""
    plain = {"id": "c", "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}]}
    foreign = {
        "id": "c",
        "prompt_token_ids": [1],
        "choices": [
            {"index": 0, "delta": {"content": "a", "tokens": 1}, "finish_reason": None, "stop_reason": 5}
        ],
    }
    assert clean_chunk(foreign)
    assert foreign == plain
    assert not clean_chunk(plain)


def test_a_text_has_lists_where_the_engine_has_nulls() -> None:
    """As at OpenAI, whose clients iterate over them."""
    written = {"type": "output_text", "text": "a", "annotations": None, "logprobs": None, "ours": 1}
    assert part(written) == {"type": "output_text", "text": "a", "annotations": [], "logprobs": []}
