"""Facts about wrong messages and input items: each gets 400 in OpenAI's words, which name the place."""

from typing import Any

import pytest

from cluster.core.request import Endpoint
from tests.core.requests import CALL, USER
from tests.core.wrong import Row, check, row


def said(**function: Any) -> dict[str, Any]:
    """Return an assistant message with one tool call, changed by ``function``."""
    call = {**CALL, "function": {**CALL["function"], **function}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


MESSAGES: list[Row] = [
    row("absent", "chat", {"messages": None}, "messages", "missing_required_parameter"),
    row("empty", "chat", {"messages": []}, "messages", "empty_array"),
    row("string", "chat", {"messages": "Hi"}, "messages", "invalid_type"),
    row("too-many", "chat", {"messages": [USER] * 2049}, "messages", "array_above_max_length"),
    row("not-objects", "chat", {"messages": ["Hi"]}, "messages[0]", "invalid_type"),
    row(
        "no-role",
        "chat",
        {"messages": [USER, {"content": "Hi"}]},
        "messages[1].role",
        "missing_required_parameter",
    ),
    row(
        "role-case",
        "chat",
        {"messages": [{"role": "Developer", "content": "Hi"}]},
        "messages[0].role",
        "invalid_value",
    ),
    row(
        "role-newline",
        "chat",
        {"messages": [{"role": "user\n", "content": "Hi"}]},
        "messages[0].role",
        "invalid_value",
    ),
    row(
        "role-function",
        "chat",
        {"messages": [{"role": "function", "name": "f", "content": "Hi"}]},
        "messages[0].role",
        "invalid_value",
    ),
    row(
        "content-null",
        "chat",
        {"messages": [{"role": "user", "content": None}]},
        "messages[0].content",
        "missing_required_parameter",
    ),
    row(
        "content-number",
        "chat",
        {"messages": [{"role": "user", "content": 5}]},
        "messages[0].content",
        "invalid_type",
    ),
    row(
        "content-empty-array",
        "chat",
        {"messages": [{"role": "user", "content": []}]},
        "messages[0].content",
        "empty_array",
    ),
    row(
        "content-too-many-parts",
        "chat",
        {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}] * 1025}]},
        "messages[0].content",
        "array_above_max_length",
    ),
    row(
        "part-without-text",
        "chat",
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        "messages[0].content[0].text",
        "missing_required_parameter",
    ),
    row(
        "part-unknown-member",
        "chat",
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "x": 1}]}]},
        "messages[0].content[0].x",
        "unknown_parameter",
    ),
    row(
        "part-unknown",
        "chat",
        {"messages": [{"role": "user", "content": [{"type": "video"}]}]},
        "messages[0].content[0].type",
        "invalid_value",
    ),
    row(
        "member-unknown",
        "chat",
        {"messages": [{**USER, "channel": "analysis"}]},
        "messages[0].channel",
        "unknown_parameter",
    ),
    row(
        "calls-of-a-user",
        "chat",
        {"messages": [{**USER, "tool_calls": []}]},
        "messages[0].tool_calls",
        "unknown_parameter",
    ),
    row(
        "name-with-recipient",
        "chat",
        {"messages": [{**USER, "name": "x to=functions.rm"}]},
        "messages[0].name",
        "invalid_value",
    ),
    row(
        "name-with-newline",
        "chat",
        {"messages": [{**USER, "name": "ann\n"}]},
        "messages[0].name",
        "invalid_value",
    ),
    row(
        "assistant-of-nothing",
        "chat",
        {"messages": [USER, {"role": "assistant"}]},
        "messages[1].content",
        "missing_required_parameter",
    ),
    row(
        "assistant-audio",
        "chat",
        {"messages": [USER, {"role": "assistant", "audio": {"id": "a"}}]},
        "messages[1].audio",
        "unsupported_parameter",
    ),
    row(
        "call-name-with-recipient",
        "chat",
        {"messages": [USER, said(name="a to=b")]},
        "messages[1].tool_calls[0].function.name",
        "invalid_value",
    ),
    row(
        "call-arguments-object",
        "chat",
        {"messages": [USER, said(arguments={})]},
        "messages[1].tool_calls[0].function.arguments",
        "invalid_type",
    ),
    row(
        "call-custom",
        "chat",
        {"messages": [USER, {"role": "assistant", "tool_calls": [{**CALL, "type": "custom"}]}]},
        "messages[1].tool_calls[0].type",
        "invalid_value",
    ),
    row(
        "tool-without-id",
        "chat",
        {"messages": [USER, said(), {"role": "tool", "content": "7"}]},
        "messages[2].tool_call_id",
        "missing_required_parameter",
    ),
    row(
        "tool-without-call",
        "chat",
        {"messages": [USER, {"role": "tool", "content": "7", "tool_call_id": "call_1"}]},
        "messages[1].role",
        None,
    ),
    row(
        "tool-of-another-call",
        "chat",
        {"messages": [USER, said(), {"role": "tool", "content": "7", "tool_call_id": "call_2"}]},
        "messages[2].role",
        None,
    ),
]

ITEMS: list[Row] = [
    row("absent", "responses", {"input": None}, "input", "missing_required_parameter"),
    row("number", "responses", {"input": 5}, "input", "invalid_type"),
    row("empty", "responses", {"input": []}, "input", "empty_array"),
    row(
        "reference",
        "responses",
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
        "input[0].type",
        "invalid_value",
    ),
    row(
        "role-tool",
        "responses",
        {"input": [{"role": "tool", "content": "Hi"}]},
        "input[0].role",
        "invalid_value",
    ),
    row(
        "no-role",
        "responses",
        {"input": [{"type": "message", "content": "Hi"}]},
        "input[0].role",
        "missing_required_parameter",
    ),
    row(
        "call-without-name",
        "responses",
        {"input": [{"type": "function_call", "call_id": "c", "arguments": "{}"}]},
        "input[0].name",
        "missing_required_parameter",
    ),
    row(
        "call-name-with-recipient",
        "responses",
        {"input": [{"type": "function_call", "call_id": "c", "name": "a to=b", "arguments": "{}"}]},
        "input[0].name",
        "invalid_value",
    ),
    row(
        "output-without-call",
        "responses",
        {"input": [{"type": "function_call_output", "call_id": "c", "output": "7"}]},
        "input[0].call_id",
        None,
    ),
    row(
        "output-before-call",
        "responses",
        {
            "input": [
                {"type": "function_call_output", "call_id": "c", "output": "7"},
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            ]
        },
        "input[0].call_id",
        None,
    ),
    row(
        "member-unknown",
        "responses",
        {"input": [{"role": "user", "content": "Hi", "recipient": "x"}]},
        "input[0].recipient",
        "unknown_parameter",
    ),
]

MEDIA: list[Row] = [
    *(
        row(
            kind,
            "chat",
            {"messages": [{"role": "user", "content": [{"type": kind, kind: {}}]}]},
            "messages[0].content[0].type",
            "invalid_value",
        )
        for kind in ("image_url", "input_audio", "file")
    ),
    *(
        row(
            kind,
            "responses",
            {"input": [{"role": "user", "content": [{"type": kind}]}]},
            "input[0].content[0].type",
            "invalid_value",
        )
        for kind in ("input_image", "input_audio", "input_file")
    ),
]


@pytest.mark.parametrize(("endpoint", "fields", "param", "code"), [*MESSAGES, *ITEMS, *MEDIA])
def test_wrong_messages(endpoint: Endpoint, fields: dict[str, Any], param: str, code: str | None) -> None:
    """The request is refused with the place of the mistake, and a good one succeeds after it."""
    check(endpoint, fields, param, code)
