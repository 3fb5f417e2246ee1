"""Conversations: what is sent in each turn, and that the gateway takes it."""

import random
from collections import Counter
from statistics import median

import orjson
import pytest

from cluster.core.request import Endpoint, parse_request
from loadtest.bench.statistics import percentile
from loadtest.live import prompts
from loadtest.live.dialogue import Dialogue
from loadtest.live.plan import KINDS, Conversation, Kind, Lengths, Mix, Plan
from loadtest.live.sse import Answer, Call

PLAN = Plan(conversation=Conversation(min_turns=2, max_turns=2, shared_prefix_tokens=20, shared_prefixes=3))


def rng(seed: int = 1) -> random.Random:
    """Return chance by seed."""
    return random.Random(seed)


@pytest.mark.parametrize("kind", KINDS)
def test_the_next_turn_sends_all_that_was_said(kind: Kind) -> None:
    """The answer stands between the two questions; after the last turn the conversation is over."""
    dialogue = Dialogue(PLAN, kind, rng())
    first = dialogue.body()
    dialogue.heard(Answer(text=["By ", "rivers."]))
    second = dialogue.body()
    name = "input" if kind == "responses" else "messages"
    said = second[name]
    assert "By rivers." in [one["content"] for one in said]
    assert said[: len(first[name])] == first[name]
    assert (dialogue.turn, dialogue.over) == (2, False)
    dialogue.heard(Answer(text=["Yes."]))
    assert dialogue.over


def test_a_call_is_answered_in_the_same_turn() -> None:
    """Its result goes back with the call's own id; the user's next question comes after the answer."""
    dialogue = Dialogue(PLAN, "tools", rng())
    dialogue.body()
    dialogue.heard(Answer(call=Call("call_1", "lookup_order", '{"number": "7"}')))
    *_, call, result = dialogue.body()["messages"]
    assert call["tool_calls"][0]["id"] == result["tool_call_id"] == "call_1"
    assert result["role"] == "tool"
    dialogue.heard(Answer(text=["It is on its way."]))
    assert dialogue.body()["messages"][-1]["role"] == "user"


def test_a_model_that_only_calls_is_left() -> None:
    """A conversation cannot go on for ever."""
    dialogue = Dialogue(PLAN, "tools", rng())
    for _ in range(10):
        if dialogue.over:
            break
        dialogue.heard(Answer(call=Call("call_1", "lookup_order", "{}")))
    assert dialogue.over


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_asks_the_same(kind: Kind) -> None:
    """Another one asks something else."""
    first, same, other = (Dialogue(PLAN, kind, rng(seed)).body() for seed in (1, 1, 2))
    assert first == same != other


def test_conversations_share_their_beginnings() -> None:
    """There are as many system prompts as the plan says, all of the set length, and every question is new."""
    bodies = [Dialogue(PLAN, "chat", rng(seed)).body()["messages"] for seed in range(60)]
    systems = {messages[0]["content"] for messages in bodies}
    assert len(systems) == 3
    assert {len(system.split()) for system in systems} == {20}
    assert len({messages[1]["content"] for messages in bodies}) == 60


def test_efforts_come_by_their_shares() -> None:
    """Within what chance allows in a thousand conversations."""
    chance = rng()
    counts = Counter(Dialogue(PLAN, "chat", chance).effort for _ in range(1000))
    assert counts["low"] == pytest.approx(600, abs=60)
    assert counts["medium"] == pytest.approx(300, abs=60)
    assert counts["high"] == pytest.approx(100, abs=40)


def test_lengths_follow_their_median_and_p95() -> None:
    """Of log-normal lengths; equal ones leave nothing to chance."""
    chance = rng()
    found = [prompts.length(Lengths(median=100, p95=1000), chance) for _ in range(4000)]
    assert median(found) == pytest.approx(100, rel=0.1)
    assert percentile(found, 0.95) == pytest.approx(1000, rel=0.15)
    assert {prompts.length(Lengths(median=7, p95=7), chance) for _ in range(20)} == {7}


def test_nobody_is_of_a_kind_without_a_share() -> None:
    """Locust would start one of each kind."""
    assert prompts.weights(Mix(chat=1, responses=0, tools=0)) == {"chat": 1}


@pytest.mark.parametrize("kind", KINDS)
def test_the_gateway_takes_every_body(kind: Kind) -> None:
    """First turns, later turns and calls with results, by the gateway's own parser."""
    endpoint: Endpoint = "responses" if kind == "responses" else "chat"
    plan = Plan.model_validate({**PLAN.model_dump(), "max_output_tokens": 50})
    dialogue = Dialogue(plan, kind, rng())
    answers = [Answer(text=["Yes."]), Answer(text=["No."])]
    if kind == "tools":
        answers.insert(0, Answer(call=Call("call_1", "lookup_order", '{"number": "7"}')))
    for answer in answers:
        body = orjson.dumps(dialogue.body())
        parsed = parse_request(endpoint, body, content_type="application/json")
        assert parsed.effort_asked == dialogue.effort
        assert not parsed.ignored
        dialogue.heard(answer)
