"""The effort that a request runs at: by a tenant's cap and default, and the word that it asks with."""

import itertools
from collections.abc import AsyncIterator
from typing import Any, get_args

import pytest
import pytest_asyncio

from cluster.core.effort import EFFORTS, Effort
from cluster.core.fields import EFFORT_WORDS
from cluster.core.request import Endpoint
from tests.gateway.conftest import World, caller, chat_body, running
from tests.gateway.test_responses_stream import message, reasoning, response
from tests.gateway.upstream import completion, respond

shared_loop = pytest.mark.asyncio(loop_scope="module")

ASKED: dict[str, tuple[str, str, str]] = {
    "none": ("low mapped", "low mapped", "low mapped"),
    "minimal": ("low mapped", "low mapped", "low mapped"),
    "low": ("low requested", "low requested", "low requested"),
    "medium": ("low tenant_cap", "medium requested", "medium requested"),
    "high": ("low tenant_cap", "medium tenant_cap", "high requested"),
    "xhigh": ("low tenant_cap", "medium tenant_cap", "high mapped"),
    "max": ("low tenant_cap", "medium tenant_cap", "high mapped"),
}
"""What a word becomes under a cap of low, medium and high, and the reason that is told."""

UNASKED: dict[Effort | None, tuple[str, str, str]] = {
    None: ("low tenant_cap", "medium default", "medium default"),
    "low": ("low default", "low default", "low default"),
    "medium": ("low tenant_cap", "medium default", "medium default"),
    "high": ("low tenant_cap", "medium tenant_cap", "high default"),
}
"""The same for a request that names none, by the tenant's default; None: the model's, which is medium."""

SERVED = {"low": ("gpt-oss-20b", "small"), "medium": ("gpt-oss-120b", "big"), "high": ("gpt-oss-120b", "big")}
"""What the alias ``gpt-oss`` is at each level, and its pool."""
LIMITS = {"low": (100, None), "medium": (200, None), "high": (300, 64)}
"""Output and reasoning limits of gpt-oss-120b in the settings of these tests."""
ANSWERS: dict[Endpoint, Any] = {"chat": completion(), "responses": response(reasoning("r"), message("m"))}
PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses"}

CASES = [
    pytest.param(endpoint, cap, default, asked, id=f"{endpoint}-{asked}-cap-{cap}-default-{default}")
    for endpoint, cap, default, asked in itertools.product(
        get_args(Endpoint), EFFORTS, UNASKED, [*ASKED, None]
    )
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world() -> AsyncIterator[World]:
    """Return a gateway with a key for each cap, default and sight of the chain of thought."""
    async with running() as made:
        for cap, default, see in itertools.product(EFFORTS, UNASKED, (False, True)):
            made.keys.callers[key(cap, default, see)] = caller(
                max_effort=cap, default_effort=default, see_reasoning=see
            )
        yield made


def key(cap: str, default: str | None, see: bool = False) -> str:
    """Return the key of a caller."""
    return f"key-{cap}-{default}-{see}"


def body(endpoint: Endpoint, model: str, asked: str | None) -> dict[str, Any]:
    """Return a request that asks for an effort."""
    if endpoint == "chat":
        return chat_body(model=model, **({"reasoning_effort": asked} if asked else {}))
    return {"model": model, "input": "Hi", **({"reasoning": {"effort": asked}} if asked else {})}


def test_every_word_is_in_the_table() -> None:
    """The table has every word that OpenAI's clients may use."""
    assert set(ASKED) == set(EFFORT_WORDS)


@shared_loop
@pytest.mark.parametrize(("endpoint", "cap", "default", "asked"), CASES)
async def test_the_effort_served(
    world: World, endpoint: Endpoint, cap: Effort, default: Effort | None, asked: str | None
) -> None:
    """The engine is asked for the table's level, with its limits; headers and usage line tell it and why."""
    row = UNASKED[default] if asked is None else ASKED[asked]
    level, reason = row[EFFORTS.index(cap)].split()
    world.upstream.then(respond(200, ANSWERS[endpoint]))
    async with world.post(
        body(endpoint, "gpt-oss-120b", asked), path=PATHS[endpoint], key=key(cap, default)
    ) as answer:
        assert answer.status == 200
        assert (answer.headers["x-effort"], answer.headers["x-effort-reason"]) == (level, reason)
        assert "x-served-model" not in answer.headers
    sent = world.upstream.requests[-1].body
    output, thought = LIMITS[level]
    if endpoint == "chat":
        assert (sent["reasoning_effort"], sent["max_completion_tokens"]) == (level, output)
    else:
        assert (sent["reasoning"], sent["max_output_tokens"]) == ({"effort": level}, output)
    assert sent.get("thinking_token_budget") == thought
    line = await world.usage()
    assert (line["effort_asked"], line["effort"], line["effort_reason"]) == (asked, level, reason)


@shared_loop
@pytest.mark.parametrize(("endpoint", "cap", "default", "asked"), CASES)
async def test_the_model_that_an_alias_is(
    world: World, endpoint: Endpoint, cap: Effort, default: Effort | None, asked: str | None
) -> None:
    """An alias is the model of the level after cap and default, and a header says which."""
    row = UNASKED[default] if asked is None else ASKED[asked]
    model, pool = SERVED[row[EFFORTS.index(cap)].split()[0]]
    world.upstream.then(respond(200, ANSWERS[endpoint]))
    async with world.post(
        body(endpoint, "gpt-oss", asked), path=PATHS[endpoint], key=key(cap, default)
    ) as answer:
        assert answer.headers["x-served-model"] == model
    seen = world.upstream.requests[-1]
    assert (seen.body["model"], seen.path) == (model, f"/{pool}{PATHS[endpoint]}")
    await world.usage()


@shared_loop
@pytest.mark.parametrize("see", [False, True], ids=["hidden", "seen"])
@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("endpoint", get_args(Endpoint))
async def test_the_chain_of_thought_by_policy(
    world: World, endpoint: Endpoint, effort: Effort, see: bool
) -> None:
    """At every effort the caller's policy decides what the engine is asked for, and what passes."""
    world.upstream.then(respond(200, ANSWERS[endpoint]))
    async with world.post(
        body(endpoint, "gpt-oss-120b", effort), path=PATHS[endpoint], key=key("high", None, see)
    ) as answer:
        text = await answer.text()
    assert world.upstream.requests[-1].body["include_reasoning"] is see
    assert (("private" in text) or ("SECRET" in text)) == see
    await world.usage()
