"""What of a Responses stream reaches its client."""

import json
from typing import Any

import pytest

from cluster.core.accounting import Usage
from cluster.gateway.asked import Asked
from cluster.gateway.http_errors import EngineFailed, HarmonyFault, Overloaded
from cluster.gateway.responses_stream import ResponsesStream
from cluster.gateway.sse import EventSplitter, data_event, named_event, parse_data

Event = dict[str, Any]


def response(*output: Event, status: str = "completed", **more: Any) -> Event:
    """Return a Responses object as vLLM writes it."""
    usage = {
        "input_tokens": 10, "output_tokens": 5, "total_tokens": 15,
        "input_tokens_details": {"cached_tokens": 4}, "output_tokens_details": {"reasoning_tokens": 3},
    }  # fmt: skip
    return {
        "id": "resp_1", "object": "response", "model": "gpt-oss-120b", "status": status,
        "output": list(output), "usage": usage if output else None, "kv_transfer_params": None,
        "input_messages": None, **more,
    }  # fmt: skip


def message(identity: str, text: str = "Hello") -> Event:
    """Return a message item."""
    return {
        "type": "message",
        "id": identity,
        "role": "assistant",
        "content": [{"type": "output_text", "text": text}],
    }


def reasoning(identity: str) -> Event:
    """Return a reasoning item."""
    return {"type": "reasoning", "id": identity, "content": [{"type": "reasoning_text", "text": "SECRET"}]}


def added(index: int, item: Event) -> Event:
    """Return the event that opens an item."""
    return {"type": "response.output_item.added", "output_index": index, "item": item}


def delta(index: int, text: str, *, kind: str = "output_text", identity: str = "msg_s") -> Event:
    """Return a piece of an item's text."""
    return {"type": f"response.{kind}.delta", "output_index": index, "item_id": identity, "delta": text}


CREATED = {"type": "response.created", "response": response(status="in_progress")}
PROGRESS = {"type": "response.in_progress", "response": response(status="in_progress")}
THOUGHT = [
    added(0, reasoning("rs_s")),
    {"type": "response.reasoning_part.added", "output_index": 0, "item_id": "rs_s"},
    delta(0, "SECRET", kind="reasoning_text", identity="rs_s"),
    {"type": "response.reasoning_text.done", "output_index": 0, "item_id": "rs_s", "text": "SECRET"},
    {"type": "response.output_item.done", "output_index": 0, "item": reasoning("rs_s")},
]
ANSWER = [
    added(1, {**message("msg_s"), "content": []}),
    delta(1, "Hel"),
    delta(1, "lo"),
    {"type": "response.output_text.done", "output_index": 1, "item_id": "msg_s", "text": "Hello"},
    {"type": "response.output_item.done", "output_index": 1, "item": message("msg_s")},
]
COMPLETED = {"type": "response.completed", "response": response(reasoning("rs_f"), message("msg_f"))}
WHOLE = [CREATED, PROGRESS, *THOUGHT, *ANSWER, COMPLETED]


def filtered(events: list[Event], *, see: bool = False) -> tuple[list[Event], ResponsesStream]:
    """Return the events that pass, and the filter."""
    asked = Asked(see, include_usage=True, choices=1, max_output_tokens=100, tools=frozenset({"f"}))
    seen = ResponsesStream(asked, request_id="r", model="gpt-oss-120b", created_at=1)
    out = b""
    for number, event in enumerate(events):
        seen.feed((named_event if "type" in event else data_event)({**event, "sequence_number": number}))
        out += seen.take()
    return [parse_data(event) for event in EventSplitter().feed(out)], seen


def kinds(events: list[Event]) -> list[str]:
    """Return the types of ``events`` without their prefix."""
    return [event["type"].removeprefix("response.") for event in events]


def test_hidden_reasoning_leaves_no_trace() -> None:
    """Reasoning items and events are gone, and indexes and numbers run without a gap."""
    events, seen = filtered(WHOLE)
    assert "SECRET" not in json.dumps(events)
    assert kinds(events) == [
        "created", "in_progress", "output_item.added", "output_text.delta", "output_text.delta",
        "output_text.done", "output_item.done", "completed",
    ]  # fmt: skip
    assert [event["sequence_number"] for event in events] == list(range(8))
    assert {event["output_index"] for event in events if "output_index" in event} == {0}
    assert [item["type"] for item in events[-1]["response"]["output"]] == ["message"]
    assert seen.usage == Usage(prompt=10, cached=4, reasoning=3, answer=2)
    seen.end()


def test_visible_reasoning_passes() -> None:
    """A caller that may see it gets every event in its place."""
    events, _ = filtered(WHOLE, see=True)
    assert len(events) == len(WHOLE)
    assert [item["type"] for item in events[-1]["response"]["output"]] == ["reasoning", "message"]


@pytest.mark.parametrize("see", [False, True])
def test_final_items_bear_the_ids_that_were_streamed(see: bool) -> None:
    """The final object names items and calls as the stream did."""
    call_s = {"type": "function_call", "id": "fc_s", "call_id": "call_s", "name": "f", "arguments": ""}
    call_f = {"type": "function_call", "id": "fc_f", "call_id": "call_f", "name": "f", "arguments": "{}"}
    final = {"type": "response.completed", "response": response(reasoning("rs_f"), call_f)}
    events, _ = filtered([CREATED, *THOUGHT, added(1, call_s), final], see=see)
    output = events[-1]["response"]["output"]
    assert (output[-1]["id"], output[-1]["call_id"]) == ("fc_s", "call_s")
    assert output[-1]["arguments"] == "{}"
    if see:
        assert output[0]["id"] == "rs_s"


def test_a_truncated_answer_ends_as_incomplete() -> None:
    """VLLM says ``response.completed`` for it; OpenAI's clients expect ``response.incomplete``."""
    cut = response(message("m"), status="incomplete", incomplete_details={"reason": "max_output_tokens"})
    events, seen = filtered([CREATED, *ANSWER, {"type": "response.completed", "response": cut}])
    assert events[-1]["type"] == "response.incomplete"
    assert seen.done


def test_the_item_that_the_limit_cuts_is_incomplete() -> None:
    """Its ``done`` events come, its status is the final one."""
    call = {"type": "function_call", "id": "fc_s", "call_id": "c", "name": "f", "arguments": '{"a'}
    call_done = {
        "type": "response.output_item.done",
        "output_index": 2,
        "item": {**call, "status": "completed"},
    }
    whole, half = {**message("m"), "status": "completed"}, {**call, "id": "fc_f", "status": "incomplete"}
    final = {"type": "response.completed", "response": response(whole, half, status="incomplete")}
    events, _ = filtered([CREATED, *ANSWER, added(2, {**call, "arguments": ""}), call_done, final])
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert [(item["id"], item.get("status")) for item in done] == [("msg_s", None), ("fc_s", "incomplete")]
    assert kinds(events)[-2:] == ["output_item.done", "incomplete"]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [item["id"] for item in events[-1]["response"]["output"]] == ["msg_s", "fc_s"]


def test_the_opening_waits_for_what_follows() -> None:
    """Until the engine has generated something a failure keeps its own status."""
    events, seen = filtered([CREATED, PROGRESS])
    assert events == []
    assert not seen.started


def test_engine_fields_do_not_pass() -> None:
    """VLLM's own fields of the response object are removed."""
    events, _ = filtered(WHOLE)
    for event in (events[0], events[-1]):
        assert not {"kv_transfer_params", "input_messages"} & event["response"].keys()


@pytest.mark.parametrize("more", [{}, {"status": "incomplete", "max_output_tokens": 100}])
def test_an_empty_answer_is_a_fault(more: Event) -> None:
    """A response that said nothing, and not for lack of tokens, is a fault of the model's."""
    final = {"type": "response.completed", "response": response(reasoning("r"), **more)}
    with pytest.raises(HarmonyFault) as caught:
        filtered([CREATED, *THOUGHT, final])
    assert caught.value.kind == "empty"


def test_an_answer_cut_by_its_limit_is_not_empty() -> None:
    """A chain of thought that used up the limit is the client's to lengthen."""
    cut = response(reasoning("r"), status="incomplete", max_output_tokens=5)
    events, _ = filtered([CREATED, *THOUGHT, {"type": "response.completed", "response": cut}])
    assert events[-1]["type"] == "response.incomplete"


@pytest.mark.parametrize(("begun", "final"), [
    pytest.param(ANSWER[:2], response(message("m"), status="cancelled"), id="in an item"),
    pytest.param([], response(reasoning("r"), status="cancelled"), id="in hidden reasoning"),
    pytest.param([], {**response(status="incomplete"), "max_output_tokens": 100}, id="before a token"),
])  # fmt: skip
def test_an_aborted_answer_has_not_ended(begun: list[Event], final: Event) -> None:
    """VLLM says ``response.completed`` for what it gives up, too."""
    with pytest.raises(EngineFailed) as caught:
        filtered([CREATED, *begun, {"type": "response.completed", "response": final}])
    assert caught.value.retry == "aborted"


@pytest.mark.parametrize("events", [
    [delta(0, "<|end|>")], [delta(0, "<|"), delta(0, "start|>")],
    [added(0, {"type": "function_call", "id": "f", "name": "f", "arguments": "<|end|>"})],
    [{"type": "response.content_part.done", "part": {"type": "output_text", "text": "<|end|>"}}],
    [{"type": "response.output_item.done", "output_index": 0, "item": message("m", "<|end|>")}],
])  # fmt: skip
def test_control_tokens_never_reach_a_client(events: list[Event]) -> None:
    """Control tokens, split or not, in text or in a name, are faults."""
    with pytest.raises(HarmonyFault):
        filtered([CREATED, *events])


CALL = {"type": "function_call", "id": "fc", "call_id": "c", "name": "g", "arguments": "{}"}
MCP = {"type": "mcp_call", "id": "m", "server_label": "g", "name": "g", "arguments": "{}"}


@pytest.mark.parametrize("item", [CALL, {**CALL, "name": None}, MCP], ids=["call", "nameless", "mcp"])
@pytest.mark.parametrize("streamed", [True, False])
def test_a_call_of_no_tool_is_a_fault(item: Event, streamed: bool) -> None:
    """A call must be of a function that the request offers, as it begins and in the final object."""
    final = {"type": "response.completed", "response": response(message("m"), item)}
    with pytest.raises(HarmonyFault) as caught:
        filtered([CREATED, *([added(0, item)] if streamed else [*ANSWER, final])])
    assert caught.value.kind == "unknown_tool"


def test_an_unfinished_suspicion_ends_with_its_item() -> None:
    """A text that ends in what may begin a control token holds nothing of the next item back."""
    ended = {"type": "response.output_text.done", "output_index": 0, "item_id": "msg_s", "text": "a <"}
    events, _ = filtered([CREATED, delta(0, "a <"), ended, delta(1, "b", identity="msg_t")])
    assert [event.get("delta") for event in events] == [None, "a <", None, "b"]


def test_text_that_only_looks_like_a_control_token_passes() -> None:
    """A held delta passes once it is decided, in order."""
    events, _ = filtered([CREATED, delta(0, "a <"), delta(0, " b")])
    assert [event["delta"] for event in events if "delta" in event] == ["a <", " b"]
    assert [event["sequence_number"] for event in events] == [0, 1, 2]


@pytest.mark.parametrize("event", [
    {"error": {"message": "busy", "code": 503}}, {"type": "error", "message": "busy", "code": 503},
    {"type": "response.failed", "response": {"error": {"message": "busy", "code": 503}}},
])  # fmt: skip
def test_an_error_event_is_a_failure(event: Event) -> None:
    """However the engine says it, an error is told as ours."""
    with pytest.raises(Overloaded):
        filtered([CREATED, event])


def test_a_stream_without_its_end_is_broken() -> None:
    """A stream without its final event has not ended well."""
    _, seen = filtered([CREATED, *ANSWER])
    with pytest.raises(EngineFailed):
        seen.end()


@pytest.mark.parametrize("events", [[], [CREATED, delta(0, "a")]])
def test_a_failure_is_told_as_a_failed_response(events: list[Event]) -> None:
    """The event carries a whole response object, with the failure in it, and the next number."""
    passed, seen = filtered(events)
    event = parse_data(seen.failure_event(HarmonyFault("parse")))
    assert event["type"] == "response.failed"
    assert event["sequence_number"] == len(passed)
    assert event["response"]["status"] == "failed"
    assert event["response"]["error"]["code"] == "harmony_fault"
