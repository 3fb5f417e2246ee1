"""The clients' side of the ledger tells every way apart in which an answer can end."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from tests.faults.client import Client, Question
from tests.faults.stack import MODEL
from tests.redis_servers import free_port

HEAD = b"HTTP/1.1 200 OK\r\nx-request-id: a\r\ntransfer-encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


def event(value: Any) -> bytes:
    """Return one event as a chunk."""
    data = b"data: %s\n\n" % (value if isinstance(value, bytes) else json.dumps(value).encode())
    return b"%x\r\n%s\r\n" % (len(data), data)


def word(text: str, finish: str | None = None) -> bytes:
    """Return a chunk of a chat."""
    return event({"choices": [{"delta": {"content": text}, "finish_reason": finish}]})


USAGE = event({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 2}})
ERROR = event({"error": {"code": "upstream_broken", "type": "server_error"}})
REFUSAL = b'{"error": {"code": "server_is_overloaded", "type": "x"}}'


def refusal(body: bytes) -> bytes:
    """Return a whole response of 503."""
    return b"HTTP/1.1 503 x\r\nx-request-id: a\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


@pytest.mark.parametrize(
    ("sent", "end", "code", "tokens"),
    [
        (HEAD + word("a") + word("b", "stop") + USAGE + event(b"[DONE]") + LAST, "complete", None, 2),
        (HEAD + word("a") + LAST, "clean", None, 1),
        (HEAD + word("a") + event(b"[DONE]") + LAST, "clean", None, 1),
        (HEAD + word("a", "stop") + LAST, "clean", None, 1),
        (HEAD + word("a"), "cut", None, 1),
        (HEAD, "cut", None, 0),
        (b"", "cut", None, 0),
        (HEAD + word("a") + ERROR + LAST, "told", "upstream_broken", 1),
        (HEAD + word("a") + ERROR, "told", "upstream_broken", 1),
        (refusal(REFUSAL), "refused", "server_is_overloaded", 0),
    ],
    ids=[
        "whole",
        "no finish, no end",
        "no finish",
        "no end",
        "cut after a word",
        "cut after the head",
        "no head",
        "an error event",
        "an error event, and cut",
        "a refusal",
    ],
)
async def test_every_end_is_told_apart(sent: bytes, end: str, code: str | None, tokens: int) -> None:
    """By what the server sends before it closes the connection."""
    got = await ask(sent)
    assert (got.end, got.code, got.tokens, got.disorder) == (end, code, tokens, "")


@pytest.mark.parametrize(
    ("sent", "disorder"),
    [
        (HEAD + ERROR + word("a") + LAST, "events after the last"),
        (refusal(b"Service Unavailable"), "no error body"),
    ],
)
async def test_a_wrong_form_is_noted(sent: bytes, disorder: str) -> None:
    """Words after an error, and a refusal that is not OpenAI's."""
    assert disorder in (await ask(sent)).disorder


async def test_a_client_that_leaves_has_left() -> None:
    """After as many words as it was told to."""
    got = await ask(HEAD + word("a") + word("b") + word("c"), leave_after=2)
    assert (got.end, got.tokens) == ("left", 2)


async def test_nobody_and_nothing_are_told_apart() -> None:
    """Nobody listens; somebody does, and never answers."""
    async with aiohttp.ClientSession() as http:
        client = Client(http, "key", limit_s=0.2)
        question = Question(1, MODEL, "low")
        assert (await client.ask(question, "one", f"http://127.0.0.1:{free_port()}")).end == "unreached"
    assert (await ask(b"", silent=True)).end == "hung"


async def ask(sent: bytes, *, leave_after: int | None = None, silent: bool = False) -> Any:
    """Ask a server that answers with ``sent``, and return what the client noted."""
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)
        if silent:
            await done.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, aiohttp.ClientSession() as http:
        client = Client(http, "key", limit_s=0.5 if silent else 10)
        got = await client.ask(
            Question(1, MODEL, "low", leave_after=leave_after), "one", f"http://127.0.0.1:{port}"
        )
        done.set()
    return got
