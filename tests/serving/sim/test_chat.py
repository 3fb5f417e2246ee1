"""Chat completions: what a whole answer and a stream hold, and in which order."""

import json
from itertools import groupby
from typing import Any

import pytest
from pydantic import BaseModel

from tests.serving.sim.virtual import CHAT, CHAT_TOOL, Exchange, call, chat_body, simulated

NAMED = {"type": "function", "function": {"name": "get_weather"}}


def _kinds(exchange: Exchange) -> list[str]:
    """Return the stream's deltas by kind, runs collapsed."""
    names = []
    for event in exchange.events:
        if not event["choices"]:
            names.append("usage")
            continue
        choice = event["choices"][0]
        shown = [key for key, value in choice["delta"].items() if value is not None]
        names.append("+".join(shown) or "empty")
        if choice["finish_reason"]:
            names.append(f"finish={choice['finish_reason']}")
    return [name for name, _ in groupby(names)]


def _joined(exchange: Exchange, field: str) -> str:
    deltas = [event["choices"][0]["delta"] for event in exchange.events if event["choices"]]
    return "".join(delta.get(field) or "" for delta in deltas)


def _arguments(exchange: Exchange) -> str:
    deltas = [event["choices"][0]["delta"] for event in exchange.events if event["choices"]]
    calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
    return "".join(call["function"]["arguments"] for call in calls)


def test_a_stream_runs_from_role_to_finish() -> None:
    """Role, reasoning, content, then an empty delta with the finish reason, then the end mark."""
    exchange = call(simulated(), CHAT, chat_body(stream=True))
    assert _kinds(exchange) == ["role+content", "reasoning", "content", "empty", "finish=stop"]
    assert exchange.lines[-1] == "[DONE]"
    assert exchange.headers["content-type"] == "text/event-stream; charset=utf-8"


def test_a_stream_says_what_the_whole_answer_says() -> None:
    """The same request gives the same words, streamed or not."""
    streamed = call(simulated(), CHAT, chat_body(stream=True))
    message = call(simulated(), CHAT, chat_body()).json["choices"][0]["message"]
    assert _joined(streamed, "reasoning") == message["reasoning"]
    assert _joined(streamed, "content") == message["content"]


def test_usage_comes_last_and_only_when_asked_for() -> None:
    """The usage chunk has no choices and the true reasoning count."""
    asked = call(simulated(), CHAT, chat_body(stream=True, stream_options={"include_usage": True}))
    plain = call(simulated(), CHAT, chat_body(stream=True))
    usage = asked.events[-1]["usage"]
    words = _joined(asked, "reasoning").split()
    assert usage["completion_tokens_details"]["reasoning_tokens"] == len(words)
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert "usage" not in _kinds(plain)


def test_hidden_reasoning_is_counted_but_never_shown() -> None:
    """With include_reasoning false the text goes, and usage does not."""
    hidden = call(simulated(), CHAT, chat_body(include_reasoning=False)).json
    shown = call(simulated(), CHAT, chat_body()).json
    assert hidden["choices"][0]["message"]["reasoning"] is None
    assert hidden["usage"] == shown["usage"]
    assert hidden["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0


def test_hidden_reasoning_leaves_no_delta() -> None:
    """A stream with hidden reasoning goes from the role to the content."""
    exchange = call(simulated(), CHAT, chat_body(stream=True, include_reasoning=False))
    assert _kinds(exchange) == ["role+content", "content", "empty", "finish=stop"]


def test_answers_depend_on_the_input() -> None:
    """Two hundred prompts give two hundred answers."""
    app = simulated(ttft_ms=0, inter_token_ms=0)
    answers = {
        call(app, CHAT, chat_body(f"question number{n}")).json["choices"][0]["message"]["content"]
        for n in range(200)
    }
    assert len(answers) == 200


def test_choices_differ_and_are_counted_together() -> None:
    """With n choices each has its own text, and usage covers all of them."""
    body = call(simulated(), CHAT, chat_body(n=3)).json
    texts = {choice["message"]["content"] for choice in body["choices"]}
    alone = call(simulated(), CHAT, chat_body()).json["usage"]["completion_tokens"]
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert len(texts) == 3
    assert body["usage"]["completion_tokens"] > 2 * alone * 0.6


def test_a_streamed_choice_each_finishes_once() -> None:
    """Every choice of a stream has one role chunk and one finish reason."""
    exchange = call(simulated(), CHAT, chat_body(n=2, stream=True))
    finished = [c["index"] for e in exchange.events for c in e["choices"] if c["finish_reason"]]
    roles = [c["index"] for e in exchange.events for c in e["choices"] if "role" in c["delta"]]
    assert (sorted(finished), roles) == ([0, 1], [0, 1])


@pytest.mark.parametrize(
    ("choice", "finish"), [("auto", "tool_calls"), ("required", "tool_calls"), (NAMED, "stop")], ids=str
)
def test_offered_tools_are_called(choice: Any, finish: str) -> None:
    """The call's arguments satisfy the schema and repeat a word of the prompt."""
    body = call(
        simulated(), CHAT, chat_body("weather in Reykjavik", tools=[CHAT_TOOL], tool_choice=choice)
    ).json
    (answer,) = body["choices"]
    (made,) = answer["message"]["tool_calls"]
    arguments = json.loads(made["function"]["arguments"])
    assert (made["function"]["name"], answer["finish_reason"]) == ("get_weather", finish)
    assert arguments["city"] in ("weather", "Reykjavik")
    assert arguments["days"] >= 3


def test_a_streamed_call_names_the_tool_first() -> None:
    """The first call delta has id and name and no arguments; the pieces after it add up to JSON."""
    exchange = call(simulated(), CHAT, chat_body(tools=[CHAT_TOOL], stream=True))
    calls = [
        made
        for event in exchange.events
        if event["choices"]
        for made in event["choices"][0]["delta"].get("tool_calls", ())
    ]
    assert set(calls[0]) == {"id", "type", "index", "function"}
    assert calls[0]["function"] == {"name": "get_weather", "arguments": ""}
    assert all(set(made) == {"index", "function"} for made in calls[1:])
    assert set(json.loads(_arguments(exchange))) == {"city", "days"}
    assert _kinds(exchange)[-3:] == ["tool_calls", "empty", "finish=tool_calls"]


def test_no_tool_is_called_when_that_is_forbidden() -> None:
    """With tool_choice none the answer is text."""
    (answer,) = call(simulated(), CHAT, chat_body(tools=[CHAT_TOOL], tool_choice="none")).json["choices"]
    assert answer["message"]["content"]
    assert "tool_calls" not in answer["message"]


def test_a_tools_result_gets_a_final_answer() -> None:
    """After the result the model answers, about what the tool said."""
    made = {"id": "c", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": "weather?"},
        {"role": "assistant", "tool_calls": [made]},
        {"role": "tool", "tool_call_id": "c", "content": "thunderstorm"},
    ]
    body = chat_body(tools=[CHAT_TOOL], messages=messages)
    (answer,) = call(simulated(), CHAT, body).json["choices"]
    assert answer["finish_reason"] == "stop"
    assert "thunderstorm" in answer["message"]["content"]


class Trip(BaseModel):
    """A schema as ``chat.completions.parse`` sends it."""

    place: str
    nights: int


@pytest.mark.parametrize("effort", ["low", "medium", "high"])
@pytest.mark.parametrize("tools", [[], [CHAT_TOOL]], ids=["no tools", "tools"])
def test_a_json_schema_gets_a_valid_object(effort: str, tools: list[Any]) -> None:
    """Structured output is valid at every effort, and wins over tools that are only offered."""
    schema = {"name": "Trip", "schema": Trip.model_json_schema(), "strict": True}
    fields: dict[str, Any] = {"tools": tools} if tools else {}
    body = chat_body(
        response_format={"type": "json_schema", "json_schema": schema}, reasoning_effort=effort, **fields
    )
    (answer,) = call(simulated(), CHAT, body).json["choices"]
    assert Trip.model_validate_json(answer["message"]["content"]).place


def test_a_cut_inside_the_reasoning_has_no_content() -> None:
    """Finish is length, content null, and the count is exactly the limit."""
    body = call(simulated(), CHAT, chat_body(max_completion_tokens=6, max_tokens=50)).json
    (answer,) = body["choices"]
    assert (answer["finish_reason"], answer["message"]["content"]) == ("length", None)
    assert body["usage"]["completion_tokens"] == 6


def test_a_cut_stream_ends_with_length_on_its_last_word() -> None:
    """The finish reason rides on the chunk of the last token."""
    exchange = call(simulated(), CHAT, chat_body(stream=True, max_tokens=6))
    assert _kinds(exchange) == ["role+content", "reasoning", "finish=length"]


@pytest.mark.parametrize("budget", [0, 1, 5])
def test_a_budget_cuts_the_reasoning_and_keeps_the_answer(budget: int) -> None:
    """The reasoning has exactly the budget's tokens; the answer still comes."""
    body = call(simulated(), CHAT, chat_body(thinking_token_budget=budget)).json
    assert body["usage"]["completion_tokens_details"]["reasoning_tokens"] == budget
    assert body["choices"][0]["message"]["content"]
    assert body["choices"][0]["finish_reason"] == "stop"


def test_the_request_id_becomes_the_answers_id() -> None:
    """The answer's id holds the x-request-id that the gateway sent."""
    exchange = call(simulated(), CHAT, chat_body(), headers={"x-request-id": "abc-1"})
    assert exchange.json["id"] == "chatcmpl-abc-1"


def test_effort_sets_the_length_of_the_reasoning() -> None:
    """Over many prompts every low chain is shorter than every medium one, and those than the high ones."""
    app = simulated(ttft_ms=0, inter_token_ms=0)
    lengths = {
        effort: [
            call(app, CHAT, chat_body(f"prompt {n}", reasoning_effort=effort)).json["usage"][
                "completion_tokens_details"
            ]["reasoning_tokens"]
            for n in range(30)
        ]
        for effort in ("low", "medium", "high")
    }
    assert max(lengths["low"]) < min(lengths["medium"])
    assert max(lengths["medium"]) < min(lengths["high"])
    assert len(set(lengths["high"])) > 5
