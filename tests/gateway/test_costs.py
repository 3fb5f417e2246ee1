"""What requests teach the gateway about the next ones' cost, beside how they end (`test_settlement`)."""

from typing import Any

import pytest

from cluster.core.hint import parse
from tests.gateway.conftest import World, chat_body
from tests.gateway.test_settlement import CUT_5, NOTHING, WHOLE_5, Lengths, taught
from tests.gateway.upstream import chat_usage, completion, respond


@pytest.mark.parametrize(
    ("changes", "lengths"),
    [
        pytest.param({"max_completion_tokens": 6}, WHOLE_5, id="below its limit"),
        pytest.param({"max_completion_tokens": 5}, CUT_5, id="at its limit"),
        pytest.param({"n": 2}, NOTHING, id="one of several, of which the sum is told"),
    ],
)
async def test_an_answer_at_its_limit_was_cut(
    world: World, changes: dict[str, Any], lengths: Lengths
) -> None:
    """An answer of 5 tokens."""
    world.upstream.then(respond(200, completion()))
    async with world.post(chat_body(**changes)) as response:
        assert response.status == 200
    await world.usage()
    assert taught(world) == lengths


async def test_a_cut_thought_is_what_such_requests_take(world: World) -> None:
    """An application that always sets a budget is not expected to think as others do."""
    world.upstream.then(respond(200, {**completion(), "usage": chat_usage(reasoning=16, answer=10)}))
    for _ in range(60):
        async with world.post(chat_body(thinking_token_budget=16)) as response:
            assert response.headers["x-reasoning-truncated"] == "true"
    hints = [parse(seen.headers["x-route-hint"]) for seen in world.upstream.requests]
    told = [hint.expected_output_tokens for hint in hints if hint is not None]
    assert told[0] == 16 + 40
    assert told[-1] == pytest.approx(26, abs=4)


async def test_the_next_request_costs_what_the_last_ones_did(world: World) -> None:
    """What the router is told and what limits hold follow the answers; a new tenant starts near there."""
    world.upstream.then(respond(200, completion()))
    for key in ["key-plain"] * 60 + ["key-seeing"]:
        async with world.post(key=key) as response:
            assert response.status == 200
    hints = [parse(seen.headers["x-route-hint"]) for seen in world.upstream.requests]
    told = [hint.expected_output_tokens for hint in hints if hint is not None]
    assert told[0] == 80
    assert told[:60] == sorted(told[:60], reverse=True)
    assert max(told[-2:]) < 25
    held = [ask.tokens for ask in world.ledger.reserved]
    assert held[0] - held[59] > 100
    assert held[59] < held[-1] < held[0]
