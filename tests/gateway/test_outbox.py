"""Writes of one turn of the event loop go out together, in order, and to nobody who has left."""

import asyncio

from cluster.gateway.outbox import Outbox


class Wire(asyncio.Transport):
    """Notes what is written to it, in a list that several share."""

    def __init__(self, name: str, written: list[tuple[str, bytes]]) -> None:
        super().__init__()
        self._name, self._written, self.closing = name, written, False

    def is_closing(self) -> bool:
        """Return what the test says."""
        return self.closing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Note ``data``."""
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
