"""Writes of one turn of the event loop, sent together at its end.

Sending wakes whoever reads, and waking a sleeping process on another core costs more than the send itself.
Of sends in a row only the first does: whoever it woke is still awake for the others.
"""

import asyncio
import logging

logger = logging.getLogger(__name__)


class Outbox:
    """Keeps what is to be written to many connections until `flush`, which the event loop calls by itself."""

    def __init__(self) -> None:
        self._waiting: list[tuple[asyncio.Transport, bytes]] = []

    def write(self, transport: asyncio.Transport, data: bytes) -> None:
        """Write ``data`` soon: before any task that begins from now on takes its first step."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        self._waiting.append((transport, data))

    def flush(self) -> None:
        """Write what waits; nothing to connections that are closing. What one write raises stops no other."""
        waiting, self._waiting = self._waiting, []
        for transport, data in waiting:
            if transport.is_closing():
                continue
            try:
                transport.write(data)
            except Exception:
                logger.exception("what was to be sent could not be written")
                transport.abort()
