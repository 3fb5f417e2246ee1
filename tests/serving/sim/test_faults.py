"""Every fault that a word of the prompt can order, and that none strikes unasked."""

import asyncio
from typing import Any

import pytest

from cluster.serving.sim import SimulatedApp
from cluster.serving.sim.faults import DEAD_MESSAGE, HARMONY_MESSAGE, LEAK, WORDS
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


@pytest.mark.parametrize("word", WORDS)
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
