"""Error bodies are vLLM's: ``{"error": {message, type, param, code}}`` with the HTTP number as the code."""

from typing import Any

import pytest

from tests.serving.sim.virtual import (
    CHAT,
    CHAT_TOOL,
    RESPONSES,
    RESPONSES_TOOL,
    call,
    chat_body,
    responses_body,
    simulated,
)

LONG = "word " * 40_000
NAMED = {"type": "function", "function": {"name": "other"}}
ORPHAN = [{"type": "function_call_output", "call_id": "call_1", "output": "sunny"}]

CASES: list[tuple[str, str, Any, tuple[int, str, str | None]]] = [
    ("chat model", CHAT, chat_body(model="other"), (404, "NotFoundError", "model")),
    ("responses model", RESPONSES, responses_body(model="other"), (404, "NotFoundError", "model")),
    ("chat overflow", CHAT, chat_body(LONG), (400, "BadRequestError", None)),
    ("responses overflow", RESPONSES, responses_body(LONG), (400, "invalid_request_error", "input")),
    ("effort mapped", CHAT, chat_body(reasoning_effort="xhigh"), (400, "BadRequestError", None)),
    (
        "effort unknown",
        CHAT,
        chat_body(reasoning_effort="huge"),
        (400, "Bad Request", "body.reasoning_effort"),
    ),
    ("temperature high", CHAT, chat_body(temperature=3), (400, "BadRequestError", "temperature")),
    ("temperature text", CHAT, chat_body(temperature="hot"), (400, "Bad Request", "body.temperature")),
    ("top_p", RESPONSES, responses_body(top_p=0), (400, "BadRequestError", "top_p")),
    ("no output", CHAT, chat_body(max_tokens=0), (400, "BadRequestError", "max_tokens")),
    ("n", CHAT, chat_body(n=0), (400, "BadRequestError", None)),
    ("n when greedy", CHAT, chat_body(n=2, temperature=0), (400, "BadRequestError", None)),
    ("not JSON", CHAT, b'{"model": ', (400, "Bad Request", "body.10")),
    ("empty", CHAT, b"", (400, "Bad Request", "body")),
    ("no messages", CHAT, {"model": "gpt-oss-120b"}, (400, "Bad Request", "body.messages")),
    ("budget", CHAT, chat_body(thinking_token_budget=-5), (400, "BadRequestError", "thinking_token_budget")),
    (
        "stream options",
        CHAT,
        chat_body(stream_options={"include_usage": True}),
        (400, "BadRequestError", "stream_options"),
    ),
    ("tools empty", CHAT, chat_body(tools=[]), (400, "BadRequestError", "tools")),
    ("choice alone", CHAT, chat_body(tool_choice="required"), (400, "BadRequestError", "tool_choice")),
    (
        "choice absent",
        CHAT,
        chat_body(tools=[CHAT_TOOL], tool_choice=NAMED),
        (400, "BadRequestError", "tool_choice"),
    ),
    (
        "choice absent in responses",
        RESPONSES,
        responses_body(tools=[RESPONSES_TOOL], tool_choice={"type": "function", "name": "other"}),
        (400, "BadRequestError", "tool_choice"),
    ),
    (
        "schema missing",
        CHAT,
        chat_body(response_format={"type": "json_schema"}),
        (400, "BadRequestError", "response_format"),
    ),
    ("orphan result", RESPONSES, responses_body(ORPHAN), (400, "BadRequestError", None)),
    (
        "previous",
        RESPONSES,
        responses_body(previous_response_id="resp_1"),
        (404, "invalid_request_error", "response_id"),
    ),
    ("background", RESPONSES, responses_body(background=True), (400, "invalid_request_error", "background")),
]


@pytest.mark.parametrize(
    ("path", "body", "expected"), [row[1:] for row in CASES], ids=[row[0] for row in CASES]
)
def test_a_wrong_request_gets_the_engines_error(
    path: str, body: Any, expected: tuple[int, str, str | None]
) -> None:
    """Each mistake has vLLM's status, type and parameter."""
    exchange = call(simulated(), path, body)
    error = exchange.json["error"]
    assert (exchange.status, error["type"], error["param"]) == expected
    assert error["code"] == exchange.status
    assert set(error) == {"message", "type", "param", "code"}


def test_a_body_that_is_not_declared_as_json_is_refused() -> None:
    """Another content type is a 400, not a 415."""
    exchange = call(simulated(), CHAT, chat_body(), headers={"content-type": "text/plain"})
    assert (exchange.status, exchange.json["error"]["param"]) == (400, None)


def test_a_wrong_request_takes_no_slot() -> None:
    """Nothing stays expected or running after a refusal."""
    app = simulated()
    call(app, CHAT, chat_body(temperature=3))
    assert (app.load.running, app.expected_tokens) == (0, 0)
