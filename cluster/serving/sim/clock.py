"""Time as the simulated engine sees it, so that tests of minutes run in milliseconds."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """A source of time; everything here that waits or stamps asks it."""

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start; never goes back."""

    def epoch(self) -> float:
        """Return seconds since 1970."""

    async def sleep(self, seconds: float) -> None:
        """Wait; zero or less only lets other tasks run."""


class SystemClock:
    """The machine's own time."""

    def monotonic(self) -> float:
        """Return the machine's monotonic time in seconds."""
        return time.monotonic()

    def epoch(self) -> float:
        """Return the machine's wall time in seconds since 1970."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """Wait on the running event loop."""
        await asyncio.sleep(max(0.0, seconds))
