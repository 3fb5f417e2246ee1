"""OpenAI's Agents SDK, unmodified, through the gateway to the simulated engine."""

from typing import Any

import pytest
from agents import (
    Agent,
    Model,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    function_tool,
    set_tracing_disabled,
)
from openai.types.shared import Reasoning

from tests.gateway.conftest import KEY, SEEING, World
from tests.other_clients import STREAMED, City, run

MODELS = pytest.mark.parametrize(
    "kind", [OpenAIChatCompletionsModel, OpenAIResponsesModel], ids=["chat", "responses"]
)


@pytest.fixture(autouse=True)
def silent() -> None:
    """Keep the SDK from sending traces to OpenAI, which it would without a word."""
    set_tracing_disabled(True)


def model(world: World, kind: Any, key: str = KEY) -> Model:
    """Return the SDK's model of one kind, through the gateway."""
    made: Model = kind(model="gpt-oss-120b", openai_client=world.openai(key))
    return made


@MODELS
@STREAMED
async def test_an_agent_with_a_tool(simulated: World, kind: Any, streamed: bool) -> None:
    """The model's call runs the function, and its result leads to the final answer, in two turns."""
    asked = []

    @function_tool
    def get_weather(city: str) -> str:
        """Get the weather of a city."""
        asked.append(city)
        return "sunny and warm"

    agent: Agent[Any] = Agent(
        name="Guide",
        instructions="Be brief.",
        tools=[get_weather],
        model=model(simulated, kind),
        model_settings=ModelSettings(include_usage=True),
    )
    result = await run(agent, "What is the weather in Lisbon?", streamed=streamed)
    assert len(asked) == 1
    assert result.final_output
    assert [(await simulated.usage())["outcome"] for _ in range(2)] == ["completed", "completed"]
    usage = result.context_wrapper.usage
    assert usage.requests == 2
    assert 0 < usage.output_tokens_details.reasoning_tokens < usage.output_tokens


@MODELS
@STREAMED
async def test_an_agent_with_an_output_type(simulated: World, kind: Any, streamed: bool) -> None:
    """The final output is an object of the agent's type."""
    agent: Agent[Any] = Agent(name="Guide", output_type=City, model=model(simulated, kind))
    assert isinstance((await run(agent, "Tell me about Lisbon", streamed=streamed)).final_output, City)


@MODELS
async def test_an_agents_effort(simulated: World, kind: Any) -> None:
    """The effort in its settings is the one asked of the engine."""
    settings = ModelSettings(reasoning=Reasoning(effort="low"), max_tokens=50, temperature=0.5, store=False)
    agent: Agent[Any] = Agent(name="Guide", model=model(simulated, kind), model_settings=settings)
    await run(agent, "Tell me about rivers", streamed=False)
    line = await simulated.usage()
    assert (line["effort_asked"], line["effort"]) == ("low", "low")


@MODELS
@STREAMED
async def test_a_handoff(simulated: World, kind: Any, streamed: bool) -> None:
    """A handoff, which is a tool to the model, leads to the other agent's answer."""
    expert: Agent[Any] = Agent(name="Expert", model=model(simulated, kind))
    desk: Agent[Any] = Agent(name="Desk", model=model(simulated, kind), handoffs=[expert])
    result = await run(desk, "Tell me about rivers", streamed=streamed)
    assert result.last_agent is expert
    assert result.final_output


@MODELS
async def test_a_second_turn(simulated: World, kind: Any) -> None:
    """What an agent said, reasoning included, is taken back with the next question."""
    agent: Agent[Any] = Agent(name="Guide", model=model(simulated, kind, SEEING))
    first = await run(agent, "Tell me about rivers", streamed=False)
    again = [*first.to_input_list(), {"role": "user", "content": "And lakes?"}]
    assert (await run(agent, again, streamed=False)).final_output
