"""The official OpenAI client, unmodified, against the gateway, real Ray Serve and real vLLM."""

import json
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel

from tests.conftest import Demo

pytestmark = pytest.mark.e2e

EFFORTS = ("low", "medium", "high")
MODELS = ("gpt-oss-120b", "gpt-oss-20b")

WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


def user(text: str) -> ChatCompletionMessageParam:
    """Return a user message."""
    return {"role": "user", "content": text}


@pytest.mark.parametrize("model", MODELS)
def test_chat_answers(demo: Demo, model: str) -> None:
    """Both models answer, and the usage adds up."""
    answer = demo.client().chat.completions.create(model=model, messages=[user("Summarize the report.")])
    choice, usage = answer.choices[0], answer.usage
    assert choice.finish_reason == "stop"
    assert choice.message.content
    assert answer.model == model
    assert usage is not None
    assert usage.completion_tokens_details is not None
    assert 0 < (usage.completion_tokens_details.reasoning_tokens or 0) < usage.completion_tokens
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens


def test_chat_streams_with_usage(demo: Demo) -> None:
    """A stream carries the answer in pieces, a finish reason, and the usage chunk that was asked for."""
    chunks = list(
        demo.client().chat.completions.create(
            model="gpt-oss-120b",
            messages=[user("Write an email about the budget.")],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert len([c for c in chunks if c.choices and c.choices[0].delta.content]) > 3
    assert text_of(chunks)
    assert [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason] == [
        "stop"
    ]
    assert chunks[-1].choices == []
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.completion_tokens_details is not None
    assert 0 < (usage.completion_tokens_details.reasoning_tokens or 0) < usage.completion_tokens


def test_stream_usage_comes_only_when_asked_for(demo: Demo) -> None:
    """Without ``include_usage`` no chunk carries a usage, although the gateway meters the stream."""
    chunks = list(
        demo.client().chat.completions.create(model="gpt-oss-120b", messages=[user("Hello")], stream=True)
    )
    assert text_of(chunks)
    assert all(chunk.usage is None for chunk in chunks)
    assert all(chunk.choices for chunk in chunks)


def test_reasoning_grows_with_effort(demo: Demo) -> None:
    """Low effort thinks less than medium, medium less than high, in chat and in Responses."""
    chat = [chat_reasoning(demo, effort) for effort in EFFORTS]
    responses = [responses_reasoning(demo, effort) for effort in EFFORTS]
    assert chat[0] < chat[1] < chat[2]
    assert responses[0] < responses[1] < responses[2]


def chat_reasoning(demo: Demo, effort: Any) -> int:
    """Return the reasoning tokens of one chat answer."""
    answer = demo.client().chat.completions.create(
        model="gpt-oss-120b", messages=[user("Plan the meeting.")], reasoning_effort=effort
    )
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    return answer.usage.completion_tokens_details.reasoning_tokens or 0


def responses_reasoning(demo: Demo, effort: Any) -> int:
    """Return the reasoning tokens of one response."""
    answer = demo.client().responses.create(
        model="gpt-oss-120b", input="Plan the meeting.", reasoning={"effort": effort}
    )
    assert answer.usage is not None
    return answer.usage.output_tokens_details.reasoning_tokens


def test_responses_answer(demo: Demo) -> None:
    """A response is completed, holds the answer as its output text, and says that nothing is stored."""
    answer = demo.client().responses.create(model="gpt-oss-20b", input="Explain the error.")
    assert answer.status == "completed"
    assert answer.output_text
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert answer.model_dump()["store"] is False


def test_responses_stream(demo: Demo) -> None:
    """A response's stream starts with created, ends with completed, and its numbers have no gap."""
    events: list[Any] = list(
        demo.client().responses.create(
            model="gpt-oss-120b", input="Explain the error.", reasoning={"effort": "low"}, stream=True
        )
    )
    assert events[0].type == "response.created"
    assert events[-1].type == "response.completed"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    streamed = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert streamed
    assert streamed == events[-1].response.output_text
    added = [event.item.id for event in events if event.type == "response.output_item.added"]
    assert added == [item.id for item in events[-1].response.output]


def test_models_are_listed_and_retrieved(demo: Demo) -> None:
    """The list names both models and the alias; each can be retrieved."""
    listed = [model.id for model in demo.client().models.list()]
    assert listed == ["gpt-oss-120b", "gpt-oss-20b", "gpt-oss"]
    assert demo.client().models.retrieve("gpt-oss-20b").id == "gpt-oss-20b"
    with pytest.raises(openai.NotFoundError):
        demo.client().models.retrieve("gpt-5")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_function_call_round_trip(demo: Demo, stream: bool) -> None:
    """A call is returned with arguments that name the prompt's city; its result leads to a final answer."""
    messages: list[ChatCompletionMessageParam] = [user("What is the weather in Lisbon")]
    call_id, name, arguments = ask_for_call(demo, messages, stream=stream)
    assert name == "get_weather"
    assert isinstance(json.loads(arguments)["city"], str)
    messages += [
        {
            "role": "assistant",
            "tool_calls": [
                {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
            ],
        },
        {"role": "tool", "tool_call_id": call_id, "content": "sunny and warm"},
    ]
    answer = demo.client().chat.completions.create(model="gpt-oss-120b", messages=messages, tools=[WEATHER])
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content


def ask_for_call(
    demo: Demo, messages: list[ChatCompletionMessageParam], *, stream: bool
) -> tuple[str, str, str]:
    """Return the id, name and arguments of the call that the model makes."""
    client = demo.client()
    if not stream:
        answer = client.chat.completions.create(model="gpt-oss-120b", messages=messages, tools=[WEATHER])
        assert answer.choices[0].finish_reason == "tool_calls"
        calls = answer.choices[0].message.tool_calls or []
        assert len(calls) == 1
        assert calls[0].type == "function"
        return calls[0].id, calls[0].function.name, calls[0].function.arguments
    chunks = list(
        client.chat.completions.create(model="gpt-oss-120b", messages=messages, tools=[WEATHER], stream=True)
    )
    pieces = [call for chunk in chunks for call in (chunk.choices[0].delta.tool_calls or [])]
    functions = [piece.function for piece in pieces if piece.function is not None]
    identifier = next(piece.id for piece in pieces if piece.id)
    name = next(function.name for function in functions if function.name)
    return identifier, name, "".join(function.arguments or "" for function in functions)


class City(BaseModel):
    """A structured answer."""

    city: str
    population: int


@pytest.mark.parametrize("effort", EFFORTS)
def test_structured_outputs_parse(demo: Demo, effort: Any) -> None:
    """``chat.completions.parse`` returns a valid object at every effort."""
    answer = demo.client().chat.completions.parse(
        model="gpt-oss-120b",
        messages=[user("Tell me about Lisbon")],
        response_format=City,
        reasoning_effort=effort,
        max_completion_tokens=1000,
    )
    assert isinstance(answer.choices[0].message.parsed, City)


@pytest.mark.parametrize("effort", EFFORTS)
def test_json_schema_holds(demo: Demo, effort: Any) -> None:
    """``response_format`` of type json_schema returns an object with just the schema's keys."""
    schema = {
        "type": "object",
        "properties": {"answer": {"type": "string"}, "sure": {"type": "boolean"}},
        "required": ["answer", "sure"],
        "additionalProperties": False,
    }
    answer = demo.client().chat.completions.create(
        model="gpt-oss-20b",
        messages=[user("Is the server up?")],
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "verdict", "schema": schema, "strict": True},
        },
        reasoning_effort=effort,
        max_completion_tokens=1000,
    )
    found = json.loads(answer.choices[0].message.content or "")
    assert found.keys() == {"answer", "sure"}
    assert isinstance(found["sure"], bool)


def test_different_questions_get_different_answers(demo: Demo) -> None:
    """The answer depends on the conversation, so that a test can tell one from another."""
    answers = {
        demo.client()
        .chat.completions.create(
            model="gpt-oss-120b", messages=[user(f"Tell me about {word}")], reasoning_effort="low"
        )
        .choices[0]
        .message.content
        for word in ("Lisbon", "clusters", "budget", "Zürich", "weather")
    }
    assert len(answers) >= 4


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    """Return the answer that the chunks carry."""
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
