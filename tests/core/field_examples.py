"""Requests that together hold every field that is not refused, at any depth."""

from typing import Any

from tests.core.requests import CALL, CHAT_TOOL, PARAMETERS, RESPONSE_TOOL

Fields = dict[str, Any]

BREAK = {"prompt_cache_breakpoint": {"mode": "explicit"}}
SPOKEN = {"content": [{"type": "text", "text": "Hi", **BREAK}], "name": "ann"}
LOOSE_CHAT_TOOL = {"type": "function", "function": {**CHAT_TOOL["function"], "strict": False}}
LOOSE_RESPONSE_TOOL = {**RESPONSE_TOOL, "strict": False}
ANSWERED = [{"type": "text", "text": "7", **BREAK}]
SCHEMA = {"name": "a", "description": "An answer", "schema": PARAMETERS, "strict": True}
ITEM = {"id": "x_1", "status": "completed"}

CHATS: list[Fields] = [
    {
        "messages": [
            {"role": "system", **SPOKEN},
            {"role": "developer", **SPOKEN},
            {"role": "user", **SPOKEN},
            {"role": "assistant", **SPOKEN, "reasoning": "thought", "annotations": []},
            {"role": "assistant", "refusal": "No.", "reasoning_content": "thought"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
            {"role": "assistant", "tool_calls": [{**CALL, "index": 0}]},
            {"role": "tool", "tool_call_id": CALL["id"], "content": ANSWERED, "name": "get_weather"},
        ],
        "model": "gpt-oss-20b",
        "stream": True,
        "stream_options": {"include_usage": True, "include_obfuscation": True},
        "temperature": 0.5,
        "top_p": 0.5,
        "max_completion_tokens": 5,
        "n": 2,
        "seed": -7,
        "frequency_penalty": -2,
        "presence_penalty": 2,
        "reasoning_effort": "xhigh",
        "thinking_token_budget": 64,
        "tools": [LOOSE_CHAT_TOOL],
        "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
        "parallel_tool_calls": True,
        "prompt_cache_key": "thread-1",
        "safety_identifier": "u1",
        "user": "u1",
        "service_tier": "flex",
        "store": True,
        "prompt_cache_options": {"mode": "explicit"},
        "prompt_cache_retention": "24h",
        "metadata": {"a": "b"},
        "verbosity": "low",
        "prediction": {"type": "content", "content": "x"},
    },
    {"max_tokens": 5, "response_format": {"type": "json_schema", "json_schema": SCHEMA}},
    {"response_format": {"type": "json_object"}},
    {"response_format": {"type": "text"}},
]
RESPONSES: list[Fields] = [
    {
        "input": [
            {**ITEM, "role": "user", "content": [{"type": "input_text", "text": "Hi", **BREAK}]},
            {**ITEM, "type": "message", "role": "user", "content": [{"type": "text", "text": "Hi", **BREAK}]},
            {
                "type": "reasoning",
                **ITEM,
                "content": [{"type": "reasoning_text", "text": "thought"}],
                "summary": [{"type": "summary_text", "text": "x"}],
                "encrypted_content": "x",
            },
            {
                **ITEM,
                "role": "assistant",
                "phase": "final_answer",
                "content": [
                    {"type": "output_text", "text": "Yes?", "annotations": [], "logprobs": []},
                    {"type": "refusal", "refusal": "No."},
                ],
            },
            {**ITEM, "type": "function_call", "call_id": "c_1", "name": "get_weather", "arguments": "{}"},
            {
                **ITEM,
                "type": "function_call_output",
                "call_id": "c_1",
                "output": [{"type": "input_text", "text": "7", **BREAK}],
                "name": "get_weather",
            },
        ],
        "model": "gpt-oss-20b",
        "instructions": "Be brief.",
        "stream": True,
        "stream_options": {"include_obfuscation": True},
        "temperature": 0.5,
        "top_p": 0.5,
        "max_output_tokens": 5,
        "thinking_token_budget": 64,
        "max_tool_calls": 3,
        "reasoning": {
            "effort": "max",
            "summary": "auto",
            "generate_summary": "auto",
            "context": "all_turns",
        },
        "tools": [{**LOOSE_RESPONSE_TOOL, "output_schema": {"type": "string"}}],
        "tool_choice": {"type": "function", "name": "get_weather"},
        "parallel_tool_calls": True,
        "prompt_cache_key": "thread-1",
        "safety_identifier": "u1",
        "user": "u1",
        "service_tier": "flex",
        "store": True,
        "prompt_cache_options": {"mode": "explicit"},
        "prompt_cache_retention": "24h",
        "metadata": {"a": "b"},
        "include": ["reasoning.encrypted_content"],
    },
    {
        "text": {"format": {"type": "json_schema", **SCHEMA}, "verbosity": "low"},
        "reasoning": {"mode": "standard"},
    },
    {"text": {"format": {"type": "json_object"}}},
    {"text": {"format": {"type": "text"}}},
]
