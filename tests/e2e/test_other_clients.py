"""LangChain and OpenAI's Agents SDK, unmodified, against the gateway, real Ray Serve and real vLLM."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    function_tool,
    set_tracing_disabled,
)
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
from openai import AsyncOpenAI
from pydantic import SecretStr

from tests.conftest import Demo
from tests.other_clients import APIS, STREAMED, City, get_weather, run

pytestmark = pytest.mark.e2e

WEATHER = "What is the weather in Lisbon"


def langchain(demo: Demo, *, responses: bool, **options: Any) -> ChatOpenAI:
    """Return LangChain's client of the gateway."""
    return ChatOpenAI(
        model="gpt-oss-120b",
        base_url=demo.base_url,
        api_key=SecretStr(demo.key),
        max_retries=0,
        use_responses_api=responses,
        **options,
    )


@APIS
def test_langchain_answers_and_streams(demo: Demo, responses: bool) -> None:
    """The whole answer and the streamed one have text and true usage."""
    client = langchain(demo, responses=responses, stream_usage=True, reasoning_effort="low")
    answer = client.invoke("Explain the error.")
    assert answer.text
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_token_details"]["reasoning"] > 0
    pieces = list(client.stream("Explain the error."))
    assert len([piece for piece in pieces if piece.text]) > 3
    assert [piece.usage_metadata for piece in pieces if piece.usage_metadata]


@APIS
def test_langchain_calls_a_tool(demo: Demo, responses: bool) -> None:
    """The model's call has parsed arguments, and its result leads to an answer."""
    client = langchain(demo, responses=responses).bind_tools([get_weather])
    called = client.invoke(WEATHER)
    (call,) = called.tool_calls
    assert isinstance(call["args"]["city"], str)
    assert client.invoke([HumanMessage(WEATHER), called, get_weather.invoke(call)]).text


@APIS
def test_langchain_gets_an_object(demo: Demo, responses: bool) -> None:
    """A structured output is an object of its schema."""
    client = langchain(demo, responses=responses, max_tokens=1000)
    structured = client.with_structured_output(City, method="json_schema")
    assert isinstance(structured.invoke("Tell me about Lisbon"), City)


@pytest.fixture
async def client(demo: Demo) -> AsyncIterator[AsyncOpenAI]:
    """Return the official client; the SDK sends no traces to OpenAI."""
    set_tracing_disabled(True)
    async with AsyncOpenAI(base_url=demo.base_url, api_key=demo.key, max_retries=0, timeout=120) as made:
        yield made


@APIS
@STREAMED
async def test_an_agent_uses_its_tool(client: AsyncOpenAI, responses: bool, streamed: bool) -> None:
    """The function runs with the model's arguments, and its result leads to the agent's answer."""
    kind: Any = OpenAIResponsesModel if responses else OpenAIChatCompletionsModel
    asked = []

    @function_tool
    def get_weather(city: str) -> str:
        """Get the weather of a city."""
        asked.append(city)
        return "sunny and warm"

    agent: Agent[Any] = Agent(
        name="Guide",
        tools=[get_weather],
        model=kind(model="gpt-oss-120b", openai_client=client),
        model_settings=ModelSettings(include_usage=True),
    )
    result = await run(agent, WEATHER, streamed=streamed)
    assert asked
    assert result.final_output
    assert result.context_wrapper.usage.output_tokens_details.reasoning_tokens > 0
