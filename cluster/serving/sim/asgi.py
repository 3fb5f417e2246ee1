"""The little of ASGI that the simulator needs: read a body, write an answer, notice a client that left."""

import json
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from functools import partial
from typing import Any

import anyio
import orjson

from cluster.serving.sim.errors import (
    internal,
    invalid_json,
    missing_body,
    unreadable_body,
    wrong_media_type,
)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]


class AddressInUse(Exception):  # noqa: N818  named for the state, as the message tells the cure
    """The address to listen on is taken or not ours; the message says how to choose another."""


class Reply:
    """Writes one HTTP answer; ``headers`` gives what every answer carries, at the moment it starts."""

    def __init__(self, send: Send, headers: Callable[[], Headers]) -> None:
        self._send, self._headers = send, headers

    async def json(self, status: int, value: Any) -> None:
        """Send a whole answer as JSON."""
        await self.whole(status, orjson.dumps(value), b"application/json")

    async def whole(self, status: int, body: bytes, media_type: bytes | None) -> None:
        """Send a whole answer."""
        await self._start(status, media_type, (b"content-length", str(len(body)).encode()))
        await self._send({"type": "http.response.body", "body": body})

    async def start_stream(self) -> None:
        """Send the headers of an event stream."""
        await self._start(200, b"text/event-stream; charset=utf-8")

    async def part(self, data: bytes) -> None:
        """Send a part of a stream; nothing when it is empty."""
        if data:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def end(self) -> None:
        """End a stream as a complete one."""
        await self._send({"type": "http.response.body", "body": b""})

    async def _start(self, status: int, media_type: bytes | None, *more: tuple[bytes, bytes]) -> None:
        typed = [] if media_type is None else [(b"content-type", media_type)]
        headers = [*more, *typed, *self._headers()]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})


def headers_of(scope: Scope) -> dict[str, str]:
    """Return the request's headers by lower-case name; of a repeated one, the last."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


async def lifespan(receive: Receive, send: Send) -> None:
    """Answer the server's start and stop; the simulator has nothing to prepare."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def read_body(receive: Receive) -> bytes | None:
    """Return the whole body, or None when the client left before its end."""
    chunks = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(chunks)


def decode(raw: bytes, content_type: str) -> Any:
    """Return the body's JSON value. Raises `EngineError` as FastAPI answers a body that is none."""
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise wrong_media_type()
    if not raw:
        raise missing_body()
    try:
        return json.loads(raw)
    except json.JSONDecodeError as error:
        raise invalid_json(error.pos, error.msg) from None
    except UnicodeDecodeError:
        raise unreadable_body() from None


async def unless_disconnected(receive: Receive, work: Awaitable[None]) -> None:
    """Run ``work``, and cancel it the moment the client leaves."""
    async with anyio.create_task_group() as group:
        group.start_soon(partial(_cancel_on_disconnect, receive, group.cancel_scope))
        await work
        group.cancel_scope.cancel()


async def _cancel_on_disconnect(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def abort(receive: Receive) -> None:
    """Reset the connection.

    ASGI has no word for that, so this reaches for the socket: uvicorn's ``receive`` is bound to its owner.
    Raises `EngineError` under a server that hides it.
    """
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    if transport is None:
        raise internal("this server cannot reset a connection: run the simulator under uvicorn")
    transport.abort()


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on the address. Raises `AddressInUse`."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        reason = f"cannot listen on {host}:{port}: {error.strerror}. Choose another port with --port."
        raise AddressInUse(reason) from error
    return listener
