"""Clients that take nothing of their answer: what they hold is bounded, and so is the wait for them."""

import asyncio
import json
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.gateway.conftest import KEY, World, Worlds, chat_body
from tests.gateway.upstream import ROLE, STREAM_HEAD, Connection, Script, chunk, completion, respond

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's options are Linux's")

MIB = 1024 * 1024
WORD = chunk({"content": "x" * 60_000})


@contextmanager
def not_reading(world: World, body: dict[str, Any]) -> Iterator[socket.socket]:
    """Send a request on a connection whose client never reads."""
    payload = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(payload)}\r\n\r\n"
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", urlsplit(world.url).port))
        client.sendall(head.encode() + payload)
        yield client


def flood(sent: list[int]) -> Script:
    """Return a script that streams large events while somebody takes them, and counts their bytes."""

    async def script(connection: Connection) -> None:
        await connection.send(STREAM_HEAD)
        await connection.event(ROLE, b": usage p=10 r=0 a=7\n\n")
        try:
            while True:
                await connection.event(WORD)
                sent.append(len(WORD))
        except ConnectionError:
            return

    return script


async def test_a_stream_whose_client_reads_nothing(worlds: Worlds) -> None:
    """It is cut after ``write_timeout_s``; until then little is read from the engine on its behalf."""
    world, sent = await worlds(gateway={"http": {"write_timeout_s": 1}}), list[int]()
    world.upstream.then(flood(sent))
    with not_reading(world, chat_body(stream=True)):
        line = await world.usage()
    assert (line["outcome"], line["status"], line["settled"]) == ("client_gone_streaming", 200, 17)
    assert world.ledger.settled == [17]
    await asyncio.wait_for(world.upstream.requests[0].gone.wait(), 1)
    assert 900 < line["e2e_ms"] < 8000
    assert sum(sent) < 8 * MIB, "most of it in the kernel's own buffers between engine and gateway"


async def test_keep_alives_do_not_pile_up_behind_a_slow_client(worlds: Worlds) -> None:
    """While a write waits no comment is due; a client that then reads on gets the rest of its stream."""
    timing = {"commit_after_s": 0.01, "keepalive_s": 0.01}
    world, sent = await worlds(gateway={"stream": timing}), list[int]()
    world.upstream.then(flood(sent))
    with not_reading(world, chat_body(stream=True)) as client:
        before = -1
        while len(sent) > before:  # until the engine has to wait
            before = len(sent)
            await asyncio.sleep(0.2)
        client.setblocking(False)
        taken = b""
        while taken.count(b'"content":"x') < 40:
            taken += await asyncio.get_running_loop().sock_recv(client, MIB)
    assert taken.count(b": keep-alive") < 5, "else it were about twenty for each 0.2 s"
    assert (await world.usage())["outcome"] == "client_gone_streaming"


async def test_a_whole_answer_whose_client_reads_nothing(worlds: Worlds) -> None:
    """It has been generated and is paid for; its connection is cut all the same."""
    world = await worlds(gateway={"http": {"write_timeout_s": 1}})
    world.upstream.then(respond(200, completion("x" * 4 * MIB)))
    with not_reading(world, chat_body()) as client:
        line = await world.usage()
        assert (line["outcome"], line["settled"], world.ledger.settled) == ("completed", 15, [15])
        async with asyncio.timeout(8):
            while _is_served(world, client):  # noqa: ASYNC110 - the kernel tells nobody
                await asyncio.sleep(0.05)
        with pytest.raises(ConnectionError):
            while client.recv(MIB):
                pass


def _is_served(world: World, client: socket.socket) -> bool:
    """Whether the kernel still has the gateway's side of a client's connection."""
    ends = f":{urlsplit(world.url).port:04X} 0100007F:{client.getsockname()[1]:04X} "
    return ends in Path("/proc/net/tcp").read_text()
