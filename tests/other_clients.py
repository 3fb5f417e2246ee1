"""What the tests of LangChain and of the Agents SDK share, on the simulated and on the real engine."""

from typing import Any

import pytest
from agents import Agent, Runner, RunResult, RunResultStreaming
from langchain_core.tools import tool
from pydantic import BaseModel

APIS = pytest.mark.parametrize("responses", [False, True], ids=["chat", "responses"])
STREAMED = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


class City(BaseModel):
    """A structured answer."""

    city: str
    population: int


@tool
def get_weather(city: str) -> str:
    """Get the weather of a city."""
    return f"sunny and warm in {city}"


async def run(agent: Agent[Any], words: Any, *, streamed: bool) -> RunResult | RunResultStreaming:
    """Run an agent to its end."""
    if not streamed:
        return await Runner.run(agent, words, max_turns=4)
    result = Runner.run_streamed(agent, words, max_turns=4)
    async for _ in result.stream_events():
        pass
    return result
