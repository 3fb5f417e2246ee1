"""The lean client against a real socket that says whatever a test wants."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from cluster.gateway.http_client import (
    HIGH_WATER_BYTES,
    KEEPALIVE_S,
    Client,
    ConnectionBroken,
    Unreachable,
)
from tests.certificates import make as certificates_in

HEAD = b"POST /pool/v1/chat/completions HTTP/1.1\r\nhost: x\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Engine-Replica: r-1\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Peer:
    """A server that gives each request the next answer; the last one answers all further ones."""

    answers: list[Answer] = field(default_factory=list)
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read requests and answer them until the client leaves."""
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                self.asked.set()
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                await answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.ended.set()
        finally:
            writer.close()


def says(data: bytes, *, then_close: bool = False) -> Answer:
    """Return an answer of these bytes."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if then_close:
            writer.close()

    return answer


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    """Return a peer on a free port of loopback."""
    made = Peer()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield made
    server.close()


@pytest.fixture
def client(peer: Peer) -> Client:
    """Return a client of the peer."""
    return Client(peer.url)


async def fetch(client: Client, body: bytes = b"{}") -> bytes:
    """Return the whole body of one answer."""
    pieces = []
    async with client.post(HEAD, body) as connection:
        while piece := await connection.piece():
            pieces.append(piece)
    return b"".join(pieces)


async def test_a_request_goes_out_as_it_was_given_and_its_answer_comes_back(
    peer: Peer, client: Client
) -> None:
    """Head, length, body; then status, headers in lower case and the body."""
    peer.answers = [says(OK)]
    async with client.post(HEAD, b'{"a":1}') as connection:
        assert connection.status == 200
        assert connection.headers[b"x-engine-replica"] == b"r-1"
        assert await connection.piece() == b"hello"
        assert await connection.piece() == b""
    assert peer.requests == [HEAD + b'content-length: 7\r\n\r\n{"a":1}']


async def test_a_connection_serves_again_after_a_whole_answer(peer: Peer, client: Client) -> None:
    """Ten answers, sized and chunked, come over one connection."""
    peer.answers = [says(OK), says(CHUNKED + b"5\r\nhello\r\n0\r\n\r\n")] * 5
    assert [await fetch(client) for _ in range(10)] == [b"hello"] * 10
    assert peer.connections == 1


async def test_requests_at_once_have_connections_of_their_own(peer: Peer, client: Client) -> None:
    """Answers never mix: each exchange owns its connection."""
    peer.answers = [says(OK)]
    assert await asyncio.gather(*[fetch(client) for _ in range(8)]) == [b"hello"] * 8
    assert peer.connections == 8


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(says(OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n")), id="the peer says close"),
        pytest.param(says(b"HTTP/1.0 200 OK\r\n\r\nhello", then_close=True), id="no length"),
        pytest.param(says(OK + b"HTTP/1.1 200 OK\r\n"), id="more than was asked for"),
    ],
)  # fmt: skip
async def test_a_connection_that_cannot_serve_again_is_not_kept(
    peer: Peer, client: Client, answer: Answer
) -> None:
    """The answer counts, and the next request has a new connection."""
    peer.answers = [answer]
    assert [await fetch(client), await fetch(client)] == [b"hello", b"hello"]
    assert peer.connections == 2


async def test_a_connection_that_idled_for_long_is_not_used(
    peer: Peer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peer may be about to close it."""
    peer.answers = [says(OK)]
    await fetch(client)
    loop = asyncio.get_running_loop()
    later = loop.time() + KEEPALIVE_S
    monkeypatch.setattr(loop, "time", lambda: later)
    await fetch(client)
    assert peer.connections == 2


async def test_a_connection_that_the_peer_closed_meanwhile_is_not_used(peer: Peer, client: Client) -> None:
    """A closed connection is noticed while it idles."""
    peer.answers = [says(OK, then_close=True)]
    await fetch(client)
    await asyncio.sleep(0.02)  # the peer's FIN comes over a real socket
    assert await fetch(client) == b"hello"
    assert peer.connections == 2


async def test_informational_answers_are_passed_over(peer: Peer, client: Client) -> None:
    """100 and 103 come before the answer and are none."""
    hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nx-engine-replica: no\r\n\r\n"
    peer.answers = [says(hints + OK)]
    async with client.post(HEAD, b"{}") as connection:
        assert (connection.status, connection.headers[b"x-engine-replica"]) == (200, b"r-1")


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(says(b"", then_close=True), id="nothing"),
        pytest.param(says(b"HTTP/1.1 200 OK\r\nconte", then_close=True), id="half a head"),
        pytest.param(says(OK[:-1], then_close=True), id="half a body"),
        pytest.param(says(CHUNKED + b"5\r\nhello\r\n", then_close=True), id="no last chunk"),
        pytest.param(says(b"SSH-2.0-x\r\n\r\n"), id="not HTTP"),
        pytest.param(says(CHUNKED + b"zz\r\nhello\r\n"), id="a chunk size that is none"),
    ],
)
async def test_an_answer_that_is_cut_or_garbled_is_an_error(
    peer: Peer, client: Client, answer: Answer
) -> None:
    """A broken answer never looks like a whole one, and the next request is not harmed."""
    peer.answers = [answer, says(OK)]
    with pytest.raises(ConnectionBroken):
        await fetch(client)
    assert await fetch(client) == b"hello"


async def test_what_came_before_a_cut_is_given_first(peer: Peer, client: Client) -> None:
    """A stream's last events are not lost with its connection."""
    peer.answers = [says(CHUNKED + b"5\r\nhello\r\n", then_close=True)]
    async with client.post(HEAD, b"{}") as connection:
        await asyncio.sleep(0.02)  # let the FIN come as well
        assert await connection.piece() == b"hello"
        with pytest.raises(ConnectionBroken):
            await connection.piece()


async def test_nobody_there_is_unreachable() -> None:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Unreachable, match=f"127.0.0.1:{port}"):
        await fetch(Client(f"http://127.0.0.1:{port}"))


async def test_leaving_early_ends_the_request_at_the_peer(peer: Peer, client: Client) -> None:
    """The peer sees the connection end, and it is not used again."""
    peer.answers = [says(CHUNKED + b"5\r\nhello\r\n")]
    async with client.post(HEAD, b"{}") as connection:
        await connection.piece()
    await asyncio.wait_for(peer.ended.wait(), 5)


async def test_cancelling_while_waiting_ends_the_request_at_the_peer(peer: Peer, client: Client) -> None:
    """Also before the head has come."""
    peer.answers = [says(b"")]
    waiting = asyncio.ensure_future(fetch(client))
    await asyncio.wait_for(peer.asked.wait(), 5)
    waiting.cancel()
    await asyncio.wait_for(peer.ended.wait(), 5)


async def test_a_slow_reader_holds_the_peer_back(peer: Peer, client: Client) -> None:
    """Of 64 MiB no more is held than the high-water mark and one read; nothing is lost."""
    size = 64 * 1024 * 1024
    peer.answers = [says(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size)]
    total = largest = 0
    async with client.post(HEAD, b"{}") as connection:
        while piece := await connection.piece():
            total, largest = total + len(piece), max(largest, len(piece))
            await asyncio.sleep(0)
    assert total == size
    assert largest <= HIGH_WATER_BYTES + 1024 * 1024


async def test_closing_closes_what_idles(peer: Peer, client: Client) -> None:
    """No connection outlives the client."""
    peer.answers = [says(OK)]
    await fetch(client)
    client.close()
    await asyncio.wait_for(peer.ended.wait(), 5)


async def test_https_verifies_the_peer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate that is trusted serves; another one is unreachable, not spoken to."""
    certificates = certificates_in(tmp_path)
    peer = Peer(answers=[says(OK)])
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0, ssl=certificates.server())
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    with pytest.raises(Unreachable):
        await fetch(Client(url))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.ca))
    assert await fetch(Client(url)) == b"hello"
    server.close()


@pytest.mark.parametrize("seed", range(8))
async def test_a_stream_pours_whole_however_it_is_cut(peer: Peer, client: Client, seed: int) -> None:
    """Chunks, written whole or cut anywhere, give the body, and the reader may pause at any piece."""
    drawn = random.Random(seed)
    pieces = [drawn.randbytes(drawn.choice((1, 9, 10, 300))) + b"\r\n" for _ in range(60)]
    wire = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    cuts = sorted(drawn.sample(range(len(wire)), 40)) if seed % 2 else []
    whole = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces] + [b"0\r\n\r\n"]
    parts = [wire[a:b] for a, b in pairwise([0, *cuts, len(wire)])] if cuts else whole

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)

    peer.answers = [answer]
    for _ in range(2):  # the second on the same connection
        got: list[bytes] = []

        def sink(piece: bytes, got: list[bytes] = got) -> bool:
            got.append(piece)
            return len(got) % 2 == 0

        async with client.post(HEAD, b"{}") as connection:
            while not await connection.pour(sink):  # noqa: ASYNC110 - a reader that falls behind
                await asyncio.sleep(0.001)
        assert b"".join(got) == b"".join(pieces)
    assert peer.connections == 1


async def test_what_the_reader_of_a_stream_raises_ends_it(peer: Peer, client: Client) -> None:
    """A sink's error comes out of `pour`, and the connection is not used again."""

    def sink(_piece: bytes) -> bool:
        raise ValueError("no more")

    peer.answers = [says(CHUNKED + b"5\r\nhello\r\n")]
    with pytest.raises(ValueError, match="no more"):
        async with client.post(HEAD, b"{}") as connection:
            await connection.pour(sink)
    await asyncio.wait_for(peer.ended.wait(), 5)


@pytest.mark.parametrize(
    "frame", [b"+5\r\nhello\r\n", b"0_5\r\nhello\r\n", b" 5\r\nhello\r\n", b"5\r\nhello!\r"]
)
async def test_a_chunk_that_is_none_breaks_the_stream(peer: Peer, client: Client, frame: bytes) -> None:
    """A size that is no hexadecimal number, or is not the chunk's, is an error and never a body."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in (CHUNKED + b"2\r\nhi\r\n", frame):
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.02)

    got: list[bytes] = []

    def sink(piece: bytes) -> bool:
        got.append(piece)
        return True

    peer.answers = [answer]
    with pytest.raises(ConnectionBroken):
        async with client.post(HEAD, b"{}") as connection:
            await connection.pour(sink)
    assert got[0] == b"hi"
    assert b"hello!" not in got
