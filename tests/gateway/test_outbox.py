"""Writes of one turn of the event loop go out together, in order, and to nobody who has left."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import pytest
from starlette.types import Receive, Scope

from cluster.gateway.http_cycle import Cycle
from cluster.gateway.http_protocol import HardenedProtocol
from cluster.gateway.outbox import Outbox
from tests.gateway.conftest import serving
from tests.gateway.raw import connect


class Wire(asyncio.Transport):
    """Notes what is written to it, in a list that several share."""

    def __init__(self, name: str, written: list[tuple[str, bytes]]) -> None:
        super().__init__()
        self._name, self._written = name, written
        self.closing = self.broken = False

    def is_closing(self) -> bool:
        """Return what the test says."""
        return self.closing

    def abort(self) -> None:
        """Close."""
        self.closing = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Note ``data``, unless the test broke it."""
        if self.broken:
            raise RuntimeError("no write after the end")
        self._written.append((self._name, bytes(data)))


async def test_writes_wait_for_the_end_of_the_turn_and_keep_their_order() -> None:
    """Nothing is written at once; everything is by the time that a task begins."""
    written: list[tuple[str, bytes]] = []
    outbox, one, other = Outbox(), Wire("one", written), Wire("other", written)
    outbox.write(one, b"a")
    outbox.write(other, b"b")
    outbox.write(one, b"c")
    assert written == []
    await asyncio.create_task(asyncio.sleep(0))
    assert written == [("one", b"a"), ("other", b"b"), ("one", b"c")]


async def test_what_is_flushed_early_is_not_written_again() -> None:
    """A connection that is about to close flushes first; the end of the turn finds nothing left."""
    written: list[tuple[str, bytes]] = []
    outbox = Outbox()
    outbox.write(Wire("one", written), b"a")
    outbox.flush()
    assert written == [("one", b"a")]
    await asyncio.sleep(0)
    assert written == [("one", b"a")]


async def test_a_connection_that_closes_gets_nothing_and_the_others_all() -> None:
    """One client's leaving costs no other its answer."""
    written: list[tuple[str, bytes]] = []
    outbox, gone, there = Outbox(), Wire("gone", written), Wire("there", written)
    outbox.write(gone, b"a")
    outbox.write(there, b"b")
    gone.closing = True
    await asyncio.sleep(0)
    assert written == [("there", b"b")]


async def test_a_write_that_fails_costs_no_other_its_answer(caplog: pytest.LogCaptureFixture) -> None:
    """What broke is cut and told, and the rest goes out."""
    written: list[tuple[str, bytes]] = []
    outbox, broken, whole = Outbox(), Wire("broken", written), Wire("whole", written)
    broken.broken = True
    outbox.write(broken, b"a")
    outbox.write(whole, b"b")
    await asyncio.sleep(0)
    assert written == [("whole", b"b")]
    assert broken.closing
    assert "what was to be sent could not be written" in caplog.text


@dataclass
class Sudden:
    """An application whose client does something in the very turn in which it is answered."""

    then: Callable[[HardenedProtocol], None]

    async def __call__(self, _scope: Scope, _receive: Receive, cycle: Cycle) -> None:
        """Answer, and let it happen at once."""
        connection = cast(HardenedProtocol, cycle.transport.get_protocol())
        cycle.respond(200, [], b"ok")
        self.then(connection)


def _breaks_off(connection: HardenedProtocol) -> None:
    connection.data_received(b"no chunk\r\n")


def _sends_no_more(connection: HardenedProtocol) -> None:
    connection.eof_received()
    connection.transport.close()  # as the event loop does then


def _is_shut_down(connection: HardenedProtocol) -> None:
    connection.shutdown()


HEAD = b"POST / HTTP/1.1\r\nhost: a\r\n"


@pytest.mark.parametrize(
    ("request_", "then"),
    [
        pytest.param(HEAD + b"transfer-encoding: chunked\r\n\r\n", _breaks_off, id="its body is malformed"),
        pytest.param(HEAD + b"content-length: 0\r\n\r\n", _sends_no_more, id="it closes its half"),
        pytest.param(HEAD + b"content-length: 0\r\n\r\n", _is_shut_down, id="the server ends"),
    ],
)
async def test_an_answer_is_out_before_its_connection_ends(
    request_: bytes, then: Callable[[HardenedProtocol], None]
) -> None:
    """Whatever ends the connection in the turn of the answer comes after it."""
    async with serving(Sudden(then)) as url:
        client = await connect(url)
        await client.send(request_)
        assert (await client.answer()).body == b"ok"
        await client.gone()
        await client.close()
