"""A client that writes bytes as they are, and reads what comes back."""

import asyncio
import json
import socket
import struct
from dataclasses import dataclass, field
from typing import Any

LIMIT_S = 10
"""Longest wait for anything: no test should come near."""


@dataclass
class Answer:
    """One response as it came off the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The error object, of which all four members must be there."""
        error: dict[str, Any] = json.loads(self.body)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return error


@dataclass
class RawClient:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    informed: list[int] = field(default_factory=list)
    """Statuses of interim responses, such as 100."""

    async def send(self, data: bytes) -> None:
        """Write."""
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, *, method: str = "POST") -> Answer:
        """Return the next final response. Raises `EOFError` (IncompleteReadError) if none comes."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                status = int(head[0].split(" ")[1])
                if status >= 200:
                    break
                self.informed.append(status)
            pairs = (line.partition(":") for line in head[1:-2])
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            return Answer(status, headers, await self._body(headers) if method != "HEAD" else b"")

    async def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            length = headers.get("content-length")
            return await (self.reader.read() if length is None else self.reader.readexactly(int(length)))
        parts = b""
        while size := int(await self.reader.readline(), 16):
            parts += (await self.reader.readexactly(size + 2))[:-2]
        await self.reader.readline()
        return parts

    async def ended(self) -> bytes:
        """Wait until the server ends the connection; return what it still sent."""
        async with asyncio.timeout(LIMIT_S):
            return await self.reader.read()

    async def gone(self) -> None:
        """Wait until the connection is closed or reset, reading nothing of worth."""
        try:
            await self.ended()
        except ConnectionError:
            return

    def half_close(self) -> None:
        """Send FIN."""
        self.writer.write_eof()

    def reset(self) -> None:
        """Send RST."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()

    async def close(self) -> None:
        """Close."""
        self.writer.close()
        await asyncio.gather(self.writer.wait_closed(), return_exceptions=True)


async def connect(url: str, *, source: str | None = None) -> RawClient:
    """Connect to the host and port of ``url``, from an address of this machine if ``source`` names one."""
    host, port = url.removeprefix("http://").split(":")
    local = None if source is None else (source, 0)
    return RawClient(*await asyncio.open_connection(host, int(port), local_addr=local))
