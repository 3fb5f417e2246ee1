"""The simulated engine answers as the real one does: the same requests, the same shapes.

Every request goes to both. Compared are status, content type, the keys and types of bodies, the order of
events with runs collapsed, the replica's headers, and for errors type, parameter and code as well.
"""

import json
from typing import Any

import pytest

from cluster.core.engine import LOAD_HEADER, REPLICA_HEADER, parse_load
from tests.conftest import Engine
from tests.contract.conftest import Call, ask
from tests.contract.shapes import Answer, differences, sequence, shape

pytestmark = pytest.mark.e2e

MODEL = "gpt-oss-120b"
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
CHAT_TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}
TOOL = {"type": "function", "name": "get_weather", "parameters": PARAMETERS}
NAMED = {"type": "function", "function": {"name": "get_weather"}}
SCHEMA = {
    "type": "object",
    "properties": {"place": {"type": "string", "maxLength": 8}},
    "required": ["place"],
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "Place", "schema": SCHEMA}}
TEXT = {"format": {"type": "json_schema", "name": "Place", "schema": SCHEMA}}
USAGE: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
ARGUMENTS = '{"city": "Oslo"}'
MADE = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": ARGUMENTS}}


def _chat(text: str = "What is the weather in Oslo?", /, **fields: Any) -> Call:
    messages = [{"role": "user", "content": text}]
    body = {
        "model": MODEL,
        "messages": messages,
        "reasoning_effort": "low",
        "temperature": 0,
        "max_tokens": 400,
    }
    return Call("POST", "/chat/completions", {**body, **fields})


def _responses(text: Any = "What is the weather in Oslo?", /, **fields: Any) -> Call:
    body = {"model": MODEL, "input": text, "reasoning": {"effort": "low"}, "temperature": 0}
    return Call("POST", "/responses", {**body, "max_output_tokens": 400, **fields})


AFTER_CHAT_TOOL = [
    {"role": "user", "content": "What is the weather in Oslo?"},
    {"role": "assistant", "tool_calls": [MADE]},
    {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
]
AFTER_TOOL = [
    {"role": "user", "content": "What is the weather in Oslo?"},
    {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": ARGUMENTS},
    {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
]

ANSWERS = {
    "models": Call("GET", "/models"),
    "chat": _chat(),
    "chat high": _chat(reasoning_effort="high"),
    "chat hidden": _chat(include_reasoning=False),
    "chat tool": _chat(tools=[CHAT_TOOL], tool_choice="required"),
    "chat named tool": _chat(tools=[CHAT_TOOL], tool_choice=NAMED),
    "chat after tool": _chat(tools=[CHAT_TOOL], messages=AFTER_CHAT_TOOL),
    "chat schema": _chat(response_format=FORMAT),
    "chat budget": _chat(thinking_token_budget=16),
    "chat cut": _chat(max_tokens=6),
    "chat hidden cut": _chat(max_tokens=6, include_reasoning=False),
    "chat two choices": _chat(n=2, temperature=1),
    "responses": _responses(),
    "responses hidden": _responses(include_reasoning=False),
    "responses tool": _responses(tools=[TOOL], tool_choice="required"),
    "responses after tool": _responses(AFTER_TOOL, tools=[TOOL]),
    "responses schema": _responses(text=TEXT),
    "responses cut": _responses(max_output_tokens=6),
    "responses hidden cut": _responses(max_output_tokens=6, include_reasoning=False),
    "responses instructions": _responses(instructions="Be brief.", metadata={"a": "b"}, user="u"),
}

STREAMS = {
    "chat": _chat(**USAGE),
    "chat without usage": _chat(stream=True),
    "chat hidden": _chat(**USAGE, include_reasoning=False),
    "chat tool": _chat(**USAGE, tools=[CHAT_TOOL], tool_choice="required"),
    "chat hidden tool": _chat(**USAGE, tools=[CHAT_TOOL], tool_choice="required", include_reasoning=False),
    "chat named tool": _chat(**USAGE, tools=[CHAT_TOOL], tool_choice=NAMED),
    "chat after tool": _chat(**USAGE, tools=[CHAT_TOOL], messages=AFTER_CHAT_TOOL),
    "chat schema": _chat(**USAGE, response_format=FORMAT),
    "chat cut": _chat(**USAGE, max_tokens=6),
    "chat hidden cut": _chat(**USAGE, max_tokens=6, include_reasoning=False),
    "responses": _responses(stream=True),
    "responses hidden": _responses(stream=True, include_reasoning=False),
    "responses tool": _responses(stream=True, tools=[TOOL], tool_choice="required"),
    "responses hidden tool": _responses(
        stream=True, tools=[TOOL], tool_choice="required", include_reasoning=False
    ),
    "responses after tool": _responses(AFTER_TOOL, stream=True, tools=[TOOL]),
    "responses schema": _responses(stream=True, text=TEXT),
    "responses cut": _responses(stream=True, max_output_tokens=6),
    "responses hidden cut": _responses(stream=True, max_output_tokens=6, include_reasoning=False),
}

LONG = "word " * 200_000
ORPHAN = [{"type": "function_call_output", "call_id": "call_1", "output": "sunny"}]
OTHER = {"type": "function", "function": {"name": "other"}}

REFUSALS = {
    "model": _chat(model="other"),
    "responses model": _responses(model="other"),
    "overflow": _chat(LONG),
    "responses overflow": _responses(LONG),
    "effort of OpenAI's": _chat(reasoning_effort="xhigh"),
    "responses effort": _responses(reasoning={"effort": "minimal"}),
    "unknown effort": _chat(reasoning_effort="huge"),
    "temperature too high": _chat(temperature=3),
    "temperature no number": _chat(temperature="hot"),
    "responses temperature": _responses(temperature=3),
    "top_p": _chat(top_p=0),
    "no room for output": _chat(max_tokens=0),
    "no choice": _chat(n=0),
    "two choices without sampling": _chat(n=2),
    "negative budget": _chat(thinking_token_budget=-5),
    "stream options alone": _chat(stream_options={"include_usage": True}),
    "no tools": _chat(tools=[]),
    "tool choice alone": _chat(tool_choice="required"),
    "tool choice of another": _chat(tools=[CHAT_TOOL], tool_choice=OTHER),
    "responses tool choice alone": _responses(tool_choice="required"),
    "responses tool choice of another": _responses(
        tools=[TOOL], tool_choice={"type": "function", "name": "other"}
    ),
    "schema without schema": _chat(response_format={"type": "json_schema"}),
    "no messages": Call("POST", "/chat/completions", {"model": MODEL}),
    "not JSON": Call("POST", "/chat/completions", b'{"model": '),
    "not UTF-8": Call("POST", "/chat/completions", b'{"model": "\xff"}'),
    "a list": Call("POST", "/chat/completions", []),
    "empty": Call("POST", "/chat/completions", b""),
    "responses empty": Call("POST", "/responses", b""),
    "media type": Call("POST", "/chat/completions", b"{}", content_type="text/plain"),
    "result without its call": _responses(ORPHAN),
    "result that is a list": _responses(
        [*AFTER_TOOL[:2], {**ORPHAN[0], "output": [{"type": "input_text", "text": "x"}]}]
    ),
    "previous response": _responses(previous_response_id="resp_1"),
    "background": _responses(background=True),
}

OUTSIDE = {
    "wrong key": Call("GET", "/models", key="wrong"),
    "wrong key on an unknown path": Call("GET", "/nothing", key="wrong"),
    "unknown path": Call("GET", "/nothing"),
    "raw completions": Call("POST", "/completions", {"model": MODEL, "prompt": "x"}),
    "wrong method": Call("GET", "/chat/completions"),
}


def _both(real: Engine, simulated: Engine, call: Call) -> tuple[Answer, Answer]:
    return ask(real, call), ask(simulated, call)


def _kind(answer: Answer) -> tuple[int, str]:
    return answer.status, answer.headers["content-type"]


@pytest.mark.parametrize("call", ANSWERS.values(), ids=ANSWERS.keys())
def test_whole_answers_have_the_same_shape(real_engine: Engine, simulated_engine: Engine, call: Call) -> None:
    """Keys, types and nulls of the body are the same, and so are status and content type."""
    real, simulated = _both(real_engine, simulated_engine, call)
    assert (simulated.status, simulated.headers["content-type"]) == (
        real.status,
        real.headers["content-type"],
    )
    assert differences(shape(json.loads(real.body)), shape(json.loads(simulated.body))) == []
    assert real.status == 200


@pytest.mark.parametrize("call", STREAMS.values(), ids=STREAMS.keys())
def test_streams_have_the_same_events_in_the_same_order(
    real_engine: Engine, simulated_engine: Engine, call: Call
) -> None:
    """Each kind of event has the same keys and types and comes in the same place."""
    real, simulated = _both(real_engine, simulated_engine, call)
    assert (simulated.status, simulated.headers["content-type"]) == (
        real.status,
        real.headers["content-type"],
    )
    assert differences(sequence(real.body), sequence(simulated.body)) == []
    assert real.status == 200


@pytest.mark.parametrize("call", REFUSALS.values(), ids=REFUSALS.keys())
def test_refusals_are_the_same(real_engine: Engine, simulated_engine: Engine, call: Call) -> None:
    """Status, type, parameter and code of the error are the same."""
    answers = _both(real_engine, simulated_engine, call)
    real, simulated = ((answer.status, _without_message(json.loads(answer.body))) for answer in answers)
    assert simulated == real
    assert real[0] >= 400


def _without_message(body: dict[str, Any]) -> dict[str, Any]:
    return {"error": {**body["error"], "message": "any"}} if "error" in body else body


@pytest.mark.parametrize("call", OUTSIDE.values(), ids=OUTSIDE.keys())
def test_what_the_replicas_guard_refuses_is_the_same(
    real_engine: Engine, simulated_engine: Engine, call: Call
) -> None:
    """Keys and paths are refused with the same words."""
    real, simulated = _both(real_engine, simulated_engine, call)
    assert (simulated.status, json.loads(simulated.body)) == (real.status, json.loads(real.body))


@pytest.mark.parametrize("call", [_chat(), _chat(stream=True), _responses(stream=True)], ids=lambda c: c.path)
def test_both_name_the_replica_and_its_load(
    real_engine: Engine, simulated_engine: Engine, call: Call
) -> None:
    """Each answer tells which replica wrote it and how busy that is."""
    for answer in _both(real_engine, simulated_engine, call):
        assert answer.headers[REPLICA_HEADER]
        assert parse_load(answer.headers[LOAD_HEADER]) is not None
