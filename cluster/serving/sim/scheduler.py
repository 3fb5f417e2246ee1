"""The engine's slots and its queue: lowest priority value first, first come first served inside one."""

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cluster.serving.sim.errors import busy


class Scheduler:
    """Hands out ``slots`` places; at most ``max_waiting`` more may wait.

    A place is freed the moment its holder leaves or is cancelled. Lower priority values start earlier, as in
    vLLM's ``priority`` scheduling policy, and nothing running is ever preempted.
    """

    def __init__(self, *, slots: int, max_waiting: int) -> None:
        self.slots, self.max_waiting = slots, max_waiting
        self.running = 0
        self.waiting = 0
        self._queue: list[tuple[int, int, asyncio.Future[None]]] = []
        self._arrivals = 0

    def check_room(self) -> None:
        """Raise `EngineError` 503 when neither a slot nor a place in the queue is free."""
        if self.running >= self.slots and self.waiting >= self.max_waiting:
            raise busy()

    @asynccontextmanager
    async def slot(self, priority: int) -> AsyncIterator[None]:
        """Hold a slot for the block, once one is free. Raises `EngineError` 503 when the queue is full."""
        self.check_room()
        if self.running < self.slots:
            self.running += 1
        else:
            await self._wait(priority)
        try:
            yield
        finally:
            self.running -= 1
            self._start_next()

    async def _wait(self, priority: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._arrivals += 1
        heapq.heappush(self._queue, (priority, self._arrivals, turn))
        self.waiting += 1
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                # The slot was granted in the same turn of the loop: give it on, or it is lost for good.
                self.running -= 1
                self._start_next()
            else:
                self.waiting -= 1
                turn.cancel()
            raise

    def _start_next(self) -> None:
        while self._queue:
            turn = heapq.heappop(self._queue)[2]
            if not turn.done():
                self.waiting -= 1
                self.running += 1
                turn.set_result(None)
                return
