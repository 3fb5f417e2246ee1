"""The floor: the least that a relay in Python can cost, ``python -m loadtest.bench.relay PORT ENGINE_PORT``.

Pure ASGI on uvicorn, with uvloop and httptools, and aiohttp towards the engine: bytes pass as they come,
nothing is checked, counted or limited.
"""

import sys

import aiohttp
import uvicorn
from starlette.types import Receive, Scope, Send

_DROPPED = {b"host", b"content-length", b"connection", b"transfer-encoding"}


class Relay:
    """The ASGI application."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, and its answer back."""
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0)
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        headers = {"content-type": "application/json"}
        async with self._session.post(self._engine + scope["path"], data=body, headers=headers) as answer:
            kept = [(key.lower(), value) for key, value in answer.raw_headers if key.lower() not in _DROPPED]
            if answer.content_length is not None:
                kept.append((b"content-length", b"%d" % answer.content_length))
            await send({"type": "http.response.start", "status": answer.status, "headers": kept})
            async for chunk in answer.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


if __name__ == "__main__":
    uvicorn.run(
        Relay(f"http://127.0.0.1:{sys.argv[2]}"),
        port=int(sys.argv[1]),
        http="httptools",
        loop="uvloop",
        lifespan="off",
        access_log=False,
        log_level="warning",
    )
