"""Looks how long the event loop stands still: one thread serves all streams, and a block blocks them."""

import asyncio
from collections.abc import Callable
from typing import NoReturn

LOOK_S = 0.25
"""How often it looks."""
STALL_S = 0.05
"""What counts as standing still; a token of a fast stream takes half of it."""


async def watch(tell: Callable[[float], None]) -> NoReturn:
    """Tell, until cancelled, the seconds by which a look came late, of each that was a stall."""
    now = asyncio.get_running_loop().time
    while True:
        due_s = now() + LOOK_S
        await asyncio.sleep(LOOK_S)
        late_s = now() - due_s
        if late_s > STALL_S:
            tell(late_s)
