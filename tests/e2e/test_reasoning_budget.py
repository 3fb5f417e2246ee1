"""A request's own reasoning budget, through the gateway, on real vLLM: thoughts are cut, and nothing else is.

The engine is vLLM's CPU build, so its V1 model runner decides; GPUs run another one
(`tests/serving/budget_runners`).
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.conftest import Demo

pytestmark = pytest.mark.e2e

BUDGET = 16
MODEL = "gpt-oss-120b"
PLAIN, WEATHER = "Why is the sea salty, and since when?", "What is the weather in Lisbon"
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
FUNCTION = {"name": "get_weather", "description": "Get the weather of a city.", "parameters": SCHEMA}
FORMAT = {"name": "place", "schema": SCHEMA, "strict": True}


@dataclass
class Answer:
    """What a client gets."""

    headers: Any
    finish: str = ""
    text: str = ""
    calls: dict[int, list[str]] = field(default_factory=dict)
    """Names and arguments of the calls, by their index."""
    reasoning_tokens: int = 0

    @property
    def called(self) -> list[tuple[str, dict[str, Any]]]:
        """The calls, their arguments read."""
        return [(name, json.loads(arguments)) for name, arguments in self.calls.values()]


def chat(demo: Demo, question: str, *, stream: bool, **asked: Any) -> Answer:
    """Ask on chat at high effort, whose thoughts outlast the budget."""
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    raw = demo.client().chat.completions.with_raw_response.create(
        model=MODEL,
        messages=[{"role": "user", "content": question}],
        reasoning_effort="high",
        temperature=0,
        max_completion_tokens=1000,
        **{"extra_body": {"thinking_token_budget": BUDGET}, **options, **asked},
    )
    answer, parsed = Answer(raw.headers), raw.parse()
    for part in parsed if stream else [parsed]:
        for choice in part.choices:
            said = choice.delta if stream else choice.message
            answer.finish = choice.finish_reason or answer.finish
            answer.text += said.content or ""
            for index, call in enumerate(said.tool_calls or []):
                kept = answer.calls.setdefault(call.index if stream else index, ["", ""])
                kept[0] += call.function.name or ""
                kept[1] += call.function.arguments or ""
        if part.usage:
            answer.reasoning_tokens = part.usage.completion_tokens_details.reasoning_tokens
    return answer


def responses(demo: Demo, question: str, *, stream: bool, **asked: Any) -> Answer:
    """Ask the same on Responses."""
    raw = demo.client().responses.with_raw_response.create(
        model=MODEL,
        input=question,
        reasoning={"effort": "high"},
        temperature=0,
        max_output_tokens=1000,
        **{"extra_body": {"thinking_token_budget": BUDGET}, "stream": stream, **asked},
    )
    answer, parsed = Answer(raw.headers), raw.parse()
    found: Any = list(parsed)[-1].response if stream else parsed
    answer.finish, answer.text = found.status, found.output_text
    calls = [item for item in found.output if item.type == "function_call"]
    answer.calls = {index: [call.name, call.arguments] for index, call in enumerate(calls)}
    answer.reasoning_tokens = found.usage.output_tokens_details.reasoning_tokens
    return answer


TOOLS: dict[Any, Any] = {
    chat: {"tools": [{"type": "function", "function": FUNCTION}]},
    responses: {"tools": [{"type": "function", **FUNCTION}]},
}
FORMATS: dict[Any, Any] = {
    chat: {"response_format": {"type": "json_schema", "json_schema": FORMAT}},
    responses: {"text": {"format": {"type": "json_schema", **FORMAT}}},
}
each_way = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
each_endpoint = pytest.mark.parametrize("ask", [chat, responses])


def was_cut(answer: Answer, *, stream: bool) -> bool:
    """Whether the thought was as long as the budget; the client is told so where that is known in time."""
    assert answer.headers["x-reasoning-budget"] == str(BUDGET)
    assert answer.headers.get("x-reasoning-truncated") == (None if stream else "true")
    return answer.reasoning_tokens == BUDGET


@each_endpoint
@each_way
def test_an_answer_follows_a_cut_thought(demo: Demo, ask: Any, stream: bool) -> None:
    """The model goes on to its answer, and ends it."""
    answer = ask(demo, PLAIN, stream=stream)
    assert was_cut(answer, stream=stream)
    assert answer.text
    assert answer.finish in ("stop", "completed")


@each_endpoint
@each_way
@pytest.mark.parametrize("choice", ["auto", "required"])
def test_a_call_follows_a_cut_thought(demo: Demo, ask: Any, stream: bool, choice: str) -> None:
    """Whole, whether the model chooses to call or a grammar makes it."""
    answer = ask(demo, WEATHER, stream=stream, tool_choice=choice, **TOOLS[ask])
    assert was_cut(answer, stream=stream)
    [(name, arguments)] = answer.called
    assert (name, [*arguments]) == ("get_weather", ["city"])
    assert isinstance(arguments["city"], str)


@each_endpoint
@each_way
def test_a_schema_holds_after_a_cut_thought(demo: Demo, ask: Any, stream: bool) -> None:
    """The grammar reaches over the thought, and takes its early end."""
    answer = ask(demo, PLAIN, stream=stream, **FORMATS[ask])
    assert was_cut(answer, stream=stream)
    assert [*json.loads(answer.text)] == ["city"]


@each_endpoint
def test_cut_thoughts_are_counted(demo: Demo, ask: Any) -> None:
    """Streams too; a thought that ends by itself is not."""

    def counted() -> int:
        metrics = httpx.get(f"{demo.admin_url}/metrics", timeout=30).text
        sample = rf'gptoss_reasoning_truncated_total{{effort="high",model="{MODEL}"}} (\d+)'
        found = re.search(sample, metrics)
        return int(found[1]) if found else 0

    before = counted()
    for stream in (False, True):
        ask(demo, PLAIN, stream=stream)
    whole = ask(demo, PLAIN, stream=True, extra_body={"thinking_token_budget": 5000})
    assert BUDGET < whole.reasoning_tokens < 5000
    assert counted() == before + 2
