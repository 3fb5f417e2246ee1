"""Facts about wrong tools and formats: each gets 400 in OpenAI's words, which name the place."""

from typing import Any

import pytest

from cluster.core.request import Endpoint
from tests.core.requests import CHAT_TOOL, PARAMETERS, RESPONSE_TOOL
from tests.core.wrong import Row, check, row


def tool(**function: Any) -> dict[str, Any]:
    """Return a chat tool, changed by ``function``."""
    return {"type": "function", "function": {**CHAT_TOOL["function"], **function}}


SCHEMA = {"type": "json_schema", "json_schema": {"name": "answer", "schema": PARAMETERS}}

TOOLS: list[Row] = [
    row(
        "too-many",
        "chat",
        {"tools": [tool(name=f"f{n}") for n in range(129)]},
        "tools",
        "array_above_max_length",
    ),
    row("same-name", "chat", {"tools": [CHAT_TOOL, CHAT_TOOL]}, "tools[1]", "invalid_value"),
    row(
        "no-type",
        "chat",
        {"tools": [{"function": CHAT_TOOL["function"]}]},
        "tools[0].type",
        "missing_required_parameter",
    ),
    row(
        "no-function",
        "chat",
        {"tools": [{"type": "function"}]},
        "tools[0].function",
        "missing_required_parameter",
    ),
    row(
        "no-name",
        "chat",
        {"tools": [tool(name=None)]},
        "tools[0].function.name",
        "missing_required_parameter",
    ),
    row("bad-name", "chat", {"tools": [tool(name="get weather")]}, "tools[0].function.name", "invalid_value"),
    row("long-name", "chat", {"tools": [tool(name="f" * 65)]}, "tools[0].function.name", "invalid_value"),
    row("strict-word", "chat", {"tools": [tool(strict="yes")]}, "tools[0].function.strict", "invalid_type"),
    row(
        "parameters-word",
        "chat",
        {"tools": [tool(parameters="none")]},
        "tools[0].function.parameters",
        "invalid_type",
    ),
    row(
        "parameters-string-type",
        "chat",
        {"tools": [tool(parameters={"type": "string"})]},
        "tools[0].function.parameters",
        "invalid_function_parameters",
    ),
    row(
        "parameters-unsound",
        "responses",
        {"tools": [{**RESPONSE_TOOL, "parameters": {"type": "object", "properties": {"a": {"type": "x"}}}}]},
        "tools[0].parameters",
        "invalid_function_parameters",
    ),
    row(
        "custom",
        "chat",
        {"tools": [{"type": "custom", "custom": {"name": "f"}}]},
        "tools[0].type",
        "invalid_value",
    ),
    *(
        row(kind, "responses", {"tools": [{"type": kind}]}, "tools[0].type", "invalid_value")
        for kind in (
            "web_search",
            "web_search_preview",
            "file_search",
            "code_interpreter",
            "mcp",
            "custom",
            "local_shell",
        )
    ),
    row("chat-shape", "responses", {"tools": [CHAT_TOOL]}, "tools[0].function", "unknown_parameter"),
    row(
        "deferred",
        "responses",
        {"tools": [{**RESPONSE_TOOL, "defer_loading": True}]},
        "tools[0].defer_loading",
        "unsupported_parameter",
    ),
    row("choice-without-tools", "chat", {"tool_choice": "required"}, "tool_choice", None),
    row(
        "choice-without-tools",
        "responses",
        {"tool_choice": {"type": "function", "name": "f"}},
        "tool_choice",
        None,
    ),
    row(
        "choice-absent",
        "chat",
        {"tools": [CHAT_TOOL], "tool_choice": {"type": "function", "function": {"name": "other"}}},
        "tool_choice",
        "invalid_value",
    ),
    row(
        "choice-absent",
        "responses",
        {"tools": [RESPONSE_TOOL], "tool_choice": {"type": "function", "name": "other"}},
        "tool_choice",
        "invalid_value",
    ),
    row("choice-word", "chat", {"tools": [CHAT_TOOL], "tool_choice": "any"}, "tool_choice", "invalid_value"),
    row("choice-number", "chat", {"tools": [CHAT_TOOL], "tool_choice": 1}, "tool_choice", "invalid_type"),
    row(
        "choice-allowed-tools",
        "chat",
        {"tools": [CHAT_TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": {}}},
        "tool_choice.type",
        "invalid_value",
    ),
]

FORMATS: list[Row] = [
    row("unknown", "chat", {"response_format": {"type": "xml"}}, "response_format.type", "invalid_value"),
    row("word", "chat", {"response_format": "json"}, "response_format", "invalid_type"),
    row("no-type", "chat", {"response_format": {}}, "response_format.type", "missing_required_parameter"),
    row(
        "structural-tag",
        "chat",
        {"response_format": {"type": "structural_tag", "structures": []}},
        "response_format.type",
        "invalid_value",
    ),
    row(
        "no-schema",
        "chat",
        {"response_format": {"type": "json_schema"}},
        "response_format.json_schema",
        "missing_required_parameter",
    ),
    row(
        "no-inner-schema",
        "chat",
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
        "response_format.json_schema.schema",
        "missing_required_parameter",
    ),
    row(
        "unsound",
        "chat",
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"$ref": "#"}}}},
        "response_format.json_schema",
        "invalid_json_schema",
    ),
    row(
        "unsound",
        "responses",
        {"text": {"format": {"type": "json_schema", "name": "a", "schema": {"minItems": 10**9}}}},
        "text.format",
        "invalid_json_schema",
    ),
    row(
        "unknown-member",
        "responses",
        {"text": {"format": {**SCHEMA, "name": "a"}}},
        "text.format.json_schema",
        "unknown_parameter",
    ),
]


@pytest.mark.parametrize(("endpoint", "fields", "param", "code"), [*TOOLS, *FORMATS])
def test_wrong_tools(endpoint: Endpoint, fields: dict[str, Any], param: str, code: str | None) -> None:
    """The request is refused with the place of the mistake, and a good one succeeds after it."""
    check(endpoint, fields, param, code)
