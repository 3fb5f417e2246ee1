"""Responses: the event sequence, its numbers, and what differs between the stream and the final object."""

import json
from itertools import groupby
from typing import Any

import pytest

from tests.serving.sim.virtual import RESPONSES, RESPONSES_TOOL, Exchange, call, responses_body, simulated

OPENING = ["created", "in_progress"]
REASONING = [
    "output_item.added", "reasoning_part.added", "reasoning_text.delta",
    "reasoning_text.done", "reasoning_part.done", "output_item.done",
]  # fmt: skip
MESSAGE = [
    "output_item.added", "content_part.added", "output_text.delta",
    "output_text.done", "content_part.done", "output_item.done",
]  # fmt: skip
CALL = [
    "output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done",
]  # fmt: skip


def _types(exchange: Exchange) -> list[str]:
    names = [event["type"].removeprefix("response.") for event in exchange.events]
    return [name for name, _ in groupby(names)]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, [*OPENING, *REASONING, *MESSAGE, "completed"]),
        ({"include_reasoning": False}, [*OPENING, *MESSAGE, "completed"]),
        ({"tools": [RESPONSES_TOOL]}, [*OPENING, *REASONING, *CALL, "completed"]),
        ({"tools": [RESPONSES_TOOL], "include_reasoning": False}, [*OPENING, *CALL, "completed"]),
        ({"max_output_tokens": 6}, [*OPENING, *REASONING, "completed"]),
        ({"max_output_tokens": 6, "include_reasoning": False}, [*OPENING, "completed"]),
    ],
    ids=["plain", "hidden", "call", "hidden call", "cut", "hidden cut"],
)
def test_events_come_in_vllms_order(fields: dict[str, Any], expected: list[str]) -> None:
    """The sequence has no gap in its numbers, no end mark, and no trace of hidden reasoning."""
    exchange = call(simulated(), RESPONSES, responses_body(stream=True, **fields))
    assert _types(exchange) == expected
    assert [event["sequence_number"] for event in exchange.events] == list(range(len(exchange.events)))
    assert "[DONE]" not in exchange.lines


def test_every_event_names_its_type_twice() -> None:
    """The SSE event field and the JSON agree."""
    exchange = call(simulated(), RESPONSES, responses_body(stream=True))
    for frame in exchange.body.decode().strip().split("\n\n"):
        name, data = frame.split("\n")
        assert name.removeprefix("event: ") == json.loads(data.removeprefix("data: "))["type"]


def test_output_indexes_count_the_visible_items() -> None:
    """Items are numbered from 0, hidden reasoning not counted."""
    for hidden, count in ((False, 2), (True, 1)):
        exchange = call(simulated(), RESPONSES, responses_body(stream=True, include_reasoning=not hidden))
        added = [event for event in exchange.events if event["type"] == "response.output_item.added"]
        assert [event["output_index"] for event in added] == list(range(count))


def test_the_deltas_add_up_to_the_final_object() -> None:
    """Text streamed is text completed, and the final object equals a whole answer but for its ids."""
    streamed = call(simulated(), RESPONSES, responses_body(stream=True))
    final = streamed.events[-1]["response"]
    whole = call(simulated(), RESPONSES, responses_body()).json
    deltas = [e["delta"] for e in streamed.events if e["type"] == "response.output_text.delta"]
    assert "".join(deltas) == final["output"][1]["content"][0]["text"]
    assert _without_ids(final) == _without_ids(whole)


def _without_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_ids(item) for key, item in value.items() if key not in ("id", "call_id")}
    return [_without_ids(item) for item in value] if isinstance(value, list) else value


def test_a_call_gets_other_ids_in_the_final_object() -> None:
    """As in vLLM, the streamed call id is not that of the completed response."""
    exchange = call(simulated(), RESPONSES, responses_body(stream=True, tools=[RESPONSES_TOOL]))
    (done,) = [e for e in exchange.events if e["type"] == "response.output_item.done" and "name" in e["item"]]
    final = exchange.events[-1]["response"]["output"][-1]
    assert done["item"]["call_id"] != final["call_id"]
    assert done["item"]["arguments"] == final["arguments"]


def test_a_cut_answer_is_incomplete_for_its_limit() -> None:
    """The status and its reason tell of the limit; the event is still ``completed``."""
    body = call(simulated(), RESPONSES, responses_body(max_output_tokens=6)).json
    assert (body["status"], body["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})


def test_a_function_result_gets_a_final_message() -> None:
    """A call's output fed back leads to a message, about that output."""
    items = [
        {"role": "user", "content": "weather in Oslo"},
        {"type": "function_call", "call_id": "call_1", "name": "get_weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "thunderstorm"},
    ]
    body = call(simulated(), RESPONSES, responses_body(items, tools=[RESPONSES_TOOL])).json
    assert [item["type"] for item in body["output"]] == ["reasoning", "message"]
    assert "thunderstorm" in body["output"][1]["content"][0]["text"]


def test_reasoning_tokens_are_true_even_when_hidden() -> None:
    """Usage counts the hidden chain, and a budget cuts it."""
    hidden = call(simulated(), RESPONSES, responses_body(include_reasoning=False)).json
    cut = call(simulated(), RESPONSES, responses_body(thinking_token_budget=3)).json
    assert [item["type"] for item in hidden["output"]] == ["message"]
    assert hidden["usage"]["output_tokens_details"]["reasoning_tokens"] > 3
    assert cut["usage"]["output_tokens_details"]["reasoning_tokens"] == 3


def test_a_schema_in_text_format_gets_a_valid_object() -> None:
    """``text.format`` works as ``response_format`` does in chat."""
    form = {
        "type": "json_schema",
        "name": "T",
        "schema": {"type": "object", "properties": {"a": {"type": "boolean"}}},
    }
    body = call(simulated(), RESPONSES, responses_body(text={"format": form})).json
    assert json.loads(body["output"][1]["content"][0]["text"]) == {"a": True}
