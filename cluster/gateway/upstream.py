"""The HTTP client towards Serve; the only place that knows aiohttp."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    ServerTimeoutError,
    TCPConnector,
)
from yarl import URL

from cluster.core.engine import REPLICA_HEADER
from cluster.core.request import Endpoint
from cluster.gateway.engine_errors import connection_lost, judge_response, no_replica
from cluster.gateway.http_errors import RequestFailed
from cluster.gateway.wire import PATHS

CONNECT_TIMEOUT_S = 5.0
"""HAProxy is on the same network; a replica that accepts no connection for so long is gone."""
KEEPALIVE_S = 4.0
"""Seconds an idle connection is kept: less than uvicorn's 5, so that the engine seldom closes one first."""
_MAX_ERROR_BYTES = 64 * 1024


class EngineAnswer:
    """An engine's response, of any status."""

    def __init__(self, response: ClientResponse) -> None:
        self._response = response
        self.good = response.status == 200
        """Whether it is an answer; else `failure` tells what it is."""

    @property
    def replica(self) -> str | None:
        """Id of the replica that answers; None when it does not tell."""
        return self._response.headers.get(REPLICA_HEADER)

    async def whole(self) -> bytes:
        """Return the whole body. Raises `EngineFailed`."""
        with _translated():
            return await self._response.read()

    async def chunk(self) -> bytes:
        """Return what has come of the body, empty at its end. Raises `EngineFailed` when it is cut."""
        try:
            return await self._response.content.readany()
        except (ClientError, OSError) as error:
            raise connection_lost() from error

    async def failure(self) -> RequestFailed:
        """Return what a response that is not `good` means. Raises `EngineFailed` when it is cut."""
        with _translated():
            body = await self._response.content.read(_MAX_ERROR_BYTES)
        return judge_response(self._response.status, self._response.content_type, body)


class Engines:
    """Posts requests to pools. One per gateway; close it at the end."""

    def __init__(self, url: str, key: str) -> None:
        self._base, self._urls = url, dict[tuple[str, Endpoint], URL]()
        self._session = ClientSession(
            connector=TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S),
            cookie_jar=DummyCookieJar(),
            headers={"authorization": f"Bearer {key}"},
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
            timeout=ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
            auto_decompress=False,
        )

    @asynccontextmanager
    async def post(
        self, pool: str, endpoint: Endpoint, body: bytes, headers: dict[str, str]
    ) -> AsyncIterator[EngineAnswer]:
        """Send a request; leaving the context before the answer's end cancels it at the engine.

        Raises `EngineFailed` when no response comes.
        """
        with _translated():
            response = await self._session.post(
                self._url(pool, endpoint), data=body, headers=headers, allow_redirects=False
            )
        async with response:
            yield EngineAnswer(response)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    def _url(self, pool: str, endpoint: Endpoint) -> URL:
        url = self._urls.get((pool, endpoint))
        if url is None:
            url = self._urls[pool, endpoint] = URL(f"{self._base}/{pool}{PATHS[endpoint]}")
        return url


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (ClientConnectorError, ServerTimeoutError) as error:
        raise no_replica() from error
    except (ClientError, OSError) as error:
        raise connection_lost() from error
