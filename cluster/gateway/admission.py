"""The gate before the engines: who is inside, and that nobody enters any more once the gateway drains."""

import asyncio

from cluster.gateway.http_errors import Overloaded, ShutDown
from cluster.gateway.stream import Owned


class Gate:
    """Knows the requests inside. One per gateway."""

    def __init__(self) -> None:
        self._inside: set[Owned] = set()
        self._empty = asyncio.Event()
        self.draining = False
        """Whether new requests are refused."""

    def enter(self, owned: Owned) -> None:
        """Let a request inside, until it must `leave`. Raises `Overloaded` while draining."""
        if self.draining:
            raise Overloaded("This server is shutting down. Please try again.", retry_after_s=1)
        self._inside.add(owned)

    def leave(self, owned: Owned) -> None:
        """Take note that a request is no longer inside."""
        self._inside.discard(owned)
        if self.draining and not self._inside:
            self._empty.set()

    def drain(self) -> None:
        """Refuse new requests from now on."""
        self.draining = True
        if not self._inside:
            self._empty.set()

    async def wait_empty(self) -> None:
        """Return when the last request has left; only after `drain`."""
        await self._empty.wait()

    def learn_so_far(self) -> None:
        """Learn from how far the answers inside have come."""
        for owned in self._inside:
            owned.learn_so_far()

    def abort(self) -> None:
        """End every request inside; each tells its client so."""
        for owned in list(self._inside):
            owned.end(ShutDown())
