"""Requests with a canary wherever a client's own words may stand."""

import json
from collections.abc import Iterable
from typing import Any

from tests.gateway.canaries import Canaries

MODEL = "gpt-oss-120b"


def chat(canary: Canaries, **changes: Any) -> dict[str, Any]:
    """Return a good chat request with a canary wherever a client's own words may stand."""
    call = canary("id of a call")
    function = {
        "name": canary("name of a tool"),
        "description": canary("description of a tool"),
        "parameters": schema(canary),
    }
    return {
        "model": MODEL,
        "messages": [
            {"role": "user", "name": canary("name of a user"), "content": canary("prompt")},
            {"role": "system", "content": [{"type": "text", "text": canary("system part")}]},
            {"role": "developer", "content": canary("developer message")},
            {
                "role": "assistant",
                "content": [{"type": "refusal", "refusal": canary("refusal")}],
                "reasoning": canary("earlier reasoning"),
                "tool_calls": [
                    {
                        "id": call,
                        "type": "function",
                        "function": {
                            "name": canary("called tool"),
                            "arguments": json.dumps({canary("argument"): canary("value of an argument")}),
                        },
                    }
                ],
            },
            {"role": "tool", "tool_call_id": call, "content": canary("tool result")},
        ],
        "tools": [{"type": "function", "function": function}],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": canary("name of a schema"), "schema": schema(canary)},
        },
        "user": canary("user"),
        "safety_identifier": canary("safety identifier"),
        "prompt_cache_key": canary("cache key"),
        "metadata": {canary("metadata key"): canary("metadata")},
        "prediction": {"type": "content", "content": canary("prediction")},
        **changes,
    }


def response_body(canary: Canaries, **changes: Any) -> dict[str, Any]:
    """Return a good Responses request, the same way."""
    return {
        "model": MODEL,
        "instructions": canary("instructions"),
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": canary("input part")}]},
            {"role": "user", "content": canary("input")},
            {
                "type": "reasoning",
                "id": canary("id of reasoning"),
                "summary": [{"type": "summary_text", "text": canary("summary")}],
                "content": [{"type": "reasoning_text", "text": canary("reasoning item")}],
            },
            {
                "type": "function_call",
                "call_id": "c",
                "name": canary("called function"),
                "arguments": json.dumps({"a": canary("function's argument")}),
            },
            {"type": "function_call_output", "call_id": "c", "output": canary("function's output")},
        ],
        "tools": [
            {
                "type": "function",
                "name": canary("name of a function"),
                "description": canary("description of a function"),
                "parameters": schema(canary),
            }
        ],
        "text": {"format": {"type": "json_schema", "name": canary("format"), "schema": schema(canary)}},
        "user": canary("user of responses"),
        "metadata": {"a": canary("metadata of responses")},
        **changes,
    }


def schema(canary: Canaries) -> dict[str, Any]:
    """Return a JSON Schema with canaries."""
    word = canary("property")
    described = {
        "type": "string",
        "description": canary("description of a property"),
        "enum": [canary("enum")],
    }
    return {"type": "object", "properties": {word: described}, "required": [word]}


def wrong_bodies(canary: Canaries) -> Iterable[Any]:
    """Return bodies that are refused, each with a canary in what is wrong."""
    yield f'{{"model": "{canary("broken JSON")}", '.encode()
    yield f'"{canary("no object")}"'.encode()
    yield f'{{"{canary("key twice")}": 1, "model": 1, "model": 2}}'.encode()
    yield canary("not UTF-8").encode() + b"\xff"
    yield {"x": canary("too large") * 4000}
    wrong: tuple[dict[str, Any], ...] = (
        {"model": canary("unknown model")},
        {canary("unknown field"): canary("value of an unknown field")},
        {"reasoning_effort": canary("effort")},
        {"temperature": canary("temperature")},
        {"stop": [canary("stop")]},
        {"logit_bias": {canary("bias"): 1}},
        {"tool_choice": {"type": "function", "function": {"name": canary("unknown tool")}}},
        {"response_format": {"type": canary("unknown format")}},
        {"messages": [{"role": canary("role"), "content": canary("of a wrong role")}]},
        {"messages": [{"role": "user", "content": canary("good"), canary("member"): 1}]},
        {"messages": [{"role": "tool", "tool_call_id": canary("unanswered"), "content": canary("lost")}]},
        {"messages": [{"role": "user", "content": [{"type": canary("type"), "text": canary("odd part")}]}]},
        *(
            {"messages": [{"role": "user", "content": [{"type": kind, kind: {"url": canary(f"a {kind}")}}]}]}
            for kind in ("image_url", "input_audio", "file", "video_url")
        ),
        {"tools": [{"type": "function", "function": {"name": canary("bad tool") + "!"}}]},
        {
            "tools": [
                {"type": "function", "function": {"name": "a", "parameters": {"type": canary("bad schema")}}}
            ]
        },
        {"metadata": {canary("long metadata"): canary("very long") * 100}},
    )
    for changes in wrong:
        yield chat(canary, **changes)
