"""The official ``openai`` client, unmodified, through the gateway."""

from typing import Any

import openai
import pytest

from cluster.core.limits import Refusal
from cluster.gateway.sse import named_event
from tests.gateway.conftest import NARROW, SEEING, World, settings_document
from tests.gateway.test_responses_stream import ANSWER, COMPLETED, CREATED, PROGRESS, THOUGHT, delta, response
from tests.gateway.test_responses_stream import message as item
from tests.gateway.test_responses_stream import reasoning as thought
from tests.gateway.upstream import (
    DONE,
    ROLE,
    Script,
    chat_usage,
    chunk,
    completion,
    good_stream,
    respond,
    stream,
    usage_chunk,
)

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
MODEL = "gpt-oss-120b"


def events(*values: dict[str, Any], end: bool = True) -> Script:
    """Return a script that streams Responses events, numbered."""
    numbered = [named_event({**value, "sequence_number": number}) for number, value in enumerate(values)]
    return stream(*numbered, end=end)


async def test_a_whole_completion(world: World) -> None:
    """Content, finish and true usage arrive; reasoning does not."""
    world.upstream.then(respond(200, completion()))
    answer = await world.openai().chat.completions.create(model=MODEL, messages=HELLO)
    assert answer.choices[0].message.content == "Hello"
    assert not hasattr(answer.choices[0].message, "reasoning")
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 3
    assert not {"prompt_logprobs", "kv_transfer_params"} & answer.model_dump().keys()


async def test_a_caller_who_may_see_reasoning_gets_it(world: World) -> None:
    """By policy the chain of thought is in the message, and asked for at the engine."""
    world.upstream.then(respond(200, completion()))
    answer = await world.openai(SEEING).chat.completions.create(model=MODEL, messages=HELLO)
    assert answer.choices[0].message.model_dump()["reasoning"] == "private"
    assert world.upstream.requests[0].body["include_reasoning"] is True


@pytest.mark.parametrize("usage", [False, True])
async def test_a_streamed_completion(world: World, usage: bool) -> None:
    """Words arrive in order; the usage chunk only when it was asked for."""
    world.upstream.then(good_stream("Hel", "lo"))
    options: Any = {"stream_options": {"include_usage": True}} if usage else {}
    chunks = [
        part
        async for part in await world.openai().chat.completions.create(
            model=MODEL, messages=HELLO, stream=True, **options
        )
    ]
    assert "".join(part.choices[0].delta.content or "" for part in chunks if part.choices) == "Hello"
    assert [part.usage is not None for part in chunks if not part.choices] == ([True] if usage else [])
    assert world.upstream.requests[0].body["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("end", [True, False], ids=["clean end without [DONE]", "connection cut"])
async def test_a_broken_chat_stream_never_ends_cleanly(world: World, end: bool) -> None:
    """The client, which takes a clean end for success, gets an ``APIError`` instead."""
    world.upstream.then(stream(ROLE, chunk({"content": "Hel"}), end=end))
    with pytest.raises(openai.APIError) as caught:
        async for _ in await world.openai().chat.completions.create(model=MODEL, messages=HELLO, stream=True):
            pass
    assert caught.value.code == "upstream_broken"


@pytest.mark.parametrize("end", [True, False], ids=["clean end without a last event", "connection cut"])
async def test_a_broken_responses_stream_never_ends_cleanly(world: World, end: bool) -> None:
    """It ends with ``response.failed``, which carries the response as it was begun."""
    world.upstream.then(events(CREATED, PROGRESS, *ANSWER[:2], end=end))
    got = [
        event
        async for event in await world.openai().responses.create(model=MODEL, input="Hello", stream=True)
    ]
    assert got[-1].type == "response.failed"
    assert (got[-1].response.id, got[-1].response.status) == ("resp_1", "failed")
    assert [event.sequence_number for event in got] == list(range(len(got)))


async def test_a_whole_response(world: World) -> None:
    """Text and true usage arrive; the reasoning item does not."""
    world.upstream.then(respond(200, response(thought("rs"), item("msg"))))
    answer = await world.openai().responses.create(model=MODEL, input="Hello", reasoning={"effort": "low"})
    assert answer.output_text == "Hello"
    assert [part.type for part in answer.output] == ["message"]
    assert answer.usage is not None
    assert answer.usage.output_tokens_details.reasoning_tokens == 3
    body = world.upstream.requests[0].body
    assert (body["reasoning"], body["store"], body["max_output_tokens"]) == ({"effort": "low"}, False, 100)


@pytest.mark.parametrize("key", ["key-plain", SEEING])
async def test_a_streamed_response(world: World, key: str) -> None:
    """Every event is one that the client knows; reasoning is there for those who may see it."""
    world.upstream.then(events(CREATED, PROGRESS, *THOUGHT, *ANSWER, COMPLETED))
    got = [
        event
        async for event in await world.openai(key).responses.create(model=MODEL, input="Hello", stream=True)
    ]
    text = "".join(event.delta for event in got if event.type == "response.output_text.delta")
    assert text == "Hello"
    assert any("reasoning" in event.type for event in got) == (key == SEEING)
    assert got[-1].type == "response.completed"
    assert got[-1].response.output[-1].id == "msg_s"
    assert (await world.usage())["settled"] == 15


async def test_the_clients_accumulator_takes_the_stream(world: World) -> None:
    """``responses.stream``, which keeps a snapshot by index and id, ends with the whole text."""
    done = {"type": "response.content_part.added", "output_index": 1, "item_id": "msg_s", "content_index": 0,
            "part": {"type": "output_text", "text": "", "annotations": []}}  # fmt: skip
    answer = [
        ANSWER[0],
        done,
        *({**delta(1, word), "content_index": 0} for word in ("Hel", "lo")),
        *ANSWER[4:],
    ]
    world.upstream.then(events(CREATED, PROGRESS, *THOUGHT, *answer, COMPLETED))
    async with world.openai().responses.stream(model=MODEL, input="Hello") as running:
        async for _ in running:
            pass
        final = await running.get_final_response()
    assert final.output_text == "Hello"


async def test_a_function_call_round_trip(world: World) -> None:
    """A streamed call is put together, its result sent back, and the answer received."""

    def call(**function: str) -> bytes:
        return chunk({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]})

    world.upstream.then(
        stream(ROLE, call(name="weather", arguments=""), call(arguments='{"city":'),
               call(arguments='"Oslo"}'), chunk({}, finish="tool_calls"), usage_chunk(), DONE),
        respond(200, completion("Sunny.")),
    )  # fmt: skip
    tools: list[Any] = [
        {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    ]
    client = world.openai()
    async with client.chat.completions.stream(model=MODEL, messages=HELLO, tools=tools) as running:
        async for _ in running:
            pass
        first = await running.get_final_completion()
    calls = first.choices[0].message.tool_calls
    assert calls is not None
    assert (calls[0].function.name, calls[0].function.arguments) == ("weather", '{"city":"Oslo"}')
    asked = {
        "role": "assistant",
        "tool_calls": [calls[0].model_dump(exclude={"function": {"parsed_arguments"}})],
    }
    result = {"role": "tool", "tool_call_id": calls[0].id, "content": "sun"}
    turns: list[Any] = [*HELLO, asked, result]
    second = await client.chat.completions.create(model=MODEL, messages=turns, tools=tools)
    assert second.choices[0].message.content == "Sunny."


async def test_models_are_those_of_the_settings(world: World) -> None:
    """Models and aliases are listed without asking an engine."""
    client = world.openai()
    assert [model.id async for model in client.models.list()] == [MODEL, "gpt-oss-20b", "gpt-oss"]
    assert (await client.models.retrieve("gpt-oss")).object == "model"
    assert world.upstream.requests == []


async def test_a_narrow_key_sees_and_uses_only_its_own(world: World) -> None:
    """Models outside a key's scope are not listed, and asking one is 403; so is another endpoint."""
    client = world.openai(NARROW)
    assert [model.id async for model in client.models.list()] == ["gpt-oss-20b"]
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve(MODEL)
    with pytest.raises(openai.PermissionDeniedError) as caught:
        await client.chat.completions.create(model=MODEL, messages=HELLO)
    assert caught.value.code == "insufficient_permissions"
    with pytest.raises(openai.PermissionDeniedError):
        await client.responses.create(model="gpt-oss-20b", input="Hello")
    assert (await world.usage())["outcome"] == "completed"


async def test_a_wrong_key_is_an_authentication_error(world: World) -> None:
    """401 with OpenAI's body and code, before the body is even read."""
    with pytest.raises(openai.AuthenticationError) as caught:
        await world.openai("wrong").chat.completions.create(model=MODEL, messages=HELLO)
    assert (caught.value.code, caught.value.type) == ("invalid_api_key", "invalid_request_error")
    assert (await world.usage())["outcome"] == "unauthenticated"


async def test_an_unknown_model_is_not_found(world: World) -> None:
    """404 ``model_not_found``."""
    with pytest.raises(openai.NotFoundError) as caught:
        await world.openai().chat.completions.create(model="gpt-5", messages=HELLO)
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        await world.openai().models.retrieve("gpt-5")


async def test_a_bad_parameter_is_a_bad_request(world: World) -> None:
    """400 that names the parameter; the engine is not asked."""
    with pytest.raises(openai.BadRequestError) as caught:
        await world.openai().chat.completions.create(model=MODEL, messages=HELLO, temperature=3)
    assert caught.value.param == "temperature"
    assert world.upstream.requests == []


async def test_the_clients_own_retry_obeys_the_gateway(world: World) -> None:
    """The client waits as ``retry-after-ms`` says, and then succeeds."""
    world.ledger.refusals.append(Refusal("requests", "tenant", 0.01, None, None))
    world.upstream.then(respond(200, completion()))
    client = world.openai(max_retries=1)
    answer = await client.chat.completions.create(model=MODEL, messages=HELLO)
    assert answer.choices[0].message.content == "Hello"
    assert len(world.ledger.reserved) == 2


async def test_several_choices_pass(world: World) -> None:
    """``n`` reaches the engine, costs n times the output, and all choices come back."""
    answer = completion()
    answer["choices"].append({**answer["choices"][0], "index": 1})
    world.upstream.then(respond(200, {**answer, "usage": chat_usage(answer=4)}))
    got = await world.openai().chat.completions.create(model=MODEL, messages=HELLO, n=2)
    assert [choice.index for choice in got.choices] == [0, 1]
    medium = settings_document()["models"][MODEL]["efforts"]["medium"]
    assert world.ledger.reserved[0].tokens > 2 * medium["expected_output_tokens"]
