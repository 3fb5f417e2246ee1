"""uvicorn's server with `HardenedProtocol`, and the clock that ends its patience with clients."""

import asyncio
import math
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import cast

import uvicorn
from starlette.types import ASGIApp

from cluster.gateway.http_cycle import App
from cluster.gateway.http_protocol import HardenedProtocol, Refusing
from cluster.gateway.outbox import Outbox
from cluster.settings import HttpSettings

TICK_S = 0.1
"""How often uvicorn calls ``on_tick``, in seconds."""
UNSENT_BYTES = 128 * 1024
"""Bytes that the kernel holds for a client beyond what is on the network, before the gateway waits."""
PROBE_S = 15
"""Seconds of silence between two probes of a client that waits for its answer."""
_CLOSE_S = 5
"""Seconds for connections to close once every request has ended."""


class HttpServer(uvicorn.Server):
    """An HTTP server that leaves signals to its owner.

    ``refusing`` answers requests that `HardenedProtocol` refuses.
    """

    def __init__(self, app: App, http: HttpSettings, refusing: Refusing) -> None:
        self._draining = False
        protocol = partial(
            HardenedProtocol,
            http=http,
            outbox=Outbox(),
            refusing=refusing,
            last_call=lambda: self._draining,
        )
        super().__init__(
            uvicorn.Config(
                cast(ASGIApp, app),
                http=cast(type[HardenedProtocol], protocol),
                ws="none",
                interface="asgi3",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # `intake` reads X-Forwarded-For, only where an address is wanted
                timeout_graceful_shutdown=_CLOSE_S,
            )
        )
        self._write_timeout_s = http.write_timeout_s
        shortest_s = min(http.header_timeout_s, http.body_timeout_s, http.idle_timeout_s)
        self._sweep_ticks = max(1, min(10, int(shortest_s / 10 / TICK_S)))
        """Ticks between two looks at the deadlines: a second, or a tenth of the shortest time-out."""

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until ``should_exit`` on sockets that are bound."""
        for listener in sockets or ():
            _bound_writes(listener, self._write_timeout_s)
        await super().serve(sockets)

    def drain(self) -> None:
        """Let each connection end with the answer that is due on it; idle ones now, new ones after one."""
        self._draining = True
        for connection in list(cast(set[HardenedProtocol], self.server_state.connections)):
            connection.retire()

    async def on_tick(self, counter: int) -> bool:
        """End the patience with clients that took too long."""
        if counter % self._sweep_ticks == 0:
            now_s = asyncio.get_running_loop().time()
            connections = cast(set[HardenedProtocol], self.server_state.connections)
            for late in [one for one in connections if one.deadline_s <= now_s]:
                late.expire(now_s)
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def _bound_writes(listener: socket.socket, timeout_s: float) -> None:
    """Let the kernel end connections whose client takes nothing for ``timeout_s``, or has vanished.

    Accepted sockets inherit the options. The kernel sees what no timer of ours does, the client's window, and
    costs nothing per chunk. What it holds for a client is bounded too: else it is megabytes for each.
    """
    if sys.platform != "linux":
        return
    probe_s = max(1, min(PROBE_S, math.ceil(timeout_s / 3)))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, math.ceil(timeout_s * 1000))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT_BYTES)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, probe_s)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, probe_s)
