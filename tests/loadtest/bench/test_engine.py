"""The mock engine: the forms that a vLLM engine has, and streams that keep count."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from typing import Any

import httptools
import pytest

from cluster.core.engine import parse_usage
from cluster.gateway.answers import WholeAnswer
from cluster.gateway.asked import Asked
from cluster.gateway.chat_stream import ChatStream
from cluster.gateway.sse import EventSplitter
from loadtest.bench import answers
from loadtest.bench.client import Ask, Client, Tally, Target
from loadtest.bench.engine import Connection, Engine


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """Serve a mock engine in the test's own loop."""
    engine = Engine()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(engine), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


def body_of(raw: bytes) -> bytes:
    """Return the body of one HTTP response."""
    parts: list[bytes] = []

    class Reader:
        """Gathers the body."""

        def on_body(self, body: bytes) -> None:
            """Keep a part."""
            parts.append(body)

    httptools.HttpResponseParser(Reader()).feed_data(raw)
    return b"".join(parts)


def stream_body(tokens: int, *, hidden: bool) -> bytes:
    """Return the body of a whole stream."""
    return body_of(b"".join(answers.script(tokens, 0.005, hidden)))


def asked(*, see_reasoning: bool) -> Asked:
    """Return what a benchmark's request asks for."""
    return Asked(see_reasoning, include_usage=True, choices=1, max_output_tokens=1000, tools=frozenset())


def test_a_whole_answer_is_one_for_the_gateway() -> None:
    """The gateway takes it as vLLM's and reads its usage."""
    whole = WholeAnswer("chat", body_of(answers.WHOLE))
    body, usage = whole.filtered(asked(see_reasoning=False)), whole.usage
    assert json.loads(body)["choices"][0]["message"]["content"].startswith("0 1 2 ")
    assert (usage.prompt, usage.answer) == (answers.PROMPT_TOKENS, answers.ANSWER_TOKENS)


@pytest.mark.parametrize("hidden", [True, False])
def test_a_stream_is_one_for_the_gateway(hidden: bool) -> None:
    """The gateway's own filter takes every event, finds usage and end, and passes each number once."""
    seen = ChatStream(asked(see_reasoning=not hidden))
    out = b""
    for event in EventSplitter().feed(stream_body(1000, hidden=hidden)):
        seen.feed(event)
        out += seen.take()
    seen.end()
    texts = [
        choice["delta"].get("content") or ""
        for line in out.split(b"\n\n")
        if line.startswith(b"data: {")
        for choice in json.loads(line[6:])["choices"]
    ]
    assert [int(text) for text in texts if text] == list(range(1000))
    assert seen.usage is not None
    assert seen.usage.answer == 1000


def test_hidden_reasoning_is_spelled_out_as_null() -> None:
    """So vLLM writes deltas for ``include_reasoning: false``, and only then."""
    assert stream_body(3, hidden=True).count(b'"reasoning":null') == 3
    assert b"reasoning" not in stream_body(3, hidden=False).replace(b"reasoning_tokens", b"")


def test_usage_comments_come_every_two_seconds() -> None:
    """At 5 ms a token that is every 400 tokens."""
    comments = [
        told for event in stream_body(1001, hidden=True).split(b"\n\n") if (told := parse_usage(event))
    ]
    assert [told.answer for told in comments] == [400, 800]


async def ask(port: int, ask: Ask, times: int = 1) -> Tally:
    """Let one client ask ``times`` times."""
    tally, left = Tally(), itertools.repeat(ask, times)
    client = Client(tally, lambda: next(left, None))
    await client.connect(port)
    await asyncio.wait_for(client.ended.wait(), 10)
    return tally


async def test_a_client_counts_whole_answers(port: int) -> None:
    """One connection carries all of them."""
    tally = await ask(port, Target(port, "k", answers.MODEL).whole(), times=3)
    assert (tally.answers, len(tally.latencies_s), dict(tally.failures)) == (3, 3, {})


async def test_a_client_counts_tokens_and_writes(port: int) -> None:
    """Every token arrives, each in a write of its own; so do the opening and the two last writes."""
    tally = await ask(port, Target(port, "k", answers.MODEL).stream(50, 0.001), times=2)
    assert (tally.answers, tally.tokens, dict(tally.failures)) == (2, 100, {})
    assert tally.writes >= 100


async def scripted(data: bytes, tokens: int) -> Tally:
    """Let a client ask a server that says ``data`` and hangs up."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    tally = await ask(port, Ask(b"GET / HTTP/1.1\r\n\r\n", tokens))
    server.close()
    await server.wait_closed()
    return tally


WRITES = answers.script(5, 0.005, False)


@pytest.mark.parametrize(
    ("writes", "failure"),
    [
        (WRITES[:2] + WRITES[3:], "token lost, doubled or out of order"),
        (WRITES[:3] + WRITES[2:], "token lost, doubled or out of order"),
        (WRITES[:1] + answers.script(4, 0.005, False)[1:], "a stream ended early"),
        (WRITES[:3], "connection lost"),
        ((b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n",), "status 503"),
        ((b"rubbish\r\n\r\n",), "the answer is no HTTP"),
    ],
    ids=["lost", "doubled", "short", "cut", "status", "rubbish"],
)
async def test_a_client_sees_what_is_wrong(writes: tuple[bytes, ...], failure: str) -> None:
    """No fault of a contender passes for an answer."""
    tally: Any = await scripted(b"".join(writes), 5)
    assert failure in tally.failures


async def test_an_event_cut_in_two_is_counted_once() -> None:
    """Chunks may end anywhere."""
    events = body_of(b"".join(WRITES))
    pieces = [events[at : at + 7] for at in range(0, len(events), 7)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    tally = await scripted(answers.STREAM_HEAD + chunks + answers.STREAM_END, 5)
    assert (tally.tokens, tally.answers, dict(tally.failures)) == (5, 1, {})
