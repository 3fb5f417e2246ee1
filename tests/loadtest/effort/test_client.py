"""The clients, against a server that treats each request as its seed says."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from loadtest.effort.arrivals import Arrival
from loadtest.effort.client import Target, load
from loadtest.effort.results import Outcome

ROLE = b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}\n\n'
TOKEN = b'data: {"choices":[{"delta":{"reasoning":"We"}}]}\n\n'
END = b'data: {"choices":[],"usage":{"completion_tokens":7}}\n\ndata: [DONE]\n\n'
SERVED, SILENT, CUT, LATE_REFUSAL, LATE_FAILURE, REFUSED, FAILED, UNFINISHED = range(8)
STREAMS = {
    SERVED: [b": wait\n\n", ROLE, TOKEN, END],
    SILENT: [ROLE, b": wait\n\n"],
    CUT: [ROLE, TOKEN],
    LATE_REFUSAL: [b": wait\n\n", b'data: {"error":{"code":"deadline_exceeded"}}\n\n'],
    LATE_FAILURE: [b'data: {"error":{"code":"upstream_broken"}}\n\n'],
    UNFINISHED: [ROLE, TOKEN],
}
STATUSES = {REFUSED: 503, FAILED: 500}


async def answer(request: web.Request) -> web.StreamResponse:
    """Answer as the seed says."""
    seed = (await request.json())["seed"]
    if seed in STATUSES:
        return web.Response(status=STATUSES[seed])
    response = web.StreamResponse()
    await response.prepare(request)
    for event in STREAMS[seed]:
        await response.write(event)
    if seed in {SILENT, UNFINISHED}:
        await asyncio.sleep(30)
    return response


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    """Serve on a port of its own."""
    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    async with TestServer(app) as server:
        yield Target(str(server.make_url("/v1")), "key")


async def ask(target: Target, seed: int) -> Outcome:
    """Return what becomes of one request in a run of half a second."""
    found = await load(target, [Arrival(0.0, "low", seed)], seconds=0.1, grace_s=0.4, ttft_s=0.0)
    (outcome,) = found.outcomes
    assert found.tokens_per_s == pytest.approx(outcome.tokens / 0.1)
    return outcome


@pytest.mark.parametrize(
    ("seed", "fate", "tokens", "reason"),
    [
        (SERVED, "served", 7, ""),
        (UNFINISHED, "served", 0, ""),
        (SILENT, "waiting", 0, ""),
        (CUT, "failed", 0, "a stream without its end"),
        (LATE_REFUSAL, "refused", 0, ""),
        (LATE_FAILURE, "failed", 0, "upstream_broken"),
        (REFUSED, "refused", 0, ""),
        (FAILED, "failed", 0, "status 500"),
    ],
    ids=["served", "unfinished", "silent", "cut", "refused late", "failed late", "refused", "failed"],
)
async def test_every_end_is_told_apart(
    target: Target, seed: int, fate: str, tokens: int, reason: str
) -> None:
    """The role and comments are no token; an error in a stream says by its code what it is."""
    outcome = await ask(target, seed)
    assert (outcome.fate, outcome.tokens, outcome.reason) == (fate, tokens, reason)


async def test_a_client_leaves_at_its_deadline(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for its first token no longer, and has not left before."""
    monkeypatch.setattr("loadtest.effort.client.DEADLINES_S", {"low": 0.2})
    outcome = await ask(target, SILENT)
    assert outcome.fate == "left"
    assert 0.2 <= outcome.waited_s < 0.4


async def test_an_answer_may_outlast_the_deadline(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deadline is the first token's."""
    monkeypatch.setattr("loadtest.effort.client.DEADLINES_S", {"low": 0.2})
    assert (await ask(target, UNFINISHED)).fate == "served"
