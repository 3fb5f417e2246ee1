"""Requests that the tests of parsing vary."""

from typing import Any

import orjson

from cluster.core.request import Endpoint, InvalidRequest, ParsedRequest, parse_request

USER: dict[str, Any] = {"role": "user", "content": "Hi"}
CALL: dict[str, Any] = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'},
}
PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
CHAT_TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather",
        "parameters": PARAMETERS,
        "strict": True,
    },
}
RESPONSE_TOOL: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather",
    "parameters": PARAMETERS,
    "strict": True,
}


def chat(**fields: Any) -> bytes:
    """Return the body of a small chat with more fields, or others."""
    return orjson.dumps({"model": "gpt-oss-120b", "messages": [USER], **fields})


def response(**fields: Any) -> bytes:
    """Return the body of a small response request with more fields, or others."""
    return orjson.dumps({"model": "gpt-oss-120b", "input": "Hi", **fields})


def parsed(endpoint: Endpoint, body: bytes) -> ParsedRequest:
    """Parse a body that is declared as JSON."""
    return parse_request(endpoint, body, content_type="application/json")


def error_of(endpoint: Endpoint, body: bytes) -> InvalidRequest:
    """Return the error that a body gets."""
    try:
        accepted = parsed(endpoint, body)
    except InvalidRequest as error:
        return error
    raise AssertionError(f"accepted: {accepted}")
