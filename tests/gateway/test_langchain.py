"""LangChain's ``ChatOpenAI``, unmodified, through the gateway to the simulated engine."""

from typing import Any

import pytest
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from pydantic import SecretStr

from tests.gateway.conftest import KEY, SEEING, World
from tests.other_clients import APIS, City, get_weather


def model(world: World, *, responses: bool, key: str = KEY, **options: Any) -> ChatOpenAI:
    """Return LangChain's client of the gateway."""
    return ChatOpenAI(
        model="gpt-oss-120b",
        base_url=f"{world.url}/v1",
        api_key=SecretStr(key),
        max_retries=0,
        use_responses_api=responses,
        **options,
    )


@APIS
async def test_an_answer(simulated: World, responses: bool) -> None:
    """``ainvoke`` gives the answer and true usage, reasoning tokens apart."""
    answer = await model(simulated, responses=responses).ainvoke("Tell me about rivers")
    assert "simulated" in answer.text
    usage = answer.usage_metadata
    assert usage is not None
    assert 0 < usage["output_token_details"]["reasoning"] < usage["output_tokens"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert (await simulated.usage())["outcome"] == "completed"


@APIS
async def test_a_stream(simulated: World, responses: bool) -> None:
    """``astream`` gives the same answer in pieces, and the usage where it is asked for."""
    client = model(simulated, responses=responses, stream_usage=True)
    pieces = [piece async for piece in client.astream("Tell me about rivers")]
    assert len([piece for piece in pieces if piece.text]) > 3
    assert "".join(piece.text for piece in pieces) == (await client.ainvoke("Tell me about rivers")).text
    assert [piece.usage_metadata for piece in pieces if piece.usage_metadata]


@APIS
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_tool_round_trip(simulated: World, responses: bool, streamed: bool) -> None:
    """The model's call comes with parsed arguments; its result leads to an answer that has read it."""
    client = model(simulated, responses=responses).bind_tools([get_weather])
    asked = HumanMessage("What is the weather in Lisbon?")
    called: Any = None
    if streamed:
        async for piece in client.astream([asked]):
            called = piece if called is None else called + piece
    else:
        called = await client.ainvoke([asked])
    (call,) = called.tool_calls
    assert call["name"] == "get_weather"
    assert isinstance(call["args"]["city"], str)
    result = await get_weather.ainvoke(call)
    assert isinstance(result, ToolMessage)
    answer = await client.ainvoke([asked, called, result])
    assert answer.text
    assert not answer.tool_calls


@APIS
async def test_a_structured_output(simulated: World, responses: bool) -> None:
    """``with_structured_output`` gives an object of the schema."""
    client = model(simulated, responses=responses).with_structured_output(City, method="json_schema")
    assert isinstance(await client.ainvoke("Tell me about Lisbon"), City)


@APIS
async def test_an_object_of_no_schema(simulated: World, responses: bool) -> None:
    """``json_mode`` gives a JSON object, of which the simulator knows the empty one."""
    client = model(simulated, responses=responses).with_structured_output(None, method="json_mode")
    assert await client.ainvoke("Tell me about Lisbon, as JSON") == {}


@APIS
@pytest.mark.parametrize("effort", ["low", "medium", "high"])
async def test_an_effort(simulated: World, responses: bool, effort: str) -> None:
    """``reasoning_effort`` reaches the engine on either endpoint."""
    await model(simulated, responses=responses, reasoning_effort=effort).ainvoke("Tell me about rivers")
    line = await simulated.usage()
    assert (line["effort_asked"], line["effort"], line["effort_reason"]) == (effort, effort, "requested")


@pytest.mark.parametrize(("key", "seen"), [(KEY, False), (SEEING, True)], ids=["hidden", "seen"])
async def test_reasoning_by_policy(simulated: World, key: str, seen: bool) -> None:
    """Content blocks of a response hold its reasoning only for a caller that may see it."""
    answer = await model(simulated, responses=True, key=key, output_version="responses/v1").ainvoke("Rivers")
    kinds = [block["type"] for block in answer.content if isinstance(block, dict)]
    assert kinds == (["reasoning", "text"] if seen else ["text"])


@APIS
async def test_a_conversation(simulated: World, responses: bool) -> None:
    """An answer is taken back as the client repeats it, reasoning and ids included."""
    client = model(simulated, responses=responses, key=SEEING)
    first = HumanMessage("Tell me about rivers")
    answer = await client.ainvoke([first])
    assert (await client.ainvoke([first, answer, HumanMessage("And lakes?")])).text
