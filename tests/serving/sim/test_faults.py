"""Every fault that a word of the prompt can order, and that none strikes unasked."""

import asyncio
from typing import Any, get_args

import pytest

from cluster.serving.sim import SimulatedApp
from cluster.serving.sim.faults import DEAD_MESSAGE, HARMONY_MESSAGE, LEAK, UNKNOWN_TOOL, Fault
from tests.serving.sim.virtual import (
    CHAT,
    RESPONSES,
    Exchange,
    call,
    chat_body,
    responses_body,
    run,
    simulated,
    start,
)


def _faulty() -> SimulatedApp:
    return simulated(faults=True)


@pytest.mark.parametrize("word", [f"fault-{name}" for name in get_args(Fault)])
def test_no_fault_strikes_unless_the_app_allows_it(word: str) -> None:
    """The words are plain text to an app without faults."""
    exchange = call(simulated(), CHAT, chat_body(f"please {word} now", stream=True))
    assert exchange.complete
    assert exchange.lines[-1] == "[DONE]"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_die_is_a_500_before_the_first_byte(stream: bool) -> None:
    """Even a stream gets the status."""
    exchange = call(_faulty(), CHAT, chat_body("fault-die", stream=stream))
    assert (exchange.status, exchange.json["error"]["message"]) == (500, DEAD_MESSAGE)


def test_once_spares_the_second_attempt() -> None:
    """The attempt is the number at the end of the gateway's request id."""
    body = chat_body("fault-die-once")
    statuses = [
        call(_faulty(), CHAT, body, headers={"x-request-id": f"0b0c-{attempt}"}).status for attempt in (1, 2)
    ]
    assert statuses == [500, 200]


def test_a_cut_stream_ends_in_the_answer_without_a_last_event() -> None:
    """Some content has come, no finish reason, no end mark, and the body is unfinished."""
    exchange = call(_faulty(), CHAT, chat_body("fault-cut", stream=True))
    choices = [choice for event in exchange.events for choice in event["choices"]]
    assert choices[-1]["delta"]["content"]
    assert {choice["finish_reason"] for choice in choices} == {None}
    assert not exchange.complete


def _text(exchange: Exchange) -> str:
    """Return the content of a chat stream."""
    choices = [choice for event in exchange.events for choice in event["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def _ends(exchange: Exchange) -> list[str]:
    """Return the finish reasons of a chat stream."""
    choices = [choice for event in exchange.events for choice in event["choices"]]
    return [choice["finish_reason"] for choice in choices if choice["finish_reason"]]


@pytest.mark.parametrize(("place", "reasoned", "words"), [
    ("start", False, range(1)), ("reasoning", True, range(1)), ("answer", True, range(1, 2)),
    ("end", True, range(3, 999)),
])  # fmt: skip
def test_a_fault_strikes_where_it_is_told(place: str, reasoned: bool, words: range) -> None:
    """Before the first token, after the first of the reasoning or of the answer, and before the last."""
    exchange = call(_faulty(), CHAT, chat_body(f"Say words fault-cut-at-{place}", stream=True))
    assert not exchange.complete
    assert any(event["choices"][0]["delta"].get("reasoning") for event in exchange.events) == reasoned
    assert len(_text(exchange).split()) in words


def test_a_place_and_once_go_together() -> None:
    """The word still strikes the first attempt only."""
    body = chat_body("fault-finish-at-answer-once", stream=True)
    tries = [call(_faulty(), CHAT, body, headers={"x-request-id": f"a-{attempt}"}) for attempt in (1, 2)]
    assert [exchange.lines[-1] == "[DONE]" for exchange in tries] == [False, True]


def test_an_answer_may_end_too_early_and_cleanly() -> None:
    """A stream ends like a complete one without a last event; a whole body is half a JSON."""
    streamed = call(_faulty(), CHAT, chat_body("fault-finish", stream=True))
    whole = call(_faulty(), CHAT, chat_body("fault-finish"))
    assert streamed.complete
    assert (_ends(streamed), streamed.lines[-1] == "[DONE]") == ([], False)
    assert (whole.status, whole.complete, whole.body.endswith(b"}")) == (200, True, False)


@pytest.mark.parametrize(("place", "ends"), [
    ("start", []), ("reasoning", ["abort"]), ("answer", ["abort"]), ("end", ["abort"]),
])  # fmt: skip
def test_an_aborted_chat_ends_as_vllm_ends_it(place: str, ends: list[str]) -> None:
    """The finish reason says so, unless no token had come: then there is none. The end mark follows."""
    body = chat_body(f"fault-abort-at-{place}", stream=True, stream_options={"include_usage": True})
    streamed = call(_faulty(), CHAT, body)
    assert _ends(streamed) == ends
    assert streamed.lines[-1] == "[DONE]"
    assert (streamed.events[-1]["usage"]["completion_tokens"] > 0) == bool(ends)
    whole = call(_faulty(), CHAT, chat_body(f"fault-abort-at-{place}")).json
    assert whole["choices"][0]["finish_reason"] == "abort"


def test_an_aborted_call_is_called_a_call() -> None:
    """VLLM says ``tool_calls`` for what it broke off inside a call, and names no token that ended it."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    body = chat_body("fault-abort-at-answer", tools=[tool])
    (choice,) = call(_faulty(), CHAT, body).json["choices"]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("tool_calls", None)
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == ""


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("place", "status"), [("start", "incomplete"), ("reasoning", "cancelled"), ("answer", "cancelled")]
)
def test_an_aborted_response_is_cancelled(place: str, status: str, stream: bool) -> None:
    """Or incomplete, where nothing had come; its stream ends as ``response.completed``."""
    exchange = call(_faulty(), RESPONSES, responses_body(f"fault-abort-at-{place}", stream=stream))
    response = exchange.events[-1]["response"] if stream else exchange.json
    assert response["status"] == status
    assert not stream or exchange.events[-1]["type"] == "response.completed"


def test_a_call_that_nobody_offers() -> None:
    """It stands where the answer would, tools or none."""
    whole = call(_faulty(), CHAT, chat_body("fault-tool")).json["choices"][0]["message"]
    streamed = call(_faulty(), RESPONSES, responses_body("fault-tool", stream=True)).events
    assert whole["tool_calls"][0]["function"]["name"] == UNKNOWN_TOOL
    assert UNKNOWN_TOOL in [event["item"].get("name") for event in streamed if "item" in event]


def test_a_harmony_fault_is_a_500_or_an_event() -> None:
    """A whole answer gets the status, a chat stream an error event and the end mark."""
    whole = call(_faulty(), CHAT, chat_body("fault-harmony"))
    streamed = call(_faulty(), CHAT, chat_body("fault-harmony", stream=True))
    assert (whole.status, whole.json["error"]["message"]) == (500, HARMONY_MESSAGE)
    assert streamed.events[-1]["error"]["code"] == 500
    assert streamed.lines[-1] == "[DONE]"


def test_a_harmony_fault_cuts_a_responses_stream() -> None:
    """No last event comes there, as in vLLM."""
    exchange = call(_faulty(), RESPONSES, responses_body("fault-harmony", stream=True))
    assert exchange.events[-1]["type"] == "response.output_text.delta"
    assert not exchange.complete


def test_garbage_is_no_json() -> None:
    """A bad event stands among good ones; a whole body cannot be parsed."""
    streamed = call(_faulty(), CHAT, chat_body("fault-garbage", stream=True))
    whole = call(_faulty(), CHAT, chat_body("fault-garbage"))
    assert b"data: {not json" in streamed.body
    assert streamed.complete
    assert (whole.status, whole.body) == (200, b"{not json")


def test_control_tokens_stand_in_the_content() -> None:
    """The leak is in the answer, whole and streamed."""
    whole = call(_faulty(), CHAT, chat_body("fault-control"))
    streamed = call(_faulty(), CHAT, chat_body("fault-control", stream=True))
    assert LEAK in whole.json["choices"][0]["message"]["content"]
    assert LEAK in streamed.body.decode()


@pytest.mark.parametrize(
    ("path", "make"), [(CHAT, chat_body), (RESPONSES, responses_body)], ids=["chat", "responses"]
)
def test_an_empty_answer_has_reasoning_only(path: str, make: Any) -> None:
    """Finish is stop, tokens are spent, and there is nothing to show."""
    body = call(_faulty(), path, make("fault-empty")).json
    if path == CHAT:
        assert (body["choices"][0]["message"]["content"], body["choices"][0]["finish_reason"]) == (
            None,
            "stop",
        )
        assert body["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0
    else:
        assert [item["type"] for item in body["output"]] == ["reasoning"]


def test_a_queue_that_fills_at_the_last_moment_is_the_first_event_of_a_chat_stream() -> None:
    """A whole answer has the status; a stream has its 200 by then, and ends as a complete one."""
    whole = call(_faulty(), CHAT, chat_body("fault-busy"))
    streamed = call(_faulty(), CHAT, chat_body("fault-busy", stream=True))
    assert (whole.status, streamed.status, streamed.events[0]["error"]["code"]) == (503, 200, 503)
    assert streamed.lines[1:] == ["[DONE]"]
    assert streamed.complete


def test_a_queue_that_fills_at_the_last_moment_cuts_a_responses_stream() -> None:
    """Two events have been sent by then, and no last one follows."""
    streamed = call(_faulty(), RESPONSES, responses_body("fault-busy", stream=True))
    assert [event["type"] for event in streamed.events] == ["response.created", "response.in_progress"]
    assert not streamed.complete


@pytest.mark.parametrize(("word", "events"), [("fault-hang", False), ("fault-stall", True)])
def test_silence_lasts_until_the_client_leaves(word: str, events: bool) -> None:
    """A hang has no byte at all, a stall stops in the answer; both hold a slot until the client is gone."""
    app = _faulty()

    async def main() -> tuple[Exchange, int, int]:
        exchange = start(app, CHAT, chat_body(word, stream=True))
        await asyncio.sleep(3600)
        before, chunks = app.load.running, len(exchange.chunks)
        exchange.leave()
        await exchange.wait()
        return exchange, before, chunks

    exchange, running, chunks = run(main())
    assert (running, app.load.running) == (1, 0)
    assert (chunks > 0, exchange.status == 200) == (events, events)


def test_a_reset_needs_a_server_that_shows_its_socket() -> None:
    """Elsewhere the order is an error, not a silent success."""
    exchange = call(_faulty(), CHAT, chat_body("fault-reset"))
    assert (exchange.status, exchange.json["error"]["code"]) == (500, 500)
