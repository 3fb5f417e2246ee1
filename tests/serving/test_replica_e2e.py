"""What our replica adds to vLLM, on real vLLM: counts, budgets, hidden reasoning, reports of usage."""

import http.client
import json
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest

from cluster.core.engine import StreamUsage, parse_usage
from tests.conftest import Engine

pytestmark = pytest.mark.e2e

BUDGET = 20
QUESTION = "Why is the sea salty, and since when?"


def post(engine: Engine, path: str, body: dict[str, Any]) -> bytes:
    """Ask the replica and return the body of its answer, which is a good one."""
    url = urlsplit(engine.base_url)
    headers = {"authorization": f"Bearer {engine.api_key}", "content-type": "application/json"}
    with closing(http.client.HTTPConnection(str(url.hostname), url.port, timeout=120)) as connection:
        connection.request("POST", f"{url.path}{path}", json.dumps({"model": engine.model, **body}), headers)
        answer = connection.getresponse()
        content = answer.read()
    assert answer.status == 200, content
    return content


def chat(engine: Engine, **changes: Any) -> dict[str, Any]:
    """Ask on chat at high effort, whose thoughts outlast the budget."""
    messages = [{"role": "user", "content": QUESTION}]
    body = {"messages": messages, "reasoning_effort": "high", "max_completion_tokens": 2000}
    answer: dict[str, Any] = json.loads(post(engine, "/chat/completions", {**body, **changes}))
    return answer


def responses(engine: Engine, **changes: Any) -> bytes:
    """Ask the same on Responses."""
    body = {"input": QUESTION, "reasoning": {"effort": "high"}, "max_output_tokens": 2000}
    return post(engine, "/responses", {**body, **changes})


def events(content: bytes) -> list[dict[str, Any]]:
    """Return the events of a stream."""
    return [json.loads(line[6:]) for line in content.splitlines() if line.startswith(b"data: {")]


def comments(content: bytes) -> list[StreamUsage]:
    """Return the usage comments of a stream."""
    return [usage for part in content.split(b"\n\n") if (usage := parse_usage(part))]


def test_chat_counts_its_reasoning(real_engine: Engine) -> None:
    """Where vLLM says 0: a part of the whole, and none of the answer."""
    usage = chat(real_engine)["usage"]
    reasoning = usage["completion_tokens_details"]["reasoning_tokens"]
    assert BUDGET < reasoning < usage["completion_tokens"]


def test_a_budget_ends_the_thoughts_of_chat(real_engine: Engine) -> None:
    """After exactly as many tokens, and an answer follows."""
    answer = chat(real_engine, thinking_token_budget=BUDGET)
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == BUDGET
    assert answer["choices"][0]["message"]["content"]


def test_a_budget_ends_the_thoughts_of_responses(real_engine: Engine) -> None:
    """Stock vLLM ignores the field there."""
    answer = json.loads(responses(real_engine, thinking_token_budget=BUDGET))
    assert answer["usage"]["output_tokens_details"]["reasoning_tokens"] == BUDGET
    assert [item["type"] for item in answer["output"]] == ["reasoning", "message"]


def test_responses_hide_their_reasoning_when_asked(real_engine: Engine) -> None:
    """The item is left out; its tokens are still counted."""
    answer = json.loads(responses(real_engine, include_reasoning=False))
    assert [item["type"] for item in answer["output"]] == ["message"]
    assert answer["usage"]["output_tokens_details"]["reasoning_tokens"] > BUDGET


def test_a_responses_stream_hides_its_reasoning_without_gaps(real_engine: Engine) -> None:
    """No event shows it, numbers and indexes run on, and the final object agrees."""
    seen = events(responses(real_engine, include_reasoning=False, stream=True))
    assert [event["sequence_number"] for event in seen] == list(range(len(seen)))
    assert {event["output_index"] for event in seen if "output_index" in event} == {0}
    assert not [event["type"] for event in seen if "reasoning" in event["type"]]
    assert [item["type"] for item in seen[-1]["response"]["output"]] == ["message"]


def test_hidden_reasoning_is_reported_in_comments(real_engine: Engine) -> None:
    """A silent stream says how far it is; the last report is within the final usage."""
    body = {"messages": [{"role": "user", "content": QUESTION}], "reasoning_effort": "high", "n": 8}
    quiet = {"include_reasoning": False, "stream": True, "stream_options": {"include_usage": True}}
    content = post(real_engine, "/chat/completions", {**body, **quiet, "max_completion_tokens": 2000})
    reported, final = comments(content), events(content)[-1]["usage"]
    assert reported, "eight answers at once take more than a second"
    assert 0 < reported[-1].reasoning <= final["completion_tokens_details"]["reasoning_tokens"]
    assert reported[-1].prompt == final["prompt_tokens"]
