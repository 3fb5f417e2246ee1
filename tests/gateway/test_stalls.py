"""The event loop is watched: what blocks it is counted."""

import asyncio
import time

from cluster.gateway import stalls


async def test_a_blocked_loop_is_told_of() -> None:
    """What keeps the loop from its timers is counted with its length; a free loop is not."""
    told: list[float] = []
    watching = asyncio.create_task(stalls.watch(told.append))
    await asyncio.sleep(0)
    blocked_s = stalls.LOOK_S + 4 * stalls.STALL_S
    time.sleep(blocked_s)  # noqa: ASYNC251 - to block is what is tested
    await asyncio.sleep(stalls.STALL_S)
    watching.cancel()
    assert len(told) == 1
    assert told[0] > 3 * stalls.STALL_S
